#include <algorithm>

#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/sums.cuh"
#include "kernels/cuda/selective_scan/selective_scan_backward.cuh"

namespace causeway::cuda {
namespace {

/// One chunk of the backward pass, for one group of tiles.
///
/// block: one chunk; a group of tiles of C channels, one tile after the other (blockIdx.x: chunk, blockIdx.y: group)
/// warp: 32 / L channels of a tile
/// thread: 4 states of one channel, from the chunk's last block of tokens to its first
/// shared memory: ScanTile, then d_B and d_C of the chunk, summed over the tiles so far: [tokens][2][NP]
/// registers: rates, adjoint g and d_A of 4 states; h, exp(ΔA) and partial sums of 8 tokens
/// One function of 190 lines, because its phases share registers and shared memory.
template <class T, int L>
__global__ void __launch_bounds__(scan_threads, sizeof(Accumulator<T>) == 4 ? 2 : 1)
    chunk_backward(ScanInputs<T> in, ScanChunks<T> chunks, ScanGradients<T> to) {
  using R = Accumulator<T>;
  using S = ScanTile<R, L>;
  constexpr int C = S::C, NP = S::NP, warp_channels = 32 / L,
                held = warp_channels < group_tokens ? group_tokens / warp_channels : 1;
  extern __shared__ __align__(16) unsigned char memory[];
  S& shared = *reinterpret_cast<S*>(memory);
  R* const sums = reinterpret_cast<R*>(memory + sizeof(S));

  const std::int64_t tokens = in.segments.tokens, chunk = blockIdx.x, begin = chunk * chunks.tokens_each;
  const std::int64_t end = begin + chunks.tokens_each < tokens ? begin + chunks.tokens_each : tokens;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32, part = thread % L,
            c = thread / L;
  const bool continues = DocumentBounds(in.segments, end - 1, lane).end > end;
  for (int e = thread; e < (end - begin) * 2 * NP; e += scan_threads) sums[e] = 0;

  const std::int64_t tiles = ceil_div(in.channels, C), first_tile = blockIdx.y * to.group_tiles;
  for (std::int64_t tile = first_tile; tile < tiles && tile < first_tile + to.group_tiles; ++tile) {
    const std::int64_t channel = tile * C + c;
    const bool inside = channel < in.channels;
    R rate[tile_states], g[tile_states], d_A[tile_states] = {}, d_D = 0, d_bias = 0;
#pragma unroll
    for (int m = 0; m < tile_states; ++m) {
      const int n = part * tile_states + m;
      const bool real = inside && n < in.states;
      rate[m] = inside ? in.rate(channel, n) : R(0);
      g[m] = real && continues ? chunks.state[(chunk * in.states + n) * in.channels + channel] : R(0);
    }
    const R skip = inside ? in.skip_of(channel) : R(0);

    for (std::int64_t from = begin + (end - begin - 1) / block_tokens * block_tokens; from >= begin;
         from -= block_tokens) {
      const int count = static_cast<int>(end - from < block_tokens ? end - from : block_tokens);
      // 1. Load 64 tokens of the tile to shared memory.
      const DocumentStarts starts(in.segments, from, lane);
      __syncthreads();
      stage_block(in, to, from, count, tile * C, shared);
      __syncthreads();
      // 2. Forward over the 64 tokens; keep h before every group of 8.
      R h[tile_states];
#pragma unroll
      for (int m = 0; m < tile_states; ++m) {
        const int n = part * tile_states + m;
        h[m] = inside && n < in.states
                   ? to.states[from / selective_scan_block * to.states_stride + n * in.channels + channel]
                   : R(0);
      }
      for (int group = 0; group < groups_a_block; ++group) {
        Quad<R> kept;
#pragma unroll
        for (int m = 0; m < tile_states; ++m) kept.at[m] = h[m];
        shared.h[group][thread] = kept;
        if (group + 1 == groups_a_block) break;
#pragma unroll
        for (int i = 0; i < group_tokens; ++i) {
          const int k = group * group_tokens + i;
          const R delta = shared.delta[k][c], x = delta * shared.u[k][c];
          const Quad<R> b = *reinterpret_cast<const Quad<R>*>(&shared.B[k][part * tile_states]);
          const bool starting = starts.is_start(k);
#pragma unroll
          for (int m = 0; m < tile_states; ++m) {
            if (starting) h[m] = 0;
            h[m] = exponential_base_2(delta * rate[m]) * h[m] + x * b.at[m];
          }
        }
      }

      for (int group = groups_a_block - 1; group >= 0; --group) {
        // 3. Forward over a group of 8 tokens again: h and exp(ΔA) stay in registers; s = ⟨C, h⟩ and d_C = d_s h.
        const Quad<R> kept = shared.h[group][thread];
#pragma unroll
        for (int m = 0; m < tile_states; ++m) h[m] = kept.at[m];
        R before[group_tokens][tile_states], decay[group_tokens][tile_states],
            s[group_tokens] = {}, gB[group_tokens] = {}, gA[group_tokens] = {};
        R over_channels[tile_states][group_tokens];
#pragma unroll
        for (int i = 0; i < group_tokens; ++i) {
          const int k = group * group_tokens + i;
          const R delta = shared.delta[k][c], x = delta * shared.u[k][c], ds = shared.ds[k][c];
          const Quad<R> b = *reinterpret_cast<const Quad<R>*>(&shared.B[k][part * tile_states]),
                        cs = *reinterpret_cast<const Quad<R>*>(&shared.Cs[k][part * tile_states]);
          const bool starting = starts.is_start(k);
#pragma unroll
          for (int m = 0; m < tile_states; ++m) {
            before[i][m] = starting ? R(0) : h[m];
            decay[i][m] = exponential_base_2(delta * rate[m]);
            h[m] = decay[i][m] * before[i][m] + x * b.at[m];
            s[i] += cs.at[m] * h[m];
            over_channels[m][i] = ds * h[m];
          }
        }
        // 4. d_C: sum over the channels of the warp.
        R d_C[tile_states][held], d_B[tile_states][held];
        int first_row = 0;
#pragma unroll
        for (int m = 0; m < tile_states; ++m) {
          first_row = sum_over_lanes<warp_channels, L>(over_channels[m], lane / L);
#pragma unroll
          for (int j = 0; j < held; ++j) d_C[m][j] = over_channels[m][j];
        }
        // 5. Backward over the group: the adjoint g, d_B = g Δ u and, summed over states, ⟨g, B⟩ and the term of A.
#pragma unroll
        for (int i = group_tokens - 1; i >= 0; --i) {
          const int k = group * group_tokens + i;
          const R delta = shared.delta[k][c], x = delta * shared.u[k][c], ds = shared.ds[k][c];
          const Quad<R> b = *reinterpret_cast<const Quad<R>*>(&shared.B[k][part * tile_states]),
                        cs = *reinterpret_cast<const Quad<R>*>(&shared.Cs[k][part * tile_states]);
          const bool starting = starts.is_start(k);
#pragma unroll
          for (int m = 0; m < tile_states; ++m) {
            g[m] += ds * cs.at[m];
            over_channels[m][i] = g[m] * x;
            gB[i] += g[m] * b.at[m];
            g[m] *= decay[i][m];
            const R through = g[m] * before[i][m];
            gA[i] += through * rate[m];
            d_A[m] += through * delta;
            if (starting) g[m] = 0;
          }
        }
        // 6. d_B: sum over the channels of the warp. d_delta, s and d_u: sum over the states of the channel.
#pragma unroll
        for (int m = 0; m < tile_states; ++m) {
          sum_over_lanes<warp_channels, L>(over_channels[m], lane / L);
#pragma unroll
          for (int j = 0; j < held; ++j) d_B[m][j] = over_channels[m][j];
        }
        sum_over_lanes<L, 1>(s, part);
        sum_over_lanes<L, 1>(gB, part);
        const int first = sum_over_lanes<L, 1>(gA, part);
        __syncwarp();  // the channel's other lanes have read Δ, u and ds of these tokens
#pragma unroll
        for (int j = 0; j < group_tokens / L; ++j) {
          const int k = group * group_tokens + first + j;
          const R delta = shared.delta[k][c], u = shared.u[k][c], ds = shared.ds[k][c];
          const R slope = in.softplus ? softplus_slope_at(delta) : R(1);
          const R d_delta = slope * (gB[j] * u + gA[j] * static_cast<R>(ln_2));
          if (k < count) {
            d_D += ds * u;
            d_bias += d_delta;
          }
          shared.delta[k][c] = d_delta;
          shared.u[k][c] = s[j] + skip * u;
          shared.ds[k][c] = skip * ds + gB[j] * delta;
        }
        // 7. Add the warps' d_B and d_C of these tokens, in the order of the warps.
#pragma unroll
        for (int j = 0; j < held; ++j) {
          Quad<R> b, cs;
#pragma unroll
          for (int m = 0; m < tile_states; ++m) {
            b.at[m] = d_B[m][j];
            cs.at[m] = d_C[m][j];
          }
          *reinterpret_cast<Quad<R>*>(&shared.from_warps[warp][first_row + j][0][part * tile_states]) = b;
          *reinterpret_cast<Quad<R>*>(&shared.from_warps[warp][first_row + j][1][part * tile_states]) = cs;
        }
        __syncthreads();
        for (int e = thread; e < group_tokens * 2 * NP; e += scan_threads) {
          const std::int64_t row = from - begin + group * group_tokens + e / (2 * NP);
          if (row >= end - begin) continue;
          R sum = sums[row * 2 * NP + e % (2 * NP)];
          for (int w = 0; w < scan_warps; ++w) sum += (&shared.from_warps[w][0][0][0])[e];
          sums[row * 2 * NP + e % (2 * NP)] = sum;
        }
        __syncthreads();
      }
      // 8. Write the gradients of the tokens.
      write_block(in, to, from, count, tile * C, shared);
    }
    // 9. Write the chunk's parts of the parameter gradients of this tile.
#pragma unroll
    for (int other = 1; other < L; other *= 2) {
      d_D += __shfl_xor_sync(~0u, d_D, other);
      d_bias += __shfl_xor_sync(~0u, d_bias, other);
    }
    if (!inside) continue;
    R* const row = to.parameters + chunk * (in.states + 2) * in.channels + channel;
#pragma unroll
    for (int m = 0; m < tile_states; ++m)
      if (part * tile_states + m < in.states) row[(part * tile_states + m) * in.channels] = d_A[m];
    if (part != 0) continue;
    row[in.states * in.channels] = d_D;
    row[(in.states + 1) * in.channels] = d_bias;
  }
  // 10. Write the group's d_B and d_C of the chunk.
  __syncthreads();
  for (int e = thread; e < (end - begin) * 2 * NP; e += scan_threads) {
    const int n = e % NP, which = e / NP % 2;
    if (n < in.states) to.rows[((blockIdx.y * tokens + begin + e / (2 * NP)) * 2 + which) * in.states + n] = sums[e];
  }
}

/// Receives d_B and d_C from add_parts_in_order: elements of [tokens][2][N].
template <class T>
struct RowGradients {
  T *d_B, *d_C;
  std::int64_t B_stride, C_stride;
  int states;

  __device__ Accumulator<T> start(std::int64_t) const { return 0; }
  __device__ void store(std::int64_t element, Accumulator<T> sum) const {
    const std::int64_t t = element / (2 * states), n = element % states;
    T& to = element / states % 2 == 0 ? d_B[t * B_stride + n] : d_C[t * C_stride + n];
    to = narrowed<T>(sum);
  }
};

/// Receives d_A, d_D and d_delta_bias from add_parts_by_warps: rows of [N + 2][channels].
template <class R>
struct ParameterGradients {
  R *d_A, *d_D, *d_bias;
  std::int64_t A_stride, D_stride, bias_stride;
  int states;

  __device__ void add(int n, std::int64_t channel, double sum) const {
    R* const to = n < states    ? d_A + channel * A_stride + n
                  : n == states ? (d_D == nullptr ? nullptr : d_D + channel * D_stride)
                                : (d_bias == nullptr ? nullptr : d_bias + channel * bias_stride);
    if (to != nullptr) *to = static_cast<R>(static_cast<double>(*to) + sum);
  }
};

/// The backward pass of one group of states; args.states points to the group's first state.
template <class T, int L>
void backward(const Stream& stream, const SelectiveScanBackward& args, const GroupSums<Accumulator<T>>& group_sums) {
  using R = Accumulator<T>;
  using S = ScanTile<R, L>;
  const auto data = [](TensorView x) { return x.present() ? static_cast<T*>(x.data) : nullptr; };
  const auto wide = [](TensorView x) { return x.present() ? static_cast<R*>(x.data) : nullptr; };
  const ScanInputs<T> in(args.in);
  const std::int64_t tokens = in.segments.tokens, tiles = ceil_div(in.channels, S::C);
  // d_B and d_C of a chunk must fit into shared memory: at most two blocks of tokens.
  constexpr std::int64_t most = sizeof(R) == 4 && L == 4 ? 2 * block_tokens : block_tokens;
  const std::int64_t each = std::min(chunk_tokens(tokens, in.channels), most);
  const ScanChunkMemory<T> memory(stream, in, each);
  const ScanChunks<T> chunks = memory.view();
  // As few groups of tiles as fill the device: each group has its own copy of d_B and d_C.
  const std::int64_t wanted = std::clamp<std::int64_t>(2048 / chunks.count, 1, tiles),
                     group_tiles = ceil_div(tiles, wanted);
  const std::int64_t groups = ceil_div(tiles, group_tiles);
  const Tensor rows(stream, dtype_of<R>, {groups, tokens, 2 * in.states}),
      parameters(stream, dtype_of<R>, {chunks.count, in.states + 2, in.channels});

  sum_scan_chunks<T>(stream, ScanDirection::right_to_left, in, args.d_y, chunks, false);
  fold_scan_chunks<T>(stream, ScanDirection::right_to_left, in, args.adjoint_in, chunks);
  const ScanGradients<T> to{
      data(args.d_y),      data(args.d_u),          data(args.d_delta),  data(args.d_z),    args.d_y.row_stride,
      args.d_u.row_stride, args.d_delta.row_stride, args.d_z.row_stride, wide(args.states), args.states.row_stride,
      wide(rows.view()),   wide(parameters.view()), group_tiles,         group_sums};
  const auto bytes = static_cast<int>(sizeof(S) + static_cast<std::size_t>(each * 2 * S::NP) * sizeof(R));
  const auto queue = native_of(stream);
  cuda_check(cudaFuncSetAttribute(chunk_backward<T, L>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  chunk_backward<T, L>
      <<<dim3(grid_of(chunks.count), grid_of(groups)), scan_threads, static_cast<std::size_t>(bytes), queue>>>(
          in, chunks, to);
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
  if (T == 0 || D == 0) return;
  dispatch(dtype, [&]<class Type> {
    using R = Accumulator<Type>;
    const GroupMemory<R> sums(stream, N, 3, T, D);
    for_each_state_group(N, [&](const StateGroup& group) {
      SelectiveScanBackward part = args;
      part.in = inputs_of_group(group, in);
      part.states.data = static_cast<R*>(args.states.data) + group.first * D;
      part.adjoint_in = group.columns_of(args.adjoint_in);
      part.d_B = group.columns_of(args.d_B);
      part.d_C = group.columns_of(args.d_C);
      part.d_A = group.columns_of(args.d_A);
      if (!group.last) part.d_D = {};
      // A thread holds 4 states here, 16 in the other kernels: four times as many threads per channel.
      with_threads_per_channel("selective_scan", group.count,
                               [&]<int threads> { backward<Type, 4 * threads>(stream, part, sums.sums_of(group)); });
    });
  });
}

}  // namespace causeway::cuda
