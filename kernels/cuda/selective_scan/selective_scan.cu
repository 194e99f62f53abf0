#include "kernels/cuda/selective_scan/selective_scan.cuh"

#include "kernels/core/integer.hpp"

namespace causeway::cuda {
namespace {

template <class T>
struct ForwardOutputs {
  T* y;
  Accumulator<T>* states;  // [blocks][N][channels], each block's on a row of its own; null where not asked for
  std::int64_t y_stride, states_stride;
  GroupSums<Accumulator<T>> sums;  // [tokens][channels]: ⟨C, h⟩
};

/// y of one chunk and scan_threads / L channels, from the state that comes into it.
template <class T, int L, bool Grouped>
__global__ void __launch_bounds__(scan_threads, 5)
    scan_chunk(ScanInputs<T> in, Chunks<T> chunks, ForwardOutputs<T> out) {
  using R = Accumulator<T>;
  constexpr int padded = thread_states * L, prefetch_rows = 4;
  __shared__ __align__(16) R B[block_tokens * padded], C[block_tokens * padded];
  const std::int64_t tokens = in.segments.tokens, begin = std::int64_t{blockIdx.x} * chunks.tokens_each;
  const std::int64_t end = begin + chunks.tokens_each < tokens ? begin + chunks.tokens_each : tokens;
  const int part = static_cast<int>(threadIdx.x) % L, lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t channel = std::int64_t{blockIdx.y} * (scan_threads / L) + threadIdx.x / L;
  const bool inside = channel < in.channels;
  const std::int64_t column = inside ? channel : in.channels - 1;  // so that every thread reads something
  const int delta_stride = static_cast<int>(in.delta_stride), u_stride = static_cast<int>(in.u_stride);
  const int z_stride = in.z != nullptr ? static_cast<int>(in.z_stride) : u_stride;

  R rate[thread_states], h[thread_states];
#pragma unroll
  for (int n = 0; n < thread_states; ++n) {
    const int state = part * thread_states + n;
    rate[n] = inside ? in.rate(channel, state) : R(0);
    h[n] = inside && state < in.states
               ? chunks.state[(blockIdx.x * std::int64_t{in.states} + state) * in.channels + channel]
               : R(0);
  }
  const R bias = inside ? in.bias_of(channel) : R(0), skip = inside ? in.skip_of(channel) : R(0);
  for (std::int64_t from = begin; from < end; from += block_tokens) {
    const int count = static_cast<int>(end - from < block_tokens ? end - from : block_tokens);
    const DocumentStarts starts(in.segments, from, lane);
    __syncthreads();
    stage_rows<padded>(in.B, in.B_stride, in.states, from, 1, count, B);
    stage_rows<padded>(in.C, in.C_stride, in.states, from, 1, count, C);
    __syncthreads();
    if (out.states != nullptr && inside)
#pragma unroll
      for (int n = 0; n < thread_states; ++n)
        if (part * thread_states + n < in.states)
          out.states[from / block_tokens * out.states_stride + (part * thread_states + n) * in.channels + channel] =
              h[n];
    const T *const delta_at = in.delta + from * in.delta_stride + column,
                   *const u_at = in.u + from * in.u_stride + column,
                   *const z_at = in.z != nullptr ? in.z + from * in.z_stride + column : u_at;
    T raw_delta[prefetch_rows], raw_u[prefetch_rows],
        raw_z[prefetch_rows];  // of the tokens to come; the last one's again beyond it
    const auto fetch = [&](int k) {
#pragma unroll
      for (int i = 0; i < prefetch_rows; ++i) {
        const int row = min(k + i, count - 1);
        raw_delta[i] = delta_at[std::int64_t{row} * delta_stride];
        raw_u[i] = u_at[std::int64_t{row} * u_stride];
        raw_z[i] = z_at[std::int64_t{row} * z_stride];
      }
    };
    fetch(0);
    for (int k = 0; k < count; k += prefetch_rows) {
      R step[prefetch_rows], u[prefetch_rows], gate[prefetch_rows];
#pragma unroll
      for (int i = 0; i < prefetch_rows; ++i) {
        step[i] = in.step(widened(raw_delta[i]) + bias);
        u[i] = widened(raw_u[i]);
        gate[i] = widened(raw_z[i]);
      }
      fetch(k + prefetch_rows);
#pragma unroll
      for (int i = 0; i < prefetch_rows; ++i) {
        if (starts.is_start((k + i) & 63))
#pragma unroll
          for (int n = 0; n < thread_states; ++n) h[n] = 0;
        const R delta = step[i], x = delta * u[i];
        R s = 0;
        const auto* const rows_B = reinterpret_cast<const Quad<R>*>(B + (k + i) * padded + part * thread_states);
        const auto* const rows_C = reinterpret_cast<const Quad<R>*>(C + (k + i) * padded + part * thread_states);
#pragma unroll
        for (int q = 0; q < thread_states / 4; ++q) {
          const Quad<R> b = rows_B[q], c = rows_C[q];
#pragma unroll
          for (int m = 0; m < 4; ++m) {
            const int n = 4 * q + m;
            h[n] = exponential_base_2(delta * rate[n]) * h[n] + x * b.at[m];
            s += c.at[m] * h[n];
          }
        }
#pragma unroll
        for (int other = 1; other < L; other *= 2) s += __shfl_xor_sync(~0u, s, other);
        if (!inside || part != 0 || k + i >= count) continue;
        if constexpr (Grouped)
          if (!out.sums.complete(s, (from + k + i) * in.channels + channel)) continue;
        s += skip * u[i];
        if (in.z != nullptr) s *= silu(gate[i]);
        out.y[(from + k + i) * out.y_stride + channel] = narrowed<T>(s);
      }
    }
  }
}

template <class T>
void forward(const Stream& stream, const SelectiveScanForward& args) {
  using R = Accumulator<T>;
  const std::int64_t tokens = args.in.segments.tokens, channels = args.in.A.rows(), states = args.in.A.columns();
  if (tokens == 0 || channels == 0) return;
  const GroupMemory<R> sums(stream, states, 1, tokens, channels);
  for_each_state_group(states, [&](const StateGroup& group) {
    const ScanInputs<T> in(inputs_of(group, args.in));
    const ChunkMemory<T> memory(stream, in, chunk_tokens(tokens, channels));
    const Chunks<T> chunks = memory.view();
    sum_chunks<T>(stream, ScanDirection::left_to_right, in, {}, chunks, false);
    fold_chunks<T>(stream, ScanDirection::left_to_right, in, group.of(args.state_in), chunks);
    R* const saved = args.states.present() ? static_cast<R*>(args.states.data) + group.first * channels : nullptr;
    const ForwardOutputs<T> out{static_cast<T*>(args.y.data), saved, args.y.row_stride, args.states.row_stride,
                                sums.of(group)};
    with_threads_per_channel("selective_scan", in.states, out.sums.at != nullptr, [&]<int L, bool Grouped> {
      const dim3 grid(static_cast<unsigned>(chunks.count), blocks_of(channels, scan_threads / L));
      scan_chunk<T, L, Grouped><<<grid, scan_threads, 0, native_of(stream)>>>(in, chunks, out);
      cuda_check(cudaGetLastError());
    });
  });
}

}  // namespace

void selective_scan_forward(const Stream& stream, const SelectiveScanForward& args) {
  const SelectiveScanInputs& in = args.in;
  const std::int64_t T = in.segments.tokens, D = in.A.rows(), N = in.A.columns();
  expect_scan_inputs(in);
  const DType dtype = in.delta.dtype, accumulator = accumulator_of(dtype);
  expect("y", args.y, dtype, {T, D});
  expect_if_present("state_in", args.state_in, accumulator, {D, N});
  expect_if_present("states", args.states, accumulator, {ceil_div(T, block_tokens), D, N});
  dispatch(dtype, [&]<class Type> { forward<Type>(stream, args); });
}

}  // namespace causeway::cuda
