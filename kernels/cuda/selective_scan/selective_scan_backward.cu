#include <algorithm>

#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/shared_memory.cuh"
#include "kernels/cuda/device/sums.cuh"
#include "kernels/cuda/selective_scan/selective_scan_backward.cuh"
#include "kernels/cuda/selective_scan/selective_scan_gradients.cuh"
#include "kernels/cuda/selective_scan/selective_scan_group.cuh"

namespace causeway::cuda {
namespace {

/// The row of state n in the matrix [rows][channels] of a chunk's states, which lie group of states by group, as passes
/// 1 and 2 compute them: [groups][chunks][states of the group].
__host__ __device__ std::int64_t chunk_state_row(std::int64_t chunks, int states, std::int64_t chunk, int n) {
  const int first = n / group_states * group_states;
  return chunks * first + chunk * (states - first < group_states ? states - first : group_states) + n - first;
}

/// Adds the warps' d_B and d_C of a block of tokens in their order, and the sums of the group's earlier tiles.
template <class T, class S>
__device__ void write_row_gradients(const ScanInputs<T>& in, Accumulator<T>* rows, int count, int first_state,
                                    bool first_tile, const S& shared) {
  using R = Accumulator<T>;
  for (int e = static_cast<int>(threadIdx.x); e < S::groups * 32; e += scan_threads) {
    const int group = e / 32, which = e / 16 % 2, token = group * group_tokens + e / 4 % 4, at = e % 16;
    R sum[4] = {};
#pragma unroll
    for (int w = 0; w < scan_warps; ++w)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const Quad<R> x = shared.exchange[group][w][which * 32 + half * 16 + at];
#pragma unroll
        for (int m = 0; m < 4; ++m) sum[m] += x.at[m];
      }
    if (token >= count) continue;
    R* const row = rows + (token * 2 + which) * in.states;
#pragma unroll
    for (int m = 0; m < 4; ++m) {
      const int n = first_state + e % 4 * 4 + m;
      if (n < in.states) row[n] = (first_tile ? R(0) : row[n]) + sum[m];
    }
  }
}

/// One chunk of the backward pass, for one group of tiles.
///
/// block: one chunk; a group of tiles of 64 channels, one tile after the other (blockIdx.x: chunk, blockIdx.y: group)
/// warp: 16 channels of a tile, 16 states at a time
/// lane: 2 channels, 4 states (see the header), from the chunk's last block of tokens to its first
/// shared memory: ScanTile
/// registers: LaneState; h and exp(ΔA) of 4 tokens
/// One function, because its phases share registers and shared memory.
template <class T, bool Many>
__global__ void __launch_bounds__(scan_threads, sizeof(Accumulator<T>) == 4 ? 2 : 1)
    chunk_backward(ScanInputs<T> in, ScanChunks<T> chunks, ScanGradients<T> to) {
  using R = Accumulator<T>;
  using S = ScanTile<R, Many>;
  extern __shared__ __align__(16) unsigned char memory[];
  S& shared = *reinterpret_cast<S*>(memory);

  const std::int64_t tokens = in.segments.tokens, channels = in.channels, chunk = blockIdx.x;
  const std::int64_t begin = chunk * chunks.tokens_each;
  const std::int64_t end = begin + chunks.tokens_each < tokens ? begin + chunks.tokens_each : tokens;
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int part = lane / 8, pair = lane % 8, column = warp * 8 + pair;
  const bool continues = DocumentBounds(in.segments, end - 1, lane).end > end;
  OneDocumentSums<T> quads(lane);
  QuadSums<R> careful_quads(lane);

  const std::int64_t tiles = ceil_div(channels, tile_channels), first_tile = blockIdx.y * to.group_tiles;
  for (std::int64_t tile = first_tile; tile < tiles && tile < first_tile + to.group_tiles; ++tile) {
    const std::int64_t channel = tile * tile_channels + 2 * column;
    R* const parameters = to.parameters + chunk * (in.states + 2) * channels + channel;
    Pair<R> skip, d_D = {}, d_bias = {};
#pragma unroll
    for (int c = 0; c < lane_channels; ++c) skip.at[c] = channel + c < channels ? in.skip_of(channel + c) : R(0);
    LaneState<R> x;
    // Whether the lane's state m of channel c exists, if the lane's first state is n.
    const auto exists = [&](int c, int n) { return channel + c < channels && n < in.states; };

    for (std::int64_t from = begin + (end - begin - 1) / S::tokens * S::tokens; from >= begin; from -= S::tokens) {
      const int count = static_cast<int>(end - from < S::tokens ? end - from : S::tokens);
      const bool last_block = from + count == end;
      const unsigned starts = static_cast<unsigned>(DocumentStarts(in.segments, from, lane).bits);
      for (int first_state = 0; first_state < (Many ? in.states : 1); first_state += warp_states) {
        // 1. Load the lane's states, and a block of tokens of the tile to shared memory.
        const bool enter = last_block || Many;
#pragma unroll
        for (int c = 0; c < lane_channels; ++c)
#pragma unroll
          for (int m = 0; m < lane_states; ++m) {
            const int n = first_state + part * lane_states + m;
            const std::int64_t at = n * channels + channel + c;
            x.h[c][m] = exists(c, n) ? to.states[from / selective_scan_block * to.states_stride + at] : R(0);
            if (!enter) continue;
            x.rate[c][m] = exists(c, n) ? in.rate(channel + c, n) : R(0);
            x.g[c][m] = exists(c, n) && (continues || !last_block)
                            ? chunks.state[chunk_state_row(chunks.count, in.states, chunk, n) * channels + channel + c]
                            : R(0);
            x.d_A[c][m] = exists(c, n) && !last_block ? parameters[n * channels + c] : R(0);
          }
        if (first_state == 0) {
          if (to.pairs)
            stage_tile<true>(in, to, from, count, static_cast<int>(tile) * tile_channels, shared);
          else
            stage_tile<false>(in, to, from, count, static_cast<int>(tile) * tile_channels, shared);
        }
        stage_states(in.B, in.B_stride, in.states, first_state, from, count, shared.B);
        stage_states(in.C, in.C_stride, in.states, first_state, from, count, shared.C);
        __syncthreads();
        // 2. Forward over all groups of tokens but the last; keep h before each.
#pragma unroll 1
        for (int group = 0; group + 1 < S::groups; ++group) {
#pragma unroll
          for (int c = 0; c < lane_channels; ++c)
            shared.exchange[group][warp][c * 32 + lane] = {{x.h[c][0], x.h[c][1], x.h[c][2], x.h[c][3]}};
          const unsigned bits = starts >> group * group_tokens & 15;
          if (bits == 0)
            sweep_group<false>(shared, group * group_tokens, 0, part, column, x);
          else
            sweep_group<true>(shared, group * group_tokens, bits, part, column, x);
        }
#pragma unroll 1
        for (int group = S::groups - 1; group >= 0; --group) {
          // 3. Forward and backward over a group of tokens.
          if (group + 1 < S::groups)
#pragma unroll
            for (int c = 0; c < lane_channels; ++c) {
              const Quad<R> kept = shared.exchange[group][warp][c * 32 + lane];
#pragma unroll
              for (int m = 0; m < lane_states; ++m) x.h[c][m] = kept.at[m];
            }
          __syncwarp();  // all lanes have read their h
          Quad<R> d_B, d_C;
          const unsigned bits = starts >> group * group_tokens & 15;
          ChannelSums<R> sums =
              bits == 0
                  ? scan_group<false>(shared, group * group_tokens, 0, lane, column, x, quads, d_B, d_C)
                  : scan_group<true>(shared, group * group_tokens, bits, lane, column, x, careful_quads, d_B, d_C);
          const int slot = lane / 4 % 2 * 16 + lane % 4 * 4 + part;
          shared.exchange[group][warp][slot] = d_B;
          shared.exchange[group][warp][32 + slot] = d_C;
          // 4. Finish the token of this lane.
          const int k = group * group_tokens + part;
          if constexpr (Many) {
            if (first_state > 0)
#pragma unroll
              for (int c = 0; c < lane_channels; ++c) {
                sums.s.at[c] += shared.sums[0][k][column].at[c];
                sums.gB.at[c] += shared.sums[1][k][column].at[c];
                sums.gA.at[c] += shared.sums[2][k][column].at[c];
              }
            if (first_state + warp_states < in.states) {
              shared.sums[0][k][column] = sums.s;
              shared.sums[1][k][column] = sums.gB;
              shared.sums[2][k][column] = sums.gA;
              continue;
            }
          }
          const Pair<R> delta = shared.delta[k][column], u = shared.u[k][column], ds = shared.ds[k][column],
                        dz = shared.dz[k][column];
          Pair<T> d_u, d_delta, d_z;
#pragma unroll
          for (int c = 0; c < lane_channels; ++c) {
            const R slope = step_slope(in, delta.at[c]);
            const R d = slope * (sums.gB.at[c] * u.at[c] + sums.gA.at[c] * static_cast<R>(ln_2));
            if (k < count) {
              d_D.at[c] += ds.at[c] * u.at[c];
              d_bias.at[c] += d;
            }
            d_delta.at[c] = narrowed<T>(d);
            d_u.at[c] = narrowed<T>(skip.at[c] * ds.at[c] + sums.gB.at[c] * delta.at[c]);
            d_z.at[c] = narrowed<T>(dz.at[c] * (sums.s.at[c] + skip.at[c] * u.at[c]));
          }
          if (k >= count || channel >= channels) continue;
          const auto store = [&](T* rows, std::int64_t stride, Pair<T> values) {
            store_pair(row_of(rows + from * stride, k, row_bytes<T>(stride)), static_cast<int>(channel),
                       static_cast<int>(channels), to.pairs, values);
          };
          store(to.d_delta, to.d_delta_stride, d_delta);
          store(to.d_u, to.d_u_stride, d_u);
          if (in.z != nullptr) store(to.d_z, to.d_z_stride, d_z);
        }
        // 5. Store what the next pass over these states needs, and the chunk's parts of d_A.
        if (Many || from == begin)
#pragma unroll
          for (int c = 0; c < lane_channels; ++c)
#pragma unroll
            for (int m = 0; m < lane_states; ++m) {
              const int n = first_state + part * lane_states + m;
              if (!exists(c, n)) continue;
              parameters[n * channels + c] = x.d_A[c][m];
              if (Many)
                chunks.state[chunk_state_row(chunks.count, in.states, chunk, n) * channels + channel + c] = x.g[c][m];
            }
        // 6. d_B and d_C of these tokens.
        __syncthreads();
        write_row_gradients(in, to.rows + (blockIdx.y * tokens + from) * 2 * in.states, count, first_state,
                            tile == first_tile, shared);
      }
    }
    // 7. Write the chunk's parts of d_D and d_delta_bias of this tile.
#pragma unroll
    for (int c = 0; c < lane_channels; ++c) {
#pragma unroll
      for (int other = 8; other < 32; other *= 2) {
        d_D.at[c] += __shfl_xor_sync(~0u, d_D.at[c], other);
        d_bias.at[c] += __shfl_xor_sync(~0u, d_bias.at[c], other);
      }
      if (part != 0 || channel + c >= channels) continue;
      parameters[in.states * channels + c] = d_D.at[c];
      parameters[(in.states + 1) * channels + c] = d_bias.at[c];
    }
  }
}

/// Tokens of a chunk, 64 to 128: as long as there are some blocks of threads for each place on the device.
std::int64_t backward_chunk_tokens(std::int64_t tokens, std::int64_t channels) {
  return block_tokens *
         std::clamp<std::int64_t>(tokens * ceil_div(channels, tile_channels) / block_tokens / 2048, 1, 2);
}

template <class T, bool Many>
void backward(const Stream& stream, const SelectiveScanBackward& args) {
  using R = Accumulator<T>;
  const auto data = [](TensorView x) { return x.present() ? static_cast<T*>(x.data) : nullptr; };
  const auto wide = [](TensorView x) { return x.present() ? static_cast<R*>(x.data) : nullptr; };
  const ScanInputs<T> in(args.in);
  const std::int64_t tokens = in.segments.tokens, tiles = ceil_div(in.channels, tile_channels);
  const ScanChunkMemory<T> memory(stream, in, backward_chunk_tokens(tokens, in.channels));
  const ScanChunks<T> chunks = memory.view();
  for_each_state_group(in.states, [&](const StateGroup& group) {
    const ScanInputs<T> part(inputs_of_group(group, args.in));
    ScanChunks<T> its = chunks;
    its.state += chunk_state_row(chunks.count, in.states, 0, static_cast<int>(group.first)) * in.channels;
    sum_scan_chunks<T>(stream, ScanDirection::right_to_left, part, args.d_y, its, false);
    fold_scan_chunks<T>(stream, ScanDirection::right_to_left, part, group.columns_of(args.adjoint_in),
                        group.columns_of(args.adjoint_out), its);
  });
  // As few groups of tiles as fill the device: each group has its own copy of d_B and d_C.
  const std::int64_t wanted = std::clamp<std::int64_t>(2048 / chunks.count, 1, tiles),
                     group_tiles = ceil_div(tiles, wanted);
  const std::int64_t groups = ceil_div(tiles, group_tiles);
  const Tensor rows(stream, dtype_of<R>, {groups, tokens, 2 * in.states}),
      parameters(stream, dtype_of<R>, {chunks.count, in.states + 2, in.channels});
  const bool pairs = aligned({args.in.u, args.in.delta, args.in.z, args.d_y, args.d_u, args.d_delta, args.d_z},
                             std::int64_t{2} * static_cast<std::int64_t>(sizeof(T)));
  const ScanGradients<T> to{data(args.d_y),
                            data(args.d_u),
                            data(args.d_delta),
                            data(args.d_z),
                            args.d_y.row_stride,
                            args.d_u.row_stride,
                            args.d_delta.row_stride,
                            args.d_z.row_stride,
                            wide(args.states),
                            args.states.row_stride,
                            wide(rows.view()),
                            wide(parameters.view()),
                            group_tiles,
                            pairs};
  constexpr std::size_t bytes = sizeof(ScanTile<R, Many>);
  const auto queue = native_of(stream);
  allow_shared_memory(chunk_backward<T, Many>, bytes);
  chunk_backward<T, Many><<<dim3(grid_of(chunks.count), grid_of(groups)), scan_threads, bytes, queue>>>(in, chunks, to);
  cuda_check(cudaGetLastError());
  add_parts_in_order<R>(
      stream, to.rows, groups, tokens * 2 * in.states,
      RowGradients<T>{data(args.d_B), data(args.d_C), args.d_B.row_stride, args.d_C.row_stride, in.states});
  add_parts_by_warps(stream, to.parameters, chunks.count, in.states + 2, in.channels,
                     ParameterGradients<R>{wide(args.d_A), wide(args.d_D), wide(args.d_delta_bias), args.d_A.row_stride,
                                           args.d_D.row_stride, args.d_delta_bias.row_stride, in.states});
}

}  // namespace

void selective_scan_backward(const Stream& stream, const SelectiveScanBackward& args) {
  const SelectiveScanInputs& in = args.in;
  const std::int64_t T = in.segments.tokens, D = in.A.rows(), N = in.A.columns();
  expect_scan_inputs(in);
  const DType dtype = in.delta.dtype, accumulator = accumulator_of(dtype);
  expect("states", args.states, accumulator, {ceil_div(T, selective_scan_block), D, N});
  expect_if_present("adjoint_in", args.adjoint_in, accumulator, {D, N});
  expect("d_y", args.d_y, dtype, {T, D});
  expect("d_u", args.d_u, dtype, {T, D});
  expect("d_delta", args.d_delta, dtype, {T, D});
  if (in.z.present()) expect("d_z", args.d_z, dtype, {T, D});
  expect("d_B", args.d_B, dtype, {T, N});
  expect("d_C", args.d_C, dtype, {T, N});
  expect("d_A", args.d_A, accumulator, {D, N});
  expect_if_present("d_D", args.d_D, accumulator, {D});
  expect_if_present("d_delta_bias", args.d_delta_bias, accumulator, {D});
  expect_if_present("adjoint_out", args.adjoint_out, accumulator, {D, N});
  if (T == 0 || D == 0) return;
  if (backward_in_turns(stream, args)) return;
  dispatch(dtype, [&]<class Type> {
    N <= warp_states ? backward<Type, false>(stream, args) : backward<Type, true>(stream, args);
  });
}

}  // namespace causeway::cuda
