#include "kernels/fourier.hpp"
#include "kernels/core/integer.hpp"

#include <algorithm>
#include <cmath>
#include <complex>
#include <numbers>
#include <type_traits>

#include "kernels/cpu/fft_conv/fftw.hpp"
#include "kernels/cpu/openmp.hpp"
#include "kernels/expect.hpp"

namespace causeway::cpu {
namespace {

constexpr std::int64_t tile_channels = 8;    // channels that are transposed and transformed together
constexpr std::int64_t rotation_block = 64;  // rows between two angles whose index is computed from the row number

bool is_complex(TensorView x) { return x.shape.rank() == 3 && x.shape[2] == 2; }

void expect_complex(std::string_view name, TensorView x) {
  ensure(is_complex(x) && x.dtype == accumulator_of(x.dtype),
         "{} is {} {}, expected [rows, D, 2] in an accumulator type", name, name_of(x.dtype), x.shape.to_string());
}

template <class R>
std::complex<R>* complex_row(TensorView x, std::int64_t row) {
  return reinterpret_cast<std::complex<R>*>(x.row<R>(row));
}

/// exp(2πi · index/modulus), for an index in [0, modulus). Exact for multiples of π/2.
std::complex<double> unit(std::int64_t index, std::int64_t modulus) {
  if (index == 0) return {1, 0};
  if (2 * index == modulus) return {-1, 0};
  if (4 * index == modulus) return {0, 1};
  if (4 * index == 3 * modulus) return {0, -1};
  return std::polar(1.0, 2 * std::numbers::pi * static_cast<double>(index) / static_cast<double>(modulus));
}

/// (first + row · step) mod modulus, in [0, modulus).
std::int64_t reduced(std::int64_t first, std::int64_t row, std::int64_t step, std::int64_t modulus) {
  const auto index = static_cast<std::int64_t>((static_cast<__int128>(row) * step + first) % modulus);
  return index < 0 ? index + modulus : index;
}

template <class R>
void transform(const Stream& stream, const FourierTransform& args) {
  const std::int64_t n = args.length, channels = args.x.shape[1], blocks = args.x.rows() / n,
                     stride = fft_row_stride(n);
  const std::int64_t tiles = ceil_div(channels, tile_channels);
  const Tensor buffers(stream, dtype_of<R>, {thread_count(), tile_channels, stride, 2});
  const ComplexFft<R> fft(n, tile_channels, args.inverse, buffers.view().row<R>(0));
#pragma omp parallel for schedule(static)
  for (std::int64_t item = 0; item < blocks * tiles; ++item) {
    const std::int64_t begin = item / tiles * n, first = item % tiles * tile_channels,
                       width = std::min(tile_channels, channels - first);
    R* const rows = buffers.view().row<R>(thread_index());
    auto* const to = reinterpret_cast<std::complex<R>*>(rows);
    std::fill(to + width * stride, to + tile_channels * stride, std::complex<R>{});
    for (std::int64_t t = 0; t < n; ++t)
      for (std::int64_t c = 0; c < width; ++c) to[c * stride + t] = complex_row<R>(args.x, begin + t)[first + c];
    fft(rows);
    for (std::int64_t t = 0; t < n; ++t)
      for (std::int64_t c = 0; c < width; ++c) complex_row<R>(args.x, begin + t)[first + c] = to[c * stride + t];
  }
}

/// The types of x and y are template parameters, so that the inner loop has no branches.
template <class X, class Y, bool from_complex, bool to_complex, bool accumulate>
void rotate_rows(const Rotate& args) {
  using R = Accumulator<Y>;
  const std::int64_t channels = args.x.shape[1], step = reduced(0, 1, args.step, args.modulus);
#pragma omp parallel for schedule(static)
  for (std::int64_t block = 0; block < args.x.rows(); block += rotation_block) {
    std::int64_t index = reduced(args.first, block, args.step, args.modulus);
    std::complex<double> w = args.alpha * unit(index, args.modulus);
    for (std::int64_t r = block; r < std::min(block + rotation_block, args.x.rows()); ++r) {
      if (r > block && step != 0) {
        index += index < args.modulus - step ? step : step - args.modulus;
        w = args.alpha * unit(index, args.modulus);
      }
      const R re = static_cast<R>(w.real()), im = static_cast<R>(w.imag());
      const X* const x = args.x.row<const X>(r);
      Y* const y = args.y.row<Y>(r);
      const auto put = [&](std::int64_t i, R value) {
        y[i] = static_cast<Y>(accumulate ? static_cast<R>(y[i]) + value : value);
      };
#pragma omp simd
      for (std::int64_t d = 0; d < channels; ++d) {
        R a, b = 0;
        if constexpr (from_complex) {
          a = static_cast<R>(x[2 * d]);
          b = static_cast<R>(x[2 * d + 1]);
        } else {
          a = static_cast<R>(x[d]);
        }
        const R real = from_complex ? re * a - im * b : re * a;
        if constexpr (to_complex) {
          put(2 * d, real);
          put(2 * d + 1, from_complex ? re * b + im * a : im * a);
        } else {
          put(d, real);
        }
      }
    }
  }
}

template <class X, class Y>
void rotate_of_types(const Rotate& args) {
  const auto choose = [](bool value, const auto& body) { value ? body(std::true_type()) : body(std::false_type()); };
  choose(is_complex(args.x), [&](auto from) {
    choose(is_complex(args.y), [&](auto to) {
      choose(args.accumulate, [&](auto accumulate) { rotate_rows<X, Y, from, to, accumulate>(args); });
    });
  });
}

/// Calls body(a's row, b's row, y's row, channel, its group) for every row and channel. Complex point d of a row is its
/// elements 2d and 2d+1. If every channel is its own group, as for hyena_li, the loop over channels is vectorized.
template <class R, class Body>
void for_each_product(TensorView a, TensorView b, TensorView y, std::int64_t groups, const Body& body) {
  const std::int64_t channels = a.shape[1], group_size = channels / std::max<std::int64_t>(groups, 1);
#pragma omp parallel for schedule(static)
  for (std::int64_t r = 0; r < a.rows(); ++r) {
    const R *const a_row = a.row<const R>(r), *const b_row = b.row<const R>(r);
    R* const y_row = y.row<R>(r);
    if (group_size == 1) {
#pragma omp simd
      for (std::int64_t d = 0; d < channels; ++d) body(a_row, b_row, y_row, d, d);
    } else {
      for (std::int64_t g = 0; g < groups; ++g)
        for (std::int64_t d = g * group_size; d < (g + 1) * group_size; ++d) body(a_row, b_row, y_row, d, g);
    }
  }
}

template <class R>
void multiply_spectra(const ComplexMultiply& args) {
  const R alpha = static_cast<R>(args.alpha), sign = args.conjugate ? -1 : 1;
  for_each_product<R>(args.a, args.b, args.y, args.b.shape[1],
                      [=](const R* a, const R* b, R* y, std::int64_t d, std::int64_t g) {
                        const R re = a[2 * d], im = a[2 * d + 1], w_re = b[2 * g], w_im = sign * b[2 * g + 1];
                        y[2 * d] = alpha * (re * w_re - im * w_im);
                        y[2 * d + 1] = alpha * (re * w_im + im * w_re);
                      });
}

template <class R>
void reduce_spectra(const ComplexMultiplyReduce& args) {
  for_each_product<R>(args.a, args.b, args.y, args.y.shape[1],
                      [](const R* a, const R* b, R* y, std::int64_t d, std::int64_t g) {
                        const R re = a[2 * d], im = a[2 * d + 1], w_re = b[2 * d], w_im = b[2 * d + 1];
                        y[2 * g] += re * w_re + im * w_im;
                        y[2 * g + 1] += im * w_re - re * w_im;
                      });
}

}  // namespace

void fourier_transform(const Stream& stream, const FourierTransform& args) {
  expect_complex("x", args.x);
  ensure(args.length > 0 && args.x.rows() % args.length == 0,
         "transforms of length {} over the rows of a tensor {}, expected a divisor of the rows", args.length,
         args.x.shape.to_string());
  if (args.x.size() == 0 || args.length == 1) return;
  dispatch(args.x.dtype, [&]<class Type> { transform<Accumulator<Type>>(stream, args); });
}

void rotate(const Stream&, const Rotate& args) {
  ensure(args.modulus > 0, "modulus is {}, expected at least 1", args.modulus);
  for (const auto& [name, x] : {std::pair{"x", args.x}, std::pair{"y", args.y}})
    ensure(is_complex(x) || x.shape.rank() == 2, "{} is {}, expected [rows, D] or [rows, D, 2]", name,
           x.shape.to_string());
  ensure(args.x.rows() == args.y.rows() && args.x.shape[1] == args.y.shape[1],
         "a rotation from {} to {}, expected equal rows and channels", args.x.shape.to_string(),
         args.y.shape.to_string());
  dispatch(args.x.dtype, [&]<class X> { dispatch(args.y.dtype, [&]<class Y> { rotate_of_types<X, Y>(args); }); });
}

void complex_multiply(const Stream&, const ComplexMultiply& args) {
  expect_complex("a", args.a);
  expect("y", args.y, args.a.dtype, args.a.shape);
  expect("b", args.b, args.a.dtype, {args.a.rows(), args.b.shape[1], 2});
  ensure(args.b.shape[1] == 0 ? args.a.shape[1] == 0 : args.a.shape[1] % args.b.shape[1] == 0,
         "a product of {} and {}, expected groups that divide the channels", args.a.shape.to_string(),
         args.b.shape.to_string());
  dispatch(args.a.dtype, [&]<class Type> { multiply_spectra<Accumulator<Type>>(args); });
}

void complex_multiply_reduce(const Stream&, const ComplexMultiplyReduce& args) {
  expect_complex("a", args.a);
  expect("b", args.b, args.a.dtype, args.a.shape);
  expect("y", args.y, args.a.dtype, {args.a.rows(), args.y.shape[1], 2});
  ensure(args.y.shape[1] == 0 ? args.a.shape[1] == 0 : args.a.shape[1] % args.y.shape[1] == 0,
         "a product of {} summed into {}, expected groups that divide the channels", args.a.shape.to_string(),
         args.y.shape.to_string());
  dispatch(args.a.dtype, [&]<class Type> { reduce_spectra<Accumulator<Type>>(args); });
}

}  // namespace causeway::cpu
