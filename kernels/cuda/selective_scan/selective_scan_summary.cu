#include <algorithm>
#include <type_traits>

#include "kernels/core/integer.hpp"
#include "kernels/cuda/selective_scan/selective_scan.cuh"

namespace causeway::cuda {
namespace {

/// The open cuts of a run, in their order: the edges of pieces at which chunk sums are needed. A count of -1: all sums
/// are.
struct OpenCuts {
  std::int32_t at[most_pieces], count = -1;

  OpenCuts(const RunPieces* pieces, ScanDirection direction) {
    if (pieces == nullptr) return;
    count = 0;
    for (int p = 0; p < pieces->count; ++p)
      if (pieces->open[p] != 0)
        at[count++] = direction == ScanDirection::right_to_left ? pieces->end[p] : pieces->begin[p];
    std::sort(at, at + count);
  }
  /// Whether the state at a cut depends on the chunk: whether one is between the chunk and the far end of the document
  /// at the chunk's far edge.
  template <ScanDirection direction>
  __device__ bool depend_on(const ChunkTail<direction>& tail) const {
    for (int i = 0; i < count; ++i)
      if (direction == ScanDirection::right_to_left ? at[i] <= tail.first && at[i] > tail.document.start
                                                    : at[i] >= tail.last && at[i] < tail.document.end)
        return true;
    return false;
  }
};

/// The sum of one chunk. Left to right: h after the chunk's last token. Right to left: exp(Δ A) g at the chunk's left
/// edge, where g is the adjoint of h. Both cover the tokens of ChunkTail only.
///
/// block: one chunk of scan_threads / L channels (blockIdx.x: chunk, blockIdx.y: channels)
/// thread: up to 16 states of one channel (ChunkThread)
/// shared memory: B (right to left: C) of 64 tokens in the accumulator type, [token][state], zero beyond N
/// registers: 16 states and their rates; the raw inputs of the next 4 tokens
/// One function, because its phases share registers and shared memory.
template <class T, int L, ScanDirection direction>
__global__ void __launch_bounds__(scan_threads, 5)
    sum_chunk(ScanInputs<T> in, const T* d_y, std::int64_t d_y_stride, ScanChunks<T> chunks, bool edge_only,
              const __grid_constant__ OpenCuts cuts) {
  using R = Accumulator<T>;
  constexpr bool backwards = direction == ScanDirection::right_to_left;
  constexpr int padded = thread_states * L, prefetch_rows = 4, step = backwards ? -1 : 1;
  __shared__ __align__(16) R rows[block_tokens * padded];
  const ChunkThread<L> thread(in.segments.tokens, chunks.tokens_each, in.channels, in.states);
  const std::int64_t chunk = blockIdx.x, channel = thread.channel;
  const T* const source = backwards ? d_y : in.u;
  const std::int64_t source_stride = backwards ? d_y_stride : in.u_stride;
  const bool gated = backwards && in.z != nullptr;
  const int delta_bytes = row_bytes<T>(in.delta_stride), x_bytes = row_bytes<T>(source_stride);
  const int z_bytes = gated ? row_bytes<T>(in.z_stride) : x_bytes;

  const ChunkTail<direction> tail(in.segments, thread.begin, thread.end, thread.lane);
  if (edge_only && !tail.at_run_edge) return;
  if (cuts.count >= 0 && !cuts.depend_on(tail)) {
    if (threadIdx.x == 0 && blockIdx.y == 0) chunks.passes[chunk] = false;
    return;
  }

  R rate[thread_states], state[thread_states] = {};
#pragma unroll
  for (int n = 0; n < thread_states; ++n) rate[n] = thread.inside ? in.rate(channel, thread.state(n)) : R(0);
  const R bias = thread.inside ? in.bias_of(channel) : R(0);
  double sum_delta = 0;
  for (std::int64_t done = 0; done < tail.last - tail.first; done += block_tokens) {
    // 1. Load B or C of 64 tokens to shared memory.
    const std::int64_t from = backwards ? tail.last - 1 - done : tail.first + done,
                       left = tail.last - tail.first - done;
    const int count = static_cast<int>(left < block_tokens ? left : block_tokens);
    __syncthreads();
    stage_rows<padded>(backwards ? in.C : in.B, backwards ? in.C_stride : in.B_stride, in.states, from, step, count,
                       rows);
    __syncthreads();
    const T *const delta_at = in.delta + from * in.delta_stride + channel,
                   *const x_at = source + from * source_stride + channel,
                   *const z_at = gated ? in.z + from * in.z_stride + channel : x_at;
    T raw_delta[prefetch_rows], raw_x[prefetch_rows], raw_z[prefetch_rows];
    const auto prefetch = [&](int k) {  // reads the last token again beyond it
#pragma unroll
      for (int i = 0; i < prefetch_rows; ++i) {
        const int row = min(k + i, count - 1) * step;
        raw_delta[i] = *row_of(delta_at, row, delta_bytes);
        raw_x[i] = *row_of(x_at, row, x_bytes);
        if (backwards) raw_z[i] = *row_of(z_at, row, z_bytes);
      }
    };
    prefetch(0);
    for (int k = 0; k < count; k += prefetch_rows) {
      // 2. Convert 4 tokens, and start to read the next 4. Beyond the count Δ and x are zero: the state stays.
      R delta[prefetch_rows], x[prefetch_rows];
#pragma unroll
      for (int i = 0; i < prefetch_rows; ++i) {
        delta[i] = in.step_size(widened(raw_delta[i]) + bias);
        x[i] = widened(raw_x[i]);
        if (backwards) x[i] = gated ? x[i] * silu(widened(raw_z[i])) : x[i];
        if (k + i >= count) delta[i] = x[i] = 0;
        if (!backwards) x[i] *= delta[i];
      }
      prefetch(k + prefetch_rows);
      sum_delta += static_cast<double>((delta[0] + delta[1]) + (delta[2] + delta[3]));
      // 3. Advance the states by these tokens.
#pragma unroll
      for (int i = 0; i < prefetch_rows; ++i) {
        const auto* const row = reinterpret_cast<const Quad<R>*>(rows + (k + i) * padded + thread.state(0));
#pragma unroll
        for (int q = 0; q < thread_states / 4; ++q) {
          const Quad<R> entries = row[q];
#pragma unroll
          for (int m = 0; m < 4; ++m) {
            const int n = 4 * q + m;
            const R decay = exponential_base_2(delta[i] * rate[n]);
            state[n] = backwards ? decay * (state[n] + x[i] * entries.at[m]) : decay * state[n] + x[i] * entries.at[m];
          }
        }
      }
    }
  }

  // 4. Write the chunk's sum.
  if (threadIdx.x == 0 && blockIdx.y == 0) chunks.passes[chunk] = tail.passes;
  if (!thread.inside) return;
  if (thread.part == 0) chunks.sum_delta[chunk * in.channels + channel] = sum_delta;
#pragma unroll
  for (int n = 0; n < thread_states; ++n)
    if (thread.has_state(n)) chunks.state[chunk * in.states * in.channels + thread.index(n)] = state[n];
}

/// The decay over one chunk, exp(A ΣΔ), for the folds of device/chunk_fold.cuh.
template <class T>
struct ScanDecay {
  using Real = Accumulator<T>;
  using Factor = Real;  ///< ΣΔ of the chunk

  ScanInputs<T> in;
  const double* sum_delta;        ///< ScanChunks::sum_delta
  Real* run_sum_delta = nullptr;  ///< receives the ΣΔ of the chunks that are counted
  std::int64_t run_sum_delta_stride = 0;

  struct Thread {
    Real rate;
    const double* sum_delta;  ///< of the thread's channel
    std::int64_t channels;
    Real* to;  ///< null unless n is 0
    double counted = 0;

    __device__ Factor factor(std::int64_t chunk) const { return static_cast<Real>(sum_delta[chunk * channels]); }
    __device__ Real decayed(Factor steps, std::int64_t, Real state) const {
      return exponential_base_2(steps * rate) * state;
    }
    __device__ void count_chunk(std::int64_t chunk) { counted += sum_delta[chunk * channels]; }
    __device__ void store_count() const {
      if (to != nullptr) *to = static_cast<Real>(counted);
    }
  };

  __device__ Thread thread(std::int64_t channel, int n) const {
    return {.rate = in.rate(channel, n),
            .sum_delta = sum_delta + channel,
            .channels = in.channels,
            .to = n == 0 ? run_sum_delta + channel * run_sum_delta_stride : nullptr};
  }
};

/// The decay over a whole run, exp(A ΣΔ).
template <class R>
struct ScanRunDecay {
  const R* A;
  std::int64_t A_stride;
  const R* sum_delta;
  std::int64_t sum_delta_stride;

  __device__ R operator()(std::int64_t channel, std::int64_t n) const {
    return exponential_base_2(A[channel * A_stride + n] * static_cast<R>(log2_e) *
                              sum_delta[channel * sum_delta_stride]);
  }
};

/// The run's summary for one direction: `state` and `sum_delta` of its last (right to left: first) document.
template <class T>
void summarize(const Stream& stream, ScanDirection direction, const SelectiveScanInputs& inputs, TensorView d_y,
               TensorView state, TensorView sum_delta) {
  using R = Accumulator<T>;
  if (inputs.A.rows() == 0) return;
  for_each_state_group(inputs.A.columns(), [&](const StateGroup& group) {
    const ScanInputs<T> in(inputs_of_group(group, inputs));
    const ScanChunkMemory<T> memory(stream, in, chunk_tokens(in.segments.tokens, in.channels));
    const ScanChunks<T> chunks = memory.view();
    sum_scan_chunks<T>(stream, direction, in, d_y, chunks, true);
    const ScanDecay<T> decay{in, chunks.sum_delta, static_cast<R*>(sum_delta.data), sum_delta.row_stride};
    fold_run_edge<ScanDecay<T>, R>(stream, direction, decay, chunks, in.segments, in.channels, in.states,
                                   group.columns_of(state));
  });
}

}  // namespace

template <class T>
void sum_scan_chunks(const Stream& stream, ScanDirection direction, const ScanInputs<T>& in, TensorView d_y,
                     const ScanChunks<T>& chunks, bool edge_only, const RunPieces* pieces) {
  if (chunks.count == 0) return;
  const OpenCuts cuts(pieces, direction);
  const auto launch = [&]<int L> {
    const dim3 grid(grid_of(chunks.count), grid_of(in.channels, scan_threads / L));
    const auto* const gradient = static_cast<const T*>(d_y.data);
    if (direction == ScanDirection::left_to_right)
      sum_chunk<T, L, ScanDirection::left_to_right>
          <<<grid, scan_threads, 0, native_of(stream)>>>(in, gradient, d_y.row_stride, chunks, edge_only, cuts);
    else
      sum_chunk<T, L, ScanDirection::right_to_left>
          <<<grid, scan_threads, 0, native_of(stream)>>>(in, gradient, d_y.row_stride, chunks, edge_only, cuts);
    cuda_check(cudaGetLastError());
  };
  // Only the walk (selective_scan_walk.cu) has the sums of more than group_states states computed in one launch.
  if constexpr (std::is_same_v<T, bf16>)
    if (in.states > group_states) return launch.template operator()<4>();
  with_threads_per_channel("selective_scan", in.states, launch);
}

template <class T>
void fold_scan_chunks(const Stream& stream, ScanDirection direction, const ScanInputs<T>& in, TensorView first,
                      TensorView last, const ScanChunks<T>& chunks) {
  fold_over_chunks<ScanDecay<T>, Accumulator<T>>(stream, direction, {in, chunks.sum_delta}, chunks, in.channels,
                                                 in.states, first, last);
}

template void sum_scan_chunks(const Stream&, ScanDirection, const ScanInputs<double>&, TensorView,
                              const ScanChunks<double>&, bool, const RunPieces*);
template void sum_scan_chunks(const Stream&, ScanDirection, const ScanInputs<float>&, TensorView,
                              const ScanChunks<float>&, bool, const RunPieces*);
template void sum_scan_chunks(const Stream&, ScanDirection, const ScanInputs<bf16>&, TensorView,
                              const ScanChunks<bf16>&, bool, const RunPieces*);
template void fold_scan_chunks(const Stream&, ScanDirection, const ScanInputs<double>&, TensorView, TensorView,
                               const ScanChunks<double>&);
template void fold_scan_chunks(const Stream&, ScanDirection, const ScanInputs<float>&, TensorView, TensorView,
                               const ScanChunks<float>&);
template void fold_scan_chunks(const Stream&, ScanDirection, const ScanInputs<bf16>&, TensorView, TensorView,
                               const ScanChunks<bf16>&);

void selective_scan_summary(const Stream& stream, const SelectiveScanSummary& args) {
  const std::int64_t D = args.in.A.rows(), N = args.in.A.columns();
  expect_scan_inputs(args.in);
  expect("state", args.state, args.in.A.dtype, {D, N});
  expect("sum_delta", args.sum_delta, args.in.A.dtype, {D});
  dispatch(args.in.delta.dtype, [&]<class Type> {
    summarize<Type>(stream, ScanDirection::left_to_right, args.in, {}, args.state, args.sum_delta);
  });
}

void selective_scan_adjoint_summary(const Stream& stream, const SelectiveScanAdjointSummary& args) {
  const std::int64_t D = args.in.A.rows(), N = args.in.A.columns();
  expect_scan_inputs(args.in);
  expect("d_y", args.d_y, args.in.delta.dtype, {args.in.segments.tokens, D});
  expect("adjoint", args.adjoint, args.in.A.dtype, {D, N});
  expect("sum_delta", args.sum_delta, args.in.A.dtype, {D});
  dispatch(args.in.delta.dtype, [&]<class Type> {
    summarize<Type>(stream, ScanDirection::right_to_left, args.in, args.d_y, args.adjoint, args.sum_delta);
  });
}

void selective_scan_fold(const Stream& stream, const SelectiveScanFold& args) {
  const std::int64_t D = args.A.rows(), N = args.A.columns();
  expect("summary_state", args.summary_state, args.A.dtype, {D, N});
  expect("carry", args.carry, args.A.dtype, {D, N});
  expect("sum_delta", args.sum_delta, args.A.dtype, {D});
  dispatch(args.A.dtype, [&]<class Type> {
    using R = Accumulator<Type>;
    const ScanRunDecay<R> decay{static_cast<const R*>(args.A.data), args.A.row_stride,
                                static_cast<const R*>(args.sum_delta.data), args.sum_delta.row_stride};
    fold_run<R>(stream, decay, args.summary_state, args.carry);
  });
}

}  // namespace causeway::cuda
