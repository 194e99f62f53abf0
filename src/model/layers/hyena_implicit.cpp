/// li: a gated convolution whose filter is as long as the document: a sum of M decaying exponentials (modes) a channel.
/// Featurizer and filter are two operators, causal_conv and hyena_li.

#include "src/model/layers/hyena.hpp"

namespace causeway {
namespace {

/// Initial values of skip are U(-1/√L, 1/√L), L the filter's length in the first runs of the published models.
constexpr double published_length = 8192;

/// h_t[d] = Σ_m residues[d,m] · exp(-exp(p[d,m] + γ[d,m]) · t); all parameters but skip are [D, M].
class ImplicitFilter {
 public:
  ImplicitFilter(const ModelOptions& options, const std::string& prefix, ParameterSet& parameters)
      : shape_{options.width, options.modes},
        p_(parameters.add({.name = prefix + "p", .shape = shape_, .wide = true, .initial = initial::constant(-1)})),
        gamma_(parameters.add({.name = prefix + "gamma",
                               .shape = shape_,
                               .wide = true,
                               .initial =
                                   [](const RandomStream& random, std::int64_t i) {
                                     return std::log(0.01 + 0.09 * random.uniform(static_cast<std::uint64_t>(i)));
                                   }})),
        residues_(parameters.add({.name = prefix + "residues",
                                  .shape = shape_,
                                  .wide = true,
                                  .initial = initial::normal(0.1 / std::sqrt(double(options.modes)))})),
        skip_(parameters.add({.name = prefix + "skip",
                              .shape = {options.width},
                              .wide = true,
                              .initial = initial::uniform(1 / std::sqrt(published_length))})) {}

  void forward(const Pass& pass, const Featurizer& featurizer, TensorView projected, TensorView y, Saved* saved) const {
    const Stream& stream = pass.runtime.stream;
    Tensor features(stream, projected.dtype, projected.shape);
    pass.strategies().causal_conv->forward(pass.strategy_context(), featurizer.convolution(projected, features),
                                           scope_of(saved, "featurizer"));
    GatedConvInputs in = featurizer.split(features);
    in.skip = skip_.weight;
    const Tensor rates = log_rates(stream);
    pass.strategies().hyena_li->forward(pass.strategy_context(),
                                        {.in = in, .residues = residues_.weight, .log_rates = rates, .y = y},
                                        scope_of(saved, "filter"));
    if (saved != nullptr) saved->put("features", std::move(features));
  }

  Tensor backward(const Pass& pass, const Featurizer& featurizer, TensorView projected, TensorView d_y,
                  Saved& saved) const {
    const Stream& stream = pass.runtime.stream;
    const Tensor d_features(stream, projected.dtype, projected.shape);
    {
      const Tensor features = saved.take("features");
      GatedConvInputs in = featurizer.split(features);
      in.skip = skip_.weight;
      const GatedConvInputs d = featurizer.split(d_features);
      const Tensor rates = log_rates(stream), d_rates = Tensor::zeros(stream, rates.view().dtype, shape_);
      pass.strategies().hyena_li->backward(
          pass.strategy_context(),
          {.in = in,
           .residues = residues_.weight,
           .log_rates = rates,
           .gradients = {.d_y = d_y, .d_q = d.q, .d_k = d.k, .d_v = d.v, .d_skip = skip_.gradient},
           .d_residues = residues_.gradient,
           .d_log_rates = d_rates},
          saved.scope("filter"));
      for (const Parameter* part : {&p_, &gamma_})
        scale(stream, {.x = d_rates, .accumulate = true, .y = part->gradient});
    }
    Tensor d_projected(stream, projected.dtype, projected.shape);
    pass.strategies().causal_conv->backward(pass.strategy_context(),
                                            {.x = projected,
                                             .weight = featurizer.weight(),
                                             .d_y = d_features,
                                             .d_x = d_projected,
                                             .d_weight = featurizer.d_weight()},
                                            saved.scope("featurizer"));
    return d_projected;
  }

  std::vector<OperatorCall> calls(const Featurizer& featurizer, DType dtype) const {
    const std::int64_t width = featurizer.width();
    const TensorView x = without_data(dtype, {1, width}), features = without_data(dtype, {1, 3 * width}),
                     modes = without_data(accumulator_of(dtype), shape_);
    CausalConvForward conv;
    conv.x = conv.y = features;
    conv.weight = without_data(dtype, {3 * width, Featurizer::taps});
    const ModalConvForward filter{.in = {.q = x, .k = x, .v = x, .skip = {}, .segments = {}},
                                  .residues = modes,
                                  .log_rates = modes,
                                  .state_in = {},
                                  .y = x,
                                  .states = {}};
    return {{"causal_conv", conv}, {"hyena_li", filter}};
  }

  /// The decode state: the modes' states [D, M].
  Tensor initial_state(const Stream& stream, DType dtype) const {
    return Tensor::zeros(stream, accumulator_of(dtype), shape_);
  }

  void extend(const Stream& stream, GatedConvInputs in, TensorView y, Tensor& state) const {
    in.skip = skip_.weight;
    const Tensor rates = log_rates(stream), summary(stream, state.view().dtype, shape_);
    modal_conv_forward(stream, {.in = in, .residues = residues_.weight, .log_rates = rates, .state_in = state, .y = y});
    modal_conv_summary(stream, {.in = in, .log_rates = rates, .state = summary});
    modal_conv_fold(stream, {.log_rates = rates, .summary_state = summary, .tokens = in.v.rows(), .carry = state});
  }

 private:
  /// p + γ, the logarithms of the decay rates.
  Tensor log_rates(const Stream& stream) const {
    Tensor sum(stream, p_.weight.dtype, shape_);
    scale(stream, {.x = p_.weight, .y = sum});
    scale(stream, {.x = gamma_.weight, .accumulate = true, .y = sum});
    return sum;
  }

  Shape shape_;  // [D, M]
  const Parameter &p_, &gamma_, &residues_, &skip_;
};

}  // namespace

std::unique_ptr<Sublayer> make_li(const ModelOptions& options, const std::string& prefix, ParameterSet& parameters) {
  return std::make_unique<Hyena<ImplicitFilter>>(options, prefix, parameters);
}

}  // namespace causeway
