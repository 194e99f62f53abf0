#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/check.cuh"
#include "kernels/cuda/device/elementwise.cuh"
#include "kernels/cuda/device/functions.cuh"
#include "kernels/expect.hpp"
#include "kernels/modal_conv.hpp"

namespace causeway::cuda {
namespace {

constexpr int filter_threads = 256;

/// Modes of a channel that are in shared memory at a time.
constexpr int staged_modes = 32;

/// taps[channel, t] = Σ_m residue_m exp(-rate_m t).
///
/// block: 256 neighbouring taps of one channel
/// thread: one tap
/// shared memory: rates and residues of 32 modes of the channel
/// registers: one sum
///
/// Lower bound: write the taps once, and one exponential for each tap and mode. At D 4096, 64K taps and 16 modes: 1.04
/// ms for the exponentials, 0.25 ms for the bytes.
template <class R>
__global__ void __launch_bounds__(filter_threads)
    write_taps(const R* residues, std::int64_t residues_stride, const R* log_rates, std::int64_t rates_stride,
               int modes, R* taps, std::int64_t taps_stride, std::int64_t length) {
  __shared__ R rate[staged_modes], residue[staged_modes];
  const std::int64_t tiles = ceil_div(length, filter_threads), channel = blockIdx.x / tiles,
                     t = blockIdx.x % tiles * filter_threads + threadIdx.x;
  R sum = 0;
  for (int first = 0; first < modes; first += staged_modes) {
    // 1. Load some modes.
    const int count = min(modes - first, staged_modes), thread = static_cast<int>(threadIdx.x);
    __syncthreads();
    if (thread < count) {
      rate[thread] = modal_rate(log_rates[channel * rates_stride + first + thread]);
      residue[thread] = residues[channel * residues_stride + first + thread];
    }
    __syncthreads();
    // 2. Add their terms.
    for (int m = 0; m < count; ++m) sum += residue[m] * ::exp(-rate[m] * static_cast<R>(t));
  }
  if (t < length) taps[channel * taps_stride + t] = sum;
}

/// d_residues += Σ_t d_taps λ^t and d_log_rates -= rate residue Σ_t d_taps t λ^t.
///
/// block: one mode of one channel
/// thread: every 256th tap
/// shared memory: both sums of each thread
/// registers: both sums, float64
template <class R>
__global__ void __launch_bounds__(filter_threads)
    sum_taps(const R* residues, std::int64_t residues_stride, const R* log_rates, std::int64_t rates_stride,
             std::int64_t modes, const R* d_taps, std::int64_t taps_stride, std::int64_t length, R* d_residues,
             std::int64_t d_residues_stride, R* d_log_rates, std::int64_t d_rates_stride) {
  __shared__ double sums[filter_threads], weighted_sums[filter_threads];
  const std::int64_t channel = blockIdx.x / modes, m = blockIdx.x % modes;
  const int thread = static_cast<int>(threadIdx.x);
  const double rate = modal_rate(static_cast<double>(log_rates[channel * rates_stride + m]));
  // 1. Sum the thread's taps.
  double sum = 0, weighted_sum = 0;
  for (std::int64_t t = thread; t < length; t += filter_threads) {
    const double term =
        static_cast<double>(d_taps[channel * taps_stride + t] * ::exp(static_cast<R>(-rate * static_cast<double>(t))));
    sum += term;
    weighted_sum += term * static_cast<double>(t);
  }
  // 2. Add the sums of the threads by a binary tree.
  sums[thread] = sum;
  weighted_sums[thread] = weighted_sum;
  for (int half = filter_threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread >= half) continue;
    sums[thread] += sums[thread + half];
    weighted_sums[thread] += weighted_sums[thread + half];
  }
  if (thread != 0) return;
  d_residues[channel * d_residues_stride + m] += static_cast<R>(sums[0]);
  d_log_rates[channel * d_rates_stride + m] -=
      static_cast<R>(rate * static_cast<double>(residues[channel * residues_stride + m]) * weighted_sums[0]);
}

void expect_filter(TensorView residues, TensorView log_rates, std::string_view name, TensorView taps) {
  ensure(residues.dtype == accumulator_of(residues.dtype), "residues are {}, expected {}", name_of(residues.dtype),
         name_of(accumulator_of(residues.dtype)));
  expect("log_rates", log_rates, residues.dtype, residues.shape);
  expect(name, taps, residues.dtype, {residues.rows(), taps.columns()});
}

}  // namespace

void modal_filter(const Stream& stream, const ModalFilter& args) {
  expect_filter(args.residues, args.log_rates, "taps", args.taps);
  const std::int64_t D = args.taps.rows(), length = args.taps.columns();
  if (D * length == 0) return;
  dispatch(args.residues.dtype, [&]<class Type> {
    using R = Accumulator<Type>;
    write_taps<R><<<grid_of(ceil_div(length, filter_threads) * D), filter_threads, 0, native_of(stream)>>>(
        static_cast<const R*>(args.residues.data), args.residues.row_stride, static_cast<const R*>(args.log_rates.data),
        args.log_rates.row_stride, static_cast<int>(args.residues.columns()), static_cast<R*>(args.taps.data),
        args.taps.row_stride, length);
    cuda_check(cudaGetLastError());
  });
}

void modal_filter_backward(const Stream& stream, const ModalFilterBackward& args) {
  expect_filter(args.residues, args.log_rates, "d_taps", args.d_taps);
  expect("d_residues", args.d_residues, args.residues.dtype, args.residues.shape);
  expect("d_log_rates", args.d_log_rates, args.residues.dtype, args.residues.shape);
  if (args.residues.size() == 0) return;
  dispatch(args.residues.dtype, [&]<class Type> {
    using R = Accumulator<Type>;
    sum_taps<R><<<grid_of(args.residues.size()), filter_threads, 0, native_of(stream)>>>(
        static_cast<const R*>(args.residues.data), args.residues.row_stride, static_cast<const R*>(args.log_rates.data),
        args.log_rates.row_stride, args.residues.columns(), static_cast<const R*>(args.d_taps.data),
        args.d_taps.row_stride, args.d_taps.columns(), static_cast<R*>(args.d_residues.data),
        args.d_residues.row_stride, static_cast<R*>(args.d_log_rates.data), args.d_log_rates.row_stride);
    cuda_check(cudaGetLastError());
  });
}

}  // namespace causeway::cuda
