#include "kernels/cuda/modal_conv/modal_conv.cuh"

#include "kernels/core/integer.hpp"

namespace causeway::cuda {
namespace {

constexpr int prefetch_rows = 4;  // rows in flight

/// A thread's chunk, channel and modes.
template <class T, int L>
struct Place {
  std::int64_t begin, end, channel;
  int part, lane;
  bool inside;

  __device__ Place(const ModalInputs<T>& in, const ModalChunks<T>& chunks)
      : begin(std::int64_t{blockIdx.x} * chunks.tokens_each),
        end(begin + chunks.tokens_each < in.segments.tokens ? begin + chunks.tokens_each : in.segments.tokens),
        channel(std::int64_t{blockIdx.y} * (scan_threads / L) + threadIdx.x / L),
        part(static_cast<int>(threadIdx.x) % L),
        lane(static_cast<int>(threadIdx.x) % 32),
        inside(channel < in.channels) {
    if (!inside) channel = in.channels - 1;  // so that every thread reads something; it writes nothing
  }

  /// This thread's mode n of a [blocks][M][channels] array's row.
  __device__ std::int64_t index(const ModalInputs<T>& in, int n) const {
    return (part * thread_states + n) * in.channels + channel;
  }
  __device__ bool holds(const ModalInputs<T>& in, int n) const { return part * thread_states + n < in.modes; }
};

/// The sum over the L threads of a channel.
template <int L, class R>
__device__ R over_threads(R x) {
#pragma unroll
  for (int other = 1; other < L; other *= 2) x += __shfl_xor_sync(~0u, x, other);
  return x;
}

/// `sums`: [tokens][channels], h∗kv.
template <class T, int L, bool Grouped>
__global__ void __launch_bounds__(scan_threads)
    modal_chunk(ModalInputs<T> in, ModalChunks<T> chunks, T* y, std::int64_t y_stride, Accumulator<T>* states,
                std::int64_t states_stride, GroupSums<Accumulator<T>> sums) {
  using R = Accumulator<T>;
  const Place<T, L> at(in, chunks);
  R loss[thread_states], residue[thread_states], s[thread_states];
#pragma unroll
  for (int n = 0; n < thread_states; ++n) {
    loss[n] = in.loss(at.channel, at.part * thread_states + n, 1);
    residue[n] = in.residue(at.channel, at.part * thread_states + n);
    s[n] = at.holds(in, n) ? chunks.state[blockIdx.x * in.modes * in.channels + at.index(in, n)] : R(0);
  }
  const R skip = in.skip(at.channel);
  for (std::int64_t from = at.begin; from < at.end; from += block_tokens) {
    const int count = static_cast<int>(at.end - from < block_tokens ? at.end - from : block_tokens);
    const DocumentStarts starts(in.segments, from, at.lane);
    if (states != nullptr && at.inside)
#pragma unroll
      for (int n = 0; n < thread_states; ++n)
        if (at.holds(in, n)) states[from / block_tokens * states_stride + at.index(in, n)] = s[n];
    Fetched<T, prefetch_rows> q(in.q, in.q_stride, from, at.channel), k(in.k, in.k_stride, from, at.channel),
        v(in.v, in.v_stride, from, at.channel);
    q.fetch(0, count, 1), k.fetch(0, count, 1), v.fetch(0, count, 1);
    for (int t = 0; t < count; t += prefetch_rows) {
      R x[prefetch_rows], gate[prefetch_rows];
#pragma unroll
      for (int i = 0; i < prefetch_rows; ++i) {
        x[i] = product(k, v, i);
        gate[i] = q[i];
      }
      q.fetch(t + prefetch_rows, count, 1), k.fetch(t + prefetch_rows, count, 1), v.fetch(t + prefetch_rows, count, 1);
#pragma unroll
      for (int i = 0; i < prefetch_rows; ++i) {
        if (t + i >= count) break;
        if (starts.is_start(t + i))
#pragma unroll
          for (int n = 0; n < thread_states; ++n) s[n] = 0;
        R sum = 0;
#pragma unroll
        for (int n = 0; n < thread_states; ++n) {
          s[n] = s[n] - loss[n] * s[n] + x[i];
          sum += residue[n] * s[n];
        }
        sum = over_threads<L>(sum) + skip * x[i];
        if (!at.inside || at.part != 0) continue;
        if constexpr (Grouped)
          if (!sums.complete(sum, (from + t + i) * in.channels + at.channel)) continue;
        y[(from + t + i) * y_stride + at.channel] = narrowed<T>(in.q != nullptr ? gate[i] * sum : sum);
      }
    }
  }
}

template <class T>
struct ModalGradients {
  using R = Accumulator<T>;
  const T* d_y;
  T *d_q, *d_k, *d_v;
  std::int64_t d_y_stride, d_q_stride, d_k_stride, d_v_stride;
  const R* states;
  std::int64_t states_stride;
  R* parameters;      // [chunks][2 M + 1][channels]: d_residues, Σ λ G_t s_{t-1}, d_skip
  GroupSums<R> sums;  // [2][tokens][channels]: c, d_kv
};

/// d_q and the parameters' gradients of one chunk, from left to right. With P = λ ∂s/∂λ from a zero start at the
/// chunk's left edge, P_t = λ (P_{t-1} + s_{t-1}), Σ_t λ G_t s_{t-1} of the chunk is Σ_t residues dc_t P_t plus what
/// the adjoint from behind the chunk makes of its last P: no need to hold s and G of one token at once.
template <class T, int L, bool Grouped>
__global__ void __launch_bounds__(scan_threads)
    modal_chunk_parameters(ModalInputs<T> in, ModalChunks<T> chunks, ModalGradients<T> to) {
  using R = Accumulator<T>;
  const Place<T, L> at(in, chunks);
  const bool goes_on = DocumentBounds(in.segments, at.end - 1, at.lane).end > at.end;
  R loss[thread_states], residue[thread_states], s[thread_states], P[thread_states] = {}, d_residue[thread_states] = {},
                                                                   through[thread_states] = {};
#pragma unroll
  for (int n = 0; n < thread_states; ++n) {
    loss[n] = in.loss(at.channel, at.part * thread_states + n, 1);
    residue[n] = in.residue(at.channel, at.part * thread_states + n);
    s[n] = at.holds(in, n) ? to.states[at.begin / block_tokens * to.states_stride + at.index(in, n)] : R(0);
  }
  const R skip = in.skip(at.channel);
  R d_skip = 0;
  for (std::int64_t from = at.begin; from < at.end; from += block_tokens) {
    const int count = static_cast<int>(at.end - from < block_tokens ? at.end - from : block_tokens);
    const DocumentStarts starts(in.segments, from, at.lane);
    Fetched<T, prefetch_rows> q(in.q, in.q_stride, from, at.channel), k(in.k, in.k_stride, from, at.channel),
        v(in.v, in.v_stride, from, at.channel), d_y(to.d_y, to.d_y_stride, from, at.channel);
    q.fetch(0, count, 1), k.fetch(0, count, 1), v.fetch(0, count, 1), d_y.fetch(0, count, 1);
    for (int t = 0; t < count; t += prefetch_rows) {
      R products[prefetch_rows], gates[prefetch_rows], gradients[prefetch_rows];
#pragma unroll
      for (int i = 0; i < prefetch_rows; ++i) {
        products[i] = product(k, v, i);
        gates[i] = q[i];
        gradients[i] = d_y[i];
      }
      const int next = t + prefetch_rows;
      q.fetch(next, count, 1), k.fetch(next, count, 1), v.fetch(next, count, 1), d_y.fetch(next, count, 1);
#pragma unroll
      for (int i = 0; i < prefetch_rows; ++i) {
        if (t + i >= count) break;
        const R x = products[i], dc = gates[i] * gradients[i];
        if (starts.is_start(t + i))
#pragma unroll
          for (int n = 0; n < thread_states; ++n) s[n] = P[n] = 0;
        R sum = 0;
#pragma unroll
        for (int n = 0; n < thread_states; ++n) {
          const R both = P[n] + s[n];
          P[n] = both - loss[n] * both;
          s[n] = s[n] - loss[n] * s[n] + x;
          sum += residue[n] * s[n];
          d_residue[n] += dc * s[n];
          through[n] += dc * P[n];
        }
        d_skip += dc * x;
        sum = over_threads<L>(sum) + skip * x;
        if (in.q == nullptr || !at.inside || at.part != 0) continue;
        if constexpr (Grouped)
          if (!to.sums.complete(sum, (from + t + i) * in.channels + at.channel)) continue;
        to.d_q[(from + t + i) * to.d_q_stride + at.channel] = narrowed<T>(gradients[i] * sum);
      }
    }
  }
  if (!at.inside) return;
  R* const row = to.parameters + std::int64_t{blockIdx.x} * (2 * in.modes + 1) * in.channels;
#pragma unroll
  for (int n = 0; n < thread_states; ++n) {
    if (!at.holds(in, n)) continue;
    const R behind = goes_on ? chunks.state[blockIdx.x * in.modes * in.channels + at.index(in, n)] * P[n] : R(0);
    row[at.index(in, n)] = d_residue[n];
    row[in.modes * in.channels + at.index(in, n)] = residue[n] * through[n] + behind;
  }
  if (at.part == 0) row[2 * in.modes * in.channels + at.channel] = d_skip;
}

/// d_k and d_v of one chunk, from right to left.
template <class T, int L, bool Grouped>
__global__ void __launch_bounds__(scan_threads)
    modal_chunk_adjoint(ModalInputs<T> in, ModalChunks<T> chunks, ModalGradients<T> to) {
  using R = Accumulator<T>;
  const Place<T, L> at(in, chunks);
  const bool goes_on = DocumentBounds(in.segments, at.end - 1, at.lane).end > at.end;
  R loss[thread_states], residue[thread_states], behind[thread_states];  // behind: λ G of the token to the right
#pragma unroll
  for (int n = 0; n < thread_states; ++n) {
    loss[n] = in.loss(at.channel, at.part * thread_states + n, 1);
    residue[n] = in.residue(at.channel, at.part * thread_states + n);
    behind[n] = goes_on && at.holds(in, n) ? chunks.state[blockIdx.x * in.modes * in.channels + at.index(in, n)] : R(0);
  }
  const R skip = in.skip(at.channel);
  for (std::int64_t from = at.begin + (at.end - at.begin - 1) / block_tokens * block_tokens; from >= at.begin;
       from -= block_tokens) {
    const int count = static_cast<int>(at.end - from < block_tokens ? at.end - from : block_tokens);
    const DocumentStarts starts(in.segments, from, at.lane);
    const std::int64_t last = from + count - 1;
    Fetched<T, prefetch_rows> q(in.q, in.q_stride, last, at.channel), k(in.k, in.k_stride, last, at.channel),
        v(in.v, in.v_stride, last, at.channel), d_y(to.d_y, to.d_y_stride, last, at.channel);
    q.fetch(0, count, -1), k.fetch(0, count, -1), v.fetch(0, count, -1), d_y.fetch(0, count, -1);
    for (int t = 0; t < count; t += prefetch_rows) {
      R gradients[prefetch_rows], ks[prefetch_rows], vs[prefetch_rows];
#pragma unroll
      for (int i = 0; i < prefetch_rows; ++i) {
        gradients[i] = q[i] * d_y[i];
        ks[i] = k[i];
        vs[i] = v[i];
      }
      const int next = t + prefetch_rows;
      q.fetch(next, count, -1), k.fetch(next, count, -1), v.fetch(next, count, -1), d_y.fetch(next, count, -1);
#pragma unroll
      for (int i = 0; i < prefetch_rows; ++i) {
        if (t + i >= count) break;
        const R dc = gradients[i];
        R sum = 0;
#pragma unroll
        for (int n = 0; n < thread_states; ++n) {
          const R G = behind[n] + residue[n] * dc;
          sum += at.holds(in, n) ? G : R(0);
          behind[n] = G - loss[n] * G;
        }
        if (starts.is_start(count - 1 - t - i))
#pragma unroll
          for (int n = 0; n < thread_states; ++n) behind[n] = 0;
        sum = over_threads<L>(sum) + skip * dc;
        if (!at.inside || at.part != 0) continue;
        const std::int64_t token = last - t - i;
        if constexpr (Grouped)
          if (!to.sums.complete(sum, (in.segments.tokens + token) * in.channels + at.channel)) continue;
        if (in.k != nullptr) to.d_k[token * to.d_k_stride + at.channel] = narrowed<T>(sum * vs[i]);
        to.d_v[token * to.d_v_stride + at.channel] = narrowed<T>(in.k != nullptr ? sum * ks[i] : sum);
      }
    }
  }
}

/// Parameter gradients +=: each of 8 rows of threads takes every eighth chunk, then the rows are added in their order.
template <class T>
__global__ void add_modal_chunks(ModalInputs<T> in, const Accumulator<T>* parameters, std::int64_t chunks,
                                 Accumulator<T>* d_residues, std::int64_t residues_stride, Accumulator<T>* d_log_rates,
                                 std::int64_t log_rates_stride, Accumulator<T>* d_skip, std::int64_t skip_stride) {
  using R = Accumulator<T>;
  const std::int64_t channel = std::int64_t{blockIdx.x} * 32 + threadIdx.x;
  const int which = static_cast<int>(blockIdx.y), rows = 2 * in.modes + 1;
  __shared__ double shared[8][32];
  double sum = 0;
  if (channel < in.channels)
    for (std::int64_t chunk = threadIdx.y; chunk < chunks; chunk += 8)
      sum += static_cast<double>(parameters[(chunk * rows + which) * in.channels + channel]);
  shared[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || channel >= in.channels) return;
  for (int row = 1; row < 8; ++row) sum += shared[row][threadIdx.x];
  if (which < in.modes)
    d_residues[channel * residues_stride + which] += static_cast<R>(sum);
  else if (which < 2 * in.modes)
    d_log_rates[channel * log_rates_stride + which - in.modes] -=
        static_cast<R>(static_cast<double>(in.rate(channel, which - in.modes)) * sum);
  else if (d_skip != nullptr)
    d_skip[channel * skip_stride] += static_cast<R>(sum);
}

template <class T>
void forward(const Stream& stream, const ModalConvForward& args) {
  using R = Accumulator<T>;
  const std::int64_t tokens = args.in.segments.tokens, channels = args.in.v.columns(), modes = args.log_rates.columns();
  if (tokens == 0 || channels == 0) return;
  const GroupMemory<R> sums(stream, modes, 1, tokens, channels);
  for_each_state_group(modes, [&](const StateGroup& group) {
    const ModalInputs<T> in(inputs_of(group, args.in), group.of(args.residues), group.of(args.log_rates));
    const ModalChunkMemory<T> memory(stream, in);
    const ModalChunks<T> chunks = memory.view();
    sum_modal_chunks<T>(stream, ScanDirection::left_to_right, in, {}, chunks, false);
    fold_modal_chunks<T>(stream, ScanDirection::left_to_right, in, group.of(args.state_in), chunks);
    R* const saved = args.states.present() ? static_cast<R*>(args.states.data) + group.first * channels : nullptr;
    const GroupSums<R> to = sums.of(group);
    with_threads_per_channel("modal_conv", in.modes, to.at != nullptr, [&]<int L, bool Grouped> {
      const dim3 grid(static_cast<unsigned>(chunks.count), blocks_of(channels, scan_threads / L));
      modal_chunk<T, L, Grouped><<<grid, scan_threads, 0, native_of(stream)>>>(
          in, chunks, static_cast<T*>(args.y.data), args.y.row_stride, saved, args.states.row_stride, to);
      cuda_check(cudaGetLastError());
    });
  });
}

/// Of one group of modes; `states` begins at its own.
template <class T>
void backward(const Stream& stream, const ModalConvBackward& args, const GroupSums<Accumulator<T>>& sums) {
  using R = Accumulator<T>;
  const ModalInputs<T> in(args.in, args.residues, args.log_rates);
  const GatedConvGradients& out = args.gradients;
  const auto queue = native_of(stream);
  const ModalChunkMemory<T> memory(stream, in);
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
  fold_modal_chunks<T>(stream, ScanDirection::right_to_left, in, args.adjoint_in, chunks);
  with_threads_per_channel("modal_conv", in.modes, sums.at != nullptr, [&]<int L, bool Grouped> {
    const dim3 grid(static_cast<unsigned>(chunks.count), blocks_of(in.channels, scan_threads / L));
    modal_chunk_parameters<T, L, Grouped><<<grid, scan_threads, 0, queue>>>(in, chunks, to);
    cuda_check(cudaGetLastError());
    modal_chunk_adjoint<T, L, Grouped><<<grid, scan_threads, 0, queue>>>(in, chunks, to);
    cuda_check(cudaGetLastError());
  });
  add_modal_chunks<T><<<dim3(blocks_of(in.channels, 32), static_cast<unsigned>(rows)), dim3(32, 8), 0, queue>>>(
      in, to.parameters, chunks.count, static_cast<R*>(args.d_residues.data), args.d_residues.row_stride,
      static_cast<R*>(args.d_log_rates.data), args.d_log_rates.row_stride,
      out.d_skip.present() ? static_cast<R*>(out.d_skip.data) : nullptr, out.d_skip.row_stride);
  cuda_check(cudaGetLastError());
}

}  // namespace

void modal_conv_forward(const Stream& stream, const ModalConvForward& args) {
  const GatedConvInputs& in = args.in;
  const DType accumulator = accumulator_of(in.v.dtype);
  const std::int64_t T = in.segments.tokens, D = in.v.columns(), M = args.log_rates.columns();
  expect_modal(in, args.residues, args.log_rates);
  expect_if_present("state_in", args.state_in, accumulator, {D, M});
  expect("y", args.y, in.v.dtype, in.v.shape);
  expect_if_present("states", args.states, accumulator, {ceil_div(T, block_tokens), D, M});
  dispatch(in.v.dtype, [&]<class Type> { forward<Type>(stream, args); });
}

void modal_conv_backward(const Stream& stream, const ModalConvBackward& args) {
  const GatedConvInputs& in = args.in;
  const DType accumulator = accumulator_of(in.v.dtype);
  const std::int64_t T = in.segments.tokens, D = in.v.columns(), M = args.log_rates.columns();
  expect_modal(in, args.residues, args.log_rates);
  expect_modal_gradients(in, args.gradients);
  expect("states", args.states, accumulator, {ceil_div(T, block_tokens), D, M});
  expect_if_present("adjoint_in", args.adjoint_in, accumulator, {D, M});
  expect("d_residues", args.d_residues, accumulator, {D, M});
  expect("d_log_rates", args.d_log_rates, accumulator, {D, M});
  if (T == 0 || D == 0) return;
  dispatch(in.v.dtype, [&]<class Type> {
    using R = Accumulator<Type>;
    const GroupMemory<R> sums(stream, M, 2, T, D);
    for_each_state_group(M, [&](const StateGroup& group) {
      ModalConvBackward part = args;
      part.in = inputs_of(group, in);
      part.residues = group.of(args.residues);
      part.log_rates = group.of(args.log_rates);
      part.states.data = static_cast<R*>(args.states.data) + group.first * D;
      part.adjoint_in = group.of(args.adjoint_in);
      part.d_residues = group.of(args.d_residues);
      part.d_log_rates = group.of(args.d_log_rates);
      if (!group.last) part.gradients.d_skip = {};
      backward<Type>(stream, part, sums.of(group));
    });
  });
}

}  // namespace causeway::cuda
