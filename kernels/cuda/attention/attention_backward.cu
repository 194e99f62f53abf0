#include <cmath>

#include "kernels/cuda/attention/attention.cuh"
#include "kernels/cuda/device/functions.cuh"
#include "kernels/expect.hpp"

namespace causeway::cuda {
namespace {

constexpr int warps = 4, threads = 32 * warps, rows = 16 * warps;
/// Columns of the scores that a block takes at once.
template <int E>
constexpr int step_of = E > 128 ? 32 : 64;
/// Columns of the gradient that a block adds up: where heads are wider, another block takes the others.
template <int E>
constexpr int width_of = std::min(E, 128);

/// lse and delta of the queries, or the gradient of a head.
struct PerQuery {
  const float *lse, *delta;
  std::int64_t lse_stride, delta_stride;

  explicit PerQuery(const AttentionBackward& args)
      : lse(static_cast<const float*>(args.lse.data)),
        delta(static_cast<const float*>(args.delta.data)),
        lse_stride(args.lse.row_stride),
        delta_stride(args.delta.row_stride) {}
};

struct Gradient {
  float* data;
  std::int64_t stride;
  bool pairs;

  explicit Gradient(TensorView x)
      : data(static_cast<float*>(x.data)),
        stride(x.row_stride),
        pairs(x.shape[2] % 2 == 0 && rows_start_aligned({x}, 2)) {}

  /// Adds factor·g, a thread's share of 16 rows from `first` on and of columns from `column` on.
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

template <int N>
__device__ void set_zero(float (&x)[1][N][4]) {
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) x[0][n][i] = 0;
}

/// Bit 4·n + i: whether element i of block n of a thread's scores is seen.
template <int step>
__device__ std::uint32_t seen_bits(const CausalMask::Range (&seen)[2], int first, int lane) {
  std::uint32_t bits = 0;
#pragma unroll
  for (int n = 0; n < step / 8; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int column = first + 8 * n + column_of(i, lane);
      bits |= std::uint32_t{column >= seen[half_of(i)].begin && column < seen[half_of(i)].end} << (4 * n + i);
    }
  return bits;
}

template <int N>
__device__ void select_seen(float (&x)[1][N][4], std::uint32_t seen) {
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if ((seen >> (4 * n + i) & 1) == 0) x[0][n][i] = 0;
}

/// The rows of scores that a block works on, and what of the columns they see, `step` at once.
template <int step>
struct Block {
  int begin, end;                   ///< columns that any row sees
  int seen_by_first, seen_by_last;  ///< the end of the first row's, the begin of the last row's
  int warp_begin, warp_end;         ///< columns that any of the warp's rows sees
  CausalMask::Range of_thread[2];   ///< what the thread's two rows see

  __device__ Block(const CausalMask::Range* ranges, int warp, int lane)
      : begin(ranges[0].begin),
        end(ranges[rows - 1].end),
        seen_by_first(ranges[0].end),
        seen_by_last(ranges[rows - 1].begin),
        warp_begin(ranges[16 * warp].begin),
        warp_end(ranges[16 * warp + 15].end),
        of_thread{ranges[16 * warp + lane / 4], ranges[16 * warp + lane / 4 + 8]} {}

  __device__ bool complete(int first) const { return seen_by_last <= first && first + step <= seen_by_first; }
  __device__ bool seen_by_warp(int first) const { return warp_begin < first + step && first < warp_end; }
};

struct Call {
  CausalMask sight;
  Heads q, k, v, d_y;
  PerQuery per_query;
  Gradient d_q, d_k, d_v;
  float scale;

  explicit Call(const AttentionBackward& args)
      : sight(args.in),
        q(args.in.q),
        k(args.in.k),
        v(args.in.v),
        d_y(args.d_y),
        per_query(args),
        d_q(args.d_q),
        d_k(args.d_k),
        d_v(args.d_v),
        scale(1 / std::sqrt(static_cast<float>(args.in.q.shape[2]))) {}
};

/// d_k and d_v of 64 keys of a head, `width` columns of them: walks over the queries that see them. Scores are computed
/// transposed, a warp's 16 keys by 64 queries, so that they stand in registers as the next product's left operand.
template <int E, bool exact>
__global__ void __launch_bounds__(threads, E > 128 ? 1 : 2) backward_keys(Call call) {
  constexpr int step = step_of<E>, width = width_of<E>;
  extern __shared__ __align__(128) unsigned char memory[];
  __shared__ CausalMask::Range ranges[rows];
  __shared__ __align__(16) float lse[2][step], delta[2][step];
  const int head = static_cast<int>(blockIdx.y), column = static_cast<int>(blockIdx.z) * width;
  const int start = static_cast<int>(blockIdx.x) * rows;  // long ones come first
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const Tile<E> k{shared_address(memory)}, v = k.after(rows);
  const auto q_at = [&](int stage) { return v.after(rows + 2 * step * stage); };
  const auto d_y_at = [&](int stage) { return q_at(stage).after(step); };
  const float factor = call.scale * static_cast<float>(log2_e);

  if (threadIdx.x < rows)
    ranges[threadIdx.x] = call.sight.queries_of(min(start + static_cast<int>(threadIdx.x), call.k.rows - 1));
  __syncthreads();
  const Block<step> block(ranges, warp, lane);
  if (block.begin >= block.end) return;
  const auto fetch = [&](int stage, int first) {
    load<E, exact, step, threads>(q_at(stage), call.q, head, first);
    load<E, exact, step, threads>(d_y_at(stage), call.d_y, head, first);
    const int t = first + static_cast<int>(threadIdx.x) % step;
    const bool inside = t < call.q.rows, of_lse = threadIdx.x < step;
    if (threadIdx.x >= 2 * step) return;
    const std::int64_t row = inside ? t : 0;
    const float* const from = of_lse ? call.per_query.lse + row * call.per_query.lse_stride
                                     : call.per_query.delta + row * call.per_query.delta_stride;
    copy_4_bytes_async(shared_address((of_lse ? lse : delta)[stage] + threadIdx.x % step), from + head, inside);
  };
  static_assert(threads >= 2 * step);
  load<E, exact, rows, threads>(k, call.k, head, start);
  load<E, exact, rows, threads>(v, call.v, head, start);
  fetch(0, block.begin);

  float d_k[1][width / 8][4] = {}, d_v[1][width / 8][4] = {};
  int stage = 0;
  for (int first = block.begin; first < block.end; first += step, stage ^= 1) {
    const bool complete = block.complete(first), mine = block.seen_by_warp(first);
    float p[1][step / 8][4], slope[1][step / 8][4];
    bool suspect = false;  // 0·NaN is NaN: where some row does not see some column, only finite values are multiplied
    wait_for_all_async_copies();
    __syncthreads();
    if (first + step < block.end) fetch(stage ^ 1, first + step);
    const std::uint32_t seen = complete ? ~0u : seen_bits<step>(block.of_thread, first, lane);
    if (mine) {
      set_zero(p);
      multiply_transposed(p, Blocks<E>::along(k, 16 * warp, lane), Blocks<E>::across(q_at(stage), 0, lane));
      if (!complete) suspect = any_non_finite(p);
#pragma unroll
      for (int n = 0; n < step / 8; ++n) {
        const float2 of = *reinterpret_cast<const float2*>(lse[stage] + 8 * n + column_of(0, lane));
#pragma unroll
        for (int i = 0; i < 4; ++i)
          p[0][n][i] =
              exponential_base_2(p[0][n][i] * factor - (i % 2 == 0 ? of.x : of.y) * static_cast<float>(log2_e));
      }
      set_zero(slope);
      multiply_transposed(slope, Blocks<E>::along(v, 16 * warp, lane), Blocks<E>::across(d_y_at(stage), 0, lane));
      if (!complete) suspect = suspect || any_non_finite(slope);
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
    const bool poisoned = !complete && __syncthreads_or(suspect);
    if (poisoned) {  // a query's own NaN is in its scores, and comes to d_k by them
      clean<E, step, threads>(d_y_at(stage));
      clean<E, step, threads>(q_at(stage));
      __syncthreads();
    }
    if (!mine) continue;
    multiply(d_v, p, Blocks<E>::along(d_y_at(stage), 0, lane).right(column));
    if (poisoned) add_non_finite(d_v[0], call.d_y, head, block.of_thread, first, first + step, column, lane);
    multiply(d_k, slope, Blocks<E>::along(q_at(stage), 0, lane).right(column));
  }
  call.d_k.add(d_k[0], call.scale, call.k, head, start + 16 * warp, column, lane);
  call.d_v.add(d_v[0], 1, call.v, head, start + 16 * warp, column, lane);
}

/// d_q of 64 queries of a head, `width` columns of it: walks over the keys that they see, q and d_y in registers.
template <int E, bool exact>
__global__ void __launch_bounds__(threads, E > 128 ? 1 : 2) backward_queries(Call call) {
  constexpr int step = step_of<E>, width = width_of<E>;
  extern __shared__ __align__(128) unsigned char memory[];
  __shared__ CausalMask::Range ranges[rows];
  const int head = static_cast<int>(blockIdx.y), column = static_cast<int>(blockIdx.z) * width;
  const int start = static_cast<int>(gridDim.x - 1 - blockIdx.x) * rows;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const Tile<E> base{shared_address(memory)};
  const auto k_at = [&](int stage) { return base.after(2 * step * stage); };
  const auto v_at = [&](int stage) { return k_at(stage).after(step); };
  const float factor = call.scale * static_cast<float>(log2_e);

  if (threadIdx.x < rows)
    ranges[threadIdx.x] = call.sight.keys_of(min(start + static_cast<int>(threadIdx.x), call.q.rows - 1));
  const Tile<E> q_tile = base.after(4 * step - 2 * rows),
                d_y_tile = base.after(4 * step - rows);  // in keys' later places
  load<E, exact, rows, threads>(q_tile, call.q, head, start);
  load<E, exact, rows, threads>(d_y_tile, call.d_y, head, start);
  wait_for_all_async_copies();
  __syncthreads();
  const Block<step> block(ranges, warp, lane);
  if (block.begin >= block.end) return;
  const auto fetch = [&](int stage, int first) {
    load<E, exact, step, threads>(k_at(stage), call.k, head, first);
    load<E, exact, step, threads>(v_at(stage), call.v, head, first);
  };
  std::uint32_t q[E / 16][4], d_y[E / 16][4];
#pragma unroll
  for (int e = 0; e < E / 16; ++e) {
    ldmatrix_x4<false>(q[e], Blocks<E>::along(q_tile, 16 * warp, lane).at(0, e));
    ldmatrix_x4<false>(d_y[e], Blocks<E>::along(d_y_tile, 16 * warp, lane).at(0, e));
  }
  if (4 * step - 2 * rows < 2 * step) __syncthreads();
  fetch(0, block.begin);
  float lse[2], delta[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int64_t t = min(start + 16 * warp + 8 * half + lane / 4, call.q.rows - 1);
    lse[half] = call.per_query.lse[t * call.per_query.lse_stride + head] * static_cast<float>(log2_e);
    delta[half] = call.per_query.delta[t * call.per_query.delta_stride + head];
  }

  float d_q[1][width / 8][4] = {};
  int stage = 0;
  for (int first = block.begin; first < block.end; first += step, stage ^= 1) {
    const bool complete = block.complete(first), mine = block.seen_by_warp(first);
    float p[1][step / 8][4], slope[1][step / 8][4];
    bool suspect = false;  // 0·NaN is NaN: where some row does not see some column, only finite values are multiplied
    wait_for_all_async_copies();
    __syncthreads();
    if (first + step < block.end) fetch(stage ^ 1, first + step);
    if (mine) {
      set_zero(p);
      multiply_transposed<E>(p, q, Blocks<E>::across(k_at(stage), 0, lane));
      if (!complete) suspect = any_non_finite(p);
      set_zero(slope);
      multiply_transposed<E>(slope, d_y, Blocks<E>::across(v_at(stage), 0, lane));
#pragma unroll
      for (int n = 0; n < step / 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          slope[0][n][i] =
              exponential_base_2(p[0][n][i] * factor - lse[half_of(i)]) * (slope[0][n][i] - delta[half_of(i)]);
      if (!complete) select_seen(slope, seen_bits<step>(block.of_thread, first, lane));
    }
    if (!complete && __syncthreads_or(suspect)) {  // a key's own NaN is in its scores
      clean<E, step, threads>(k_at(stage));
      __syncthreads();
    }
    if (mine) multiply(d_q, slope, Blocks<E>::along(k_at(stage), 0, lane).right(column));
  }
  call.d_q.add(d_q[0], call.scale, call.q, head, start + 16 * warp, column, lane);
}

template <int E, bool exact>
void launch(const Stream& stream, const AttentionBackward& args) {
  const AttentionInputs& in = args.in;
  const unsigned heads = grid_of(in.q.shape[1]);
  constexpr int step = step_of<E>, parts = E / width_of<E>;
  constexpr int of_keys = Tile<E>::bytes(2 * rows + 4 * step), of_queries = Tile<E>::bytes(4 * step);
  allow_shared(backward_keys<E, exact>, of_keys);
  allow_shared(backward_queries<E, exact>, of_queries);
  backward_keys<E, exact>
      <<<dim3(grid_of(in.k.rows(), rows), heads, parts), threads, of_keys, native_of(stream)>>>(Call(args));
  cuda_check(cudaGetLastError());
  backward_queries<E, exact>
      <<<dim3(grid_of(in.q.rows(), rows), heads, parts), threads, of_queries, native_of(stream)>>>(Call(args));
  cuda_check(cudaGetLastError());
}

}  // namespace

// Floor: 10·E operations for each pair of a query and a key that it sees; these two kernels, which need no atomics and
// add in one order, take 14·E. bf16 [65536, 32, 128], one document: 88 TFLOP, 116 ms at the 759 TFLOP/s of a GEMM.
void attention_backward(const Stream& stream, const AttentionBackward& args) {
  const AttentionInputs& in = args.in;
  const DType dtype = in.q.dtype, wide = accumulator_of(dtype);
  ensure(in.q.shape.rank() == 3, "q is {}, expected [queries, H, E]", in.q.shape.to_string());
  const std::int64_t H = in.q.shape[1], E = in.q.shape[2];
  expect("q", in.q, dtype, {in.segments.tokens, H, E});
  expect("k", in.k, dtype, {in.k.rows(), H, E});
  expect("v", in.v, dtype, in.k.shape);
  expect("lse", args.lse, wide, {in.q.rows(), H});
  expect("delta", args.delta, wide, {in.q.rows(), H});
  expect("d_y", args.d_y, dtype, in.q.shape);
  expect("d_q", args.d_q, wide, in.q.shape);
  expect("d_k", args.d_k, wide, in.k.shape);
  expect("d_v", args.d_v, wide, in.v.shape);
  if (in.q.size() == 0 || in.k.size() == 0) return;
  if (dtype != DType::bf16 || E > 256 || H > 65535) return plain_attention_backward(stream, args);
  const bool whole = Heads(in.q).whole && Heads(in.k).whole && Heads(in.v).whole && Heads(args.d_y).whole;
  if (E == 128 && whole)
    launch<128, true>(stream, args);
  else if (E == 64 && whole)
    launch<64, true>(stream, args);
  else if (E <= 64)
    launch<64, false>(stream, args);
  else if (E <= 128)
    launch<128, false>(stream, args);
  else
    launch<256, false>(stream, args);
}

}  // namespace causeway::cuda
