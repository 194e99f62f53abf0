#include "kernels/core/integer.hpp"
#include "kernels/cuda/modal_conv/modal_conv.cuh"
#include "kernels/cuda/modal_conv/modal_conv_mma.cuh"

namespace causeway::cuda {
namespace {

/// The sum of one chunk. Left to right: s after the chunk's last token. Right to left: λ G at the chunk's left edge,
/// where G is the adjoint of s. Both cover the tokens of ChunkTail only.
///
/// block: one chunk of scan_threads / L channels (blockIdx.x: chunk, blockIdx.y: channels)
/// thread: up to 16 modes of one channel (ChunkThread)
/// shared memory: none
/// registers: loss, residue and state of 16 modes; the next 4 rows of k and v (right to left: q and d_y)
template <class T, int L, ScanDirection direction>
__global__ void __launch_bounds__(scan_threads)
    sum_modal_chunk(ModalInputs<T> in, const T* d_y, std::int64_t d_y_stride, ModalChunks<T> chunks, bool edge_only) {
  using R = Accumulator<T>;
  constexpr bool backwards = direction == ScanDirection::right_to_left;
  constexpr int prefetch_rows = 4, step = backwards ? -1 : 1;
  const ChunkThread<L> thread(in.segments.tokens, chunks.tokens_each, in.channels, in.modes);
  const ChunkTail<direction> tail(in.segments, thread.begin, thread.end, thread.lane);
  const std::int64_t chunk = blockIdx.x, channel = thread.channel;
  if (threadIdx.x == 0 && blockIdx.y == 0) chunks.passes[chunk] = tail.passes;
  if (!thread.inside || (edge_only && !tail.at_run_edge)) return;

  R loss[thread_states], residue[thread_states], state[thread_states] = {};
#pragma unroll
  for (int n = 0; n < thread_states; ++n) {
    loss[n] = in.loss(channel, thread.state(n), 1);
    residue[n] = backwards ? in.residue(channel, thread.state(n)) : R(0);
  }
  const int count = static_cast<int>(tail.last - tail.first);
  const std::int64_t from = backwards ? tail.last - 1 : tail.first;
  PrefetchedRows<T, prefetch_rows> one(backwards ? in.q : in.k, backwards ? in.q_stride : in.k_stride, from, channel);
  PrefetchedRows<T, prefetch_rows> other(backwards ? d_y : in.v, backwards ? d_y_stride : in.v_stride, from, channel);
  one.prefetch(0, count, step);
  other.prefetch(0, count, step);
  for (int k = 0; k < count; k += prefetch_rows) {
    // 1. Multiply 4 rows, and start to read the next 4.
    R x[prefetch_rows];
#pragma unroll
    for (int i = 0; i < prefetch_rows; ++i) x[i] = backwards ? one[i] * other[i] : product(one, other, i);
    one.prefetch(k + prefetch_rows, count, step);
    other.prefetch(k + prefetch_rows, count, step);
    // 2. Advance the states by these tokens.
#pragma unroll
    for (int i = 0; i < prefetch_rows; ++i) {
      if (k + i >= count) break;
#pragma unroll
      for (int n = 0; n < thread_states; ++n) {
        if (backwards) {
          const R G = state[n] + residue[n] * x[i];
          state[n] = G - loss[n] * G;
        } else {
          state[n] = state[n] - loss[n] * state[n] + x[i];
        }
      }
    }
  }
  // 3. Write the chunk's sum.
#pragma unroll
  for (int n = 0; n < thread_states; ++n)
    if (thread.has_state(n)) chunks.state[chunk * in.modes * in.channels + thread.index(n)] = state[n];
}

/// The decay over one chunk, λ^tokens, for the folds of device/chunk_fold.cuh. All chunks have the same number of
/// tokens, except for the run's last.
template <class T>
struct ModalDecay {
  using Real = Accumulator<T>;
  struct Factor {};  // nothing is read for a chunk

  ModalInputs<T> in;
  std::int64_t tokens_each, chunks;

  struct Thread {
    Real loss, loss_of_last;
    std::int64_t last_chunk;

    __device__ Factor factor(std::int64_t) const { return {}; }
    __device__ Real decayed(Factor, std::int64_t chunk, Real state) const {
      return state - (chunk == last_chunk ? loss_of_last : loss) * state;
    }
    __device__ void count_chunk(std::int64_t) {}
    __device__ void store_count() const {}
  };

  __device__ Thread thread(std::int64_t channel, int m) const {
    return {.loss = in.loss(channel, m, tokens_of(0)),
            .loss_of_last = in.loss(channel, m, tokens_of(chunks - 1)),
            .last_chunk = chunks - 1};
  }
  __device__ Real tokens_of(std::int64_t chunk) const {
    const std::int64_t left = in.segments.tokens - chunk * tokens_each;
    return static_cast<Real>(left < tokens_each ? left : tokens_each);
  }
};

/// The decay over a whole run, λ^tokens.
template <class R>
struct ModalRunDecay {
  const R* log_rates;
  std::int64_t log_rates_stride;
  double tokens;

  __device__ R operator()(std::int64_t channel, std::int64_t m) const {
    return static_cast<R>(::exp(-modal_rate(static_cast<double>(log_rates[channel * log_rates_stride + m])) * tokens));
  }
};

/// The run's summary for one direction: `state` of its last (right to left: first) document.
template <class T>
void summarize(const Stream& stream, ScanDirection direction, const GatedConvInputs& inputs, TensorView residues,
               TensorView log_rates, TensorView d_y, TensorView state) {
  if (inputs.v.columns() == 0) return;
  for_each_state_group(log_rates.columns(), [&](const StateGroup& group) {
    const ModalInputs<T> in(inputs_of_group(group, inputs), group.columns_of(residues), group.columns_of(log_rates));
    const auto memory = modal_chunk_memory(stream, in);
    const ModalChunks<T> chunks = memory.view();
    sum_modal_chunks<T>(stream, direction, in, d_y, chunks, true);
    const ModalDecay<T> decay{in, chunks.tokens_each, chunks.count};
    fold_run_edge<ModalDecay<T>, Accumulator<T>>(stream, direction, decay, chunks, in.segments, in.channels, in.modes,
                                                 group.columns_of(state));
  });
}

}  // namespace

template <class T>
void sum_modal_chunks(const Stream& stream, ScanDirection direction, const ModalInputs<T>& in, TensorView d_y,
                      const ModalChunks<T>& chunks, bool edge_only) {
  if (chunks.count == 0) return;
  with_threads_per_channel("modal_conv", in.modes, [&]<int L> {
    const dim3 grid(grid_of(chunks.count), grid_of(in.channels, scan_threads / L));
    const auto* const gradient = static_cast<const T*>(d_y.data);
    if (direction == ScanDirection::left_to_right)
      sum_modal_chunk<T, L, ScanDirection::left_to_right>
          <<<grid, scan_threads, 0, native_of(stream)>>>(in, gradient, d_y.row_stride, chunks, edge_only);
    else
      sum_modal_chunk<T, L, ScanDirection::right_to_left>
          <<<grid, scan_threads, 0, native_of(stream)>>>(in, gradient, d_y.row_stride, chunks, edge_only);
    cuda_check(cudaGetLastError());
  });
}

template <class T>
void fold_modal_chunks(const Stream& stream, ScanDirection direction, const ModalInputs<T>& in, TensorView first,
                       TensorView last, const ModalChunks<T>& chunks) {
  fold_over_chunks<ModalDecay<T>, Accumulator<T>>(stream, direction, {in, chunks.tokens_each, chunks.count}, chunks,
                                                  in.channels, in.modes, first, last);
}

template void sum_modal_chunks<double>(const Stream&, ScanDirection, const ModalInputs<double>&, TensorView,
                                       const ModalChunks<double>&, bool);
template void sum_modal_chunks<float>(const Stream&, ScanDirection, const ModalInputs<float>&, TensorView,
                                      const ModalChunks<float>&, bool);
template void sum_modal_chunks<bf16>(const Stream&, ScanDirection, const ModalInputs<bf16>&, TensorView,
                                     const ModalChunks<bf16>&, bool);
template void fold_modal_chunks<double>(const Stream&, ScanDirection, const ModalInputs<double>&, TensorView,
                                        TensorView, const ModalChunks<double>&);
template void fold_modal_chunks<float>(const Stream&, ScanDirection, const ModalInputs<float>&, TensorView, TensorView,
                                       const ModalChunks<float>&);
template void fold_modal_chunks<bf16>(const Stream&, ScanDirection, const ModalInputs<bf16>&, TensorView, TensorView,
                                      const ModalChunks<bf16>&);

void modal_conv_summary(const Stream& stream, const ModalConvSummary& args) {
  expect_modal_conv(args);
  if (modal_mma::suits(args)) return modal_mma::summary(stream, args);
  dispatch(args.in.v.dtype, [&]<class Type> {
    summarize<Type>(stream, ScanDirection::left_to_right, args.in, {}, args.log_rates, {}, args.state);
  });
}

void modal_conv_adjoint_summary(const Stream& stream, const ModalConvAdjointSummary& args) {
  expect_modal_conv(args);
  if (modal_mma::suits(args)) return modal_mma::adjoint_summary(stream, args);
  dispatch(args.in.v.dtype, [&]<class Type> {
    summarize<Type>(stream, ScanDirection::right_to_left, args.in, args.residues, args.log_rates, args.d_y,
                    args.adjoint);
  });
}

void modal_conv_fold(const Stream& stream, const ModalConvFold& args) {
  expect_modal_conv(args);
  dispatch(args.log_rates.dtype, [&]<class Type> {
    using R = Accumulator<Type>;
    const ModalRunDecay<R> decay{static_cast<const R*>(args.log_rates.data), args.log_rates.row_stride,
                                 static_cast<double>(args.tokens)};
    fold_run<R>(stream, decay, args.summary_state, args.carry);
  });
}

}  // namespace causeway::cuda
