#include <cmath>

#include "src/model/dense/dense.hpp"
#include "src/model/layer.hpp"
#include "src/model/parameters/initial_values.hpp"

namespace causeway {
namespace {

/// The inverse softplus of a Δ that is drawn log-uniformly from [1e-3, 0.1] and at least 1e-4, as in mamba_ssm.
double initial_dt_bias(const RandomStream& random, std::int64_t i) {
  const double low = std::log(1e-3), high = std::log(0.1);
  const double delta = std::max(1e-4, std::exp(low + (high - low) * random.uniform(static_cast<std::uint64_t>(i))));
  return delta + std::log(-std::expm1(-delta));
}

/// The Mamba-1 mixer (arXiv 2312.00752); names and shapes of parameters are those of mamba_ssm. With T tokens, I =
/// d_inner, N states a channel and R = dt_rank:
///   xz = (x, z) = in_proj(h)               h (T, width), xz (T, 2·I)
///   u = silu(conv1d(x))                    u (T, I)
///   dbc = (dt_low, B, C) = x_proj(u)       dbc (T, R + 2·N)
///   delta = dt_proj(dt_low)                delta (T, I)
///   y = scan(u, delta, A, B, C, D, z)      A (I, N), y (T, I)
///   out = out_proj(y)                      out (T, width)
class Mamba final : public Sublayer {
 public:
  Mamba(const ModelOptions& options, const std::string& prefix, ParameterSet& parameters);
  Tensor forward(const Pass& pass, const RowsView& h, Saved* saved) override;
  void backward(const Pass& pass, const TiledInput& h, const RowsView& d_out, Saved& saved) override;
  Tensor extend(const Stream& stream, const RowsView& h, std::span<const NextTokens> documents) override;
  std::vector<OperatorCall> calls(DType dtype) const override;
  Ends ends() const override { return {.input = in_proj_, .output = out_proj_}; }

 private:
  /// The mixer on any tokens; `convolve` and `scan` include the tokens before these. `only_saved`: without `out`.
  Tensor run(const Stream& stream, const RowsView& h, const std::function<void(const CausalConvForward&)>& convolve,
             const std::function<void(const SelectiveScanForward&)>& scan, Saved* saved, bool only_saved = false);
  /// The arguments of the convolution and the inputs of the scan, as views of the activations above.
  CausalConvForward convolution(TensorView xz, TensorView u) const;
  SelectiveScanInputs scan_inputs(TensorView u, TensorView delta, TensorView xz, TensorView dbc, TensorView A) const;
  Tensor decay_rates(const Stream& stream) const;  ///< A = -exp(A_log)

  std::int64_t width_, inner_, state_, dt_rank_;  // width, I, N, R
  const Parameter &in_proj_, &conv_weight_, &conv_bias_, &x_proj_, &dt_proj_, &dt_bias_, &A_log_, &D_, &out_proj_;
};

Mamba::Mamba(const ModelOptions& options, const std::string& prefix, ParameterSet& parameters)
    : width_(options.width),
      inner_(options.d_inner()),
      state_(options.state),
      dt_rank_(options.rank_of_dt()),
      in_proj_(parameters.add({.name = prefix + "in_proj.weight",
                               .shape = {2 * inner_, width_},
                               .decay = true,
                               .product = true,
                               .fp8 = Fp8Level::projections,
                               .initial = initial::uniform(1 / std::sqrt(double(width_)))})),
      conv_weight_(parameters.add({.name = prefix + "conv1d.weight",
                                   .shape = {inner_, 1, options.conv_taps},
                                   .decay = true,
                                   .initial = initial::uniform(1 / std::sqrt(double(options.conv_taps)))})),
      conv_bias_(parameters.add({.name = prefix + "conv1d.bias",
                                 .shape = {inner_},
                                 .initial = initial::uniform(1 / std::sqrt(double(options.conv_taps)))})),
      x_proj_(parameters.add({.name = prefix + "x_proj.weight",
                              .shape = {dt_rank_ + 2 * state_, inner_},
                              .decay = true,
                              .product = true,
                              .fp8 = Fp8Level::all,
                              .initial = initial::uniform(1 / std::sqrt(double(inner_)))})),
      dt_proj_(parameters.add({.name = prefix + "dt_proj.weight",
                               .shape = {inner_, dt_rank_},
                               .decay = true,
                               .product = true,
                               .fp8 = Fp8Level::all,
                               .initial = initial::uniform(1 / std::sqrt(double(dt_rank_)))})),
      dt_bias_(parameters.add(
          {.name = prefix + "dt_proj.bias", .shape = {inner_}, .wide = true, .initial = initial_dt_bias})),
      A_log_(parameters.add(
          {.name = prefix + "A_log",
           .shape = {inner_, state_},
           .wide = true,
           .initial = [n = state_](const RandomStream&, std::int64_t i) { return std::log(double(i % n + 1)); }})),
      D_(parameters.add({.name = prefix + "D", .shape = {inner_}, .wide = true, .initial = initial::constant(1)})),
      out_proj_(parameters.add(
          {.name = prefix + "out_proj.weight",
           .shape = {width_, inner_},
           .decay = true,
           .product = true,
           .fp8 = Fp8Level::all,
           .initial = initial::uniform(1 / std::sqrt(double(inner_) * double(options.layers.size())))})) {}

CausalConvForward Mamba::convolution(TensorView xz, TensorView u) const {
  return {.x = xz.slice_columns(0, inner_),
          .weight = conv_weight_.weight.reshaped({inner_, conv_weight_.spec.shape[2]}),
          .bias = conv_bias_.weight,
          .activation = Activation::silu,
          .y = u};
}

SelectiveScanInputs Mamba::scan_inputs(TensorView u, TensorView delta, TensorView xz, TensorView dbc,
                                       TensorView A) const {
  return {.u = u,
          .delta = delta,
          .z = xz.slice_columns(inner_, inner_),
          .A = A,
          .B = dbc.slice_columns(dt_rank_, state_),
          .C = dbc.slice_columns(dt_rank_ + state_, state_),
          .D = D_.weight,
          .delta_bias = dt_bias_.weight};
}

Tensor Mamba::decay_rates(const Stream& stream) const {
  Tensor A(stream, A_log_.weight.dtype, {inner_, state_});
  negative_exponential(stream, {.x = A_log_.weight, .y = A});
  return A;
}

std::vector<OperatorCall> Mamba::calls(DType dtype) const {
  const TensorView x = without_data(dtype, {1, inner_}), b = without_data(dtype, {1, state_});
  CausalConvForward convolution;
  convolution.x = convolution.y = x;
  convolution.weight = without_data(dtype, {inner_, conv_weight_.spec.shape[2]});
  SelectiveScanForward scan;
  scan.in.u = scan.in.delta = scan.in.z = scan.y = x;
  scan.in.B = scan.in.C = b;
  scan.in.A = without_data(accumulator_of(dtype), {inner_, state_});
  return {{"causal_conv", convolution}, {"selective_scan", scan}};
}

Tensor Mamba::run(const Stream& stream, const RowsView& h,
                  const std::function<void(const CausalConvForward&)>& convolve,
                  const std::function<void(const SelectiveScanForward&)>& scan, Saved* saved, bool only_saved) {
  const auto fresh = [&](std::int64_t columns) { return Tensor(stream, h.dtype(), {h.rows(), columns}); };

  Tensor xz = fresh(2 * inner_);  // (T, 2·I): x, z
  multiply_by(stream, in_proj_, h, xz);

  Tensor u = fresh(inner_);
  convolve(convolution(xz, u));

  Tensor dbc = fresh(dt_rank_ + 2 * state_);  // (T, R + 2·N): dt_low, B, C
  multiply_by(stream, x_proj_, u, dbc);
  Tensor delta = fresh(inner_);
  multiply_by(stream, dt_proj_, dbc.view().slice_columns(0, dt_rank_), delta);

  Tensor values = fresh(inner_);
  Tensor A = decay_rates(stream);
  scan({.in = scan_inputs(u, delta, xz, dbc, A), .y = values});
  TokenRows y = TokenRows::of(stream, out_proj_, std::move(values));

  Tensor out;
  if (!only_saved) {
    out = fresh(width_);
    multiply_by(stream, out_proj_, y, out);
  }
  if (saved != nullptr) {
    saved->put("xz", std::move(xz));
    saved->put("u", std::move(u));
    saved->put("dbc", std::move(dbc));
    saved->put("delta", std::move(delta));
    std::move(y).put_into(*saved, "y");
    saved->put("A", std::move(A));
  }
  return out;
}

Tensor Mamba::forward(const Pass& pass, const RowsView& h, Saved* saved) {
  const StrategyContext context = pass.strategy_context();
  const OperatorStrategies& strategies = pass.strategies();
  return run(
      pass.runtime.stream, h,
      [&](const CausalConvForward& args) {
        strategies.causal_conv->forward(context, args, scope_of(saved, "causal_conv"));
      },
      [&](const SelectiveScanForward& args) {
        strategies.selective_scan->forward(context, args, scope_of(saved, "selective_scan"));
      },
      saved, pass.only_saved);
}

Tensor Mamba::extend(const Stream& stream, const RowsView& h, std::span<const NextTokens> documents) {
  constexpr std::size_t conv_rows = 0, ssm_state = 1;  // of state.cache: x before the next token, and the scan's state
  for (const NextTokens& document : documents) {
    std::vector<Tensor>& cache = document.state.cache;
    if (cache.empty()) {
      cache.push_back(Tensor::zeros(stream, h.dtype(), {conv_weight_.spec.shape[2] - 1, inner_}));
      cache.push_back(Tensor::zeros(stream, accumulator_of(h.dtype()), {inner_, state_}));
    }
  }
  const auto convolve = [&](const CausalConvForward& all) {
    for (const NextTokens& document : documents) {
      CausalConvForward args = all;
      args.x = document.rows(all.x);
      args.y = document.rows(all.y);
      args.segments = document.segments;
      extend_convolution(stream, args, document.state.cache[conv_rows]);
    }
  };
  const auto scan = [&](const SelectiveScanForward& all) {
    for (const NextTokens& document : documents) {
      const TensorView carry = document.state.cache[ssm_state];
      SelectiveScanForward args = all;
      for (TensorView* rows : {&args.in.u, &args.in.delta, &args.in.z, &args.in.B, &args.in.C, &args.y})
        *rows = document.rows(*rows);
      args.in.segments = document.segments;
      args.state_in = carry;
      selective_scan_forward(stream, args);
      const Tensor summary(stream, carry.dtype, carry.shape), sum_delta(stream, carry.dtype, {inner_});
      selective_scan_summary(stream, {.in = args.in, .state = summary, .sum_delta = sum_delta});
      selective_scan_fold(stream, {.A = args.in.A, .summary_state = summary, .sum_delta = sum_delta, .carry = carry});
    }
  };
  return run(stream, h, convolve, scan, nullptr);
}

void Mamba::backward(const Pass& pass, const TiledInput& h, const RowsView& d_out, Saved& saved) {
  const Stream& stream = pass.runtime.stream;
  const auto fresh = [&](std::int64_t columns) { return Tensor(stream, h.dtype, {h.tokens, columns}); };
  TokenRows y = TokenRows::take_from(saved, "y");
  Tensor delta = saved.take("delta"), dbc = saved.take("dbc"), u = saved.take("u"), xz = saved.take("xz"),
         A = saved.take("A");

  Tensor d_y = fresh(inner_);
  multiply_back(stream, out_proj_, d_out, y, d_y);
  y = {};

  Tensor d_xz = fresh(2 * inner_), d_u = fresh(inner_), d_delta = fresh(inner_), d_dbc = fresh(dt_rank_ + 2 * state_);
  const Tensor d_A = Tensor::zeros(stream, A.view().dtype, {inner_, state_});
  pass.strategies().selective_scan->backward(pass.strategy_context(),
                                             {.in = scan_inputs(u, delta, xz, dbc, A),
                                              .d_y = d_y,
                                              .d_u = d_u,
                                              .d_delta = d_delta,
                                              .d_B = d_dbc.view().slice_columns(dt_rank_, state_),
                                              .d_C = d_dbc.view().slice_columns(dt_rank_ + state_, state_),
                                              .d_z = d_xz.view().slice_columns(inner_, inner_),
                                              .d_A = d_A,
                                              .d_D = D_.gradient,
                                              .d_delta_bias = dt_bias_.gradient},
                                             saved.scope("selective_scan"));
  negative_exponential_backward(stream, {.y = A, .d_y = d_A, .d_x = A_log_.gradient});
  d_y = {};

  const TensorView dt_low = dbc.view().slice_columns(0, dt_rank_), d_dt_low = d_dbc.view().slice_columns(0, dt_rank_);
  multiply_back(stream, dt_proj_, d_delta, dt_low, d_dt_low);
  add_product(stream, x_proj_, d_dbc, u);

  // u is also the input of x_proj: its gradient is d_u + d_dbc · x_proj.weight.
  const CausalConvForward conv = convolution(xz, u);
  const RoundedOperand d_product = gradient_operand(stream, x_proj_, d_dbc),
                       x_proj = weight_operand(stream, x_proj_, true);
  pass.strategies().causal_conv->backward(pass.strategy_context(),
                                          {.x = conv.x,
                                           .weight = conv.weight,
                                           .bias = conv.bias,
                                           .activation = conv.activation,
                                           .d_y = d_u,
                                           .d_y_product = {.a = d_product, .b = x_proj},
                                           .d_x = d_xz.view().slice_columns(0, inner_),
                                           .d_weight = conv_weight_.gradient.reshaped(conv.weight.shape),
                                           .d_bias = conv_bias_.gradient},
                                          saved.scope("causal_conv"));

  dense_backward(stream, in_proj_, h, d_xz);
}

}  // namespace

std::unique_ptr<Sublayer> make_mamba(const ModelOptions& options, const std::string& prefix, ParameterSet& parameters) {
  return std::make_unique<Mamba>(options, prefix, parameters);
}

}  // namespace causeway
