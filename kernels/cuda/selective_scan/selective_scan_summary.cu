#include "kernels/core/integer.hpp"
#include "kernels/cuda/selective_scan/selective_scan.cuh"

namespace causeway::cuda {
namespace {

/// One chunk and scan_threads / L channels. Rightwards: h after the chunk's last token, over the tail that belongs to
/// its document. Leftwards: exp(Δ A) g at the chunk's left edge, over the head that belongs to its first token's
/// document.
template <class T, int L, ScanDirection towards>
__global__ void __launch_bounds__(scan_threads, 5)
    sum_chunk(ScanInputs<T> in, const T* d_y, std::int64_t d_y_stride, Chunks<T> chunks, bool edge_only) {
  using R = Accumulator<T>;
  constexpr bool leftwards = towards == ScanDirection::right_to_left;
  constexpr int padded = thread_states * L, prefetch_rows = 4;
  __shared__ __align__(16) R rows[block_tokens * padded];
  const std::int64_t chunk = blockIdx.x, begin = chunk * chunks.tokens_each;
  const std::int64_t end =
      begin + chunks.tokens_each < in.segments.tokens ? begin + chunks.tokens_each : in.segments.tokens;
  const int part = static_cast<int>(threadIdx.x) % L, lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t channel = std::int64_t{blockIdx.y} * (scan_threads / L) + threadIdx.x / L;
  const bool inside = channel < in.channels;
  const std::int64_t column = inside ? channel : in.channels - 1;  // so that every thread reads something
  const T* const source = leftwards ? d_y : in.u;
  const std::int64_t source_stride = leftwards ? d_y_stride : in.u_stride;
  const bool gated = leftwards && in.z != nullptr;
  const int delta_stride = static_cast<int>(in.delta_stride), x_stride = static_cast<int>(source_stride);
  const int z_stride = gated ? static_cast<int>(in.z_stride) : x_stride;

  const DocumentBounds document(in.segments, leftwards ? begin : end - 1, lane);
  if (edge_only && (leftwards ? document.start > 0 : document.end < in.segments.tokens)) return;
  const std::int64_t first = leftwards || document.start < begin ? begin : document.start;
  const std::int64_t last = !leftwards || document.end > end ? end : document.end;

  R rate[thread_states], state[thread_states] = {};
#pragma unroll
  for (int n = 0; n < thread_states; ++n) rate[n] = inside ? in.rate(channel, part * thread_states + n) : R(0);
  const R bias = inside ? in.bias_of(channel) : R(0);
  double sum_delta = 0;
  for (std::int64_t done = 0; done < last - first; done += block_tokens) {
    const std::int64_t from = leftwards ? last - 1 - done : first + done;
    constexpr int direction = leftwards ? -1 : 1;
    const int count = static_cast<int>(last - first - done < block_tokens ? last - first - done : block_tokens);
    __syncthreads();
    stage_rows<padded>(leftwards ? in.C : in.B, leftwards ? in.C_stride : in.B_stride, in.states, from, direction,
                       count, rows);
    __syncthreads();
    const T *const delta_at = in.delta + from * in.delta_stride + column,
                   *const x_at = source + from * source_stride + column,
                   *const z_at = gated ? in.z + from * in.z_stride + column : x_at;
    T raw_delta[prefetch_rows], raw_x[prefetch_rows],
        raw_z[prefetch_rows];  // of the tokens to come; the last one's again beyond it
    const auto fetch = [&](int k) {
#pragma unroll
      for (int i = 0; i < prefetch_rows; ++i) {
        const int row = min(k + i, count - 1) * direction;
        raw_delta[i] = delta_at[std::int64_t{row} * delta_stride];
        raw_x[i] = x_at[std::int64_t{row} * x_stride];
        if (leftwards) raw_z[i] = z_at[std::int64_t{row} * z_stride];
      }
    };
    fetch(0);
    for (int k = 0; k < count; k += prefetch_rows) {
      R step[prefetch_rows], x[prefetch_rows];
#pragma unroll
      for (int i = 0; i < prefetch_rows; ++i) {
        step[i] = in.step(widened(raw_delta[i]) + bias);
        x[i] = widened(raw_x[i]);
        if (leftwards) x[i] = gated ? x[i] * silu(widened(raw_z[i])) : x[i];
        if (k + i >= count) step[i] = x[i] = 0;  // no step beyond the count
        if (!leftwards) x[i] *= step[i];
      }
      fetch(k + prefetch_rows);
#pragma unroll
      for (int i = 0; i < prefetch_rows; ++i) {
        sum_delta += static_cast<double>(step[i]);
        const auto* const row = reinterpret_cast<const Quad<R>*>(rows + (k + i) * padded + part * thread_states);
#pragma unroll
        for (int q = 0; q < thread_states / 4; ++q) {
          const Quad<R> entries = row[q];
#pragma unroll
          for (int m = 0; m < 4; ++m) {
            const int n = 4 * q + m;
            const R decay = exponential_base_2(step[i] * rate[n]);
            state[n] = leftwards ? decay * (state[n] + x[i] * entries.at[m]) : decay * state[n] + x[i] * entries.at[m];
          }
        }
      }
    }
  }
  if (threadIdx.x == 0 && blockIdx.y == 0)
    chunks.passes[chunk] = leftwards ? document.end > end : document.start < begin;
  if (!inside) return;
  if (part == 0) chunks.sum_delta[chunk * in.channels + channel] = sum_delta;
#pragma unroll
  for (int n = 0; n < thread_states; ++n)
    if (part * thread_states + n < in.states)
      chunks.state[(chunk * in.states + part * thread_states + n) * in.channels + channel] = state[n];
}

/// One thread a state and channel goes over the chunks.
template <class T>
__global__ void fold_over_chunks(ScanInputs<T> in, Chunks<T> chunks, const Accumulator<T>* first,
                                 std::int64_t first_stride, bool leftwards) {
  using R = Accumulator<T>;
  const std::int64_t channel = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int n = static_cast<int>(blockIdx.y);
  if (channel >= in.channels) return;
  const R rate = in.rate(channel, n);
  R carry = first != nullptr ? first[channel * first_stride + n] : R(0);
  constexpr int together = 16;  // chunks read before the first of them is written
  for (std::int64_t done = 0; done < chunks.count; done += together) {
    R sum[together], steps[together];
    bool passes[together];
    const auto chunk_at = [&](int i) {
      const std::int64_t place = done + i < chunks.count ? done + i : chunks.count - 1;
      return leftwards ? chunks.count - 1 - place : place;
    };
#pragma unroll
    for (int i = 0; i < together; ++i) {
      const std::int64_t chunk = chunk_at(i);
      sum[i] = chunks.state[(chunk * in.states + n) * in.channels + channel];
      steps[i] = static_cast<R>(chunks.sum_delta[chunk * in.channels + channel]);
      passes[i] = chunks.passes[chunk] != 0;
    }
#pragma unroll
    for (int i = 0; i < together; ++i) {
      if (done + i >= chunks.count) break;
      chunks.state[(chunk_at(i) * in.states + n) * in.channels + channel] = carry;
      carry = passes[i] ? sum[i] + exponential_base_2(steps[i] * rate) * carry : sum[i];
    }
  }
}

/// The fold over the chunks of the run's last (first) document alone, into the run's own summary.
template <class T>
__global__ void fold_edge(ScanInputs<T> in, Chunks<T> chunks, bool leftwards, Accumulator<T>* state,
                          std::int64_t state_stride, Accumulator<T>* sum_delta, std::int64_t sum_stride) {
  using R = Accumulator<T>;
  const std::int64_t channel = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int n = static_cast<int>(blockIdx.y);
  if (channel >= in.channels) return;
  std::int64_t low = 0, high = chunks.count;  // the chunks that hold tokens of that document
  if (chunks.count > 0 && leftwards && in.segments.cu_seqlens[1] < in.segments.tokens)
    high = ceil_div(in.segments.cu_seqlens[1], chunks.tokens_each);
  if (chunks.count > 0 && !leftwards && in.segments.cu_seqlens[in.segments.count - 1] > 0)
    low = in.segments.cu_seqlens[in.segments.count - 1] / chunks.tokens_each;
  const R rate = in.rate(channel, n);
  R carry = 0;
  double sum = 0;
  for (std::int64_t i = 0; i < high - low; ++i) {
    const std::int64_t chunk = leftwards ? high - 1 - i : low + i;
    const double steps = chunks.sum_delta[chunk * in.channels + channel];
    carry = chunks.state[(chunk * in.states + n) * in.channels + channel] +
            exponential_base_2(static_cast<R>(steps) * rate) * carry;
    sum += steps;
  }
  state[channel * state_stride + n] = carry;
  if (n == 0) sum_delta[channel * sum_stride] = static_cast<R>(sum);
}

template <class R>
__global__ void fold_step(const R* A, std::int64_t A_stride, const R* summary, std::int64_t summary_stride,
                          const R* sum_delta, std::int64_t sum_stride, R* carry, std::int64_t carry_stride,
                          std::int64_t channels, std::int64_t states) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x, d = i / states, n = i % states;
  if (d >= channels) return;
  R& to = carry[d * carry_stride + n];
  to = summary[d * summary_stride + n] +
       exponential_base_2(A[d * A_stride + n] * static_cast<R>(log2_e) * sum_delta[d * sum_stride]) * to;
}

template <class T>
void summarize(const Stream& stream, ScanDirection towards, const SelectiveScanInputs& inputs, TensorView d_y,
               TensorView state, TensorView sum_delta) {
  using R = Accumulator<T>;
  if (inputs.A.rows() == 0) return;
  for_each_state_group(inputs.A.columns(), [&](const StateGroup& group) {
    const ScanInputs<T> in(inputs_of(group, inputs));
    const ChunkMemory<T> memory(stream, in, chunk_tokens(in.segments.tokens, in.channels));
    sum_chunks<T>(stream, towards, in, d_y, memory.view(), true);
    fold_edge<T><<<dim3(blocks_of(in.channels, 128), static_cast<unsigned>(in.states)), 128, 0, native_of(stream)>>>(
        in, memory.view(), towards == ScanDirection::right_to_left, static_cast<R*>(group.of(state).data),
        state.row_stride, static_cast<R*>(sum_delta.data), sum_delta.row_stride);
    cuda_check(cudaGetLastError());
  });
}

}  // namespace

template <class T>
void sum_chunks(const Stream& stream, ScanDirection towards, const ScanInputs<T>& in, TensorView d_y,
                const Chunks<T>& chunks, bool edge_only) {
  if (chunks.count == 0) return;
  with_threads_per_channel("selective_scan", in.states, [&]<int L> {
    const dim3 grid(static_cast<unsigned>(chunks.count), blocks_of(in.channels, scan_threads / L));
    const auto* const gradient = static_cast<const T*>(d_y.data);
    if (towards == ScanDirection::left_to_right)
      sum_chunk<T, L, ScanDirection::left_to_right>
          <<<grid, scan_threads, 0, native_of(stream)>>>(in, gradient, d_y.row_stride, chunks, edge_only);
    else
      sum_chunk<T, L, ScanDirection::right_to_left>
          <<<grid, scan_threads, 0, native_of(stream)>>>(in, gradient, d_y.row_stride, chunks, edge_only);
    cuda_check(cudaGetLastError());
  });
}

template <class T>
void fold_chunks(const Stream& stream, ScanDirection towards, const ScanInputs<T>& in, TensorView first,
                 const Chunks<T>& chunks) {
  fold_over_chunks<T>
      <<<dim3(blocks_of(in.channels, 128), static_cast<unsigned>(in.states)), 128, 0, native_of(stream)>>>(
          in, chunks, first.present() ? static_cast<const Accumulator<T>*>(first.data) : nullptr, first.row_stride,
          towards == ScanDirection::right_to_left);
  cuda_check(cudaGetLastError());
}

template void sum_chunks(const Stream&, ScanDirection, const ScanInputs<double>&, TensorView, const Chunks<double>&,
                         bool);
template void sum_chunks(const Stream&, ScanDirection, const ScanInputs<float>&, TensorView, const Chunks<float>&,
                         bool);
template void sum_chunks(const Stream&, ScanDirection, const ScanInputs<bf16>&, TensorView, const Chunks<bf16>&, bool);
template void fold_chunks(const Stream&, ScanDirection, const ScanInputs<double>&, TensorView, const Chunks<double>&);
template void fold_chunks(const Stream&, ScanDirection, const ScanInputs<float>&, TensorView, const Chunks<float>&);
template void fold_chunks(const Stream&, ScanDirection, const ScanInputs<bf16>&, TensorView, const Chunks<bf16>&);

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
  if (args.carry.size() == 0) return;
  dispatch(args.A.dtype, [&]<class Type> {
    using R = Accumulator<Type>;
    fold_step<R><<<blocks_of(D * N, 256), 256, 0, native_of(stream)>>>(
        static_cast<const R*>(args.A.data), args.A.row_stride, static_cast<const R*>(args.summary_state.data),
        args.summary_state.row_stride, static_cast<const R*>(args.sum_delta.data), args.sum_delta.row_stride,
        static_cast<R*>(args.carry.data), args.carry.row_stride, D, N);
    cuda_check(cudaGetLastError());
  });
}

}  // namespace causeway::cuda
