#pragma once

#include "kernels/cuda/attention/fused_graphs.hpp"
#include "kernels/cuda/device/elementwise.cuh"
#include "kernels/cuda/device/functions.cuh"
#include "kernels/cuda/device/tensor_core.cuh"

/// Kernels around a call of cuDNN's fused attention, over the rows of the call's parts.
namespace causeway::cuda::fused_rows {

constexpr int threads = 256, lanes = 16, width = 8;  // a head of a token: 16 threads, 8 elements each
static_assert(lanes * width == fused_head);

/// A part of a call, in device memory. Temporary tensors begin with the call's first row: `temporary_query` and
/// `temporary_key` are rows of them.
struct PartRows {
  std::int64_t query, queries, temporary_query;
  std::int64_t key, keys, temporary_key;
};
static_assert(sizeof(PartRows) == 6 * sizeof(std::int64_t));

/// A tensor [tokens, H, 128] from which a call uses some heads.
template <class T>
struct SomeHeads {
  T* data = nullptr;
  std::int64_t stride = 0;

  SomeHeads() = default;
  /// From `head` on; of a [tokens, H] tensor, such as delta, one element a head.
  SomeHeads(TensorView x, std::int64_t head)
      : data(static_cast<T*>(x.data) + head * (x.shape.rank() == 3 ? fused_head : 1)), stride(x.row_stride) {}
  SomeHeads(void* first, std::int64_t row_stride) : data(static_cast<T*>(first)), stride(row_stride) {}
};

/// Which head of which token of its part a thread works on, and from which element. The last threads of a part may be
/// beyond its rows: `inside` is false and the row 0.
struct Place {
  std::int64_t row;
  int head, element;
  bool inside;

  __device__ Place(std::int64_t rows, int heads) {
    const std::int64_t at = (std::int64_t{blockIdx.x} * threads + threadIdx.x) / lanes;
    inside = at < rows * heads;
    row = inside ? at / heads : 0;
    head = static_cast<int>(inside ? at % heads : 0);
    element = head * static_cast<int>(fused_head) + static_cast<int>(threadIdx.x) % lanes * width;
  }
};

__device__ inline uint4 packed(const float (&x)[width]) {
  return {pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]), pack_bf16(x[4], x[5]), pack_bf16(x[6], x[7])};
}

/// y and lse, which other keys may already have given, with the fused kernel's result of some keys.
struct MergedResult {
  SomeHeads<const bf16> new_y;
  SomeHeads<const float> new_lse;
  void* y;
  SomeHeads<float> lse;
  std::int64_t y_stride;
  bool wide, accumulate;  ///< y is float32, otherwise bf16; y and lse hold the result of other keys
};

/// Without `accumulate` y = new_y, and lse is already there. Otherwise both results are merged by the weights exp(lse),
/// in float32.
///
/// block: 16 heads of tokens of one part (blockIdx.y)
/// thread: eight elements
__global__ void __launch_bounds__(threads) merge(const PartRows* parts, MergedResult result, int heads) {
  const PartRows part = parts[blockIdx.y];
  const Place at(part.queries, heads);
  const std::int64_t row = part.query + at.row, place = row * result.y_stride + at.element;
  const auto x = Packet<bf16, width>::load(result.new_y.data + row * result.new_y.stride + at.element);
  float value[width], kept = 0, share = 1;
  if (result.accumulate) {
    float* const lse = result.lse.data + row * result.lse.stride + at.head;
    const float before = *lse, more = result.new_lse.data[row * result.new_lse.stride + at.head];
    __syncwarp();  // all threads of a head have read the lse that one of them overwrites
    const float largest = fmaxf(before, more), old_weight = exponential(before - largest),
                new_weight = exponential(more - largest), both = old_weight + new_weight;
    kept = old_weight / both;
    share = new_weight / both;
    if (at.inside && threadIdx.x % lanes == 0) *lse = largest + logf(both);
  }
  if (!at.inside) return;
#pragma unroll
  for (int i = 0; i < width; ++i) value[i] = share * static_cast<float>(x.at[i]);
  // 0·NaN is NaN: a query without other keys leaves what is in y out.
  if (result.wide) {
    auto* const y = reinterpret_cast<float4*>(static_cast<float*>(result.y) + place);
    if (kept != 0) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float4 old = y[i];
        value[4 * i] += kept * old.x;
        value[4 * i + 1] += kept * old.y;
        value[4 * i + 2] += kept * old.z;
        value[4 * i + 3] += kept * old.w;
      }
    }
    y[0] = {value[0], value[1], value[2], value[3]};
    y[1] = {value[4], value[5], value[6], value[7]};
    return;
  }
  bf16* const y = static_cast<bf16*>(result.y) + place;
  if (kept != 0) {
    const auto old = Packet<bf16, width>::load(y);
#pragma unroll
    for (int i = 0; i < width; ++i) value[i] += kept * static_cast<float>(old.at[i]);
  }
  *reinterpret_cast<uint4*>(y) = packed(value);
}

/// A y with ⟨y, d_y⟩ = delta. cuDNN computes delta from y and d_y; our interface passes delta only. y = delta·d_y/⟨d_y,
/// d_y⟩: rounded to bf16 it gives delta with a relative error of about 2^-12. d_y is divided by the power of two below
/// its largest element, so that its square stays in range.
///
/// block: 16 heads of tokens of one part (blockIdx.y)
/// thread: eight elements of a head; 16 threads add their sums
__global__ void __launch_bounds__(threads) make_y(const PartRows* parts, SomeHeads<const bf16> d_y,
                                                  SomeHeads<const float> delta, SomeHeads<bf16> y, int heads) {
  const PartRows part = parts[blockIdx.y];
  const Place at(part.queries, heads);
  const auto x = Packet<bf16, width>::load(d_y.data + (part.query + at.row) * d_y.stride + at.element);
  float value[width], largest = 0, square = 0;
#pragma unroll
  for (int i = 0; i < width; ++i) {
    value[i] = static_cast<float>(x.at[i]);
    largest = fmaxf(largest, fabsf(value[i]));
  }
#pragma unroll
  for (int step = lanes / 2; step > 0; step /= 2) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, step));
  const float power = __uint_as_float(__float_as_uint(largest) & 0x7f800000u), inverse = power == 0 ? 0 : 1 / power;
#pragma unroll
  for (int i = 0; i < width; ++i) {
    value[i] *= inverse;
    square += value[i] * value[i];
  }
#pragma unroll
  for (int step = lanes / 2; step > 0; step /= 2) square += __shfl_xor_sync(~0u, square, step);
  if (!at.inside) return;
  const float factor = square == 0 ? 0 : delta.data[(part.query + at.row) * delta.stride + at.head] * inverse / square;
#pragma unroll
  for (int i = 0; i < width; ++i) value[i] *= factor;
  *reinterpret_cast<uint4*>(y.data + (part.temporary_query + at.row) * y.stride + at.element) = packed(value);
}

/// Where the fused kernel's d_q, d_k or d_v of a call goes.
struct GradientMove {
  SomeHeads<const bf16> from;
  void* to;
  std::int64_t stride;
  bool wide;   ///< to float32, otherwise to bf16
  bool added;  ///< only in float32
  bool done;   ///< the fused kernel wrote it there itself
};
struct GradientMoves {
  GradientMove of[3];
};

/// Writes or adds d_q, d_k and d_v (blockIdx.z).
///
/// block: 16 heads of tokens of one part (blockIdx.y)
/// thread: eight elements
__global__ void __launch_bounds__(threads) move(const PartRows* parts, GradientMoves gradients, int heads) {
  const GradientMove& gradient = gradients.of[blockIdx.z];
  if (gradient.done) return;
  const PartRows part = parts[blockIdx.y];
  const bool of_queries = blockIdx.z == 0;
  const Place at(of_queries ? part.queries : part.keys, heads);
  if (!at.inside) return;
  const std::int64_t source = (of_queries ? part.temporary_query : part.temporary_key) + at.row,
                     row = (of_queries ? part.query : part.key) + at.row, place = row * gradient.stride + at.element;
  const bf16* const from = gradient.from.data + source * gradient.from.stride + at.element;
  if (!gradient.wide) {
    *reinterpret_cast<uint4*>(static_cast<bf16*>(gradient.to) + place) = *reinterpret_cast<const uint4*>(from);
    return;
  }
  const auto x = Packet<bf16, width>::load(from);
  auto* const target = reinterpret_cast<float4*>(static_cast<float*>(gradient.to) + place);
  float4 sum[2] = {};
  if (gradient.added) {
    sum[0] = target[0];
    sum[1] = target[1];
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    sum[i].x += static_cast<float>(x.at[4 * i]);
    sum[i].y += static_cast<float>(x.at[4 * i + 1]);
    sum[i].z += static_cast<float>(x.at[4 * i + 2]);
    sum[i].w += static_cast<float>(x.at[4 * i + 3]);
    target[i] = sum[i];
  }
}

}  // namespace causeway::cuda::fused_rows
