#include <numbers>

#include "kernels/activation.hpp"
#include "kernels/cpu/pointwise/elementwise.hpp"
#include "kernels/cpu/vector_math.hpp"
#include "kernels/fp8/expect_fp8.hpp"

namespace causeway::cpu {
namespace {

/// act(x) and act'(x).
template <class R>
struct ValueAndDerivative {
  R value, derivative;
};

template <Activation activation, class R>
ValueAndDerivative<R> activate(R x) {
  if constexpr (activation == Activation::silu) {
    return {silu(x), silu_derivative(x)};
  } else if constexpr (activation == Activation::gelu) {
    const R phi = (1 + error_function(x * static_cast<R>(std::numbers::sqrt2 / 2))) / 2;  // Φ(x)
    const R density = exponential(-x * x / 2) * static_cast<R>(std::numbers::inv_sqrtpi / std::numbers::sqrt2);
    return {x * phi, phi + x * density};
  } else {
    return {x, 1};
  }
}

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

void gated_activation_forward(const Stream& stream, const GatedActivationForward& args) {
  if (args.y_codes.codes.present()) {
    expect_codes_if_present("gated_activation's y", args.y_codes, args.a.dtype, args.a.shape);
    const Tensor y(stream, DType::bf16, args.a.shape);
    gated_activation_forward(stream, {.a = args.a, .b = args.b, .activation = args.activation, .y = y, .y_codes = {}});
    return quantise_to_fp8(
        stream, {.x = y, .format = args.y_codes.format, .codes = args.y_codes.codes, .scales = args.y_codes.scales});
  }
  expect("b", args.b, args.a.dtype, args.a.shape);
  expect("y", args.y, args.a.dtype, args.a.shape);
  dispatch_activation(args.a.dtype, args.activation, [&]<class T, Activation activation>() {
    using R = Accumulator<T>;
    for_each_span({args.a, args.b, args.y}, [&](std::int64_t row, std::int64_t column, std::int64_t count) {
      const T *a = args.a.row<const T>(row) + column, *b = args.b.row<const T>(row) + column;
      T* y = args.y.row<T>(row) + column;
#pragma omp simd
      for (std::int64_t i = 0; i < count; ++i)
        y[i] = static_cast<T>(activate<activation>(static_cast<R>(a[i])).value * static_cast<R>(b[i]));
    });
  });
}

void gated_activation_backward(const Stream& stream, const GatedActivationBackward& args) {
  if (args.d_codes.codes.present()) {
    const std::int64_t rows = args.a.rows(), columns = args.a.columns();
    expect_codes_if_present("gated_activation's d_a and d_b", args.d_codes, args.a.dtype, {rows, 2 * columns});
    ensure(!args.y.present(), "gated_activation: both d_codes and y");
    const Tensor both(stream, DType::bf16, {rows, 2 * columns});
    gated_activation_backward(stream, {.a = args.a,
                                       .b = args.b,
                                       .activation = args.activation,
                                       .d_y = args.d_y,
                                       .d_a = both.view().slice_columns(0, columns),
                                       .d_b = both.view().slice_columns(columns, columns),
                                       .y = {},
                                       .d_codes = {}});
    return quantise_to_fp8(
        stream, {.x = both, .format = args.d_codes.format, .codes = args.d_codes.codes, .scales = args.d_codes.scales});
  }
  for (const auto& [name, view] :
       {std::pair{"b", args.b}, std::pair{"d_y", args.d_y}, std::pair{"d_a", args.d_a}, std::pair{"d_b", args.d_b}})
    expect(name, view, args.a.dtype, args.a.shape);
  const bool writes_y = args.y.present();
  if (writes_y) expect("y", args.y, args.a.dtype, args.a.shape);
  const TensorView y = writes_y ? args.y : args.d_y;  // for the spans
  dispatch_activation(args.a.dtype, args.activation, [&]<class T, Activation activation>() {
    using R = Accumulator<T>;
    for_each_span({args.a, args.b, args.d_y, args.d_a, args.d_b, y}, [&](std::int64_t row, std::int64_t column,
                                                                         std::int64_t count) {
      const T *a = args.a.row<const T>(row) + column, *b = args.b.row<const T>(row) + column,
              *d_y = args.d_y.row<const T>(row) + column;
      T *d_a = args.d_a.row<T>(row) + column, *d_b = args.d_b.row<T>(row) + column, *y_out = y.row<T>(row) + column;
#pragma omp simd
      for (std::int64_t i = 0; i < count; ++i) {
        const auto [value, derivative] = activate<activation>(static_cast<R>(a[i]));
        const R g = static_cast<R>(d_y[i]), gate = static_cast<R>(b[i]);
        d_a[i] = static_cast<T>(g * gate * derivative);
        d_b[i] = static_cast<T>(g * value);
        if (writes_y) y_out[i] = static_cast<T>(value * gate);
      }
    });
  });
}

void multiply(const Stream&, const Multiply& args) {
  expect("b", args.b, args.a.dtype, args.a.shape);
  expect("y", args.y, args.a.dtype, args.a.shape);
  dispatch(args.a.dtype, [&]<class T>() {
    using R = Accumulator<T>;
    for_each_span({args.a, args.b, args.y}, [&](std::int64_t row, std::int64_t column, std::int64_t count) {
      const T *a = args.a.row<const T>(row) + column, *b = args.b.row<const T>(row) + column;
      T* y = args.y.row<T>(row) + column;
      if (args.accumulate) {
#pragma omp simd
        for (std::int64_t i = 0; i < count; ++i)
          y[i] = static_cast<T>(static_cast<R>(y[i]) + static_cast<R>(a[i]) * static_cast<R>(b[i]));
      } else {
#pragma omp simd
        for (std::int64_t i = 0; i < count; ++i) y[i] = static_cast<T>(static_cast<R>(a[i]) * static_cast<R>(b[i]));
      }
    });
  });
}

}  // namespace causeway::cpu
