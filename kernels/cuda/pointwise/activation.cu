#include "kernels/activation.hpp"

#include <cmath>
#include <type_traits>

#include "kernels/cuda/device/elementwise.cuh"
#include "kernels/expect.hpp"

namespace causeway::cuda {
namespace {

/// y = alpha x, or y += alpha x.
template <class X, class Y>
struct ScaleBody {
  using Wide = std::common_type_t<Accumulator<X>, Accumulator<Y>>;
  static constexpr int width = packet_width<X, Y>;
  Rows<X> x;
  Rows<Y> y;
  Wide alpha;
  bool accumulate;

  template <int V>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    const auto from = x.template load<V>(row, column);
    Packet<Y, V> to;
    if (accumulate) to = y.template load<V>(row, column);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const Wide product = alpha * static_cast<Wide>(from.at[v]);
      to.at[v] = narrowed<Y>(static_cast<Accumulator<Y>>(accumulate ? static_cast<Wide>(to.at[v]) + product : product));
    }
    y.template store<V>(row, column, to);
  }
};

/// y = Σ_i part_i, or y += Σ_i part_i.
template <class X, class Y>
struct SumOfRankPartsBody {
  static constexpr int width = packet_width<X, Y>;
  Rows<X> received;
  Rows<Y> own, y;
  std::int64_t ranks, rank;
  bool accumulate;

  template <int V>
  __device__ void operator()(std::int64_t, std::int64_t column) const {
    Accumulator<Y> total[V] = {};
    for (std::int64_t i = 0; i < ranks; ++i) {
      if (i == rank)
        add(own.template load<V>(0, column), i == 0, total);
      else
        add(received.template load<V>(i, column), i == 0, total);
    }
    Packet<Y, V> to;
    if (accumulate) to = y.template load<V>(0, column);
#pragma unroll
    for (int v = 0; v < V; ++v) to.at[v] = narrowed<Y>(accumulate ? widened(to.at[v]) + total[v] : total[v]);
    y.template store<V>(0, column, to);
  }

  template <int V, class T>
  static __device__ void add(const Packet<T, V>& part, bool first, Accumulator<Y> (&total)[V]) {
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const auto x = static_cast<Accumulator<Y>>(widened(part.at[v]));
      total[v] = first ? x : total[v] + x;
    }
  }
};

/// y = value.
template <class T>
struct FillBody {
  static constexpr int width = packet_width<T>;
  Rows<T> y;
  Accumulator<T> value;

  template <int V>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    Packet<T, V> to;
#pragma unroll
    for (int v = 0; v < V; ++v) to.at[v] = narrowed<T>(value);
    y.template store<V>(row, column, to);
  }
};

/// The exponential of parameters, accurate to the last bit but one. Parameters are few, and an error in them would
/// change the decay time of a state.
__device__ float exact_exponential(float x) { return ::expf(x); }
__device__ double exact_exponential(double x) { return ::exp(x); }

/// y = -exp(x).
template <class T>
struct NegativeExponentialBody {
  static constexpr int width = packet_width<T>;
  Rows<T> x, y;

  template <int V>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    auto to = x.template load<V>(row, column);
#pragma unroll
    for (int v = 0; v < V; ++v) to.at[v] = narrowed<T>(-exact_exponential(widened(to.at[v])));
    y.template store<V>(row, column, to);
  }
};

/// d_x += d_y y.
template <class T>
struct NegativeExponentialBackwardBody {
  static constexpr int width = packet_width<T>;
  Rows<T> y, d_y, d_x;

  template <int V>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    const auto a = y.template load<V>(row, column), g = d_y.template load<V>(row, column);
    auto to = d_x.template load<V>(row, column);
#pragma unroll
    for (int v = 0; v < V; ++v) to.at[v] = narrowed<T>(widened(to.at[v]) + widened(g.at[v]) * widened(a.at[v]));
    d_x.template store<V>(row, column, to);
  }
};

}  // namespace

// Lower bound: x is read, y is written, and also read with `accumulate`.
void scale(const Stream& stream, const Scale& args) {
  dispatch(args.x.dtype, [&]<class X>() {
    dispatch(args.y.dtype, [&]<class Y>() {
      using Body = ScaleBody<X, Y>;
      for_each_element(
          stream, {args.x, args.y},
          Body{Rows<X>(args.x), Rows<Y>(args.y), static_cast<typename Body::Wide>(args.alpha), args.accumulate});
    });
  });
}

// Lower bound: the parts are read, y is written, and also read with `accumulate`.
void sum_of_rank_parts(const Stream& stream, const SumOfRankParts& args) {
  expect("sum_of_rank_parts: received", args.received, args.received.dtype, {args.received.rows(), args.y.size()});
  expect("sum_of_rank_parts: own", args.own, args.y.dtype, args.y.shape);
  dispatch(args.received.dtype, [&]<class X>() {
    dispatch(args.y.dtype, [&]<class Y>() {
      using Body = SumOfRankPartsBody<X, Y>;
      const std::int64_t count = args.y.size();
      const TensorView own = args.own.reshaped({1, count}), y = args.y.reshaped({1, count});
      for_each_packet(
          stream, 1, count, rows_start_aligned({args.received, own, y}, Body::width),
          Body{Rows<X>(args.received), Rows<Y>(own), Rows<Y>(y), args.received.rows(), args.rank, args.accumulate});
    });
  });
}

// Lower bound: y is written.
void fill(const Stream& stream, const Fill& args) {
  dispatch(args.y.dtype, [&]<class T>() {
    for_each_element(stream, {args.y}, FillBody<T>{Rows<T>(args.y), static_cast<Accumulator<T>>(args.value)});
  });
}

// Lower bound: x is read, y is written. [D, N] is small, so that the cost is that of a launch.
void negative_exponential(const Stream& stream, const NegativeExponential& args) {
  ensure(args.x.dtype == args.y.dtype, "negative_exponential: x is {}, y is {}, expected one type",
         name_of(args.x.dtype), name_of(args.y.dtype));
  dispatch(args.x.dtype, [&]<class T>() {
    for_each_element(stream, {args.x, args.y}, NegativeExponentialBody<T>{Rows<T>(args.x), Rows<T>(args.y)});
  });
}

// Lower bound: y and d_y are read, d_x is read and written.
void negative_exponential_backward(const Stream& stream, const NegativeExponentialBackward& args) {
  ensure(args.y.dtype == args.d_y.dtype && args.y.dtype == args.d_x.dtype,
         "negative_exponential_backward: y is {}, d_y is {}, d_x is {}, expected one type", name_of(args.y.dtype),
         name_of(args.d_y.dtype), name_of(args.d_x.dtype));
  dispatch(args.y.dtype, [&]<class T>() {
    for_each_element(stream, {args.y, args.d_y, args.d_x},
                     NegativeExponentialBackwardBody<T>{Rows<T>(args.y), Rows<T>(args.d_y), Rows<T>(args.d_x)});
  });
}

}  // namespace causeway::cuda
