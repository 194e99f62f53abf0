#include <algorithm>
#include <cmath>

#include "kernels/core/integer.hpp"
#include "kernels/cuda/attention/attention.cuh"
#include "kernels/cuda/device/reduce.cuh"

namespace causeway::cuda {
namespace {

constexpr int warps = 8;

/// Rows of a head that a warp works on together: what it loads, it loads for all of them.
template <class R, int C>
constexpr int together = std::clamp(64 / (C * static_cast<int>(sizeof(R))), 1, 4);

/// An item of the grid: neighbouring rows of a head, for a warp. Neighbours share what they look at.
template <int count>
struct Item {
  int head, lane;
  std::int64_t first, rows;

  __device__ explicit Item(std::int64_t rows_) : lane(static_cast<int>(threadIdx.x) % 32), rows(rows_) {
    const std::int64_t item = std::int64_t{blockIdx.x} * warps + threadIdx.x / 32, groups = ceil_div(rows, count);
    head = static_cast<int>(item / groups);
    first = item % groups * count;
  }
  __device__ bool holds(int i) const { return first + i < rows; }
  /// The last row again in the place of those that are not there.
  __device__ std::int64_t row(int i) const { return holds(i) ? first + i : rows - 1; }
  static std::int64_t groups(std::int64_t rows) { return ceil_div(rows, count); }
};

/// E elements over the lanes of a warp, at most 32·C.
template <class R, int C>
struct Vector {
  R at[C];

  template <class T>
  __device__ static Vector load(const T* from, int E, int lane) {
    Vector x;
#pragma unroll
    for (int c = 0; c < C; ++c) x.at[c] = c * 32 + lane < E ? static_cast<R>(from[c * 32 + lane]) : R{0};
    return x;
  }
  __device__ R dot(const Vector& other) const {
    R sum = 0;
#pragma unroll
    for (int c = 0; c < C; ++c) sum += at[c] * other.at[c];
    return reduce_lanes(sum);
  }
  __device__ void add(R factor, const Vector& other) {
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

/// Whether all rows see `columns` columns from `first` on: then nothing stands between their many independent sums.
template <int count>
__device__ bool all_see(const CausalMask::Range (&seen)[count], int first, int columns) {
  return seen[count - 1].begin <= first && first + columns <= seen[0].end;
}

template <class T, class Y, int C>
__global__ void __launch_bounds__(32 * warps)
    forward(CausalMask sight, Rows<const T> q, Rows<const T> k, Rows<const T> v, Rows<Y> y, Rows<Accumulator<T>> lse,
            int heads, int E, Accumulator<T> scale, bool accumulate) {
  using R = Accumulator<T>;
  using Values = Vector<R, C>;
  constexpr int count = together<R, C>, keys = 4;
  constexpr R none = -std::numeric_limits<R>::infinity();
  const Item<count> item(sight.queries());
  if (item.head >= heads) return;
  const std::int64_t column = std::int64_t{item.head} * E;
  CausalMask::Range seen[count];
  Values query[count], result[count];
  R highest[count], sum[count];
#pragma unroll
  for (int i = 0; i < count; ++i) {
    seen[i] = sight.keys_of(item.row(i));
    query[i] = Values::load(&q(item.row(i), column), E, item.lane);
    highest[i] = accumulate ? lse(item.row(i), item.head) : none;
    sum[i] = highest[i] == none ? 0 : 1;
    result[i] = sum[i] == 0 ? Values{} : Values::load(&y(item.row(i), column), E, item.lane);
  }
  const int end = seen[count - 1].end;
  for (int key = seen[0].begin; key < end; key += keys) {
    const bool complete = all_see(seen, key, keys);
    R s[count][keys];
#pragma unroll
    for (int j = 0; j < keys; ++j) {
      const Values x = Values::load(&k(min(key + j, end - 1), column), E, item.lane);
#pragma unroll
      for (int i = 0; i < count; ++i) {
        const R score = scale * query[i].dot(x);
        s[i][j] = complete || sees(seen[i], key + j) ? score : none;
      }
    }
#pragma unroll
    for (int i = 0; i < count; ++i) {
      R top = highest[i];
#pragma unroll
      for (int j = 0; j < keys; ++j) top = s[i][j] > top ? s[i][j] : top;
      const R shrink = sum[i] == 0 ? R{0} : ::exp(highest[i] - top);
      sum[i] *= shrink;
#pragma unroll
      for (int c = 0; c < C; ++c) result[i].at[c] *= shrink;
#pragma unroll
      for (int j = 0; j < keys; ++j) {
        const R weight = ::exp(s[i][j] - top);
        s[i][j] = complete || sees(seen[i], key + j) ? weight : R{0};
        sum[i] += s[i][j];
      }
      highest[i] = top;
    }
#pragma unroll
    for (int j = 0; j < keys; ++j) {
      const Values x = Values::load(&v(min(key + j, end - 1), column), E, item.lane);
#pragma unroll
      for (int i = 0; i < count; ++i)
        if (complete || sees(seen[i], key + j)) result[i].add(s[i][j], x);
    }
  }
#pragma unroll
  for (int i = 0; i < count; ++i) {
    if (!item.holds(i)) continue;
    const R over = sum[i] == 0 ? 0 : 1 / sum[i];
#pragma unroll
    for (int c = 0; c < C; ++c)
      if (c * 32 + item.lane < E) y(item.row(i), column + c * 32 + item.lane) = narrowed<Y>(result[i].at[c] * over);
    if (item.lane == 0) lse(item.row(i), item.head) = sum[i] == 0 ? none : highest[i] + ::log(sum[i]);
  }
}

template <class T>
struct Gradients {
  using R = Accumulator<T>;
  CausalMask sight;
  Rows<const T> q, k, v, d_y;
  Rows<const R> lse, delta;
  Rows<R> d_q, d_k, d_v;
  int heads, E;
  R scale;
};

template <class T, int C>
__global__ void __launch_bounds__(32 * warps) backward_queries(Gradients<T> g) {
  using R = Accumulator<T>;
  using Values = Vector<R, C>;
  constexpr int count = together<R, C>;
  const Item<count> item(g.sight.queries());
  if (item.head >= g.heads) return;
  const std::int64_t column = std::int64_t{item.head} * g.E;
  CausalMask::Range seen[count];
  Values q[count], d_y[count], d_q[count] = {};
  R lse[count], delta[count];
#pragma unroll
  for (int i = 0; i < count; ++i) {
    seen[i] = g.sight.keys_of(item.row(i));
    q[i] = Values::load(&g.q(item.row(i), column), g.E, item.lane);
    d_y[i] = Values::load(&g.d_y(item.row(i), column), g.E, item.lane);
    lse[i] = g.lse(item.row(i), item.head);
    delta[i] = g.delta(item.row(i), item.head);
  }
  for (int j = seen[0].begin; j < seen[count - 1].end; ++j) {
    const bool complete = all_see(seen, j, 1);
    const Values k = Values::load(&g.k(j, column), g.E, item.lane), v = Values::load(&g.v(j, column), g.E, item.lane);
    R slope[count];
#pragma unroll
    for (int i = 0; i < count; ++i) slope[i] = ::exp(g.scale * q[i].dot(k) - lse[i]) * (d_y[i].dot(v) - delta[i]);
#pragma unroll
    for (int i = 0; i < count; ++i)
      if (complete || sees(seen[i], j)) d_q[i].add(slope[i], k);
  }
#pragma unroll
  for (int i = 0; i < count; ++i)
    if (item.holds(i)) d_q[i].add_to(&g.d_q(item.row(i), column), g.scale, g.E, item.lane);
}

template <class T, int C>
__global__ void __launch_bounds__(32 * warps) backward_keys(Gradients<T> g) {
  using R = Accumulator<T>;
  using Values = Vector<R, C>;
  constexpr int count = together<R, C>;
  const Item<count> item(g.sight.keys());
  if (item.head >= g.heads) return;
  const std::int64_t column = std::int64_t{item.head} * g.E;
  CausalMask::Range seen[count];
  Values k[count], v[count], d_k[count] = {}, d_v[count] = {};
#pragma unroll
  for (int i = 0; i < count; ++i) {
    seen[i] = g.sight.queries_of(item.row(i));
    k[i] = Values::load(&g.k(item.row(i), column), g.E, item.lane);
    v[i] = Values::load(&g.v(item.row(i), column), g.E, item.lane);
  }
  for (int t = seen[0].begin; t < seen[count - 1].end; ++t) {
    const bool complete = all_see(seen, t, 1);
    const Values q = Values::load(&g.q(t, column), g.E, item.lane),
                 d_y = Values::load(&g.d_y(t, column), g.E, item.lane);
    const R lse = g.lse(t, item.head), delta = g.delta(t, item.head);
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
    if (!item.holds(i)) continue;
    d_k[i].add_to(&g.d_k(item.row(i), column), g.scale, g.E, item.lane);
    d_v[i].add_to(&g.d_v(item.row(i), column), R{1}, g.E, item.lane);
  }
}

/// Blocks for `rows` rows of `heads` heads.
template <class R, int C>
unsigned blocks_of(std::int64_t rows, std::int64_t heads) {
  return grid_of(Item<together<R, C>>::groups(rows) * heads, warps);
}

/// Calls body.operator()<C>() with a vector length 32·C that holds E; always the longest for bf16, whose shorter heads
/// are others' business.
template <class T, class Body>
void dispatch_length(std::int64_t E, const Body& body) {
  ensure(E <= 1024, "heads of {} numbers, expected at most 1024", E);
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

// Floor: as attention_forward, by the units for float32 and float64; what bounds them is each key read for four
// queries.
void plain_attention_forward(const Stream& stream, const AttentionForward& args) {
  const AttentionInputs& in = args.in;
  const std::int64_t H = in.q.shape[1], E = in.q.shape[2];
  const auto run = [&]<class T, class Y>() {
    using R = Accumulator<T>;
    dispatch_length<T>(E, [&]<int C> {
      forward<T, Y, C><<<blocks_of<R, C>(in.q.rows(), H), 32 * warps, 0, native_of(stream)>>>(
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

void plain_attention_backward(const Stream& stream, const AttentionBackward& args) {
  const AttentionInputs& in = args.in;
  const std::int64_t H = in.q.shape[1], E = in.q.shape[2];
  dispatch(in.q.dtype, [&]<class T>() {
    using R = Accumulator<T>;
    const Gradients<T> g{.sight = CausalMask(in),
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
    dispatch_length<T>(E, [&]<int C> {
      backward_keys<T, C><<<blocks_of<R, C>(in.k.rows(), H), 32 * warps, 0, native_of(stream)>>>(g);
      cuda_check(cudaGetLastError());
      backward_queries<T, C><<<blocks_of<R, C>(in.q.rows(), H), 32 * warps, 0, native_of(stream)>>>(g);
      cuda_check(cudaGetLastError());
    });
  });
}

}  // namespace causeway::cuda
