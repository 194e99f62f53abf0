#include "kernels/norm.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/elementwise.hpp"

namespace causeway::cpu {

void rms_norm_forward(const Stream&, const RmsNormForward& args) {
  const auto [x, residual, weight, eps, y, rstd] = args;
  const std::int64_t tokens = y.rows(), channels = y.columns();
  const DType wide = accumulator_of(y.dtype);
  ensure(channels > 0 && residual.shape == y.shape && weight.size() == channels && rstd.size() == tokens && (!x.present() || x.shape == y.shape),
         "rms_norm of residual {}, weight {}, x {} into y {}, rstd {}", residual.shape.to_string(), weight.shape.to_string(), x.shape.to_string(),
         y.shape.to_string(), rstd.shape.to_string());
  ensure(residual.dtype == wide && weight.dtype == wide && rstd.dtype == wide && (!x.present() || x.dtype == y.dtype),
         "rms_norm in {}: residual is {}, weight {}, rstd {}, expected {}", name_of(y.dtype), name_of(residual.dtype), name_of(weight.dtype),
         name_of(rstd.dtype), name_of(wide));
  dispatch(y.dtype, [&, &x = x, &residual = residual, &weight = weight, &y = y, &rstd = rstd, epsilon = eps]<class T>() {
    using Wide = Accumulator<T>;
    const Wide* gain = weight.row<Wide>(0);
#pragma omp parallel for schedule(static) if (tokens * channels > 4 * run_length)
    for (std::int64_t t = 0; t < tokens; ++t) {
      Wide* stream = residual.row<Wide>(t);
      Wide squares = 0;
      if (x.present()) {
        const T* add = x.row<T>(t);
#pragma omp simd reduction(+ : squares)
        for (std::int64_t d = 0; d < channels; ++d) {
          const Wide sum = stream[d] + static_cast<Wide>(add[d]);
          stream[d] = sum;
          squares += sum * sum;
        }
      } else {
#pragma omp simd reduction(+ : squares)
        for (std::int64_t d = 0; d < channels; ++d) squares += stream[d] * stream[d];
      }
      const Wide inverse = 1 / std::sqrt(squares / static_cast<Wide>(channels) + static_cast<Wide>(epsilon));
      *rstd.row<Wide>(t) = inverse;
      T* out = y.row<T>(t);
#pragma omp simd
      for (std::int64_t d = 0; d < channels; ++d) out[d] = gain[d] * (stream[d] * inverse);
    }
  });
}

void rms_norm_backward(const Stream& stream, const RmsNormBackward& args) {
  const auto [residual, weight, rstd, d_y, d_residual, d_weight] = args;
  const std::int64_t tokens = d_y.rows(), channels = d_y.columns();
  const DType wide = accumulator_of(d_y.dtype);
  ensure(channels > 0 && residual.shape == d_y.shape && d_residual.shape == d_y.shape && weight.size() == channels && d_weight.size() == channels &&
             rstd.size() == tokens,
         "rms_norm backward of d_y {}, residual {}, weight {}, rstd {} into d_residual {}, d_weight {}", d_y.shape.to_string(),
         residual.shape.to_string(), weight.shape.to_string(), rstd.shape.to_string(), d_residual.shape.to_string(), d_weight.shape.to_string());
  for (const TensorView& each : {residual, weight, rstd, d_residual, d_weight})
    ensure(each.dtype == wide, "rms_norm backward in {}: a tensor is {}, expected {}", name_of(d_y.dtype), name_of(each.dtype), name_of(wide));
  if (tokens == 0) return;
  // d_weight is summed over a number of token blocks that depends on the shape alone, then over the blocks in order.
  const std::int64_t block = std::max<std::int64_t>(32, (tokens + 63) / 64), blocks = (tokens + block - 1) / block;
  const Tensor partial = Tensor::zeros(stream, wide, {blocks, channels});
  const TensorView sums = partial;
  dispatch(d_y.dtype, [&, &residual = residual, &weight = weight, &rstd = rstd, &d_y = d_y, &d_residual = d_residual, &d_weight = d_weight]<class T>() {
    using Wide = Accumulator<T>;
    const Wide* gain = weight.row<Wide>(0);
#pragma omp parallel for schedule(static) if (tokens * channels > 4 * run_length)
    for (std::int64_t b = 0; b < blocks; ++b) {
      Wide* of_block = sums.row<Wide>(b);
      for (std::int64_t t = b * block; t < std::min(tokens, (b + 1) * block); ++t) {
        const Wide* in = residual.row<Wide>(t);
        const T* d_out = d_y.row<T>(t);
        Wide* d_in = d_residual.row<Wide>(t);
        const Wide inverse = *rstd.row<Wide>(t);
        Wide dot = 0;
#pragma omp simd reduction(+ : dot)
        for (std::int64_t d = 0; d < channels; ++d) {
          const Wide normalized = in[d] * inverse, g = static_cast<Wide>(d_out[d]);
          of_block[d] += g * normalized;
          dot += g * gain[d] * normalized;
        }
        const Wide mean = dot / static_cast<Wide>(channels);
#pragma omp simd
        for (std::int64_t d = 0; d < channels; ++d)
          d_in[d] += inverse * (static_cast<Wide>(d_out[d]) * gain[d] - in[d] * inverse * mean);
      }
    }
    Wide* d_gain = d_weight.row<Wide>(0);
    for (std::int64_t b = 0; b < blocks; ++b) {
      const Wide* of_block = sums.row<Wide>(b);
#pragma omp simd
      for (std::int64_t d = 0; d < channels; ++d) d_gain[d] += of_block[d];
    }
  });
}

}  // namespace causeway::cpu
