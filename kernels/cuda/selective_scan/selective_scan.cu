#include "kernels/cuda/selective_scan/selective_scan.cuh"

#include <type_traits>

#include "kernels/core/integer.hpp"

namespace causeway::cuda {
namespace {

template <class T>
struct ForwardOutputs {
  T* y;
  Accumulator<T>* states;  ///< [blocks of tokens][N][channels], one row per block; null: not saved
  std::int64_t y_stride, states_stride;
  GroupSums<Accumulator<T>> sums;  ///< [tokens][channels]: ⟨C, h⟩
};

/// y of one chunk, from the state that enters it.
///
/// block: one chunk of scan_threads / L channels (blockIdx.x: chunk, blockIdx.y: channels)
/// thread: up to 16 states of one channel (ChunkThread); part 0 of a channel writes y
/// shared memory: B and C of 64 tokens in the accumulator type, [token][state], zero beyond N
/// registers: 16 states and their rates; the raw inputs of the next 4 tokens
/// One function, because its phases share registers and shared memory.
template <class T, int L, bool Grouped>
__global__ void __launch_bounds__(scan_threads, 5)
    scan_chunk(ScanInputs<T> in, ScanChunks<T> chunks, ForwardOutputs<T> out) {
  using R = Accumulator<T>;
  constexpr int padded = thread_states * L, prefetch_rows = 4;
  __shared__ __align__(16) R B[block_tokens * padded], C[block_tokens * padded];
  const ChunkThread<L> thread(in.segments.tokens, chunks.tokens_each, in.channels, in.states);
  const std::int64_t channel = thread.channel;
  const bool inside = thread.inside;
  const int delta_bytes = row_bytes<T>(in.delta_stride), u_bytes = row_bytes<T>(in.u_stride);
  const int z_bytes = in.z != nullptr ? row_bytes<T>(in.z_stride) : u_bytes;

  const int y_bytes = row_bytes<T>(out.y_stride);

  R rate[thread_states], h[thread_states];
#pragma unroll
  for (int n = 0; n < thread_states; ++n) {
    rate[n] = inside ? in.rate(channel, thread.state(n)) : R(0);
    h[n] = inside && thread.has_state(n)
               ? chunks.state[blockIdx.x * std::int64_t{in.states} * in.channels + thread.index(n)]
               : R(0);
  }
  const R bias = inside ? in.bias_of(channel) : R(0), skip = inside ? in.skip_of(channel) : R(0);
  for (std::int64_t from = thread.begin; from < thread.end; from += block_tokens) {
    // 1. Load B and C of 64 tokens to shared memory, and find which of the tokens start a document.
    const int count = static_cast<int>(thread.end - from < block_tokens ? thread.end - from : block_tokens);
    const DocumentStarts starts(in.segments, from, thread.lane);
    __syncthreads();
    stage_rows<padded>(in.B, in.B_stride, in.states, from, 1, count, B);
    stage_rows<padded>(in.C, in.C_stride, in.states, from, 1, count, C);
    __syncthreads();
    const T *const delta_at = in.delta + from * in.delta_stride + channel,
                   *const u_at = in.u + from * in.u_stride + channel,
                   *const z_at = in.z != nullptr ? in.z + from * in.z_stride + channel : u_at;
    T* const y_at = out.y + from * out.y_stride + channel;
    T raw_delta[prefetch_rows], raw_u[prefetch_rows], raw_z[prefetch_rows];
    const auto prefetch = [&](int k) {  // reads the last token again beyond it
#pragma unroll
      for (int i = 0; i < prefetch_rows; ++i) {
        const int row = min(k + i, count - 1);
        raw_delta[i] = *row_of(delta_at, row, delta_bytes);
        raw_u[i] = *row_of(u_at, row, u_bytes);
        raw_z[i] = *row_of(z_at, row, z_bytes);
      }
    };
    prefetch(0);
    for (int k = 0; k < count; k += prefetch_rows) {
      // 2. Save the state before every block of tokens for the backward pass.
      if (k % selective_scan_block == 0 && out.states != nullptr && inside)
#pragma unroll
        for (int n = 0; n < thread_states; ++n)
          if (thread.has_state(n))
            out.states[(from + k) / selective_scan_block * out.states_stride + thread.index(n)] = h[n];
      // 3. Convert 4 tokens, and start to read the next 4.
      R step[prefetch_rows], u[prefetch_rows], gate[prefetch_rows];
#pragma unroll
      for (int i = 0; i < prefetch_rows; ++i) {
        step[i] = in.step_size(widened(raw_delta[i]) + bias);
        u[i] = widened(raw_u[i]);
        gate[i] = widened(raw_z[i]);
      }
      prefetch(k + prefetch_rows);
      const auto advance = [&]<bool Starts>() {
#pragma unroll
        for (int i = 0; i < prefetch_rows; ++i) {
          // 4. Advance the states by one token: h = exp(ΔA) h + Δ u B, s = ⟨C, h⟩.
          if (Starts && starts.is_start((k + i) & 63))
#pragma unroll
            for (int n = 0; n < thread_states; ++n) h[n] = 0;
          const R delta = step[i], x = delta * u[i];
          R s = 0;
          const auto* const rows_B = reinterpret_cast<const Quad<R>*>(B + (k + i) * padded + thread.state(0));
          const auto* const rows_C = reinterpret_cast<const Quad<R>*>(C + (k + i) * padded + thread.state(0));
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
          // 5. Add the parts of the channel, then write y = (s + D u) silu(z).
#pragma unroll
          for (int other = 1; other < L; other *= 2) s += __shfl_xor_sync(~0u, s, other);
          if (!inside || thread.part != 0 || k + i >= count) continue;
          if constexpr (Grouped)
            if (!out.sums.complete(s, (from + k + i) * in.channels + channel)) continue;
          s += skip * u[i];
          if (in.z != nullptr) s *= silu(gate[i]);
          *row_of(y_at, k + i, y_bytes) = narrowed<T>(s);
        }
      };
      if ((starts.bits >> k & (1 << prefetch_rows) - 1) == 0)
        advance.template operator()<false>();
      else
        advance.template operator()<true>();
    }
  }
}

template <class T>
void forward(const Stream& stream, const SelectiveScanForward& args) {
  using R = Accumulator<T>;
  const std::int64_t tokens = args.in.segments.tokens, channels = args.in.A.rows(), states = args.in.A.columns();
  if (tokens == 0 || channels == 0) return;
  if constexpr (std::is_same_v<T, bf16>)
    if (walk_forward(stream, args)) return;
  const GroupMemory<R> sums(stream, states, 1, tokens, channels);
  for_each_state_group(states, [&](const StateGroup& group) {
    const ScanInputs<T> in(inputs_of_group(group, args.in));
    const ScanChunkMemory<T> memory(stream, in, chunk_tokens(tokens, channels));
    const ScanChunks<T> chunks = memory.view();
    sum_scan_chunks<T>(stream, ScanDirection::left_to_right, in, {}, chunks, false);
    fold_scan_chunks<T>(stream, ScanDirection::left_to_right, in, group.columns_of(args.state_in),
                        group.columns_of(args.state_out), chunks);
    R* const saved = args.states.present() ? static_cast<R*>(args.states.data) + group.first * channels : nullptr;
    const ForwardOutputs<T> out{static_cast<T*>(args.y.data), saved, args.y.row_stride, args.states.row_stride,
                                sums.sums_of(group)};
    with_threads_per_channel("selective_scan", in.states, out.sums.sums != nullptr, [&]<int L, bool Grouped> {
      const dim3 grid(grid_of(chunks.count), grid_of(channels, scan_threads / L));
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
  expect_if_present("states", args.states, accumulator, {ceil_div(T, selective_scan_block), D, N});
  expect_if_present("state_out", args.state_out, accumulator, {D, N});
  dispatch(dtype, [&]<class Type> { forward<Type>(stream, args); });
}

}  // namespace causeway::cuda
