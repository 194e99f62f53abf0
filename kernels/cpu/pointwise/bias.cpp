#include "kernels/bias.hpp"

#include <algorithm>

#include "kernels/core/integer.hpp"
#include "kernels/cpu/partial_sums.hpp"
#include "kernels/cpu/pointwise/elementwise.hpp"
#include "kernels/expect.hpp"

namespace causeway::cpu {

void bias_forward(const Stream&, const BiasForward& args) {
  const TensorView y = args.y;
  expect("bias", args.bias, accumulator_of(y.dtype), {y.columns()});
  dispatch(y.dtype, [&]<class T>() {
    const auto* const bias = args.bias.row<const Accumulator<T>>(0);
#pragma omp parallel for schedule(static) if (y.size() > 4 * span_length)
    for (std::int64_t t = 0; t < y.rows(); ++t) {
      T* const to = y.row<T>(t);
#pragma omp simd
      for (std::int64_t d = 0; d < y.columns(); ++d) to[d] = static_cast<T>(bias[d]);
    }
  });
}

void bias_backward(const Stream& stream, const BiasBackward& args) {
  const TensorView d_y = args.d_y;
  const std::int64_t tokens = d_y.rows(), channels = d_y.columns();
  expect("d_bias", args.d_bias, accumulator_of(d_y.dtype), {channels});
  const std::int64_t block = std::max<std::int64_t>(32, ceil_div(tokens, 64)), blocks = ceil_div(tokens, block);
  const Tensor partial = Tensor::zeros(stream, DType::f64, {blocks + 1, channels});  // the last row: their sum
  dispatch(d_y.dtype, [&]<class T>() {
    using Wide = Accumulator<T>;
#pragma omp parallel for schedule(static) if (d_y.size() > 4 * span_length)
    for (std::int64_t b = 0; b < blocks; ++b) {
      double* const sum = partial.view().row<double>(b);
      for (std::int64_t t = b * block; t < std::min(tokens, (b + 1) * block); ++t) {
        const T* const from = d_y.row<const T>(t);
#pragma omp simd
        for (std::int64_t d = 0; d < channels; ++d) sum[d] += static_cast<double>(static_cast<Wide>(from[d]));
      }
    }
    double* const total = partial.view().row<double>(blocks);
    add_parts(total, channels, partial.view().row<const double>(0), blocks, partial.view().row_stride);
    Wide* const d_bias = args.d_bias.row<Wide>(0);
    for (std::int64_t d = 0; d < channels; ++d) d_bias[d] += static_cast<Wide>(total[d]);
  });
}

}  // namespace causeway::cpu
