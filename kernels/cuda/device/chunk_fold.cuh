#pragma once

#include <cstdint>

#include "kernels/core/integer.hpp"
#include "kernels/core/tensor.hpp"
#include "kernels/cuda/device/chunks.cuh"
#include "kernels/cuda/device/elementwise.cuh"

/// The second of the three passes of a chunked recurrence, which selective_scan and modal_conv share:
///   1. sums: the state at each chunk's far edge, computed from a zero state at its near edge (a kernel of the
///   operator)
///   2. fold: one pass over the chunk sums gives the state that enters each chunk
///   3. outputs: each chunk again, from the state that enters it (a kernel of the operator)
/// A fold step is state_out = sum + decay · state_in. The operators differ only in the decay over one chunk, which they
/// describe by a type `Decay` with the members
///   Real                                 the accumulator type
///   Factor                               what is read from memory for one chunk, if anything
///   Decay::Thread thread(channel, n)     __device__: what a thread keeps in registers for one state of one channel
/// where Thread has the members
///   Factor factor(chunk)                 reads what the decay over this chunk needs
///   Real decayed(factor, chunk, state)   decay over the chunk, times state
///   void count_chunk(chunk)              the chunk belongs to the run's summary
///   void store_count()                   writes what was counted
namespace causeway::cuda {

/// The states at the edges of the chunks of a run, in scratch memory.
template <class R>
struct ChunkStates {
  std::int64_t tokens_each, count;  ///< tokens of a chunk; the last chunk of the run may be shorter. Number of chunks
  R* state;               ///< [count][states][channels]: the chunk's sum; after the fold, the state that enters it
  unsigned char* passes;  ///< [count]: whether the sum depends on the state that enters the chunk (ChunkTail::passes)
};

/// Owns the memory of a ChunkStates.
template <class R>
class ChunkStatesMemory {
 public:
  ChunkStatesMemory(const Stream& stream, std::int64_t tokens, std::int64_t tokens_each, std::int64_t states,
                    std::int64_t channels)
      : tokens_each_(tokens_each),
        count_(ceil_div(tokens, tokens_each)),
        state_(stream, dtype_of<R>, {count_, states, channels}),
        passes_(stream, DType::u8, {count_}) {}
  ChunkStates<R> view() const {
    return {tokens_each_, count_, static_cast<R*>(state_.view().data),
            static_cast<unsigned char*>(passes_.view().data)};
  }

 private:
  std::int64_t tokens_each_, count_;
  Tensor state_, passes_;
};

/// chunks.state becomes the state that enters each chunk; `first` [channels, states] enters the first one visited, and
/// `last` [channels, states] receives the state that leaves the last one.
///
/// block: 128 neighbouring channels, one state each
/// thread: visits all chunks in the order of the direction
/// registers: the state carried from chunk to chunk; the sums of the next 16 chunks
template <class Decay, class R>
__global__ void __launch_bounds__(128)
    fold_over_chunks_kernel(Decay decay, ChunkStates<R> chunks, std::int64_t channels, const R* first,
                            std::int64_t first_stride, R* last, std::int64_t last_stride, bool right_to_left) {
  const std::int64_t channel = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x, states = gridDim.y;
  const int n = static_cast<int>(blockIdx.y);
  if (channel >= channels) return;
  auto thread = decay.thread(channel, n);
  R carry = first != nullptr ? first[channel * first_stride + n] : R(0);
  constexpr int prefetch_chunks = 16;
  for (std::int64_t done = 0; done < chunks.count; done += prefetch_chunks) {
    R sum[prefetch_chunks];
    typename Decay::Factor factor[prefetch_chunks];
    bool passes[prefetch_chunks];
    const auto chunk_at = [&](int i) {
      const std::int64_t visited = done + i < chunks.count ? done + i : chunks.count - 1;
      return right_to_left ? chunks.count - 1 - visited : visited;
    };
    // 1. Read the sums of the next chunks; they are independent of each other.
#pragma unroll
    for (int i = 0; i < prefetch_chunks; ++i) {
      const std::int64_t chunk = chunk_at(i);
      sum[i] = chunks.state[(chunk * states + n) * channels + channel];
      factor[i] = thread.factor(chunk);
      passes[i] = chunks.passes[chunk] != 0;
    }
    // 2. Carry the state through them.
#pragma unroll
    for (int i = 0; i < prefetch_chunks; ++i) {
      if (done + i >= chunks.count) break;
      const std::int64_t chunk = chunk_at(i);
      chunks.state[(chunk * states + n) * channels + channel] = carry;
      carry = passes[i] ? sum[i] + thread.decayed(factor[i], chunk, carry) : sum[i];
    }
  }
  if (last != nullptr) last[channel * last_stride + n] = carry;
}

template <class Decay, class R>
void fold_over_chunks(const Stream& stream, ScanDirection direction, const Decay& decay, const ChunkStates<R>& chunks,
                      std::int64_t channels, std::int64_t states, TensorView first, TensorView last) {
  fold_over_chunks_kernel<<<dim3(grid_of(channels, 128), grid_of(states)), 128, 0, native_of(stream)>>>(
      decay, chunks, channels, first.present() ? static_cast<const R*>(first.data) : nullptr, first.row_stride,
      last.present() ? static_cast<R*>(last.data) : nullptr, last.row_stride,
      direction == ScanDirection::right_to_left);
  cuda_check(cudaGetLastError());
}

/// The run's own summary: folds only the chunks that contain tokens of the run's last document (left to right) or of
/// its first one (right to left), from a zero state, into `state` [channels, states].
///
/// block: 128 neighbouring channels, one state each
/// thread: visits the chunks of the document in the order of the direction
template <class Decay, class R>
__global__ void __launch_bounds__(128)
    fold_run_edge_kernel(Decay decay, ChunkStates<R> chunks, SegmentsView segments, std::int64_t channels,
                         bool right_to_left, R* state, std::int64_t state_stride) {
  const std::int64_t channel = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x, states = gridDim.y;
  const int n = static_cast<int>(blockIdx.y);
  if (channel >= channels) return;
  std::int64_t low = 0, high = chunks.count;  // the chunks that contain tokens of that document
  if (chunks.count > 0 && right_to_left && segments.cu_seqlens[1] < segments.tokens)
    high = ceil_div(segments.cu_seqlens[1], chunks.tokens_each);
  if (chunks.count > 0 && !right_to_left && segments.cu_seqlens[segments.count - 1] > 0)
    low = segments.cu_seqlens[segments.count - 1] / chunks.tokens_each;
  auto thread = decay.thread(channel, n);
  R carry = 0;
  for (std::int64_t i = 0; i < high - low; ++i) {
    const std::int64_t chunk = right_to_left ? high - 1 - i : low + i;
    carry =
        chunks.state[(chunk * states + n) * channels + channel] + thread.decayed(thread.factor(chunk), chunk, carry);
    thread.count_chunk(chunk);
  }
  state[channel * state_stride + n] = carry;
  thread.store_count();
}

template <class Decay, class R>
void fold_run_edge(const Stream& stream, ScanDirection direction, const Decay& decay, const ChunkStates<R>& chunks,
                   const SegmentsView& segments, std::int64_t channels, std::int64_t states, TensorView state) {
  fold_run_edge_kernel<<<dim3(grid_of(channels, 128), grid_of(states)), 128, 0, native_of(stream)>>>(
      decay, chunks, segments, channels, direction == ScanDirection::right_to_left, static_cast<R*>(state.data),
      state.row_stride);
  cuda_check(cudaGetLastError());
}

/// One fold step between runs: carry = summary + decay(channel, n) · carry, for [channels, states] matrices.
///
/// block: 256 neighbouring elements
/// thread: one state of one channel
template <class R, class RunDecay>
__global__ void __launch_bounds__(256)
    fold_run_kernel(RunDecay decay, const R* summary, std::int64_t summary_stride, R* carry, std::int64_t carry_stride,
                    std::int64_t channels, std::int64_t states) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x, d = i / states, n = i % states;
  if (d >= channels) return;
  R& to = carry[d * carry_stride + n];
  to = summary[d * summary_stride + n] + decay(d, n) * to;
}

/// `decay` is a struct with __device__ R operator()(channel, n): the decay over the whole run.
template <class R, class RunDecay>
void fold_run(const Stream& stream, const RunDecay& decay, TensorView summary, TensorView carry) {
  if (carry.size() == 0) return;
  fold_run_kernel<R><<<grid_of(carry.size(), 256), 256, 0, native_of(stream)>>>(
      decay, static_cast<const R*>(summary.data), summary.row_stride, static_cast<R*>(carry.data), carry.row_stride,
      carry.rows(), carry.columns());
  cuda_check(cudaGetLastError());
}

}  // namespace causeway::cuda
