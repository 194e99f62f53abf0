#include <numbers>

#include "kernels/activation.hpp"
#include "kernels/cuda/device/elementwise.cuh"
#include "kernels/cuda/device/functions.cuh"
#include "kernels/expect.hpp"

namespace causeway::cuda {
namespace {

__device__ float error_function(float x) { return ::erff(x); }
__device__ double error_function(double x) { return ::erf(x); }

/// act(x) and act'(x).
template <class R>
struct ValueAndSlope {
  R value, slope;
};

template <Activation activation, class R>
__device__ ValueAndSlope<R> activate(R x) {
  if constexpr (activation == Activation::silu) {
    const R s = sigmoid(x);
    return {x * s, s * (1 + x * (1 - s))};
  } else if constexpr (activation == Activation::gelu) {
    const R cdf = (1 + error_function(x * static_cast<R>(std::numbers::sqrt2 / 2))) / 2;  // Φ(x)
    const R density = exponential(-x * x / 2) * static_cast<R>(std::numbers::inv_sqrtpi / std::numbers::sqrt2);
    return {x * cdf, cdf + x * density};
  } else {
    return {x, 1};
  }
}

/// y = act(a) b.
template <class T, Activation activation>
struct GatedForwardBody {
  static constexpr int width = packet_width<T>;
  Rows<T> a, b, y;

  template <int V>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    const auto x = a.template load<V>(row, column), gate = b.template load<V>(row, column);
    Packet<T, V> to;
#pragma unroll
    for (int v = 0; v < V; ++v)
      to.at[v] = narrowed<T>(activate<activation>(widened(x.at[v])).value * widened(gate.at[v]));
    y.template store<V>(row, column, to);
  }
};

/// d_a = d_y b act'(a), d_b = d_y act(a).
template <class T, Activation activation>
struct GatedBackwardBody {
  static constexpr int width = packet_width<T>;
  Rows<T> a, b, d_y, d_a, d_b;

  template <int V>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    const auto x = a.template load<V>(row, column), gate = b.template load<V>(row, column),
               g = d_y.template load<V>(row, column);
    Packet<T, V> to_a, to_b;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const auto [value, slope] = activate<activation>(widened(x.at[v]));
      to_a.at[v] = narrowed<T>(widened(g.at[v]) * widened(gate.at[v]) * slope);
      to_b.at[v] = narrowed<T>(widened(g.at[v]) * value);
    }
    d_a.template store<V>(row, column, to_a);
    d_b.template store<V>(row, column, to_b);
  }
};

/// y = a b, or y += a b.
template <class T, bool accumulate>
struct ProductBody {
  static constexpr int width = packet_width<T>;
  Rows<T> a, b, y;

  template <int V>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    const auto x = a.template load<V>(row, column), gate = b.template load<V>(row, column);
    Packet<T, V> to;
    if constexpr (accumulate) to = y.template load<V>(row, column);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      Accumulator<T> sum = widened(x.at[v]) * widened(gate.at[v]);
      if constexpr (accumulate) sum += widened(to.at[v]);
      to.at[v] = narrowed<T>(sum);
    }
    y.template store<V>(row, column, to);
  }
};

/// Calls body.template operator()<T, activation>().
template <class Body>
void dispatch_activation(DType dtype, Activation activation, const Body& body) {
  dispatch(dtype, [&]<class T>() {
    switch (activation) {
      case Activation::none:
        return body.template operator()<T, Activation::none>();
      case Activation::silu:
        return body.template operator()<T, Activation::silu>();
      case Activation::gelu:
        return body.template operator()<T, Activation::gelu>();
    }
  });
}

}  // namespace

// Lower bound: a and b are read, y is written. bf16 [65536, 4096]: 1.61 GB, 0.34 ms at 4.8 TB/s.
void gated_activation_forward(const Stream& stream, const GatedActivationForward& args) {
  expect("b", args.b, args.a.dtype, args.a.shape);
  expect("y", args.y, args.a.dtype, args.a.shape);
  dispatch_activation(args.a.dtype, args.activation, [&]<class T, Activation activation>() {
    for_each_element(stream, {args.a, args.b, args.y},
                     GatedForwardBody<T, activation>{Rows<T>(args.a), Rows<T>(args.b), Rows<T>(args.y)});
  });
}

// Lower bound: a, b and d_y are read, d_a and d_b are written. bf16 [65536, 4096]: 2.68 GB, 0.56 ms at 4.8 TB/s.
void gated_activation_backward(const Stream& stream, const GatedActivationBackward& args) {
  expect("b", args.b, args.a.dtype, args.a.shape);
  expect("d_y", args.d_y, args.a.dtype, args.a.shape);
  expect("d_a", args.d_a, args.a.dtype, args.a.shape);
  expect("d_b", args.d_b, args.a.dtype, args.a.shape);
  dispatch_activation(args.a.dtype, args.activation, [&]<class T, Activation activation>() {
    for_each_element(stream, {args.a, args.b, args.d_y, args.d_a, args.d_b},
                     GatedBackwardBody<T, activation>{Rows<T>(args.a), Rows<T>(args.b), Rows<T>(args.d_y),
                                                      Rows<T>(args.d_a), Rows<T>(args.d_b)});
  });
}

// Lower bound: a and b are read, y is written, and also read with `accumulate`. bf16 [65536, 4096]: 1.61 GB, 0.34 ms
// at 4.8 TB/s.
void multiply(const Stream& stream, const Multiply& args) {
  expect("b", args.b, args.a.dtype, args.a.shape);
  expect("y", args.y, args.a.dtype, args.a.shape);
  dispatch(args.a.dtype, [&]<class T>() {
    if (args.accumulate)
      for_each_element(stream, {args.a, args.b, args.y},
                       ProductBody<T, true>{Rows<T>(args.a), Rows<T>(args.b), Rows<T>(args.y)});
    else
      for_each_element(stream, {args.a, args.b, args.y},
                       ProductBody<T, false>{Rows<T>(args.a), Rows<T>(args.b), Rows<T>(args.y)});
  });
}

}  // namespace causeway::cuda
