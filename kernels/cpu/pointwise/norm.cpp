#include "kernels/norm.hpp"
#include "kernels/core/integer.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/partial_sums.hpp"
#include "kernels/cpu/pointwise/elementwise.hpp"
#include "kernels/fp8/expect_fp8.hpp"

namespace causeway::cpu {
namespace {

template <class T>
void forward(const RmsNormForward& args) {
  using Wide = Accumulator<T>;
  const std::int64_t tokens = args.y.rows(), channels = args.y.columns();
  const Wide* weight = args.weight.row<Wide>(0);
#pragma omp parallel for schedule(static) if (tokens * channels > 4 * span_length)
  for (std::int64_t t = 0; t < tokens; ++t) {
    const Wide* const before = args.residual.row<Wide>(t);
    Wide* const residual = (args.sum.present() ? args.sum : args.residual).row<Wide>(t);
    if (args.x.present()) {
      const T* x = args.x.row<T>(t);
#pragma omp simd
      for (std::int64_t d = 0; d < channels; ++d) residual[d] = before[d] + static_cast<Wide>(x[d]);
    }
    Wide squares = 0;  // not in the loop above: recomputation, which has no x, must give the same bits
#pragma omp simd reduction(+ : squares)
    for (std::int64_t d = 0; d < channels; ++d) squares += residual[d] * residual[d];
    const Wide mean = squares / static_cast<Wide>(channels), eps = static_cast<Wide>(args.eps);
    const Wide rstd = 1 / (args.form == NormForm::inside ? std::sqrt(mean + eps) : std::sqrt(mean) + eps);
    *args.rstd.row<Wide>(t) = rstd;
    T* y = args.y.row<T>(t);
#pragma omp simd
    for (std::int64_t d = 0; d < channels; ++d) y[d] = weight[d] * (residual[d] * rstd);
  }
}

/// `partial` [blocks, D], zero at first: d_weight is summed within blocks of `block` tokens, then over the blocks in
/// order. The blocks depend only on the shape.
template <class T>
void backward(const RmsNormBackward& args, std::int64_t block, TensorView partial) {
  using Wide = Accumulator<T>;
  const std::int64_t tokens = args.d_y.rows(), channels = args.d_y.columns();
  const Wide* weight = args.weight.row<Wide>(0);
  const Wide eps_outside = args.form == NormForm::outside ? static_cast<Wide>(args.eps) : 0;
#pragma omp parallel for schedule(static) if (tokens * channels > 4 * span_length)
  for (std::int64_t b = 0; b < partial.rows(); ++b) {
    Wide* sum = partial.row<Wide>(b);
    for (std::int64_t t = b * block; t < std::min(tokens, (b + 1) * block); ++t) {
      const Wide* residual = args.residual.row<Wide>(t);
      const T* d_y = args.d_y.row<T>(t);
      Wide* d_residual = args.d_residual.row<Wide>(t);
      const Wide rstd = *args.rstd.row<Wide>(t);
      Wide dot = 0;
#pragma omp simd reduction(+ : dot)
      for (std::int64_t d = 0; d < channels; ++d) {
        const Wide normalized = residual[d] * rstd, g = static_cast<Wide>(d_y[d]);
        sum[d] += g * normalized;
        dot += g * weight[d] * normalized;
      }
      const Wide root = 1 - eps_outside * rstd;  // √ms · rstd, or 1
      const Wide mean = dot / static_cast<Wide>(channels) * (root > 0 ? 1 / root : 0);
#pragma omp simd
      for (std::int64_t d = 0; d < channels; ++d)
        d_residual[d] = (args.beta == 0 ? 0 : d_residual[d]) +
                        rstd * (static_cast<Wide>(d_y[d]) * weight[d] - residual[d] * rstd * mean);
      if (!args.d_narrow.present()) continue;
      T* d_narrow = args.d_narrow.row<T>(t);
#pragma omp simd
      for (std::int64_t d = 0; d < channels; ++d) d_narrow[d] = d_residual[d];
    }
  }
  add_parts(args.d_weight.row<Wide>(0), channels, partial.row<const Wide>(0), partial.rows(), partial.row_stride);
}

}  // namespace

void rms_norm_forward(const Stream& stream, const RmsNormForward& args) {
  if (args.y_codes.codes.present()) {
    expect_codes_if_present("rms_norm's y", args.y_codes, DType::bf16, args.residual.shape);
    const Tensor own = args.y.present() ? Tensor() : Tensor(stream, DType::bf16, args.residual.shape);
    RmsNormForward values = args;
    if (own.present()) values.y = own;
    values.y_codes = {};
    rms_norm_forward(stream, values);
    return quantise_to_fp8(
        stream,
        {.x = values.y, .format = args.y_codes.format, .codes = args.y_codes.codes, .scales = args.y_codes.scales});
  }
  const TensorView y = args.y;
  const DType wide = accumulator_of(y.dtype);
  ensure(y.columns() > 0, "rms_norm: y is {}, expected at least one channel", y.shape.to_string());
  expect_if_present("rms_norm's x", args.x, y.dtype, y.shape);
  expect("rms_norm's residual", args.residual, wide, y.shape);
  expect_if_present("rms_norm's sum", args.sum, wide, y.shape);
  ensure(args.x.present() || !args.sum.present(), "rms_norm: a sum is asked for, but x is absent");
  expect("rms_norm's weight", args.weight, wide, {y.columns()});
  expect("rms_norm's rstd", args.rstd, wide, {y.rows()});
  dispatch(y.dtype, [&]<class T>() { forward<T>(args); });
}

void rms_norm_backward(const Stream& stream, const RmsNormBackward& args) {
  if (args.d_narrow_codes.codes.present()) {
    expect_codes_if_present("rms_norm backward's d_narrow", args.d_narrow_codes, args.d_y.dtype, args.d_y.shape);
    const Tensor own = args.d_narrow.present() ? Tensor() : Tensor(stream, DType::bf16, args.d_y.shape);
    RmsNormBackward values = args;
    if (own.present()) values.d_narrow = own;
    values.d_narrow_codes = {};
    rms_norm_backward(stream, values);
    return quantise_to_fp8(stream, {.x = values.d_narrow,
                                    .format = args.d_narrow_codes.format,
                                    .codes = args.d_narrow_codes.codes,
                                    .scales = args.d_narrow_codes.scales});
  }
  const TensorView d_y = args.d_y;
  const DType wide = accumulator_of(d_y.dtype);
  const std::int64_t tokens = d_y.rows();
  ensure(d_y.columns() > 0, "rms_norm backward: d_y is {}, expected at least one channel", d_y.shape.to_string());
  expect("rms_norm backward's residual", args.residual, wide, d_y.shape);
  expect("rms_norm backward's weight", args.weight, wide, {d_y.columns()});
  expect("rms_norm backward's rstd", args.rstd, wide, {tokens});
  expect("rms_norm backward's d_residual", args.d_residual, wide, d_y.shape);
  expect_if_present("rms_norm backward's d_narrow", args.d_narrow, d_y.dtype, d_y.shape);
  expect("rms_norm backward's d_weight", args.d_weight, wide, {d_y.columns()});
  const std::int64_t block = std::max<std::int64_t>(32, ceil_div(tokens, 64));
  const Tensor partial = Tensor::zeros(stream, wide, {ceil_div(tokens, block), d_y.columns()});
  dispatch(d_y.dtype, [&]<class T>() { backward<T>(args, block, partial); });
}

}  // namespace causeway::cpu
