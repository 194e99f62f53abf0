#include <algorithm>
#include <cmath>

#include "kernels/attention.hpp"
#include "kernels/cuda/device/elementwise.cuh"
#include "kernels/expect.hpp"

namespace causeway::cuda {
namespace {

constexpr std::int64_t most_angles = 1024;  // of a block, in shared memory
constexpr std::int64_t most_tokens = 8;     // of a block
constexpr int threads = 256;

/// Position of token t in its document: what cu_seqlens' last entry up to t is away.
__device__ std::int64_t position_of(const SegmentsView& segments, std::int64_t t) {
  std::int64_t low = 0, high = segments.count;  // entries[low] <= t < entries[high]
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (segments.cu_seqlens[middle] <= t ? low : high) = middle;
  }
  return t - segments.cu_seqlens[low];
}

/// A block computes its tokens' angles once, in float64: a million positions in float32 would be off by a tenth of a
/// turn. Every head then takes them from shared memory.
template <class T, int V>
__global__ void __launch_bounds__(threads)
    turn(Rows<const T> x, Rows<T> y, SegmentsView segments, std::int64_t heads, std::int64_t pairs, double log2_base,
         bool inverse, std::int64_t tokens_together) {
  using R = Accumulator<T>;
  __shared__ R cosines[most_angles], sines[most_angles];
  const std::int64_t first = blockIdx.x * tokens_together;
  const std::int64_t left = segments.tokens - first, tokens = left < tokens_together ? left : tokens_together;
  for (std::int64_t i = threadIdx.x; i < tokens * pairs; i += threads) {
    const double frequency = ::exp2(-log2_base * static_cast<double>(i % pairs) / static_cast<double>(pairs));
    double sine, cosine;
    ::sincos(static_cast<double>(position_of(segments, first + i / pairs)) * frequency, &sine, &cosine);
    cosines[i] = static_cast<R>(cosine);
    sines[i] = static_cast<R>(inverse ? -sine : sine);
  }
  __syncthreads();
  const int packets = static_cast<int>(pairs / V), of_token = static_cast<int>(heads) * packets;
  for (int i = threadIdx.x; i < static_cast<int>(tokens) * of_token; i += threads) {
    const int token = i / of_token, head = i % of_token / packets, pair = i % packets * V;
    const std::int64_t column = head * 2 * pairs + pair;
    const auto a = x.template load<V>(first + token, column), b = x.template load<V>(first + token, column + pairs);
    const int angle = token * static_cast<int>(pairs) + pair;
    Packet<T, V> to_a, to_b;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const R real = widened(a.at[v]), imaginary = widened(b.at[v]), cosine = cosines[angle + v],
              sine = sines[angle + v];
      to_a.at[v] = narrowed<T>(real * cosine - imaginary * sine);
      to_b.at[v] = narrowed<T>(imaginary * cosine + real * sine);
    }
    y.template store<V>(first + token, column, to_a);
    y.template store<V>(first + token, column + pairs, to_b);
  }
}

}  // namespace

// Floor: x read, y written. bf16 [65536, 32, 128]: 1.07 GB, 0.22 ms at 4.8 TB/s.
void rope(const Stream& stream, const Rope& args) {
  const TensorView x = args.x;
  ensure(x.shape.rank() == 3 && x.rows() == args.segments.tokens && x.shape[2] % 2 == 0,
         "rope of {} for {} tokens, expected [tokens, H, E] with even E", x.shape.to_string(), args.segments.tokens);
  ensure(args.base > 0, "rope's base is {}", args.base);
  expect("y", args.y, x.dtype, x.shape);
  const std::int64_t heads = x.shape[1], pairs = x.shape[2] / 2;
  ensure(pairs <= most_angles, "rope of heads of {} numbers, expected at most {}", 2 * pairs, 2 * most_angles);
  if (x.size() == 0) return;
  const std::int64_t tokens_together = std::clamp<std::int64_t>(most_angles / pairs, 1, most_tokens);
  dispatch(x.dtype, [&]<class T>() {
    constexpr int width = packet_width<T>;
    dispatch_width<width>(pairs % width == 0 && rows_start_aligned({x, args.y}, width), [&]<int V> {
      turn<T, V><<<grid_of(x.rows(), tokens_together), threads, 0, native_of(stream)>>>(
          Rows<const T>(x), Rows<T>(args.y), args.segments, heads, pairs, std::log2(args.base), args.inverse,
          tokens_together);
      cuda_check(cudaGetLastError());
    });
  });
}

}  // namespace causeway::cuda
