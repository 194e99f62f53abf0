/// li: a gated convolution whose filter is as long as the document: a sum of M decaying exponentials (modes) a channel.

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

  void forward(const Pass& pass, GatedConvInputs in, TensorView y, Saved* saved) const {
    in.skip = skip_.weight;
    const Tensor rates = log_rates(pass.runtime.stream);
    pass.strategies().hyena_li->forward(pass.strategy_context(),
                                        {.in = in, .residues = residues_.weight, .log_rates = rates, .y = y}, saved);
  }

  void backward(const Pass& pass, GatedConvInputs in, GatedConvGradients gradients, Saved& saved) const {
    const Stream& stream = pass.runtime.stream;
    in.skip = skip_.weight;
    gradients.d_skip = skip_.gradient;
    const Tensor rates = log_rates(stream), d_rates = Tensor::zeros(stream, rates.view().dtype, shape_);
    pass.strategies().hyena_li->backward(pass.strategy_context(),
                                         {.in = in,
                                          .residues = residues_.weight,
                                          .log_rates = rates,
                                          .gradients = gradients,
                                          .d_residues = residues_.gradient,
                                          .d_log_rates = d_rates},
                                         saved);
    for (const Parameter* part : {&p_, &gamma_}) scale(stream, {.x = d_rates, .accumulate = true, .y = part->gradient});
  }

  OperatorCall call(const GatedConvInputs& in) const {
    const TensorView modes = without_data(accumulator_of(in.v.dtype), shape_);
    return {"hyena_li",
            ModalConvForward{.in = in, .residues = modes, .log_rates = modes, .state_in = {}, .y = in.v, .states = {}}};
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
