#include <algorithm>
#include <cmath>

#include "kernels/core/integer.hpp"
#include "kernels/cuda/attention/attention.cuh"
#include "kernels/cuda/device/reduce.cuh"

namespace causeway::cuda {
namespace {

constexpr int warps = 8;

/// The number of rows (queries or keys) of a head that a warp computes at a time: each row that it loads from the other
/// side serves all of them.
template <class R, int C>
constexpr int rows_of_warp = std::clamp(64 / (C * static_cast<int>(sizeof(R))), 1, 4);

/// The `count` neighbouring rows of one head that a warp computes. Neighbouring rows see nearly the same.
template <int count>
struct WarpRows {
  int head, lane;
  std::int64_t first, rows;  ///< the warp's first row; rows of the head

  __device__ explicit WarpRows(std::int64_t rows_) : lane(static_cast<int>(threadIdx.x) % 32), rows(rows_) {
    const std::int64_t item = std::int64_t{blockIdx.x} * warps + threadIdx.x / 32, groups = ceil_div(rows, count);
    head = static_cast<int>(item / groups);
    first = item % groups * count;
  }
  __device__ bool holds(int i) const { return first + i < rows; }
  /// Row i; beyond the last row, the last row again.
  __device__ std::int64_t row(int i) const { return holds(i) ? first + i : rows - 1; }
  static std::int64_t groups(std::int64_t rows) { return ceil_div(rows, count); }
};

/// A row of a head, E ≤ 32·C elements, over the lanes of a warp: element e is at[e / 32] of lane e mod 32. Elements
/// from E on are zero.
template <class R, int C>
struct HeadVector {
  R at[C];

  template <class T>
  __device__ static HeadVector load(const T* from, int E, int lane) {
    HeadVector x;
#pragma unroll
    for (int c = 0; c < C; ++c) x.at[c] = c * 32 + lane < E ? static_cast<R>(from[c * 32 + lane]) : R{0};
    return x;
  }
  __device__ R dot(const HeadVector& other) const {
    R sum = 0;
#pragma unroll
    for (int c = 0; c < C; ++c) sum += at[c] * other.at[c];
    return reduce_lanes(sum);
  }
  __device__ void add(R factor, const HeadVector& other) {
#pragma unroll
    for (int c = 0; c < C; ++c) at[c] += factor * other.at[c];
  }
  template <class T>
  __device__ void add_to(T* to, R factor, int E, int lane) const {
#pragma unroll
    for (int c = 0; c < C; ++c)
      if (c * 32 + lane < E) to[c * 32 + lane] += factor * at[c];
  }
};

__device__ bool sees(const CausalMask::Range& range, int column) { return range.begin <= column && column < range.end; }

/// Whether all rows see the `columns` columns from `first` on. Then no branch separates their independent sums.
template <int count>
__device__ bool all_see(const CausalMask::Range (&seen)[count], int first, int columns) {
  return seen[count - 1].begin <= first && first + columns <= seen[0].end;
}

/// y and lse, with online softmax over 4 keys at a time.
///
/// block: 8 warps
/// warp: 1 to 4 neighbouring queries of one head (WarpRows), over all keys that they see
/// thread: every 32nd element of the head
/// shared memory: none
/// registers: query and result of the warp's rows; the scores of 4 keys; each row's maximum and sum
template <class T, class Y, int C>
__global__ void __launch_bounds__(32 * warps)
    forward(CausalMask mask, Rows<const T> q, Rows<const T> k, Rows<const T> v, Rows<Y> y, Rows<Accumulator<T>> lse,
            int heads, int E, Accumulator<T> scale, bool accumulate) {
  using R = Accumulator<T>;
  using Values = HeadVector<R, C>;
  constexpr int count = rows_of_warp<R, C>, keys = 4;
  constexpr R minus_infinity = -std::numeric_limits<R>::infinity();
  const WarpRows<count> warp_rows(mask.queries());
  if (warp_rows.head >= heads) return;
  const std::int64_t column = std::int64_t{warp_rows.head} * E;
  CausalMask::Range seen[count];
  Values query[count], result[count];
  R row_max[count], sum[count];
#pragma unroll
  for (int i = 0; i < count; ++i) {
    seen[i] = mask.keys_of(warp_rows.row(i));
    query[i] = Values::load(&q(warp_rows.row(i), column), E, warp_rows.lane);
    row_max[i] = accumulate ? lse(warp_rows.row(i), warp_rows.head) : minus_infinity;
    sum[i] = row_max[i] == minus_infinity ? 0 : 1;
    result[i] = sum[i] == 0 ? Values{} : Values::load(&y(warp_rows.row(i), column), E, warp_rows.lane);
  }
  const int end = seen[count - 1].end;
  for (int key = seen[0].begin; key < end; key += keys) {
    // 1. Scores of 4 keys; -∞ where the mask does not allow the pair.
    const bool complete = all_see(seen, key, keys);
    R s[count][keys];
#pragma unroll
    for (int j = 0; j < keys; ++j) {
      const Values x = Values::load(&k(min(key + j, end - 1), column), E, warp_rows.lane);
#pragma unroll
      for (int i = 0; i < count; ++i) {
        const R score = scale * query[i].dot(x);
        s[i][j] = complete || sees(seen[i], key + j) ? score : minus_infinity;
      }
    }
    // 2. Online softmax update.
#pragma unroll
    for (int i = 0; i < count; ++i) {
      R new_max = row_max[i];
#pragma unroll
      for (int j = 0; j < keys; ++j) new_max = s[i][j] > new_max ? s[i][j] : new_max;
      const R rescale = sum[i] == 0 ? R{0} : ::exp(row_max[i] - new_max);
      sum[i] *= rescale;
#pragma unroll
      for (int c = 0; c < C; ++c) result[i].at[c] *= rescale;
#pragma unroll
      for (int j = 0; j < keys; ++j) {
        const R weight = ::exp(s[i][j] - new_max);
        s[i][j] = complete || sees(seen[i], key + j) ? weight : R{0};
        sum[i] += s[i][j];
      }
      row_max[i] = new_max;
    }
    // 3. Add the values, weighted.
#pragma unroll
    for (int j = 0; j < keys; ++j) {
      const Values x = Values::load(&v(min(key + j, end - 1), column), E, warp_rows.lane);
#pragma unroll
      for (int i = 0; i < count; ++i)
        if (complete || sees(seen[i], key + j)) result[i].add(s[i][j], x);
    }
  }
  // 4. Write y and lse.
#pragma unroll
  for (int i = 0; i < count; ++i) {
    if (!warp_rows.holds(i)) continue;
    const R over = sum[i] == 0 ? 0 : 1 / sum[i];
#pragma unroll
    for (int c = 0; c < C; ++c)
      if (c * 32 + warp_rows.lane < E)
        y(warp_rows.row(i), column + c * 32 + warp_rows.lane) = narrowed<Y>(result[i].at[c] * over);
    if (warp_rows.lane == 0)
      lse(warp_rows.row(i), warp_rows.head) = sum[i] == 0 ? minus_infinity : row_max[i] + ::log(sum[i]);
  }
}

/// The arguments of both backward kernels.
template <class T>
struct BackwardArguments {
  using R = Accumulator<T>;
  CausalMask mask;
  Rows<const T> q, k, v, d_y;
  Rows<const R> lse, delta;
  Rows<R> d_q, d_k, d_v;
  int heads, E;
  R scale;
};

/// d_q.
///
/// block: 8 warps
/// warp: 1 to 4 neighbouring queries of one head (WarpRows), over all keys that they see
/// thread: every 32nd element of the head
/// shared memory: none
/// registers: q, d_y and d_q of the warp's rows
template <class T, int C>
__global__ void __launch_bounds__(32 * warps) backward_queries(BackwardArguments<T> g) {
  using R = Accumulator<T>;
  using Values = HeadVector<R, C>;
  constexpr int count = rows_of_warp<R, C>;
  const WarpRows<count> warp_rows(g.mask.queries());
  if (warp_rows.head >= g.heads) return;
  const std::int64_t column = std::int64_t{warp_rows.head} * g.E;
  CausalMask::Range seen[count];
  Values q[count], d_y[count], d_q[count] = {};
  R lse[count], delta[count];
#pragma unroll
  for (int i = 0; i < count; ++i) {
    seen[i] = g.mask.keys_of(warp_rows.row(i));
    q[i] = Values::load(&g.q(warp_rows.row(i), column), g.E, warp_rows.lane);
    d_y[i] = Values::load(&g.d_y(warp_rows.row(i), column), g.E, warp_rows.lane);
    lse[i] = g.lse(warp_rows.row(i), warp_rows.head);
    delta[i] = g.delta(warp_rows.row(i), warp_rows.head);
  }
  for (int j = seen[0].begin; j < seen[count - 1].end; ++j) {
    const bool complete = all_see(seen, j, 1);
    const Values k = Values::load(&g.k(j, column), g.E, warp_rows.lane),
                 v = Values::load(&g.v(j, column), g.E, warp_rows.lane);
    R slope[count];
#pragma unroll
    for (int i = 0; i < count; ++i) slope[i] = ::exp(g.scale * q[i].dot(k) - lse[i]) * (d_y[i].dot(v) - delta[i]);
#pragma unroll
    for (int i = 0; i < count; ++i)
      if (complete || sees(seen[i], j)) d_q[i].add(slope[i], k);
  }
#pragma unroll
  for (int i = 0; i < count; ++i)
    if (warp_rows.holds(i)) d_q[i].add_to(&g.d_q(warp_rows.row(i), column), g.scale, g.E, warp_rows.lane);
}

/// d_k and d_v.
///
/// block: 8 warps
/// warp: 1 to 4 neighbouring keys of one head (WarpRows), over all queries that see them
/// thread: every 32nd element of the head
/// shared memory: none
/// registers: k, v, d_k and d_v of the warp's rows
template <class T, int C>
__global__ void __launch_bounds__(32 * warps) backward_keys(BackwardArguments<T> g) {
  using R = Accumulator<T>;
  using Values = HeadVector<R, C>;
  constexpr int count = rows_of_warp<R, C>;
  const WarpRows<count> warp_rows(g.mask.keys());
  if (warp_rows.head >= g.heads) return;
  const std::int64_t column = std::int64_t{warp_rows.head} * g.E;
  CausalMask::Range seen[count];
  Values k[count], v[count], d_k[count] = {}, d_v[count] = {};
#pragma unroll
  for (int i = 0; i < count; ++i) {
    seen[i] = g.mask.queries_of(warp_rows.row(i));
    k[i] = Values::load(&g.k(warp_rows.row(i), column), g.E, warp_rows.lane);
    v[i] = Values::load(&g.v(warp_rows.row(i), column), g.E, warp_rows.lane);
  }
  for (int t = seen[0].begin; t < seen[count - 1].end; ++t) {
    const bool complete = all_see(seen, t, 1);
    const Values q = Values::load(&g.q(t, column), g.E, warp_rows.lane),
                 d_y = Values::load(&g.d_y(t, column), g.E, warp_rows.lane);
    const R lse = g.lse(t, warp_rows.head), delta = g.delta(t, warp_rows.head);
    R p[count], slope[count];
#pragma unroll
    for (int i = 0; i < count; ++i) {
      p[i] = ::exp(g.scale * k[i].dot(q) - lse);
      slope[i] = p[i] * (v[i].dot(d_y) - delta);
    }
#pragma unroll
    for (int i = 0; i < count; ++i) {
      if (!complete && !sees(seen[i], t)) continue;
      d_v[i].add(p[i], d_y);
      d_k[i].add(slope[i], q);
    }
  }
#pragma unroll
  for (int i = 0; i < count; ++i) {
    if (!warp_rows.holds(i)) continue;
    d_k[i].add_to(&g.d_k(warp_rows.row(i), column), g.scale, g.E, warp_rows.lane);
    d_v[i].add_to(&g.d_v(warp_rows.row(i), column), R{1}, g.E, warp_rows.lane);
  }
}

/// The number of blocks for `rows` rows of `heads` heads.
template <class R, int C>
unsigned grid_of_rows(std::int64_t rows, std::int64_t heads) {
  return grid_of(WarpRows<rows_of_warp<R, C>>::groups(rows) * heads, warps);
}

/// Calls body.operator()<C>() with a HeadVector that holds E elements. For bf16 it is always the longest: shorter heads
/// of bf16 usually go to tensor cores.
template <class T, class Body>
void dispatch_head_size(std::int64_t E, const Body& body) {
  ensure(E <= 1024, "heads of {} elements, expected at most 1024", E);
  if constexpr (sizeof(T) == 2)
    body.template operator()<32>();
  else if (E <= 32)
    body.template operator()<1>();
  else if (E <= 128)
    body.template operator()<4>();
  else if (E <= 256)
    body.template operator()<8>();
  else
    body.template operator()<32>();
}

}  // namespace

// Lower bound: the operations of attention_forward, at the rate of the float32 or float64 units. The kernels reach
// less, because they read each key for only four queries.
void simt_attention_forward(const Stream& stream, const AttentionForward& args) {
  const AttentionInputs& in = args.in;
  const std::int64_t H = in.q.shape[1], E = in.q.shape[2];
  const auto run = [&]<class T, class Y>() {
    using R = Accumulator<T>;
    dispatch_head_size<T>(E, [&]<int C> {
      forward<T, Y, C><<<grid_of_rows<R, C>(in.q.rows(), H), 32 * warps, 0, native_of(stream)>>>(
          CausalMask(in), Rows<const T>(in.q), Rows<const T>(in.k), Rows<const T>(in.v), Rows<Y>(args.y),
          Rows<R>(args.lse), static_cast<int>(H), static_cast<int>(E),
          static_cast<R>(1 / std::sqrt(static_cast<double>(E))), args.accumulate);
      cuda_check(cudaGetLastError());
    });
  };
  dispatch(in.q.dtype, [&]<class T>() {
    if (args.y.dtype == in.q.dtype)
      run.template operator()<T, T>();
    else
      run.template operator()<T, Accumulator<T>>();
  });
}

void simt_attention_backward(const Stream& stream, const AttentionBackward& args) {
  const AttentionInputs& in = args.in;
  const std::int64_t H = in.q.shape[1], E = in.q.shape[2];
  dispatch(in.q.dtype, [&]<class T>() {
    using R = Accumulator<T>;
    const BackwardArguments<T> g{.mask = CausalMask(in),
                                 .q = Rows<const T>(in.q),
                                 .k = Rows<const T>(in.k),
                                 .v = Rows<const T>(in.v),
                                 .d_y = Rows<const T>(args.d_y),
                                 .lse = Rows<const R>(args.lse),
                                 .delta = Rows<const R>(args.delta),
                                 .d_q = Rows<R>(args.d_q),
                                 .d_k = Rows<R>(args.d_k),
                                 .d_v = Rows<R>(args.d_v),
                                 .heads = static_cast<int>(H),
                                 .E = static_cast<int>(E),
                                 .scale = static_cast<R>(1 / std::sqrt(static_cast<double>(E)))};
    dispatch_head_size<T>(E, [&]<int C> {
      backward_keys<T, C><<<grid_of_rows<R, C>(in.k.rows(), H), 32 * warps, 0, native_of(stream)>>>(g);
      cuda_check(cudaGetLastError());
      backward_queries<T, C><<<grid_of_rows<R, C>(in.q.rows(), H), 32 * warps, 0, native_of(stream)>>>(g);
      cuda_check(cudaGetLastError());
    });
  });
}

}  // namespace causeway::cuda
