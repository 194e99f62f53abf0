#include "kernels/activation.hpp"

#include <cmath>
#include <type_traits>

#include "kernels/cuda/device/elementwise.cuh"

namespace causeway::cuda {
namespace {

template <class X, class Y>
struct Scaled {
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

template <class T>
struct Filled {
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

/// The parameters' own exponential, to the last bit but one: it is little and decides how long a state lives.
__device__ float exact_exponential(float x) { return ::expf(x); }
__device__ double exact_exponential(double x) { return ::exp(x); }

template <class T>
struct NegativeExponentials {
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

template <class T>
struct NegativeExponentialGradients {
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

// Floor: x read, y written, and read too with `accumulate`.
void scale(const Stream& stream, const Scale& args) {
  dispatch(args.x.dtype, [&]<class X>() {
    dispatch(args.y.dtype, [&]<class Y>() {
      using Body = Scaled<X, Y>;
      for_each_element(
          stream, {args.x, args.y},
          Body{Rows<X>(args.x), Rows<Y>(args.y), static_cast<typename Body::Wide>(args.alpha), args.accumulate});
    });
  });
}

// Floor: y written.
void fill(const Stream& stream, const Fill& args) {
  dispatch(args.y.dtype, [&]<class T>() {
    for_each_element(stream, {args.y}, Filled<T>{Rows<T>(args.y), static_cast<Accumulator<T>>(args.value)});
  });
}

// Floor: x read, y written; [D, N] is small, so that a launch is what it costs.
void negative_exponential(const Stream& stream, const NegativeExponential& args) {
  ensure(args.x.dtype == args.y.dtype, "negative_exponential from {} to {}", name_of(args.x.dtype),
         name_of(args.y.dtype));
  dispatch(args.x.dtype, [&]<class T>() {
    for_each_element(stream, {args.x, args.y}, NegativeExponentials<T>{Rows<T>(args.x), Rows<T>(args.y)});
  });
}

// Floor: y and d_y read, d_x read and written.
void negative_exponential_backward(const Stream& stream, const NegativeExponentialBackward& args) {
  ensure(args.y.dtype == args.d_y.dtype && args.y.dtype == args.d_x.dtype,
         "negative_exponential_backward of {}, {} and {}", name_of(args.y.dtype), name_of(args.d_y.dtype),
         name_of(args.d_x.dtype));
  dispatch(args.y.dtype, [&]<class T>() {
    for_each_element(stream, {args.y, args.d_y, args.d_x},
                     NegativeExponentialGradients<T>{Rows<T>(args.y), Rows<T>(args.d_y), Rows<T>(args.d_x)});
  });
}

}  // namespace causeway::cuda
