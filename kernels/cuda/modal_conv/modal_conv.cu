#include "kernels/cuda/modal_conv/modal_conv.cuh"

#include "kernels/composed/modal_states.hpp"
#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/sums.cuh"
#include "kernels/cuda/modal_conv/modal_conv_mma.cuh"

namespace causeway::cuda {
namespace {

constexpr int prefetch_rows = 4;  // rows that a thread reads before it uses the first of them

/// The sum over the L threads of a channel.
template <int L, class R>
__device__ R sum_over_parts(R x) {
#pragma unroll
  for (int other = 1; other < L; other *= 2) x += __shfl_xor_sync(~0u, x, other);
  return x;
}

/// y of one chunk, from the state that enters it. `sums` [tokens][channels]: the convolution's sums so far.
///
/// block: one chunk of scan_threads / L channels (blockIdx.x: chunk, blockIdx.y: channels)
/// thread: up to 16 modes of one channel (ChunkThread); part 0 of a channel writes y
/// shared memory: none
/// registers: loss, residue and state of 16 modes; the next 4 rows of q, k and v
template <class T, int L, bool Grouped>
__global__ void __launch_bounds__(scan_threads)
    modal_chunk(ModalInputs<T> in, ModalChunks<T> chunks, T* y, std::int64_t y_stride, Accumulator<T>* states,
                std::int64_t states_stride, GroupSums<Accumulator<T>> sums) {
  using R = Accumulator<T>;
  const ChunkThread<L> thread(in.segments.tokens, chunks.tokens_each, in.channels, in.modes);
  R loss[thread_states], residue[thread_states], s[thread_states];
#pragma unroll
  for (int n = 0; n < thread_states; ++n) {
    loss[n] = in.loss(thread.channel, thread.state(n), 1);
    residue[n] = in.residue(thread.channel, thread.state(n));
    s[n] = thread.has_state(n) ? chunks.state[blockIdx.x * in.modes * in.channels + thread.index(n)] : R(0);
  }
  const R skip = in.skip(thread.channel);
  for (std::int64_t from = thread.begin; from < thread.end; from += block_tokens) {
    // 1. Find which of the 64 tokens start a document, and save the state before them for the backward pass.
    const int count = static_cast<int>(thread.end - from < block_tokens ? thread.end - from : block_tokens);
    const DocumentStarts starts(in.segments, from, thread.lane);
    if (states != nullptr && thread.inside)
#pragma unroll
      for (int n = 0; n < thread_states; ++n)
        if (thread.has_state(n)) states[from / block_tokens * states_stride + thread.index(n)] = s[n];
    PrefetchedRows<T, prefetch_rows> q(in.q, in.q_stride, from, thread.channel),
        k(in.k, in.k_stride, from, thread.channel), v(in.v, in.v_stride, from, thread.channel);
    q.prefetch(0, count, 1), k.prefetch(0, count, 1), v.prefetch(0, count, 1);
    for (int t = 0; t < count; t += prefetch_rows) {
      // 2. Convert 4 rows, and start to read the next 4.
      R x[prefetch_rows], gate[prefetch_rows];
#pragma unroll
      for (int i = 0; i < prefetch_rows; ++i) {
        x[i] = product(k, v, i);
        gate[i] = q[i];
      }
      q.prefetch(t + prefetch_rows, count, 1), k.prefetch(t + prefetch_rows, count, 1),
          v.prefetch(t + prefetch_rows, count, 1);
#pragma unroll
      for (int i = 0; i < prefetch_rows; ++i) {
        if (t + i >= count) break;
        // 3. Advance the states by one token: s = λ s + x, and y = q (⟨residue, s⟩ + skip x).
        if (starts.is_start(t + i))
#pragma unroll
          for (int n = 0; n < thread_states; ++n) s[n] = 0;
        R sum = 0;
#pragma unroll
        for (int n = 0; n < thread_states; ++n) {
          s[n] = s[n] - loss[n] * s[n] + x[i];
          sum += residue[n] * s[n];
        }
        sum = sum_over_parts<L>(sum) + skip * x[i];
        if (!thread.inside || thread.part != 0) continue;
        if constexpr (Grouped)
          if (!sums.complete(sum, (from + t + i) * in.channels + thread.channel)) continue;
        y[(from + t + i) * y_stride + thread.channel] = narrowed<T>(in.q != nullptr ? gate[i] * sum : sum);
      }
    }
  }
}

/// The gradients as device code writes them; absent tensors are null.
template <class T>
struct ModalGradients {
  using R = Accumulator<T>;
  const T* d_y;
  T *d_q, *d_k, *d_v;
  std::int64_t d_y_stride, d_q_stride, d_k_stride, d_v_stride;
  const R* states;  ///< saved by the forward pass: [blocks of tokens][M][channels]
  std::int64_t states_stride;
  R* parameters;      ///< [chunks][2 M + 1][channels]: d_residues, Σ λ G_t s_{t-1}, d_skip
  GroupSums<R> sums;  ///< [2][tokens][channels]: the convolution h∗kv, d_kv
};

/// d_q and one chunk's part of the parameter gradients, from left to right.
///
/// The gradient of log λ needs Σ_t λ G_t s_{t-1}, but G runs from right to left. So the kernel carries P = λ ∂s/∂λ
/// along, from zero at the chunk's left edge: P_t = λ (P_{t-1} + s_{t-1}). The sum over the chunk is then
/// Σ_t residue dc_t P_t, plus the adjoint that enters the chunk from the right times the chunk's last P.
///
/// block: one chunk of scan_threads / L channels (blockIdx.x: chunk, blockIdx.y: channels)
/// thread: up to 16 modes of one channel (ChunkThread); part 0 of a channel writes d_q
/// shared memory: none
/// registers: loss, residue, s, P and two gradient sums of 16 modes; the next 4 rows of q, k, v and d_y
template <class T, int L, bool Grouped>
__global__ void __launch_bounds__(scan_threads)
    modal_chunk_parameters(ModalInputs<T> in, ModalChunks<T> chunks, ModalGradients<T> to) {
  using R = Accumulator<T>;
  const ChunkThread<L> thread(in.segments.tokens, chunks.tokens_each, in.channels, in.modes);
  const bool continues = DocumentBounds(in.segments, thread.end - 1, thread.lane).end > thread.end;
  R loss[thread_states], residue[thread_states], s[thread_states], P[thread_states] = {}, d_residue[thread_states] = {},
                                                                   dc_P[thread_states] = {};
#pragma unroll
  for (int n = 0; n < thread_states; ++n) {
    loss[n] = in.loss(thread.channel, thread.state(n), 1);
    residue[n] = in.residue(thread.channel, thread.state(n));
    s[n] = thread.has_state(n) ? to.states[thread.begin / block_tokens * to.states_stride + thread.index(n)] : R(0);
  }
  const R skip = in.skip(thread.channel);
  R d_skip = 0;
  for (std::int64_t from = thread.begin; from < thread.end; from += block_tokens) {
    const int count = static_cast<int>(thread.end - from < block_tokens ? thread.end - from : block_tokens);
    const DocumentStarts starts(in.segments, from, thread.lane);
    PrefetchedRows<T, prefetch_rows> q(in.q, in.q_stride, from, thread.channel),
        k(in.k, in.k_stride, from, thread.channel), v(in.v, in.v_stride, from, thread.channel),
        d_y(to.d_y, to.d_y_stride, from, thread.channel);
    q.prefetch(0, count, 1), k.prefetch(0, count, 1), v.prefetch(0, count, 1), d_y.prefetch(0, count, 1);
    for (int t = 0; t < count; t += prefetch_rows) {
      // 1. Convert 4 rows, and start to read the next 4.
      R products[prefetch_rows], gates[prefetch_rows], gradients[prefetch_rows];
#pragma unroll
      for (int i = 0; i < prefetch_rows; ++i) {
        products[i] = product(k, v, i);
        gates[i] = q[i];
        gradients[i] = d_y[i];
      }
      const int next = t + prefetch_rows;
      q.prefetch(next, count, 1), k.prefetch(next, count, 1), v.prefetch(next, count, 1), d_y.prefetch(next, count, 1);
#pragma unroll
      for (int i = 0; i < prefetch_rows; ++i) {
        if (t + i >= count) break;
        // 2. Advance s and P by one token; add its terms of the parameter gradients.
        const R x = products[i], dc = gates[i] * gradients[i];
        if (starts.is_start(t + i))
#pragma unroll
          for (int n = 0; n < thread_states; ++n) s[n] = P[n] = 0;
        R sum = 0;
#pragma unroll
        for (int n = 0; n < thread_states; ++n) {
          const R previous = P[n] + s[n];
          P[n] = previous - loss[n] * previous;
          s[n] = s[n] - loss[n] * s[n] + x;
          sum += residue[n] * s[n];
          d_residue[n] += dc * s[n];
          dc_P[n] += dc * P[n];
        }
        d_skip += dc * x;
        // 3. d_q = d_y (⟨residue, s⟩ + skip x).
        sum = sum_over_parts<L>(sum) + skip * x;
        if (in.q == nullptr || !thread.inside || thread.part != 0) continue;
        if constexpr (Grouped)
          if (!to.sums.complete(sum, (from + t + i) * in.channels + thread.channel)) continue;
        to.d_q[(from + t + i) * to.d_q_stride + thread.channel] = narrowed<T>(gradients[i] * sum);
      }
    }
  }
  // 4. Write the chunk's parts.
  if (!thread.inside) return;
  R* const row = to.parameters + std::int64_t{blockIdx.x} * (2 * in.modes + 1) * in.channels;
#pragma unroll
  for (int n = 0; n < thread_states; ++n) {
    if (!thread.has_state(n)) continue;
    const R entering = continues ? chunks.state[blockIdx.x * in.modes * in.channels + thread.index(n)] * P[n] : R(0);
    row[thread.index(n)] = d_residue[n];
    row[in.modes * in.channels + thread.index(n)] = residue[n] * dc_P[n] + entering;
  }
  if (thread.part == 0) row[2 * in.modes * in.channels + thread.channel] = d_skip;
}

/// d_k and d_v of one chunk, from right to left.
///
/// block: one chunk of scan_threads / L channels (blockIdx.x: chunk, blockIdx.y: channels)
/// thread: up to 16 modes of one channel (ChunkThread); part 0 of a channel writes d_k and d_v
/// shared memory: none
/// registers: loss, residue and λ G of 16 modes; the next 4 rows of q, k, v and d_y
template <class T, int L, bool Grouped>
__global__ void __launch_bounds__(scan_threads)
    modal_chunk_adjoint(ModalInputs<T> in, ModalChunks<T> chunks, ModalGradients<T> to) {
  using R = Accumulator<T>;
  const ChunkThread<L> thread(in.segments.tokens, chunks.tokens_each, in.channels, in.modes);
  const bool continues = DocumentBounds(in.segments, thread.end - 1, thread.lane).end > thread.end;
  R loss[thread_states], residue[thread_states], adjoint[thread_states];  // adjoint: λ G of the token to the right
#pragma unroll
  for (int n = 0; n < thread_states; ++n) {
    loss[n] = in.loss(thread.channel, thread.state(n), 1);
    residue[n] = in.residue(thread.channel, thread.state(n));
    adjoint[n] =
        continues && thread.has_state(n) ? chunks.state[blockIdx.x * in.modes * in.channels + thread.index(n)] : R(0);
  }
  const R skip = in.skip(thread.channel);
  for (std::int64_t from = thread.begin + (thread.end - thread.begin - 1) / block_tokens * block_tokens;
       from >= thread.begin; from -= block_tokens) {
    const int count = static_cast<int>(thread.end - from < block_tokens ? thread.end - from : block_tokens);
    const DocumentStarts starts(in.segments, from, thread.lane);
    const std::int64_t last = from + count - 1;
    PrefetchedRows<T, prefetch_rows> q(in.q, in.q_stride, last, thread.channel),
        k(in.k, in.k_stride, last, thread.channel), v(in.v, in.v_stride, last, thread.channel),
        d_y(to.d_y, to.d_y_stride, last, thread.channel);
    q.prefetch(0, count, -1), k.prefetch(0, count, -1), v.prefetch(0, count, -1), d_y.prefetch(0, count, -1);
    for (int t = 0; t < count; t += prefetch_rows) {
      // 1. Convert 4 rows, and start to read the next 4.
      R gradients[prefetch_rows], ks[prefetch_rows], vs[prefetch_rows];
#pragma unroll
      for (int i = 0; i < prefetch_rows; ++i) {
        gradients[i] = q[i] * d_y[i];
        ks[i] = k[i];
        vs[i] = v[i];
      }
      const int next = t + prefetch_rows;
      q.prefetch(next, count, -1), k.prefetch(next, count, -1), v.prefetch(next, count, -1),
          d_y.prefetch(next, count, -1);
#pragma unroll
      for (int i = 0; i < prefetch_rows; ++i) {
        if (t + i >= count) break;
        // 2. Advance the adjoint by one token: G = λ G' + residue dc, where G' is the adjoint of the token to the
        // right.
        const R dc = gradients[i];
        R sum = 0;
#pragma unroll
        for (int n = 0; n < thread_states; ++n) {
          const R G = adjoint[n] + residue[n] * dc;
          sum += thread.has_state(n) ? G : R(0);
          adjoint[n] = G - loss[n] * G;
        }
        if (starts.is_start(count - 1 - t - i))
#pragma unroll
          for (int n = 0; n < thread_states; ++n) adjoint[n] = 0;
        // 3. d_k = (ΣG + skip dc) v and d_v = (ΣG + skip dc) k.
        sum = sum_over_parts<L>(sum) + skip * dc;
        if (!thread.inside || thread.part != 0) continue;
        const std::int64_t token = last - t - i;
        if constexpr (Grouped)
          if (!to.sums.complete(sum, (in.segments.tokens + token) * in.channels + thread.channel)) continue;
        if (in.k != nullptr) to.d_k[token * to.d_k_stride + thread.channel] = narrowed<T>(sum * vs[i]);
        to.d_v[token * to.d_v_stride + thread.channel] = narrowed<T>(in.k != nullptr ? sum * ks[i] : sum);
      }
    }
  }
}

/// Receives d_residues, d_log_rates and d_skip from add_parts_by_warps: rows of [2 M + 1][channels].
template <class T>
struct ParameterGradients {
  using R = Accumulator<T>;
  ModalInputs<T> in;
  R *d_residues, *d_log_rates, *d_skip;
  std::int64_t residues_stride, log_rates_stride, skip_stride;

  __device__ void add(int row, std::int64_t channel, double sum) const {
    if (row < in.modes)
      d_residues[channel * residues_stride + row] += static_cast<R>(sum);
    else if (row < 2 * in.modes)
      d_log_rates[channel * log_rates_stride + row - in.modes] -=
          static_cast<R>(static_cast<double>(in.rate(channel, row - in.modes)) * sum);
    else if (d_skip != nullptr)
      d_skip[channel * skip_stride] += static_cast<R>(sum);
  }
};

template <class T>
void forward(const Stream& stream, const ModalConvForward& args) {
  using R = Accumulator<T>;
  const std::int64_t tokens = args.in.segments.tokens, channels = args.in.v.columns(), modes = args.log_rates.columns();
  if (tokens == 0 || channels == 0) return;
  const GroupMemory<R> sums(stream, modes, 1, tokens, channels);
  for_each_state_group(modes, [&](const StateGroup& group) {
    const ModalInputs<T> in(inputs_of_group(group, args.in), group.columns_of(args.residues),
                            group.columns_of(args.log_rates));
    const auto memory = modal_chunk_memory(stream, in);
    const ModalChunks<T> chunks = memory.view();
    sum_modal_chunks<T>(stream, ScanDirection::left_to_right, in, {}, chunks, false);
    fold_modal_chunks<T>(stream, ScanDirection::left_to_right, in, group.columns_of(args.state_in),
                         group.columns_of(args.state_out), chunks);
    R* const saved = args.states.present() ? static_cast<R*>(args.states.data) + group.first * channels : nullptr;
    const GroupSums<R> to = sums.sums_of(group);
    with_threads_per_channel("modal_conv", in.modes, to.sums != nullptr, [&]<int L, bool Grouped> {
      const dim3 grid(grid_of(chunks.count), grid_of(channels, scan_threads / L));
      modal_chunk<T, L, Grouped><<<grid, scan_threads, 0, native_of(stream)>>>(
          in, chunks, static_cast<T*>(args.y.data), args.y.row_stride, saved, args.states.row_stride, to);
      cuda_check(cudaGetLastError());
    });
  });
}

/// The backward pass of one group of modes; args.states points to the group's first mode.
template <class T>
void backward(const Stream& stream, const ModalConvBackward& args, const GroupSums<Accumulator<T>>& sums) {
  using R = Accumulator<T>;
  const ModalInputs<T> in(args.in, args.residues, args.log_rates);
  const GatedConvGradients& out = args.gradients;
  const auto queue = native_of(stream);
  const auto memory = modal_chunk_memory(stream, in);
  const ModalChunks<T> chunks = memory.view();
  const int rows = 2 * in.modes + 1;
  const Tensor parameters(stream, dtype_of<R>, {chunks.count, rows, in.channels});
  const ModalGradients<T> to{static_cast<const T*>(out.d_y.data),
                             static_cast<T*>(out.d_q.data),
                             static_cast<T*>(out.d_k.data),
                             static_cast<T*>(out.d_v.data),
                             out.d_y.row_stride,
                             out.d_q.row_stride,
                             out.d_k.row_stride,
                             out.d_v.row_stride,
                             static_cast<const R*>(args.states.data),
                             args.states.row_stride,
                             static_cast<R*>(parameters.view().data),
                             sums};
  sum_modal_chunks<T>(stream, ScanDirection::right_to_left, in, out.d_y, chunks, false);
  fold_modal_chunks<T>(stream, ScanDirection::right_to_left, in, args.adjoint_in, args.adjoint_out, chunks);
  with_threads_per_channel("modal_conv", in.modes, sums.sums != nullptr, [&]<int L, bool Grouped> {
    const dim3 grid(grid_of(chunks.count), grid_of(in.channels, scan_threads / L));
    modal_chunk_parameters<T, L, Grouped><<<grid, scan_threads, 0, queue>>>(in, chunks, to);
    cuda_check(cudaGetLastError());
    modal_chunk_adjoint<T, L, Grouped><<<grid, scan_threads, 0, queue>>>(in, chunks, to);
    cuda_check(cudaGetLastError());
  });
  add_parts_by_warps(
      stream, to.parameters, chunks.count, rows, in.channels,
      ParameterGradients<T>{in, static_cast<R*>(args.d_residues.data), static_cast<R*>(args.d_log_rates.data),
                            out.d_skip.present() ? static_cast<R*>(out.d_skip.data) : nullptr,
                            args.d_residues.row_stride, args.d_log_rates.row_stride, out.d_skip.row_stride});
}

}  // namespace

void recurrence_forward(const Stream& stream, const ModalConvForward& args) {
  dispatch(args.in.v.dtype, [&]<class Type> { forward<Type>(stream, args); });
}

void recurrence_backward(const Stream& stream, const ModalConvBackward& args) {
  const GatedConvInputs& in = args.in;
  const std::int64_t T = in.segments.tokens, D = in.v.columns(), M = args.log_rates.columns();
  if (T == 0 || D == 0) return;
  dispatch(in.v.dtype, [&]<class Type> {
    using R = Accumulator<Type>;
    const GroupMemory<R> sums(stream, M, 2, T, D);
    for_each_state_group(M, [&](const StateGroup& group) {
      ModalConvBackward part = args;
      part.in = inputs_of_group(group, in);
      part.residues = group.columns_of(args.residues);
      part.log_rates = group.columns_of(args.log_rates);
      part.states.data = static_cast<R*>(args.states.data) + group.first * D;
      part.adjoint_in = group.columns_of(args.adjoint_in);
      part.adjoint_out = group.columns_of(args.adjoint_out);
      part.d_residues = group.columns_of(args.d_residues);
      part.d_log_rates = group.columns_of(args.d_log_rates);
      if (!group.last) part.gradients.d_skip = {};
      backward<Type>(stream, part, sums.sums_of(group));
    });
  });
}

void modal_conv_forward(const Stream& stream, const ModalConvForward& args) {
  expect_modal_conv(args);
  if (modal_mma::suits(args.in, args.log_rates)) return modal_mma::forward(stream, args);
  recurrence_forward(stream, args);
}

void modal_conv_backward(const Stream& stream, const ModalConvBackward& args) {
  expect_modal_conv(args);
  if (modal_mma::suits(args.in, args.log_rates)) return modal_mma::backward(stream, args);
  ModalConvBackward with_states = args;
  const Tensor states = args.states.present() ? Tensor() : composed::modal_states(stream, args);
  if (states.present()) with_states.states = states;
  recurrence_backward(stream, with_states);
}

}  // namespace causeway::cuda
