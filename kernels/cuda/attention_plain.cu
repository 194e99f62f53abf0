#include <cmath>

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/reduce.cuh"

namespace causeway::cuda {
namespace {

constexpr int warps = 8;

/// An item of the grid: a row of a head, for a warp. Neighbours share what they look at.
struct Item {
  std::int64_t row;
  int head, lane;

  __device__ explicit Item(std::int64_t rows) : lane(static_cast<int>(threadIdx.x) % 32) {
    const std::int64_t item = std::int64_t{blockIdx.x} * warps + threadIdx.x / 32;
    head = static_cast<int>(item / rows);
    row = item % rows;
  }
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
    return over_lanes(sum);
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

template <class T, class Y, int C>
__global__ void __launch_bounds__(32 * warps)
    forward(Sight sight, Rows<const T> q, Rows<const T> k, Rows<const T> v, Rows<Y> y, Rows<Accumulator<T>> lse, int heads,
            int E, Accumulator<T> scale, bool accumulate) {
  using R = Accumulator<T>;
  using Values = Vector<R, C>;
  constexpr int together = 4;
  constexpr R none = -std::numeric_limits<R>::infinity();
  const Item item(sight.queries());
  if (item.head >= heads) return;
  const std::int64_t column = std::int64_t{item.head} * E;
  const auto [begin, end] = sight.keys_of(item.row);
  const Values query = Values::load(&q(item.row, column), E, item.lane);
  R highest = accumulate ? lse(item.row, item.head) : none, sum = highest == none ? 0 : 1;
  Values result = {};
  if (sum != 0) result = Values::load(&y(item.row, column), E, item.lane);
  for (int key = begin; key < end; key += together) {
    R s[together];
    R top = highest;
#pragma unroll
    for (int j = 0; j < together; ++j) {
      s[j] = none;
      if (key + j < end) s[j] = scale * query.dot(Values::load(&k(key + j, column), E, item.lane));
      top = s[j] > top ? s[j] : top;
    }
    const R shrink = sum == 0 ? R{0} : ::exp(highest - top);
    sum *= shrink;
#pragma unroll
    for (int c = 0; c < C; ++c) result.at[c] *= shrink;
#pragma unroll
    for (int j = 0; j < together; ++j) {
      if (key + j >= end) continue;
      const R p = ::exp(s[j] - top);
      sum += p;
      result.add(p, Values::load(&v(key + j, column), E, item.lane));
    }
    highest = top;
  }
  const R over = sum == 0 ? 0 : 1 / sum;
#pragma unroll
  for (int c = 0; c < C; ++c)
    if (c * 32 + item.lane < E) y(item.row, column + c * 32 + item.lane) = narrowed<Y>(result.at[c] * over);
  if (item.lane == 0) lse(item.row, item.head) = sum == 0 ? none : highest + ::log(sum);
}

template <class T>
struct Gradients {
  using R = Accumulator<T>;
  Sight sight;
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
  const Item item(g.sight.queries());
  if (item.head >= g.heads) return;
  const std::int64_t column = std::int64_t{item.head} * g.E;
  const auto [begin, end] = g.sight.keys_of(item.row);
  const Values q = Values::load(&g.q(item.row, column), g.E, item.lane), d_y = Values::load(&g.d_y(item.row, column), g.E, item.lane);
  const R lse = g.lse(item.row, item.head), delta = g.delta(item.row, item.head);
  Values d_q = {};
#pragma unroll 2
  for (int j = begin; j < end; ++j) {
    const Values k = Values::load(&g.k(j, column), g.E, item.lane), v = Values::load(&g.v(j, column), g.E, item.lane);
    d_q.add(::exp(g.scale * q.dot(k) - lse) * (d_y.dot(v) - delta), k);
  }
  d_q.add_to(&g.d_q(item.row, column), g.scale, g.E, item.lane);
}

template <class T, int C>
__global__ void __launch_bounds__(32 * warps) backward_keys(Gradients<T> g) {
  using R = Accumulator<T>;
  using Values = Vector<R, C>;
  const Item item(g.sight.keys());
  if (item.head >= g.heads) return;
  const std::int64_t column = std::int64_t{item.head} * g.E;
  const auto [begin, end] = g.sight.queries_of(item.row);
  const Values k = Values::load(&g.k(item.row, column), g.E, item.lane), v = Values::load(&g.v(item.row, column), g.E, item.lane);
  Values d_k = {}, d_v = {};
#pragma unroll 2
  for (int t = begin; t < end; ++t) {
    const Values q = Values::load(&g.q(t, column), g.E, item.lane), d_y = Values::load(&g.d_y(t, column), g.E, item.lane);
    const R p = ::exp(g.scale * k.dot(q) - g.lse(t, item.head));
    d_v.add(p, d_y);
    d_k.add(p * (v.dot(d_y) - g.delta(t, item.head)), q);
  }
  d_k.add_to(&g.d_k(item.row, column), g.scale, g.E, item.lane);
  d_v.add_to(&g.d_v(item.row, column), R{1}, g.E, item.lane);
}

/// Calls body.operator()<C>() with a vector length 32·C that holds E.
template <class Body>
void dispatch_length(std::int64_t E, const Body& body) {
  ensure(E <= 1024, "heads of {} numbers, expected at most 1024", E);
  if (E <= 32)
    body.template operator()<1>();
  else if (E <= 128)
    body.template operator()<4>();
  else if (E <= 256)
    body.template operator()<8>();
  else
    body.template operator()<32>();
}

}  // namespace

// Floor: as attention_forward; these go by the units for float32 and float64 and read each key for each query.
void plain_attention_forward(const Stream& stream, const AttentionForward& args) {
  const AttentionInputs& in = args.in;
  const std::int64_t H = in.q.shape[1], E = in.q.shape[2];
  const auto run = [&]<class T, class Y>() {
    using R = Accumulator<T>;
    dispatch_length(E, [&]<int C> {
      forward<T, Y, C><<<grid_of(in.q.rows() * H, warps), 32 * warps, 0, native_of(stream)>>>(
          Sight(in), Rows<const T>(in.q), Rows<const T>(in.k), Rows<const T>(in.v), Rows<Y>(args.y), Rows<R>(args.lse),
          static_cast<int>(H), static_cast<int>(E), static_cast<R>(1 / std::sqrt(static_cast<double>(E))), args.accumulate);
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
    const Gradients<T> g{.sight = Sight(in),
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
    dispatch_length(E, [&]<int C> {
      backward_keys<T, C><<<grid_of(in.k.rows() * H, warps), 32 * warps, 0, native_of(stream)>>>(g);
      cuda_check(cudaGetLastError());
      backward_queries<T, C><<<grid_of(in.q.rows() * H, warps), 32 * warps, 0, native_of(stream)>>>(g);
      cuda_check(cudaGetLastError());
    });
  });
}

}  // namespace causeway::cuda
