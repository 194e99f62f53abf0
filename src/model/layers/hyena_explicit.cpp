/// se and mr: gated convolutions with explicit filters h (G, taps), one for each of G groups of channels. Featurizer,
/// gates and filter are one operator, hyena_block, which keeps q, k and v before the featurizer only.

#include "src/model/layers/hyena.hpp"

namespace causeway {
namespace {

/// Initial values of ĥ are filter_scale·N(0, 1)/√taps: so small that at first a block computes q ⊙ skip ⊙ k ⊙ v only.
constexpr double filter_scale = 1e-5;

/// The settings in which se and mr differ.
struct ExplicitFilterKind {
  std::string_view op;
  const HyenaBlockStrategy* OperatorStrategies::*strategy;  ///< the one chosen for `op`
  std::int64_t taps;
  bool decays;  ///< h = ĥ ⊙ exp(-α_g τ), otherwise h = ĥ
  bool skips;   ///< has a skip
};

/// log10 of the smallest decay rate α among mr's groups; the largest is always 100.
double slowest_exponent(std::string_view decay) { return decay == "strong" ? 0 : decay == "normal" ? -1 : -2; }

class ExplicitFilter {
 public:
  ExplicitFilter(const ExplicitFilterKind& kind, const ModelOptions& options, const std::string& prefix,
                 ParameterSet& parameters)
      : op_(kind.op),
        strategy_(kind.strategy),
        width_(options.width),
        h_(parameters.add({.name = prefix + "h",
                           .shape = {options.groups_of_filters(), kind.taps},
                           .wide = true,
                           .initial = initial::normal(filter_scale / std::sqrt(double(kind.taps)))})) {
    if (kind.skips)
      skip_ = &parameters.add({.name = prefix + "skip",
                               .shape = {options.width},
                               .wide = true,
                               .initial = initial::uniform(1 / std::sqrt(double(kind.taps)))});
    if (kind.decays) decay_ = &parameters.add(decay_spec(prefix, h_.spec.shape, slowest_exponent(options.mr_decay)));
  }

  void forward(const Pass& pass, const Featurizer& featurizer, TensorView projected, TensorView y, Saved* saved) const {
    const Tensor decayed = decayed_taps(pass.runtime.stream);
    (pass.strategies().*strategy_)
        ->forward(pass.strategy_context(), {.in = inputs(featurizer, projected, taps(decayed)), .y = y}, saved);
  }

  Tensor backward(const Pass& pass, const Featurizer& featurizer, TensorView projected, TensorView d_y,
                  Saved& saved) const {
    const Stream& stream = pass.runtime.stream;
    const Tensor decayed = decayed_taps(stream);
    const Tensor d_decayed = decay_ == nullptr ? Tensor() : Tensor::zeros(stream, h_.gradient.dtype, h_.gradient.shape);
    Tensor d_projected(stream, projected.dtype, projected.shape);
    const GatedConvInputs d = featurizer.split(d_projected);
    (pass.strategies().*strategy_)
        ->backward(pass.strategy_context(),
                   {.in = inputs(featurizer, projected, taps(decayed)),
                    .d_y = d_y,
                    .d_q = d.q,
                    .d_k = d.k,
                    .d_v = d.v,
                    .d_featurizer = featurizer.d_weight(),
                    .d_skip = skip_ == nullptr ? TensorView() : skip_->gradient,
                    .d_taps = decay_ == nullptr ? h_.gradient : d_decayed.view()},
                   saved);
    if (decay_ != nullptr)
      multiply(stream, {.a = d_decayed, .b = decay_->weight, .accumulate = true, .y = h_.gradient});
    return d_projected;
  }

  std::vector<OperatorCall> calls(const Featurizer& featurizer, DType dtype) const {
    const GatedConvInputs columns = featurizer.split(without_data(dtype, {1, 3 * width_}));
    HyenaBlockForward block;
    block.in.q = columns.q, block.in.k = columns.k, block.in.v = columns.v;
    block.in.featurizer = without_data(dtype, {3 * width_, Featurizer::taps});
    block.in.taps = without_data(accumulator_of(dtype), h_.spec.shape);
    if (skip_ != nullptr) block.in.skip = without_data(accumulator_of(dtype), {width_});
    block.y = without_data(dtype, {1, width_});
    return {{op_, block}};
  }

  /// The decode state: the taps-1 rows of k⊙v before the next token.
  Tensor initial_state(const Stream& stream, DType dtype) const {
    return Tensor::zeros(stream, dtype, {h_.spec.shape[1] - 1, width_});
  }

  void extend(const Stream& stream, GatedConvInputs in, TensorView y, Tensor& rows) const {
    in.skip = skip();
    const Tensor decayed = decayed_taps(stream);
    blocked_conv_forward(
        stream, {.in = in, .halo = rows.view().rows() > 0 ? rows.view() : TensorView(), .taps = taps(decayed), .y = y});
    const std::int64_t count = std::min(in.v.rows(), rows.view().rows()), first = in.v.rows() - count;
    const Tensor kv(stream, in.v.dtype, {count, in.v.columns()});
    multiply(stream, {.a = in.k.slice_rows(first, count), .b = in.v.slice_rows(first, count), .y = kv});
    rows = last_rows(stream, rows, kv);
  }

 private:
  /// The frozen factor exp(-α_g τ) (G, taps): τ = linspace(0, 1, taps), α log-spaced over the groups.
  static ParameterSpec decay_spec(const std::string& prefix, Shape shape, double slowest) {
    return {.name = prefix + "decay",
            .shape = shape,
            .wide = true,
            .frozen = true,
            .initial = [shape, slowest](const RandomStream&, std::int64_t i) {
              const auto fraction = [](std::int64_t index, std::int64_t count) {
                return count == 1 ? 0.0 : static_cast<double>(index) / static_cast<double>(count - 1);
              };
              const double alpha = std::pow(10, slowest + (2 - slowest) * fraction(i / shape[1], shape[0]));
              return std::exp(-alpha * fraction(i % shape[1], shape[1]));
            }};
  }
  HyenaBlockInputs inputs(const Featurizer& featurizer, TensorView projected, TensorView taps) const {
    const GatedConvInputs columns = featurizer.split(projected);
    return {.q = columns.q,
            .k = columns.k,
            .v = columns.v,
            .halo = {},
            .featurizer = featurizer.weight(),
            .skip = skip(),
            .taps = taps};
  }
  /// ĥ ⊙ decay; absent if the filter does not decay.
  Tensor decayed_taps(const Stream& stream) const {
    if (decay_ == nullptr) return {};
    Tensor decayed(stream, h_.weight.dtype, h_.weight.shape);
    multiply(stream, {.a = h_.weight, .b = decay_->weight, .y = decayed});
    return decayed;
  }
  /// h, that is decayed_taps() or ĥ.
  TensorView taps(const Tensor& decayed) const { return decay_ == nullptr ? h_.weight : decayed.view(); }

  /// Absent if the filter has none.
  TensorView skip() const { return skip_ == nullptr ? TensorView() : skip_->weight; }

  std::string_view op_;
  const HyenaBlockStrategy* OperatorStrategies::*strategy_;
  std::int64_t width_;
  const Parameter& h_;
  const Parameter *skip_ = nullptr, *decay_ = nullptr;
};

struct ShortFilter : ExplicitFilter {
  ShortFilter(const ModelOptions& options, const std::string& prefix, ParameterSet& parameters)
      : ExplicitFilter({"hyena_se", &OperatorStrategies::hyena_se, options.se_taps, false, options.se_skip}, options,
                       prefix, parameters) {}
};
struct MediumFilter : ExplicitFilter {
  MediumFilter(const ModelOptions& options, const std::string& prefix, ParameterSet& parameters)
      : ExplicitFilter({"hyena_mr", &OperatorStrategies::hyena_mr, options.mr_taps, true, true}, options, prefix,
                       parameters) {}
};

}  // namespace

std::unique_ptr<Sublayer> make_se(const ModelOptions& options, const std::string& prefix, ParameterSet& parameters) {
  return std::make_unique<Hyena<ShortFilter>>(options, prefix, parameters);
}

std::unique_ptr<Sublayer> make_mr(const ModelOptions& options, const std::string& prefix, ParameterSet& parameters) {
  return std::make_unique<Hyena<MediumFilter>>(options, prefix, parameters);
}

}  // namespace causeway
