#include <algorithm>

#include "kernels/core/integer.hpp"
#include "kernels/cuda/selective_scan/selective_scan.cuh"

// Chunks again: the adjoint's sums, their fold, then each chunk from right to left. Here 4 states of a channel are a
// thread's, and L threads a channel's, for 8 tokens' h and exp(ΔA) of them stand in registers: a block of 64 tokens
// runs forward once from the state that the forward saved, keeping h every 8 tokens in shared memory; then each 8 run
// forward once more and backward. Three exponentials an element and state, the adjoint's sums included: 0.78 ms at L
// 16384, D 4096, N 16; about 35 instructions an element and state, 1.2 ms. Reached: 3.58 ms for one document and 3.56
// for documents of 57 to 2048 tokens; issue slots are used half of the time, by 8 warps a multiprocessor (three blocks
// a multiprocessor instead of two spill, and take 3.90).
//
// Sums over states (for d_u, d_delta, s) and over channels (d_B, d_C) spread over lanes: where 8 tokens are to be
// summed over K lanes, each exchange halves the tokens a lane keeps, so that 7 shuffles do what 24 would. Warps, tiles
// and groups of channels are added in their order.
namespace causeway::cuda {
namespace {

constexpr int prefetch_rows = 8;  // rows in flight
constexpr int quad = 4, group_tokens = 8, groups_a_block = block_tokens / group_tokens, warps = scan_threads / 32;

template <class T>
struct Gradients {
  using R = Accumulator<T>;
  const T* d_y;
  T *d_u, *d_delta, *d_z;
  std::int64_t d_y_stride, d_u_stride, d_delta_stride, d_z_stride;
  const R* states;  // the forward's: [blocks][N][channels]
  std::int64_t states_stride;
  R* rows;        // [groups of tiles][tokens][2][N]: d_B and d_C
  R* parameters;  // [chunks][N + 2][channels]: d_A, d_D, d_delta_bias
  std::int64_t tiles_each;
  GroupSums<R> sums;  // [3][tokens][channels]: d_delta, d_u, s
};

/// What a block of threads shares: C channels of 64 tokens, NP states a channel.
template <class R, int L>
struct Shared {
  static constexpr int C = scan_threads / L, NP = quad * L;
  // Δ, u, ds of a block; as its tokens are done, d_delta, s and d_u stand there instead.
  R delta[block_tokens][C], u[block_tokens][C], ds[block_tokens][C];
  alignas(16) R B[block_tokens][NP], Cs[block_tokens][NP];
  Quad<R> h[groups_a_block][scan_threads];               // before each 8 tokens
  alignas(16) R from_warps[warps][group_tokens][2][NP];  // d_B and d_C of 8 tokens
};

/// Sums each of 8 values over Lanes lanes, Stride apart, of which this is number `index`: lane by lane values [first,
/// first + 8 / Lanes) of the eight end as sums in v[0 …]. More than 8 lanes end in groups that hold the same one.
template <int Lanes, int Stride, class R>
__device__ int spread_sum(R (&v)[group_tokens], int index) {
  int first = 0;
#pragma unroll
  for (int bit = Lanes / 2, half = group_tokens / 2; bit > 0; bit /= 2, half /= 2) {
    if (half == 0) {
      v[0] += __shfl_xor_sync(~0u, v[0], bit * Stride);
      continue;
    }
    const bool upper = (index & bit) != 0;
#pragma unroll
    for (int j = 0; j < half; ++j) {
      const R give = upper ? v[j] : v[j + half], keep = upper ? v[j + half] : v[j];
      v[j] = keep + __shfl_xor_sync(~0u, give, bit * Stride);
    }
    if (upper) first += half;
  }
  return first;
}

/// Δ, u and ds of a block's tokens and a tile's channels; beyond the count no step is taken.
template <class T, class S>
__device__ void stage_block(const ScanInputs<T>& in, const Gradients<T>& to, std::int64_t from, int count,
                            std::int64_t first_channel, S& shared) {
  using R = Accumulator<T>;
  constexpr int rows = scan_threads / S::C;  // at a time
  const int c = static_cast<int>(threadIdx.x) % S::C, row = static_cast<int>(threadIdx.x) / S::C;
  const std::int64_t channel = first_channel + c, column = channel < in.channels ? channel : in.channels - 1;
  const R bias = in.bias_of(column);
  for (int base = row; base < block_tokens; base += prefetch_rows * rows) {
    T delta[prefetch_rows], u[prefetch_rows], d_y[prefetch_rows], z[prefetch_rows];
#pragma unroll
    for (int i = 0; i < prefetch_rows; ++i) {
      const std::int64_t t = from + min(base + i * rows, count - 1);
      delta[i] = in.delta[t * in.delta_stride + column];
      u[i] = in.u[t * in.u_stride + column];
      d_y[i] = to.d_y[t * to.d_y_stride + column];
      if (in.z != nullptr) z[i] = in.z[t * in.z_stride + column];
    }
#pragma unroll
    for (int i = 0; i < prefetch_rows; ++i) {
      const int token = base + i * rows;
      const bool real = token < count && channel < in.channels;
      const R ds = widened(d_y[i]) * (in.z != nullptr ? silu(widened(z[i])) : R(1));
      shared.delta[token][c] = real ? in.step(widened(delta[i]) + bias) : R(0);
      shared.u[token][c] = real ? widened(u[i]) : R(0);
      shared.ds[token][c] = real ? ds : R(0);
    }
  }
  stage_rows<S::NP>(in.B, in.B_stride, in.states, from, 1, count, &shared.B[0][0]);
  stage_rows<S::NP>(in.C, in.C_stride, in.states, from, 1, count, &shared.Cs[0][0]);
}

template <class T, class S>
__device__ void write_block(const ScanInputs<T>& in, const Gradients<T>& to, std::int64_t from, int count,
                            std::int64_t first_channel, const S& shared) {
  using R = Accumulator<T>;
  constexpr int rows = scan_threads / S::C;
  const int c = static_cast<int>(threadIdx.x) % S::C, row = static_cast<int>(threadIdx.x) / S::C;
  const std::int64_t channel = first_channel + c;
  if (channel >= in.channels) return;
  for (int base = row; base < count; base += prefetch_rows * rows) {
    T d_y[prefetch_rows], z[prefetch_rows];
    if (in.z != nullptr)
#pragma unroll
      for (int i = 0; i < prefetch_rows; ++i) {
        const std::int64_t t = from + min(base + i * rows, count - 1);
        d_y[i] = to.d_y[t * to.d_y_stride + channel];
        z[i] = in.z[t * in.z_stride + channel];
      }
#pragma unroll
    for (int i = 0; i < prefetch_rows; ++i) {
      const int token = base + i * rows;
      if (token >= count) break;
      const std::int64_t t = from + token;
      R d_delta = shared.delta[token][c], d_u = shared.ds[token][c], s = shared.u[token][c];
      if (to.sums.at != nullptr) {
        const std::int64_t at = t * in.channels + channel, size = in.segments.tokens * in.channels;
        to.sums.complete(d_delta, at);
        to.sums.complete(d_u, size + at);
        if (!to.sums.complete(s, 2 * size + at)) continue;
      }
      to.d_delta[t * to.d_delta_stride + channel] = narrowed<T>(d_delta);
      to.d_u[t * to.d_u_stride + channel] = narrowed<T>(d_u);
      if (in.z != nullptr)
        to.d_z[t * to.d_z_stride + channel] = narrowed<T>(widened(d_y[i]) * s * silu_slope(widened(z[i])));
    }
  }
}

/// One chunk, and tiles of C channels one after the other.
template <class T, int L>
__global__ void __launch_bounds__(scan_threads, sizeof(Accumulator<T>) == 4 ? 2 : 1)
    chunk_backward(ScanInputs<T> in, Chunks<T> chunks, Gradients<T> to) {
  using R = Accumulator<T>;
  using S = Shared<R, L>;
  constexpr int C = S::C, NP = S::NP, warp_channels = 32 / L,
                held = warp_channels < group_tokens ? group_tokens / warp_channels : 1;
  extern __shared__ __align__(16) unsigned char memory[];
  S& shared = *reinterpret_cast<S*>(memory);
  R* const sums =
      reinterpret_cast<R*>(memory + sizeof(S));  // [tokens of the chunk][2][NP]: d_B and d_C of the tiles so far

  const std::int64_t tokens = in.segments.tokens, chunk = blockIdx.x, begin = chunk * chunks.tokens_each;
  const std::int64_t end = begin + chunks.tokens_each < tokens ? begin + chunks.tokens_each : tokens;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32, part = thread % L,
            c = thread / L;
  const bool goes_on = DocumentBounds(in.segments, end - 1, lane).end > end;
  for (int e = thread; e < (end - begin) * 2 * NP; e += scan_threads) sums[e] = 0;

  const std::int64_t tiles = ceil_div(in.channels, C), first_tile = blockIdx.y * to.tiles_each;
  for (std::int64_t tile = first_tile; tile < tiles && tile < first_tile + to.tiles_each; ++tile) {
    const std::int64_t channel = tile * C + c;
    const bool inside = channel < in.channels;
    R rate[quad], g[quad], d_A[quad] = {}, d_D = 0, d_bias = 0;
#pragma unroll
    for (int m = 0; m < quad; ++m) {
      const int n = part * quad + m;
      const bool real = inside && n < in.states;
      rate[m] = inside ? in.rate(channel, n) : R(0);
      g[m] = real && goes_on ? chunks.state[(chunk * in.states + n) * in.channels + channel] : R(0);
    }
    const R skip = inside ? in.skip_of(channel) : R(0);

    for (std::int64_t from = begin + (end - begin - 1) / block_tokens * block_tokens; from >= begin;
         from -= block_tokens) {
      const int count = static_cast<int>(end - from < block_tokens ? end - from : block_tokens);
      const DocumentStarts starts(in.segments, from, lane);
      __syncthreads();
      stage_block(in, to, from, count, tile * C, shared);
      __syncthreads();
      R h[quad];
#pragma unroll
      for (int m = 0; m < quad; ++m) {
        const int n = part * quad + m;
        h[m] = inside && n < in.states ? to.states[from / block_tokens * to.states_stride + n * in.channels + channel]
                                       : R(0);
      }
      for (int group = 0; group < groups_a_block; ++group) {
        Quad<R> kept;
#pragma unroll
        for (int m = 0; m < quad; ++m) kept.at[m] = h[m];
        shared.h[group][thread] = kept;
        if (group + 1 == groups_a_block) break;
#pragma unroll
        for (int i = 0; i < group_tokens; ++i) {
          const int k = group * group_tokens + i;
          const R delta = shared.delta[k][c], x = delta * shared.u[k][c];
          const Quad<R> b = *reinterpret_cast<const Quad<R>*>(&shared.B[k][part * quad]);
          const bool starting = starts.is_start(k);
#pragma unroll
          for (int m = 0; m < quad; ++m) {
            if (starting) h[m] = 0;
            h[m] = exponential_base_2(delta * rate[m]) * h[m] + x * b.at[m];
          }
        }
      }

      for (int group = groups_a_block - 1; group >= 0; --group) {
        const Quad<R> kept = shared.h[group][thread];
#pragma unroll
        for (int m = 0; m < quad; ++m) h[m] = kept.at[m];
        R before[group_tokens][quad], decay[group_tokens][quad], s[group_tokens] = {}, gB[group_tokens] = {},
                                                                 gA[group_tokens] = {};
        R over_channels[quad][group_tokens];
#pragma unroll
        for (int i = 0; i < group_tokens; ++i) {
          const int k = group * group_tokens + i;
          const R delta = shared.delta[k][c], x = delta * shared.u[k][c], ds = shared.ds[k][c];
          const Quad<R> b = *reinterpret_cast<const Quad<R>*>(&shared.B[k][part * quad]),
                        cs = *reinterpret_cast<const Quad<R>*>(&shared.Cs[k][part * quad]);
          const bool starting = starts.is_start(k);
#pragma unroll
          for (int m = 0; m < quad; ++m) {
            before[i][m] = starting ? R(0) : h[m];
            decay[i][m] = exponential_base_2(delta * rate[m]);
            h[m] = decay[i][m] * before[i][m] + x * b.at[m];
            s[i] += cs.at[m] * h[m];
            over_channels[m][i] = ds * h[m];
          }
        }
        R d_C[quad][held], d_B[quad][held];
        int first_row = 0;
#pragma unroll
        for (int m = 0; m < quad; ++m) {
          first_row = spread_sum<warp_channels, L>(over_channels[m], lane / L);
#pragma unroll
          for (int j = 0; j < held; ++j) d_C[m][j] = over_channels[m][j];
        }
#pragma unroll
        for (int i = group_tokens - 1; i >= 0; --i) {
          const int k = group * group_tokens + i;
          const R delta = shared.delta[k][c], x = delta * shared.u[k][c], ds = shared.ds[k][c];
          const Quad<R> b = *reinterpret_cast<const Quad<R>*>(&shared.B[k][part * quad]),
                        cs = *reinterpret_cast<const Quad<R>*>(&shared.Cs[k][part * quad]);
          const bool starting = starts.is_start(k);
#pragma unroll
          for (int m = 0; m < quad; ++m) {
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
#pragma unroll
        for (int m = 0; m < quad; ++m) {
          spread_sum<warp_channels, L>(over_channels[m], lane / L);
#pragma unroll
          for (int j = 0; j < held; ++j) d_B[m][j] = over_channels[m][j];
        }
        spread_sum<L, 1>(s, part);
        spread_sum<L, 1>(gB, part);
        const int first = spread_sum<L, 1>(gA, part);
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
#pragma unroll
        for (int j = 0; j < held; ++j) {
          Quad<R> b, cs;
#pragma unroll
          for (int m = 0; m < quad; ++m) {
            b.at[m] = d_B[m][j];
            cs.at[m] = d_C[m][j];
          }
          *reinterpret_cast<Quad<R>*>(&shared.from_warps[warp][first_row + j][0][part * quad]) = b;
          *reinterpret_cast<Quad<R>*>(&shared.from_warps[warp][first_row + j][1][part * quad]) = cs;
        }
        __syncthreads();
        for (int e = thread; e < group_tokens * 2 * NP; e += scan_threads) {
          const std::int64_t row = from - begin + group * group_tokens + e / (2 * NP);
          if (row >= end - begin) continue;
          R sum = sums[row * 2 * NP + e % (2 * NP)];
          for (int w = 0; w < warps; ++w) sum += (&shared.from_warps[w][0][0][0])[e];
          sums[row * 2 * NP + e % (2 * NP)] = sum;
        }
        __syncthreads();
      }
      write_block(in, to, from, count, tile * C, shared);
    }
#pragma unroll
    for (int other = 1; other < L; other *= 2) {
      d_D += __shfl_xor_sync(~0u, d_D, other);
      d_bias += __shfl_xor_sync(~0u, d_bias, other);
    }
    if (!inside) continue;
    R* const row = to.parameters + chunk * (in.states + 2) * in.channels + channel;
#pragma unroll
    for (int m = 0; m < quad; ++m)
      if (part * quad + m < in.states) row[(part * quad + m) * in.channels] = d_A[m];
    if (part != 0) continue;
    row[in.states * in.channels] = d_D;
    row[(in.states + 1) * in.channels] = d_bias;
  }
  __syncthreads();
  for (int e = thread; e < (end - begin) * 2 * NP; e += scan_threads) {
    const int n = e % NP, which = e / NP % 2;
    if (n < in.states) to.rows[((blockIdx.y * tokens + begin + e / (2 * NP)) * 2 + which) * in.states + n] = sums[e];
  }
}

/// d_B and d_C: the groups' sums, added in their order.
template <class T>
__global__ void add_groups(const Accumulator<T>* rows, std::int64_t groups, std::int64_t tokens, int states, T* d_B,
                           std::int64_t B_stride, T* d_C, std::int64_t C_stride) {
  const std::int64_t at = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x, size = tokens * 2 * states;
  if (at >= size) return;
  Accumulator<T> sum = 0;
  for (std::int64_t group = 0; group < groups; ++group) sum += rows[group * size + at];
  const std::int64_t t = at / (2 * states), n = at % states;
  T& to = at / states % 2 == 0 ? d_B[t * B_stride + n] : d_C[t * C_stride + n];
  to = narrowed<T>(sum);
}

/// d_A, d_D and d_delta_bias +=: each of 8 rows of threads takes every eighth chunk, then the rows are added in their
/// order.
template <class R>
__global__ void add_chunks(const R* parameters, std::int64_t chunks, int states, std::int64_t channels, R* d_A,
                           std::int64_t A_stride, R* d_D, std::int64_t D_stride, R* d_bias, std::int64_t bias_stride) {
  const std::int64_t channel = std::int64_t{blockIdx.x} * 32 + threadIdx.x;
  const int n = static_cast<int>(blockIdx.y);
  __shared__ double shared[8][32];
  double sum = 0;
  if (channel < channels)
    for (std::int64_t chunk = threadIdx.y; chunk < chunks; chunk += 8)
      sum += static_cast<double>(parameters[(chunk * (states + 2) + n) * channels + channel]);
  shared[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || channel >= channels) return;
  for (int row = 1; row < 8; ++row) sum += shared[row][threadIdx.x];
  R* const to = n < states    ? d_A + channel * A_stride + n
                : n == states ? (d_D == nullptr ? nullptr : d_D + channel * D_stride)
                              : (d_bias == nullptr ? nullptr : d_bias + channel * bias_stride);
  if (to != nullptr) *to = static_cast<R>(static_cast<double>(*to) + sum);
}

/// Of one group of states; `states` begins at its own.
template <class T, int L>
void backward(const Stream& stream, const SelectiveScanBackward& args, const GroupSums<Accumulator<T>>& group_sums) {
  using R = Accumulator<T>;
  using S = Shared<R, L>;
  const auto data = [](TensorView x) { return x.present() ? static_cast<T*>(x.data) : nullptr; };
  const auto wide = [](TensorView x) { return x.present() ? static_cast<R*>(x.data) : nullptr; };
  const ScanInputs<T> in(args.in);
  const std::int64_t tokens = in.segments.tokens, tiles = ceil_div(in.channels, S::C);
  // The sums of a chunk's d_B and d_C stand in shared memory: two blocks of tokens at most.
  constexpr std::int64_t most = sizeof(R) == 4 && L == 4 ? 2 * block_tokens : block_tokens;
  const std::int64_t each = std::min(chunk_tokens(tokens, in.channels), most);
  const ChunkMemory<T> memory(stream, in, each);
  const Chunks<T> chunks = memory.view();
  // Channels are dealt to no more groups than fill the device: each costs a copy of d_B and d_C.
  const std::int64_t wanted = std::clamp<std::int64_t>(2048 / chunks.count, 1, tiles),
                     tiles_each = ceil_div(tiles, wanted);
  const std::int64_t groups = ceil_div(tiles, tiles_each);
  const Tensor rows(stream, dtype_of<R>, {groups, tokens, 2 * in.states}),
      parameters(stream, dtype_of<R>, {chunks.count, in.states + 2, in.channels});

  sum_chunks<T>(stream, ScanDirection::right_to_left, in, args.d_y, chunks, false);
  fold_chunks<T>(stream, ScanDirection::right_to_left, in, args.adjoint_in, chunks);
  const Gradients<T> to{
      data(args.d_y),      data(args.d_u),          data(args.d_delta),  data(args.d_z),    args.d_y.row_stride,
      args.d_u.row_stride, args.d_delta.row_stride, args.d_z.row_stride, wide(args.states), args.states.row_stride,
      wide(rows.view()),   wide(parameters.view()), tiles_each,          group_sums};
  const auto bytes = static_cast<int>(sizeof(S) + static_cast<std::size_t>(each * 2 * S::NP) * sizeof(R));
  const auto queue = native_of(stream);
  cuda_check(cudaFuncSetAttribute(chunk_backward<T, L>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  chunk_backward<T, L><<<dim3(static_cast<unsigned>(chunks.count), static_cast<unsigned>(groups)), scan_threads,
                         static_cast<std::size_t>(bytes), queue>>>(in, chunks, to);
  cuda_check(cudaGetLastError());
  add_groups<T><<<blocks_of(tokens * 2 * in.states, 256), 256, 0, queue>>>(
      to.rows, groups, tokens, in.states, data(args.d_B), args.d_B.row_stride, data(args.d_C), args.d_C.row_stride);
  cuda_check(cudaGetLastError());
  add_chunks<R><<<dim3(blocks_of(in.channels, 32), static_cast<unsigned>(in.states + 2)), dim3(32, 8), 0, queue>>>(
      to.parameters, chunks.count, in.states, in.channels, wide(args.d_A), args.d_A.row_stride, wide(args.d_D),
      args.d_D.row_stride, wide(args.d_delta_bias), args.d_delta_bias.row_stride);
  cuda_check(cudaGetLastError());
}

}  // namespace

void selective_scan_backward(const Stream& stream, const SelectiveScanBackward& args) {
  const SelectiveScanInputs& in = args.in;
  const std::int64_t T = in.segments.tokens, D = in.A.rows(), N = in.A.columns();
  expect_scan_inputs(in);
  const DType dtype = in.delta.dtype, accumulator = accumulator_of(dtype);
  expect("states", args.states, accumulator, {ceil_div(T, block_tokens), D, N});
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
      part.in = inputs_of(group, in);
      part.states.data = static_cast<R*>(args.states.data) + group.first * D;
      part.adjoint_in = group.of(args.adjoint_in);
      part.d_B = group.of(args.d_B);
      part.d_C = group.of(args.d_C);
      part.d_A = group.of(args.d_A);
      if (!group.last) part.d_D = {};
      // Four states a thread here, where the other kernels take 16.
      with_threads_per_channel("selective_scan", group.count,
                               [&]<int threads> { backward<Type, 4 * threads>(stream, part, sums.of(group)); });
    });
  });
}

}  // namespace causeway::cuda
