#include <cmath>

#include "kernels/cuda/attention/attention.cuh"
#include "kernels/cuda/device/functions.cuh"

namespace causeway::cuda {
namespace {

constexpr int warps = 4, threads = 32 * warps, rows = 16 * warps;
/// Columns of the scores that a block computes at a time.
template <int E>
constexpr int step_of = E > 128 ? 32 : 64;
/// Columns of the gradient that a block computes. For wider heads another block (blockIdx.z) computes the others.
template <int E>
constexpr int width_of = std::min(E, 128);

/// lse and delta of the queries, [queries, H].
struct QueryStatistics {
  const float *lse, *delta;
  std::int64_t lse_stride, delta_stride;

  explicit QueryStatistics(const AttentionBackward& args)
      : lse(static_cast<const float*>(args.lse.data)),
        delta(static_cast<const float*>(args.delta.data)),
        lse_stride(args.lse.row_stride),
        delta_stride(args.delta.row_stride) {}
};

/// A gradient [tokens, H, E] in float32.
struct HeadGradients {
  float* data;
  std::int64_t stride;
  bool pairs;  ///< two neighbouring elements can be accessed at once

  explicit HeadGradients(TensorView x)
      : data(static_cast<float*>(x.data)),
        stride(x.row_stride),
        pairs(x.shape[2] % 2 == 0 && rows_start_aligned({x}, 2)) {}

  /// Adds factor·g, where g [16, 8·W] is in the layout of C, to the rows from `first` on and the columns from `column`
  /// on. `like` gives the number of rows and the width of a head.
  template <int W>
  __device__ void add(const float (&g)[W][4], float factor, const Heads& like, int head, int first, int column,
                      int lane) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first + 8 * half + lane / 4;
      if (row >= like.rows) continue;
      float* const to = data + row * stride + std::int64_t{head} * like.width;
#pragma unroll
      for (int n = 0; n < W; ++n) {
        const int e = column + 8 * n + column_of(0, lane);
        if (pairs && e < like.width) {
          float2 x = *reinterpret_cast<const float2*>(to + e);
          x.x += factor * g[n][2 * half];
          x.y += factor * g[n][2 * half + 1];
          *reinterpret_cast<float2*>(to + e) = x;
        } else {
          for (int i = 0; i < 2; ++i)
            if (e + i < like.width) to[e + i] += factor * g[n][2 * half + i];
        }
      }
    }
  }
};

/// Bit 4·n + i: whether the mask allows element i of block n of a thread's scores, columns from `first` on.
template <int step>
__device__ std::uint32_t seen_bits(const CausalMask::Range (&seen)[2], int first, int lane) {
  std::uint32_t bits = 0;
#pragma unroll
  for (int n = 0; n < step / 8; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int column = first + 8 * n + column_of(i, lane);
      bits |= std::uint32_t{column >= seen[row_half_of(i)].begin && column < seen[row_half_of(i)].end} << (4 * n + i);
    }
  return bits;
}

/// Sets the scores that the mask does not allow to zero.
template <int N>
__device__ void select_seen(float (&x)[1][N][4], std::uint32_t seen) {
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if ((seen >> (4 * n + i) & 1) == 0) x[0][n][i] = 0;
}

/// Which columns of the scores the 64 rows of a block see. Both ends of the rows' ranges grow with the row.
template <int step>
struct VisibleColumns {
  int begin, end;                  ///< columns that some row sees
  int end_of_first;                ///< the end of the first row's range
  int begin_of_last;               ///< the begin of the last row's range
  int warp_begin, warp_end;        ///< columns that some row of the warp sees
  CausalMask::Range of_thread[2];  ///< what the thread's two rows see

  __device__ VisibleColumns(const CausalMask::Range* ranges, int warp, int lane)
      : begin(ranges[0].begin),
        end(ranges[rows - 1].end),
        end_of_first(ranges[0].end),
        begin_of_last(ranges[rows - 1].begin),
        warp_begin(ranges[16 * warp].begin),
        warp_end(ranges[16 * warp + 15].end),
        of_thread{ranges[16 * warp + lane / 4], ranges[16 * warp + lane / 4 + 8]} {}

  /// Whether all rows see all columns first … first + step - 1.
  __device__ bool complete(int first) const { return begin_of_last <= first && first + step <= end_of_first; }
  /// Whether some row of the warp sees some of these columns.
  __device__ bool seen_by_warp(int first) const { return warp_begin < first + step && first < warp_end; }
};

/// The arguments of both backward kernels.
struct Arguments {
  CausalMask mask;
  Heads q, k, v, d_y;
  QueryStatistics statistics;
  HeadGradients d_q, d_k, d_v;
  float scale;

  Arguments(const AttentionBackward& args, const std::uint8_t* computed)
      : mask(args.in, computed),
        q(args.in.q),
        k(args.in.k),
        v(args.in.v),
        d_y(args.d_y),
        statistics(args),
        d_q(args.d_q),
        d_k(args.d_k),
        d_v(args.d_v),
        scale(1 / std::sqrt(static_cast<float>(args.in.q.shape[2]))) {}
};

/// d_k and d_v. Scores are computed transposed, 16 keys by `step` queries per warp: so they are in the registers that
/// the next product takes as its left operand.
///
/// block: 64 keys of a head and `width` columns of their gradients, over all queries that see them, `step` at a time
///        (blockIdx.x: keys, blockIdx.y: head, blockIdx.z: columns)
/// warp: 16 keys
/// thread: the keys g and g + 8 of the warp, where g = lane / 4
/// shared memory: tiles k, v [64, E]; two stages of tiles q, d_y [step, E], of lse and delta [step]; ranges of queries
/// registers: d_k and d_v [width/8][4], p and slope (dS) [step/8][4], all in the layout of C
/// One function, because its phases share registers and shared memory.
template <int E, bool exact>
__global__ void __launch_bounds__(threads, E > 128 ? 1 : 2) backward_keys(Arguments args) {
  constexpr int step = step_of<E>, width = width_of<E>;
  extern __shared__ __align__(128) unsigned char memory[];
  __shared__ CausalMask::Range ranges[rows];
  __shared__ __align__(16) float lse[2][step], delta[2][step];
  const int head = static_cast<int>(blockIdx.y), column = static_cast<int>(blockIdx.z) * width;
  const int start = static_cast<int>(blockIdx.x) * rows;  // begins with the first keys, which most queries see
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const HeadTile<E> k{shared_address(memory)}, v = k.skip_rows(rows);
  const auto q_at = [&](int stage) { return v.skip_rows(rows + 2 * step * stage); };
  const auto d_y_at = [&](int stage) { return q_at(stage).skip_rows(step); };
  const float factor = args.scale * static_cast<float>(log2_e);

  // 1. Find the queries that see each key; load the keys, the values and the first queries.
  if (threadIdx.x < rows)
    ranges[threadIdx.x] = args.mask.queries_of(min(start + static_cast<int>(threadIdx.x), args.k.rows - 1));
  __syncthreads();
  const VisibleColumns<step> columns(ranges, warp, lane);
  if (columns.begin >= columns.end) return;
  const auto fetch = [&](int stage, int first) {
    load_tile<E, exact, step, threads>(q_at(stage), args.q, head, first);
    load_tile<E, exact, step, threads>(d_y_at(stage), args.d_y, head, first);
    const int t = first + static_cast<int>(threadIdx.x) % step;
    const bool inside = t < args.q.rows, of_lse = threadIdx.x < step;
    if (threadIdx.x >= 2 * step) return;
    const std::int64_t row = inside ? t : 0;
    const float* const from = of_lse ? args.statistics.lse + row * args.statistics.lse_stride
                                     : args.statistics.delta + row * args.statistics.delta_stride;
    copy_4_bytes_async(shared_address((of_lse ? lse : delta)[stage] + threadIdx.x % step), from + head, inside);
  };
  static_assert(threads >= 2 * step);
  load_tile<E, exact, rows, threads>(k, args.k, head, start);
  load_tile<E, exact, rows, threads>(v, args.v, head, start);
  fetch(0, columns.begin);

  float d_k[1][width / 8][4] = {}, d_v[1][width / 8][4] = {};
  int stage = 0;
  for (int first = columns.begin; first < columns.end; first += step, stage ^= 1) {
    const bool complete = columns.complete(first), seen_by_warp = columns.seen_by_warp(first);
    float p[1][step / 8][4], slope[1][step / 8][4];
    bool maybe_non_finite = false;
    // 2. Wait for the tiles of this stage; start to load those of the next one.
    wait_for_all_async_copies();
    __syncthreads();
    if (first + step < columns.end) fetch(stage ^ 1, first + step);
    const std::uint32_t seen = complete ? ~0u : seen_bits<step>(columns.of_thread, first, lane);
    if (seen_by_warp) {
      // 3. Scores p = exp(k·q/√E - lse).
      set_zero(p);
      multiply_transposed(p, TileFragments<E>::left_operand(k, 16 * warp, lane),
                          TileFragments<E>::right_operand(q_at(stage), 0, lane));
      if (!complete) maybe_non_finite = any_non_finite(p);
#pragma unroll
      for (int n = 0; n < step / 8; ++n) {
        const float2 of = *reinterpret_cast<const float2*>(lse[stage] + 8 * n + column_of(0, lane));
#pragma unroll
        for (int i = 0; i < 4; ++i)
          p[0][n][i] =
              exponential_base_2(p[0][n][i] * factor - (i % 2 == 0 ? of.x : of.y) * static_cast<float>(log2_e));
      }
      // 4. slope = p ⊙ (v·d_y - delta).
      set_zero(slope);
      multiply_transposed(slope, TileFragments<E>::left_operand(v, 16 * warp, lane),
                          TileFragments<E>::right_operand(d_y_at(stage), 0, lane));
      if (!complete) maybe_non_finite = maybe_non_finite || any_non_finite(slope);
#pragma unroll
      for (int n = 0; n < step / 8; ++n) {
        const float2 of = *reinterpret_cast<const float2*>(delta[stage] + 8 * n + column_of(0, lane));
#pragma unroll
        for (int i = 0; i < 4; ++i) slope[0][n][i] = p[0][n][i] * (slope[0][n][i] - (i % 2 == 0 ? of.x : of.y));
      }
      if (!complete) {
        select_seen(p, seen);
        select_seen(slope, seen);
      }
    }
    const bool non_finite = !complete && __syncthreads_or(maybe_non_finite);
    // 5. 0·NaN is NaN: where some key does not see some query, only finite values are multiplied. A NaN in a query is
    // also in its scores, through which it reaches d_k.
    if (non_finite) {
      zero_non_finite<E, step, threads>(d_y_at(stage));
      zero_non_finite<E, step, threads>(q_at(stage));
      __syncthreads();
    }
    if (!seen_by_warp) continue;
    // 6. d_v += p · d_y and d_k += slope · q; the keys that see a NaN or infinity in d_y get it back.
    multiply(d_v, p, TileFragments<E>::left_operand(d_y_at(stage), 0, lane).from_column(column));
    if (non_finite) add_non_finite(d_v[0], args.d_y, head, columns.of_thread, first, first + step, column, lane);
    multiply(d_k, slope, TileFragments<E>::left_operand(q_at(stage), 0, lane).from_column(column));
  }
  args.d_k.add(d_k[0], args.scale, args.k, head, start + 16 * warp, column, lane);
  args.d_v.add(d_v[0], 1, args.v, head, start + 16 * warp, column, lane);
}

/// d_q.
///
/// block: 64 queries of a head and `width` columns of d_q, over all keys that they see, `step` at a time
///        (blockIdx.x: queries, blockIdx.y: head, blockIdx.z: columns)
/// warp: 16 queries
/// thread: the queries g and g + 8 of the warp, where g = lane / 4
/// shared memory: two stages of tiles k, v [step, E]; ranges of keys
/// registers: q and d_y [E/16][4] in the layout of A; d_q [width/8][4], p and slope (dS) [step/8][4] in that of C
template <int E, bool exact>
__global__ void __launch_bounds__(threads, E > 128 ? 1 : 2) backward_queries(Arguments args) {
  constexpr int step = step_of<E>, width = width_of<E>;
  extern __shared__ __align__(128) unsigned char memory[];
  __shared__ CausalMask::Range ranges[rows];
  const int head = static_cast<int>(blockIdx.y), column = static_cast<int>(blockIdx.z) * width;
  const int start = static_cast<int>(gridDim.x - 1 - blockIdx.x) * rows;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const HeadTile<E> base{shared_address(memory)};
  const auto k_at = [&](int stage) { return base.skip_rows(2 * step * stage); };
  const auto v_at = [&](int stage) { return k_at(stage).skip_rows(step); };
  const float factor = args.scale * static_cast<float>(log2_e);

  // 1. Find the keys that each query sees; load the queries and d_y to registers, then the first keys and values.
  if (threadIdx.x < rows)
    ranges[threadIdx.x] = args.mask.keys_of(min(start + static_cast<int>(threadIdx.x), args.q.rows - 1));
  // q and d_y are first loaded to where the last stage of keys and values will be.
  const HeadTile<E> q_tile = base.skip_rows(4 * step - 2 * rows), d_y_tile = base.skip_rows(4 * step - rows);
  load_tile<E, exact, rows, threads>(q_tile, args.q, head, start);
  load_tile<E, exact, rows, threads>(d_y_tile, args.d_y, head, start);
  wait_for_all_async_copies();
  __syncthreads();
  const VisibleColumns<step> columns(ranges, warp, lane);
  if (columns.begin >= columns.end) return;
  const auto fetch = [&](int stage, int first) {
    load_tile<E, exact, step, threads>(k_at(stage), args.k, head, first);
    load_tile<E, exact, step, threads>(v_at(stage), args.v, head, first);
  };
  std::uint32_t q[E / 16][4], d_y[E / 16][4];
#pragma unroll
  for (int e = 0; e < E / 16; ++e) {
    ldmatrix_x4<false>(q[e], TileFragments<E>::left_operand(q_tile, 16 * warp, lane).address_of(0, e));
    ldmatrix_x4<false>(d_y[e], TileFragments<E>::left_operand(d_y_tile, 16 * warp, lane).address_of(0, e));
  }
  if (4 * step - 2 * rows < 2 * step) __syncthreads();  // the first stage overlaps q and d_y
  fetch(0, columns.begin);
  float lse[2], delta[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int64_t t = min(start + 16 * warp + 8 * half + lane / 4, args.q.rows - 1);
    lse[half] = args.statistics.lse[t * args.statistics.lse_stride + head] * static_cast<float>(log2_e);
    delta[half] = args.statistics.delta[t * args.statistics.delta_stride + head];
  }

  float d_q[1][width / 8][4] = {};
  int stage = 0;
  for (int first = columns.begin; first < columns.end; first += step, stage ^= 1) {
    const bool complete = columns.complete(first), seen_by_warp = columns.seen_by_warp(first);
    float p[1][step / 8][4], slope[1][step / 8][4];
    bool maybe_non_finite = false;
    // 2. Wait for the tiles of this stage; start to load those of the next one.
    wait_for_all_async_copies();
    __syncthreads();
    if (first + step < columns.end) fetch(stage ^ 1, first + step);
    if (seen_by_warp) {
      // 3. Scores p = exp(q·k/√E - lse) and slope = p ⊙ (d_y·v - delta).
      set_zero(p);
      multiply_transposed<E>(p, q, TileFragments<E>::right_operand(k_at(stage), 0, lane));
      if (!complete) maybe_non_finite = any_non_finite(p);
      set_zero(slope);
      multiply_transposed<E>(slope, d_y, TileFragments<E>::right_operand(v_at(stage), 0, lane));
#pragma unroll
      for (int n = 0; n < step / 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          slope[0][n][i] =
              exponential_base_2(p[0][n][i] * factor - lse[row_half_of(i)]) * (slope[0][n][i] - delta[row_half_of(i)]);
      if (!complete) select_seen(slope, seen_bits<step>(columns.of_thread, first, lane));
    }
    // 4. Only finite keys are multiplied where some query does not see some key. A NaN in a key is also in its scores.
    if (!complete && __syncthreads_or(maybe_non_finite)) {
      zero_non_finite<E, step, threads>(k_at(stage));
      __syncthreads();
    }
    // 5. d_q += slope · k.
    if (seen_by_warp) multiply(d_q, slope, TileFragments<E>::left_operand(k_at(stage), 0, lane).from_column(column));
  }
  args.d_q.add(d_q[0], args.scale, args.q, head, start + 16 * warp, column, lane);
}

template <int E, bool exact>
void launch(const Stream& stream, const AttentionBackward& args, const std::uint8_t* computed) {
  const AttentionInputs& in = args.in;
  const unsigned heads = grid_of(in.q.shape[1]);
  constexpr int step = step_of<E>, parts = E / width_of<E>;
  constexpr int of_keys = HeadTile<E>::bytes(2 * rows + 4 * step), of_queries = HeadTile<E>::bytes(4 * step);
  allow_shared(backward_keys<E, exact>, of_keys);
  allow_shared(backward_queries<E, exact>, of_queries);
  backward_keys<E, exact><<<dim3(grid_of(in.k.rows(), rows), heads, parts), threads, of_keys, native_of(stream)>>>(
      Arguments(args, computed));
  cuda_check(cudaGetLastError());
  backward_queries<E, exact>
      <<<dim3(grid_of(in.q.rows(), rows), heads, parts), threads, of_queries, native_of(stream)>>>(
          Arguments(args, computed));
  cuda_check(cudaGetLastError());
}

}  // namespace

// Lower bound: 10·E operations for each pair of a query and a key that it sees. These two kernels do 14·E, because both
// compute the scores; so they need no atomics and add in one order. bf16 [65536, 32, 128], one document: 88 TFLOP, 116
// ms at the 759 TFLOP/s of a GEMM.
void tile_attention_backward(const Stream& stream, const AttentionBackward& args, const std::uint8_t* computed) {
  const AttentionInputs& in = args.in;
  const bool aligned = Heads(in.q).aligned && Heads(in.k).aligned && Heads(in.v).aligned && Heads(args.d_y).aligned;
  const std::int64_t E = in.q.shape[2];
  if (E == 128 && aligned)
    launch<128, true>(stream, args, computed);
  else if (E == 64 && aligned)
    launch<64, true>(stream, args, computed);
  else if (E <= 64)
    launch<64, false>(stream, args, computed);
  else if (E <= 128)
    launch<128, false>(stream, args, computed);
  else
    launch<256, false>(stream, args, computed);
}

}  // namespace causeway::cuda
