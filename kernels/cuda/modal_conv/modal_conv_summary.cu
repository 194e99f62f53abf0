#include "kernels/core/integer.hpp"
#include "kernels/cuda/modal_conv/modal_conv.cuh"

namespace causeway::cuda {
namespace {

/// One chunk and scan_threads / L channels. Rightwards: s after the chunk's last token, over the tail that belongs to
/// its document. Leftwards: λ G at the chunk's left edge, over the head that belongs to its first token's document.
template <class T, int L, ScanDirection towards>
__global__ void __launch_bounds__(scan_threads)
    sum_modal_chunk(ModalInputs<T> in, const T* d_y, std::int64_t d_y_stride, ModalChunks<T> chunks, bool edge_only) {
  using R = Accumulator<T>;
  constexpr bool leftwards = towards == ScanDirection::right_to_left;
  constexpr int prefetch_rows = 4, direction = leftwards ? -1 : 1;
  const std::int64_t chunk = blockIdx.x, begin = chunk * chunks.tokens_each;
  const std::int64_t end =
      begin + chunks.tokens_each < in.segments.tokens ? begin + chunks.tokens_each : in.segments.tokens;
  const int part = static_cast<int>(threadIdx.x) % L, lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t channel = std::int64_t{blockIdx.y} * (scan_threads / L) + threadIdx.x / L;
  const DocumentBounds document(in.segments, leftwards ? begin : end - 1, lane);
  if (threadIdx.x == 0 && blockIdx.y == 0)
    chunks.passes[chunk] = leftwards ? document.end > end : document.start < begin;
  if (channel >= in.channels || (edge_only && (leftwards ? document.start > 0 : document.end < in.segments.tokens)))
    return;
  const std::int64_t first = leftwards || document.start < begin ? begin : document.start;
  const std::int64_t last = !leftwards || document.end > end ? end : document.end;

  R loss[thread_states], residue[thread_states], state[thread_states] = {};
#pragma unroll
  for (int n = 0; n < thread_states; ++n) {
    loss[n] = in.loss(channel, part * thread_states + n, 1);
    residue[n] = leftwards ? in.residue(channel, part * thread_states + n) : R(0);
  }
  const int count = static_cast<int>(last - first);
  const std::int64_t from = leftwards ? last - 1 : first;
  Fetched<T, prefetch_rows> one(leftwards ? in.q : in.k, leftwards ? in.q_stride : in.k_stride, from, channel);
  Fetched<T, prefetch_rows> other(leftwards ? d_y : in.v, leftwards ? d_y_stride : in.v_stride, from, channel);
  one.fetch(0, count, direction);
  other.fetch(0, count, direction);
  for (int k = 0; k < count; k += prefetch_rows) {
    R x[prefetch_rows];
#pragma unroll
    for (int i = 0; i < prefetch_rows; ++i) x[i] = leftwards ? one[i] * other[i] : product(one, other, i);
    one.fetch(k + prefetch_rows, count, direction);
    other.fetch(k + prefetch_rows, count, direction);
#pragma unroll
    for (int i = 0; i < prefetch_rows; ++i) {
      if (k + i >= count) break;
#pragma unroll
      for (int n = 0; n < thread_states; ++n) {
        if (leftwards) {
          const R all = state[n] + residue[n] * x[i];
          state[n] = all - loss[n] * all;
        } else {
          state[n] = state[n] - loss[n] * state[n] + x[i];
        }
      }
    }
  }
#pragma unroll
  for (int n = 0; n < thread_states; ++n)
    if (part * thread_states + n < in.modes)
      chunks.state[(chunk * in.modes + part * thread_states + n) * in.channels + channel] = state[n];
}

template <class T>
__device__ Accumulator<T> tokens_of(const ModalInputs<T>& in, const ModalChunks<T>& chunks, std::int64_t chunk) {
  const std::int64_t left = in.segments.tokens - chunk * chunks.tokens_each;
  return static_cast<Accumulator<T>>(left < chunks.tokens_each ? left : chunks.tokens_each);
}

/// One thread a mode and channel goes over the chunks. Only the run's last is shorter than the others.
template <class T>
__global__ void fold_over_modal_chunks(ModalInputs<T> in, ModalChunks<T> chunks, const Accumulator<T>* first,
                                       std::int64_t first_stride, bool leftwards) {
  using R = Accumulator<T>;
  const std::int64_t channel = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int m = static_cast<int>(blockIdx.y);
  if (channel >= in.channels) return;
  const R whole = in.loss(channel, m, tokens_of(in, chunks, 0)),
          last = in.loss(channel, m, tokens_of(in, chunks, chunks.count - 1));
  R carry = first != nullptr ? first[channel * first_stride + m] : R(0);
  constexpr int together = 16;  // chunks read before the first of them is written
  for (std::int64_t done = 0; done < chunks.count; done += together) {
    R sum[together];
    bool passes[together];
    const auto chunk_at = [&](int i) {
      const std::int64_t place = done + i < chunks.count ? done + i : chunks.count - 1;
      return leftwards ? chunks.count - 1 - place : place;
    };
#pragma unroll
    for (int i = 0; i < together; ++i) {
      const std::int64_t chunk = chunk_at(i);
      sum[i] = chunks.state[(chunk * in.modes + m) * in.channels + channel];
      passes[i] = chunks.passes[chunk] != 0;
    }
#pragma unroll
    for (int i = 0; i < together; ++i) {
      if (done + i >= chunks.count) break;
      const std::int64_t chunk = chunk_at(i);
      chunks.state[(chunk * in.modes + m) * in.channels + channel] = carry;
      carry = passes[i] ? sum[i] + (carry - (chunk + 1 == chunks.count ? last : whole) * carry) : sum[i];
    }
  }
}

/// The fold over the chunks of the run's last (first) document alone, into the run's own summary.
template <class T>
__global__ void fold_modal_edge(ModalInputs<T> in, ModalChunks<T> chunks, bool leftwards, Accumulator<T>* state,
                                std::int64_t state_stride) {
  using R = Accumulator<T>;
  const std::int64_t channel = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int m = static_cast<int>(blockIdx.y);
  if (channel >= in.channels) return;
  std::int64_t low = 0, high = chunks.count;
  if (chunks.count > 0 && leftwards && in.segments.cu_seqlens[1] < in.segments.tokens)
    high = ceil_div(in.segments.cu_seqlens[1], chunks.tokens_each);
  if (chunks.count > 0 && !leftwards && in.segments.cu_seqlens[in.segments.count - 1] > 0)
    low = in.segments.cu_seqlens[in.segments.count - 1] / chunks.tokens_each;
  R carry = 0;
  for (std::int64_t i = 0; i < high - low; ++i) {
    const std::int64_t chunk = leftwards ? high - 1 - i : low + i;
    carry = chunks.state[(chunk * in.modes + m) * in.channels + channel] +
            (carry - in.loss(channel, m, tokens_of(in, chunks, chunk)) * carry);
  }
  state[channel * state_stride + m] = carry;
}

template <class R>
__global__ void fold_modal_step(const R* log_rates, std::int64_t rates_stride, const R* summary,
                                std::int64_t summary_stride, double tokens, R* carry, std::int64_t carry_stride,
                                std::int64_t channels, std::int64_t modes) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x, d = i / modes, m = i % modes;
  if (d >= channels) return;
  R& to = carry[d * carry_stride + m];
  to = summary[d * summary_stride + m] +
       static_cast<R>(::exp(-modal_rate(static_cast<double>(log_rates[d * rates_stride + m])) * tokens)) * to;
}

template <class T>
void summarize(const Stream& stream, ScanDirection towards, const GatedConvInputs& inputs, TensorView residues,
               TensorView log_rates, TensorView d_y, TensorView state) {
  if (inputs.v.columns() == 0) return;
  for_each_state_group(log_rates.columns(), [&](const StateGroup& group) {
    const ModalInputs<T> in(inputs_of(group, inputs), group.of(residues), group.of(log_rates));
    const ModalChunkMemory<T> memory(stream, in);
    sum_modal_chunks<T>(stream, towards, in, d_y, memory.view(), true);
    fold_modal_edge<T>
        <<<dim3(blocks_of(in.channels, 128), static_cast<unsigned>(in.modes)), 128, 0, native_of(stream)>>>(
            in, memory.view(), towards == ScanDirection::right_to_left,
            static_cast<Accumulator<T>*>(group.of(state).data), state.row_stride);
    cuda_check(cudaGetLastError());
  });
}

}  // namespace

template <class T>
void sum_modal_chunks(const Stream& stream, ScanDirection towards, const ModalInputs<T>& in, TensorView d_y,
                      const ModalChunks<T>& chunks, bool edge_only) {
  if (chunks.count == 0) return;
  with_threads_per_channel("modal_conv", in.modes, [&]<int L> {
    const dim3 grid(static_cast<unsigned>(chunks.count), blocks_of(in.channels, scan_threads / L));
    const auto* const gradient = static_cast<const T*>(d_y.data);
    if (towards == ScanDirection::left_to_right)
      sum_modal_chunk<T, L, ScanDirection::left_to_right>
          <<<grid, scan_threads, 0, native_of(stream)>>>(in, gradient, d_y.row_stride, chunks, edge_only);
    else
      sum_modal_chunk<T, L, ScanDirection::right_to_left>
          <<<grid, scan_threads, 0, native_of(stream)>>>(in, gradient, d_y.row_stride, chunks, edge_only);
    cuda_check(cudaGetLastError());
  });
}

template <class T>
void fold_modal_chunks(const Stream& stream, ScanDirection towards, const ModalInputs<T>& in, TensorView first,
                       const ModalChunks<T>& chunks) {
  fold_over_modal_chunks<T>
      <<<dim3(blocks_of(in.channels, 128), static_cast<unsigned>(in.modes)), 128, 0, native_of(stream)>>>(
          in, chunks, first.present() ? static_cast<const Accumulator<T>*>(first.data) : nullptr, first.row_stride,
          towards == ScanDirection::right_to_left);
  cuda_check(cudaGetLastError());
}

template void sum_modal_chunks(const Stream&, ScanDirection, const ModalInputs<double>&, TensorView,
                               const ModalChunks<double>&, bool);
template void sum_modal_chunks(const Stream&, ScanDirection, const ModalInputs<float>&, TensorView,
                               const ModalChunks<float>&, bool);
template void sum_modal_chunks(const Stream&, ScanDirection, const ModalInputs<bf16>&, TensorView,
                               const ModalChunks<bf16>&, bool);
template void fold_modal_chunks(const Stream&, ScanDirection, const ModalInputs<double>&, TensorView,
                                const ModalChunks<double>&);
template void fold_modal_chunks(const Stream&, ScanDirection, const ModalInputs<float>&, TensorView,
                                const ModalChunks<float>&);
template void fold_modal_chunks(const Stream&, ScanDirection, const ModalInputs<bf16>&, TensorView,
                                const ModalChunks<bf16>&);

void modal_conv_summary(const Stream& stream, const ModalConvSummary& args) {
  expect_modal(args.in, {}, args.log_rates);
  expect("state", args.state, args.log_rates.dtype, args.log_rates.shape);
  dispatch(args.in.v.dtype, [&]<class Type> {
    summarize<Type>(stream, ScanDirection::left_to_right, args.in, {}, args.log_rates, {}, args.state);
  });
}

void modal_conv_adjoint_summary(const Stream& stream, const ModalConvAdjointSummary& args) {
  expect_modal(args.in, args.residues, args.log_rates);
  expect("residues", args.residues, args.log_rates.dtype, args.log_rates.shape);
  expect("d_y", args.d_y, args.in.v.dtype, args.in.v.shape);
  expect("adjoint", args.adjoint, args.log_rates.dtype, args.log_rates.shape);
  dispatch(args.in.v.dtype, [&]<class Type> {
    summarize<Type>(stream, ScanDirection::right_to_left, args.in, args.residues, args.log_rates, args.d_y,
                    args.adjoint);
  });
}

void modal_conv_fold(const Stream& stream, const ModalConvFold& args) {
  expect("summary_state", args.summary_state, args.log_rates.dtype, args.log_rates.shape);
  expect("carry", args.carry, args.log_rates.dtype, args.log_rates.shape);
  ensure(args.tokens >= 0, "a fold over {} tokens", args.tokens);
  const std::int64_t D = args.log_rates.rows(), M = args.log_rates.columns();
  if (D * M == 0) return;
  dispatch(args.log_rates.dtype, [&]<class Type> {
    using R = Accumulator<Type>;
    fold_modal_step<R><<<blocks_of(D * M, 256), 256, 0, native_of(stream)>>>(
        static_cast<const R*>(args.log_rates.data), args.log_rates.row_stride,
        static_cast<const R*>(args.summary_state.data), args.summary_state.row_stride, static_cast<double>(args.tokens),
        static_cast<R*>(args.carry.data), args.carry.row_stride, D, M);
    cuda_check(cudaGetLastError());
  });
}

}  // namespace causeway::cuda
