#include <algorithm>
#include <string_view>

#include "kernels/activation.hpp"
#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/reduce.cuh"

namespace causeway::cuda {
namespace {

constexpr std::int64_t most_blocks = 1024;  // blocks of the first kernel: the second adds their sums in one block
constexpr int threads = 512, prefetch_packets = 4;

/// partial[block] = the sum over the block's packets of x [rows, packets].
///
/// block: sections of threads · prefetch_packets packets, every gridDim.x-th one
/// thread: 4 packets of a section, `threads` packets apart
/// registers: 4 packets, read before the first is used; one float64 sum
template <class T, int V, bool squared>
__global__ void __launch_bounds__(threads)
    partial_sums(Rows<const T> x, std::int64_t rows, std::int64_t packets, double* partial) {
  const std::int64_t count = rows * packets, step = std::int64_t{gridDim.x} * threads * prefetch_packets;
  double sum = 0;
  for (std::int64_t base = std::int64_t{blockIdx.x} * threads * prefetch_packets + threadIdx.x; base < count;
       base += step) {
    // 1. Read the packets of a section.
    Packet<T, V> values[prefetch_packets];
#pragma unroll
    for (int i = 0; i < prefetch_packets; ++i) {
      const std::int64_t packet = base + i * threads;
      if (packet >= count) continue;
      const std::int64_t row = rows == 1 ? 0 : packet / packets;
      values[i] = x.template load<V>(row, (packet - row * packets) * V);
    }
    // 2. Add their elements, or the squares.
#pragma unroll
    for (int i = 0; i < prefetch_packets; ++i) {
      if (base + i * threads >= count) continue;
#pragma unroll
      for (int v = 0; v < V; ++v) {
        const auto value = static_cast<double>(widened(values[i].at[v]));
        sum += squared ? value * value : value;
      }
    }
  }
  // 3. Add the sums of the threads.
  sum = reduce_team(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

/// sum += Σ partial.
///
/// block: the only one
/// thread: one partial sum
__global__ void __launch_bounds__(most_blocks) total_sum(const double* partial, std::int64_t count, double* sum) {
  const double total = reduce_team(threadIdx.x < count ? partial[threadIdx.x] : 0.0);
  if (threadIdx.x == 0) *sum += total;
}

/// sum[0] += Σ x, or Σ x²: partial sums of up to 1024 blocks, then their sum.
template <bool squared>
void add_up(const Stream& stream, std::string_view name, TensorView x, TensorView sum) {
  ensure(sum.dtype == DType::f64 && sum.size() == 1, "{} into {} {}, expected one f64", name, name_of(sum.dtype),
         sum.shape.to_string());
  if (x.size() == 0) return;
  if (x.dense()) x = x.reshaped({1, x.size()});
  dispatch(x.dtype, [&]<class T>() {
    constexpr int width = packet_width<T>;
    dispatch_width<width>(rows_start_aligned({x}, width) && x.columns() % width == 0, [&]<int V> {
      const std::int64_t packets = x.columns() / V,
                         blocks = std::min(most_blocks, ceil_div(x.rows() * packets, threads * prefetch_packets));
      const Tensor partial(stream, DType::f64, {blocks});
      auto* const sums = static_cast<double*>(partial.view().data);
      partial_sums<T, V, squared>
          <<<grid_of(blocks), threads, 0, native_of(stream)>>>(Rows<const T>(x), x.rows(), packets, sums);
      cuda_check(cudaGetLastError());
      total_sum<<<1, most_blocks, 0, native_of(stream)>>>(sums, blocks, static_cast<double*>(sum.data));
      cuda_check(cudaGetLastError());
    });
  });
}

}  // namespace

// Lower bound: read x.
void sum_of_elements(const Stream& stream, const SumOfElements& args) {
  add_up<false>(stream, "sum_of_elements", args.x, args.sum);
}

// Lower bound: read x.
void sum_of_squares(const Stream& stream, const SumOfSquares& args) {
  add_up<true>(stream, "sum_of_squares", args.x, args.sum);
}

}  // namespace causeway::cuda
