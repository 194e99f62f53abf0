#include "kernels/fourier.hpp"

#include <cmath>
#include <complex>
#include <numbers>

#include "kernels/cpu/expect.hpp"
#include "kernels/cpu/fftw.hpp"
#include "kernels/cpu/team.hpp"

namespace causeway::cpu {
namespace {

constexpr std::int64_t channels_together = 8;  // of a transposition

bool is_complex(TensorView x) { return x.shape.rank() == 3 && x.shape[2] == 2; }

void expect_complex(std::string_view name, TensorView x) {
  ensure(is_complex(x) && x.dtype == accumulator_of(x.dtype), "{} is {} {}, expected [rows, D, 2] in an accumulator type", name, name_of(x.dtype),
         x.shape.to_string());
}

template <class R>
std::complex<R>* complex_row(TensorView x, std::int64_t row) {
  return reinterpret_cast<std::complex<R>*>(x.row<R>(row));
}

/// a·b without the detour that std::complex takes for infinities.
template <class R>
std::complex<R> times(std::complex<R> a, std::complex<R> b) {
  return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
}

/// exp(2πi · index/modulus) for an index reduced to [0, modulus): exact at the multiples of a quarter turn.
std::complex<double> unit(std::int64_t index, std::int64_t modulus) {
  if (index == 0) return {1, 0};
  if (2 * index == modulus) return {-1, 0};
  if (4 * index == modulus) return {0, 1};
  if (4 * index == 3 * modulus) return {0, -1};
  return std::polar(1.0, 2 * std::numbers::pi * static_cast<double>(index) / static_cast<double>(modulus));
}

std::int64_t reduced(std::int64_t first, std::int64_t row, std::int64_t step, std::int64_t modulus) {
  const auto index = static_cast<std::int64_t>((static_cast<__int128>(row) * step + first) % modulus);
  return index < 0 ? index + modulus : index;
}

template <class R>
void transform(const Stream& stream, const FourierTransform& args) {
  const std::int64_t n = args.length, channels = args.x.shape[1], blocks = args.x.rows() / n, stride = fft_row_stride(n);
  const std::int64_t tiles = (channels + channels_together - 1) / channels_together;
  const Tensor buffers(stream, dtype_of<R>, {thread_count(), channels_together, stride, 2});
  const ComplexFft<R> fft(n, channels_together, args.inverse, buffers.view().row<R>(0));
#pragma omp parallel for schedule(static)
  for (std::int64_t item = 0; item < blocks * tiles; ++item) {
    const std::int64_t begin = item / tiles * n, first = item % tiles * channels_together, width = std::min(channels_together, channels - first);
    R* const rows = buffers.view().row<R>(thread_index());
    auto* const to = reinterpret_cast<std::complex<R>*>(rows);
    std::fill(to + width * stride, to + channels_together * stride, std::complex<R>{});
    for (std::int64_t t = 0; t < n; ++t)
      for (std::int64_t c = 0; c < width; ++c) to[c * stride + t] = complex_row<R>(args.x, begin + t)[first + c];
    fft(rows);
    for (std::int64_t t = 0; t < n; ++t)
      for (std::int64_t c = 0; c < width; ++c) complex_row<R>(args.x, begin + t)[first + c] = to[c * stride + t];
  }
}

template <class X, class Y>
void rotate_rows(const Rotate& args) {
  using R = Accumulator<Y>;
  const bool from_complex = is_complex(args.x), to_complex = is_complex(args.y);
  const std::int64_t channels = args.x.shape[1];
#pragma omp parallel for schedule(static)
  for (std::int64_t r = 0; r < args.x.rows(); ++r) {
    const std::complex<double> w = args.alpha * unit(reduced(args.first, r, args.step, args.modulus), args.modulus);
    const R re = static_cast<R>(w.real()), im = static_cast<R>(w.imag());
    const X* const x = args.x.row<const X>(r);
    Y* const y = args.y.row<Y>(r);
    const auto put = [&](std::int64_t i, R value) { y[i] = static_cast<Y>(args.accumulate ? static_cast<R>(y[i]) + value : value); };
    for (std::int64_t d = 0; d < channels; ++d) {
      const R a = static_cast<R>(x[from_complex ? 2 * d : d]), b = from_complex ? static_cast<R>(x[2 * d + 1]) : R{0};
      const R real = from_complex ? re * a - im * b : re * a, imaginary = from_complex ? re * b + im * a : im * a;
      if (to_complex) {
        put(2 * d, real);
        put(2 * d + 1, imaginary);
      } else {
        put(d, real);
      }
    }
  }
}

template <class R>
void multiply_spectra(const ComplexMultiply& args) {
  const std::int64_t channels = args.a.shape[1], group_size = channels / std::max<std::int64_t>(args.b.shape[1], 1);
  const R alpha = static_cast<R>(args.alpha);
#pragma omp parallel for schedule(static)
  for (std::int64_t r = 0; r < args.a.rows(); ++r) {
    const std::complex<R>*const a = complex_row<R>(args.a, r), *const b = complex_row<R>(args.b, r);
    std::complex<R>* const y = complex_row<R>(args.y, r);
    for (std::int64_t d = 0; d < channels; ++d) {
      const std::complex<R> w = b[d / group_size];
      y[d] = alpha * times(a[d], args.conjugate ? std::conj(w) : w);
    }
  }
}

template <class R>
void reduce_spectra(const ComplexMultiplyReduce& args) {
  const std::int64_t channels = args.a.shape[1], group_size = channels / std::max<std::int64_t>(args.y.shape[1], 1);
#pragma omp parallel for schedule(static)
  for (std::int64_t r = 0; r < args.a.rows(); ++r) {
    const std::complex<R>*const a = complex_row<R>(args.a, r), *const b = complex_row<R>(args.b, r);
    std::complex<R>* const y = complex_row<R>(args.y, r);
    for (std::int64_t d = 0; d < channels; ++d) y[d / group_size] += times(a[d], std::conj(b[d]));
  }
}

}  // namespace

void fourier_transform(const Stream& stream, const FourierTransform& args) {
  expect_complex("x", args.x);
  ensure(args.length > 0 && args.x.rows() % args.length == 0, "transforms of {} rows in a tensor {}", args.length, args.x.shape.to_string());
  if (args.x.size() == 0 || args.length == 1) return;
  dispatch(args.x.dtype, [&]<class Type> { transform<Accumulator<Type>>(stream, args); });
}

void rotate(const Stream&, const Rotate& args) {
  ensure(args.modulus > 0, "a rotation by fractions of {}", args.modulus);
  for (const auto& [name, x] : {std::pair{"x", args.x}, std::pair{"y", args.y}})
    ensure(is_complex(x) || x.shape.rank() == 2, "{} is {}, expected [rows, D] or [rows, D, 2]", name, x.shape.to_string());
  ensure(args.x.rows() == args.y.rows() && args.x.shape[1] == args.y.shape[1], "a rotation of {} into {}", args.x.shape.to_string(), args.y.shape.to_string());
  dispatch(args.x.dtype, [&]<class X> { dispatch(args.y.dtype, [&]<class Y> { rotate_rows<X, Y>(args); }); });
}

void complex_multiply(const Stream&, const ComplexMultiply& args) {
  expect_complex("a", args.a);
  expect("y", args.y, args.a.dtype, args.a.shape);
  expect("b", args.b, args.a.dtype, {args.a.rows(), args.b.shape[1], 2});
  ensure(args.b.shape[1] == 0 ? args.a.shape[1] == 0 : args.a.shape[1] % args.b.shape[1] == 0, "a product of {} and {}", args.a.shape.to_string(), args.b.shape.to_string());
  dispatch(args.a.dtype, [&]<class Type> { multiply_spectra<Accumulator<Type>>(args); });
}

void complex_multiply_reduce(const Stream&, const ComplexMultiplyReduce& args) {
  expect_complex("a", args.a);
  expect("b", args.b, args.a.dtype, args.a.shape);
  expect("y", args.y, args.a.dtype, {args.a.rows(), args.y.shape[1], 2});
  ensure(args.y.shape[1] == 0 ? args.a.shape[1] == 0 : args.a.shape[1] % args.y.shape[1] == 0, "a product of {} into {}", args.a.shape.to_string(), args.y.shape.to_string());
  dispatch(args.a.dtype, [&]<class Type> { reduce_spectra<Accumulator<Type>>(args); });
}

}  // namespace causeway::cpu
