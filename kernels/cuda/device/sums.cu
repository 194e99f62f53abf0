#include <algorithm>
#include <string_view>

#include "kernels/activation.hpp"
#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/reduce.cuh"

namespace causeway::cuda {
namespace {

constexpr std::int64_t most_blocks = 1024;  // of the first kernel: what the second adds up at once
constexpr int threads = 512, in_flight = 4;

/// partial[block] = the sum over every gridDim.x-th stretch of the [rows, columns] packets.
template <class T, int V, bool squared>
__global__ void __launch_bounds__(threads)
    partial_sums(Rows<const T> x, std::int64_t rows, std::int64_t packets, double* partial) {
  const std::int64_t count = rows * packets, step = std::int64_t{gridDim.x} * threads * in_flight;
  double sum = 0;
  for (std::int64_t base = std::int64_t{blockIdx.x} * threads * in_flight + threadIdx.x; base < count; base += step) {
    Packet<T, V> values[in_flight];
#pragma unroll
    for (int i = 0; i < in_flight; ++i) {
      const std::int64_t at = base + i * threads;
      if (at >= count) continue;
      const std::int64_t row = rows == 1 ? 0 : at / packets;
      values[i] = x.template load<V>(row, (at - row * packets) * V);
    }
#pragma unroll
    for (int i = 0; i < in_flight; ++i) {
      if (base + i * threads >= count) continue;
#pragma unroll
      for (int v = 0; v < V; ++v) {
        const auto value = static_cast<double>(widened(values[i].at[v]));
        sum += squared ? value * value : value;
      }
    }
  }
  sum = reduce_team(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(most_blocks) total_sum(const double* partial, std::int64_t count, double* sum) {
  const double total = reduce_team(threadIdx.x < count ? partial[threadIdx.x] : 0.0);
  if (threadIdx.x == 0) *sum += total;
}

/// sum[0] += Σ x, or Σ x².
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
                         blocks = std::min(most_blocks, ceil_div(x.rows() * packets, threads * in_flight));
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

// Floor: x read.
void sum_of_elements(const Stream& stream, const SumOfElements& args) {
  add_up<false>(stream, "sum_of_elements", args.x, args.sum);
}

// Floor: x read.
void sum_of_squares(const Stream& stream, const SumOfSquares& args) {
  add_up<true>(stream, "sum_of_squares", args.x, args.sum);
}

}  // namespace causeway::cuda
