#include "kernels/fourier.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <numbers>

#include "kernels/modal_conv.hpp"
#include "tests/support/tensors.hpp"

namespace causeway {
namespace {

using namespace causeway::test;
using Complex = std::complex<double>;

Complex unit(double turns) { return std::polar(1.0, 2 * std::numbers::pi * turns); }

std::vector<Complex> complex_values(TensorView x) {
  const std::vector<double> parts = values_of(x);
  std::vector<Complex> result;
  for (std::size_t i = 0; i + 1 < parts.size(); i += 2) result.emplace_back(parts[i], parts[i + 1]);
  return result;
}

std::vector<double> parts_of(const std::vector<Complex>& values) {
  std::vector<double> result;
  for (const Complex& value : values) result.insert(result.end(), {value.real(), value.imag()});
  return result;
}

double limit(DType dtype) { return dtype == DType::f64 ? 1e-13 : 2e-6; }

TEST(Fourier, TransformsEveryBlockOfRowsAlongTheTokens) {
  const Stream stream;
  for (const DType dtype : {DType::f64, DType::f32})
    for (const std::int64_t length : {1, 2, 3, 7, 12, 30, 97})
      for (const std::int64_t channels : {1, 5, 11})
        for (const bool inverse : {false, true}) {
          constexpr std::int64_t blocks = 2;
          const Tensor x = random_tensor(stream, dtype, {blocks * length, channels, 2}, 1);
          const std::vector<Complex> in = complex_values(x);
          std::vector<Complex> want(in.size());
          for (std::int64_t b = 0; b < blocks; ++b)
            for (std::int64_t k = 0; k < length; ++k)
              for (std::int64_t j = 0; j < length; ++j)
                for (std::int64_t d = 0; d < channels; ++d)
                  want[static_cast<std::size_t>((b * length + k) * channels + d)] +=
                      in[static_cast<std::size_t>((b * length + j) * channels + d)] *
                      unit((inverse ? 1.0 : -1.0) * static_cast<double>(j * k % length) / static_cast<double>(length));
          fourier_transform(stream, {.length = length, .inverse = inverse, .x = x});
          EXPECT_LE(relative_error(values_of(x), parts_of(want)), limit(dtype)) << length;
        }
}

TEST(Fourier, InverseAfterForwardIsTheLengthTimesTheIdentity) {
  const Stream stream;
  const Tensor x = random_tensor(stream, DType::f64, {60, 3, 2}, 1);
  std::vector<double> want = values_of(x);
  for (double& value : want) value *= 20;
  fourier_transform(stream, {.length = 20, .x = x});
  fourier_transform(stream, {.length = 20, .inverse = true, .x = x});
  EXPECT_LE(relative_error(values_of(x), want), 1e-14);
}

TEST(Fourier, RotatesRealAndComplexRows) {
  const Stream stream;
  constexpr std::int64_t rows = 9, D = 4, first = 5, step = -3, modulus = 14;
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16})
    for (const bool from_complex : {false, true})
      for (const bool to_complex : {false, true})
        for (const bool accumulate : {false, true}) {
          const auto shape = [&](bool is_complex) { return is_complex ? Shape{rows, D, 2} : Shape{rows, D}; };
          const Tensor x = random_tensor(stream, from_complex ? accumulator_of(dtype) : dtype, shape(from_complex), 1);
          const Tensor y = random_tensor(stream, to_complex ? accumulator_of(dtype) : dtype, shape(to_complex), 2);
          std::vector<double> want = values_of(y);
          const std::vector<double> in = values_of(x);
          for (std::int64_t r = 0; r < rows; ++r)
            for (std::int64_t d = 0; d < D; ++d) {
              const auto i = static_cast<std::size_t>(r * D + d);
              const Complex value = 0.5 * (from_complex ? Complex(in[2 * i], in[2 * i + 1]) : in[i]) *
                                    unit(static_cast<double>(first + r * step) / modulus);
              const auto put = [&](double& to, double part) { to = accumulate ? to + part : part; };
              put(want[to_complex ? 2 * i : i], value.real());
              if (to_complex) put(want[2 * i + 1], value.imag());
            }
          rotate(stream, {.x = x,
                          .first = first,
                          .step = step,
                          .modulus = modulus,
                          .alpha = 0.5,
                          .accumulate = accumulate,
                          .y = y});
          EXPECT_LE(relative_error(values_of(y), want), dtype == DType::bf16 ? 4e-3 : limit(dtype));
        }
}

TEST(Fourier, AnglesAreExactForLargeRowNumbers) {
  const Stream stream;
  const Tensor one = tensor_of(stream, DType::f64, {2, 1}, std::vector<double>{1, 1}), y(stream, DType::f64, {2, 1, 2});
  constexpr std::int64_t modulus = std::int64_t{1} << 40;
  rotate(stream, {.x = one, .first = modulus * 1000 + 1, .step = 3 * (modulus / 4), .modulus = modulus, .y = y});
  const Complex turn = unit(1 / static_cast<double>(modulus)), three = unit(0.75 + 1 / static_cast<double>(modulus));
  EXPECT_LE(relative_error(values_of(y), parts_of({turn, three})), 1e-15);
}

TEST(Fourier, MultipliesByAGroupsSpectrumAndSumsItsGradient) {
  const Stream stream;
  constexpr std::int64_t rows = 6, D = 12, G = 3;
  const Tensor a = random_tensor(stream, DType::f64, {rows, D, 2}, 1),
               b = random_tensor(stream, DType::f64, {rows, G, 2}, 2), y(stream, DType::f64, {rows, D, 2});
  const auto left = complex_values(a), right = complex_values(b);
  for (const bool conjugate : {false, true}) {
    std::vector<Complex> want;
    for (std::size_t i = 0; i < left.size(); ++i) {
      const Complex w = right[i / D * G + i % D / (D / G)];
      want.push_back(0.25 * left[i] * (conjugate ? std::conj(w) : w));
    }
    complex_multiply(stream, {.a = a, .b = b, .conjugate = conjugate, .alpha = 0.25, .y = y});
    EXPECT_LE(relative_error(values_of(y), parts_of(want)), 1e-15);
  }
  // The gradient of Σ Re(conj(d_y)·a·b) with respect to b.
  const Tensor d_y = random_tensor(stream, DType::f64, {rows, D, 2}, 3),
               d_b = Tensor::zeros(stream, DType::f64, {rows, G, 2});
  complex_multiply_reduce(stream, {.a = d_y, .b = a, .y = d_b});
  const auto numeric = finite_differences(b, [&] {
    complex_multiply(stream, {.a = a, .b = b, .y = y});
    return dot(y, d_y);
  });
  EXPECT_LE(relative_error(values_of(d_b), numeric), 1e-9);
}

TEST(Fourier, SpectrumOfTheModalFilterEqualsItsTransform) {
  const Stream stream;
  constexpr std::int64_t D = 3, M = 5;
  for (const std::int64_t length : {1, 2, 15, 64, 301})
    for (const auto& [low, high] : {std::pair{-2.0, 1.0}, std::pair{-11.0, -7.0}}) {
      const Tensor residues = random_tensor(stream, DType::f64, {D, M}, 1),
                   log_rates = random_tensor(stream, DType::f64, {D, M}, 2, low, high);
      const Tensor taps(stream, DType::f64, {D, length}), y(stream, DType::f64, {4 * length, D, 2});
      modal_filter(stream, {.residues = residues, .log_rates = log_rates, .taps = taps});
      const std::vector<double> h = values_of(taps);
      std::vector<Complex> want(static_cast<std::size_t>(4 * length * D));
      for (std::int64_t j = 0; j < 4 * length; ++j)
        for (std::int64_t d = 0; d < D; ++d)
          for (std::int64_t t = 0; t < length; ++t)
            want[static_cast<std::size_t>(j * D + d)] +=
                h[static_cast<std::size_t>(d * length + t)] *
                unit(-static_cast<double>(j * t % (4 * length)) / static_cast<double>(4 * length));
      modal_spectrum(stream, {.residues = residues, .log_rates = log_rates, .length = length, .y = y});
      EXPECT_LE(relative_error(values_of(y), parts_of(want)), 1e-12) << length;
      // The frequencies of one residue class.
      const Tensor part(stream, DType::f64, {(4 * length + 2) / 3, D, 2});
      modal_spectrum(
          stream, {.residues = residues, .log_rates = log_rates, .length = length, .first = -1, .step = 3, .y = part});
      for (std::int64_t r = 0; r < part.view().rows(); ++r)
        EXPECT_LE(relative_error(values_of(part.view().slice_rows(r, 1)),
                                 values_of(y.view().slice_rows((3 * r - 1 + 4 * length) % (4 * length), 1))),
                  1e-13);
    }
}

TEST(Fourier, SpectrumOfAConstantIsFiniteWhereNoFrequencyIsZero) {
  const Stream stream;
  constexpr std::int64_t length = 8;
  const Tensor residues = tensor_of(stream, DType::f64, {1, 1}, std::vector<double>{1}),
               log_rates = tensor_of(stream, DType::f64, {1, 1}, std::vector<double>{-800});
  const Tensor y(stream, DType::f64, {length, 1, 2});
  modal_spectrum(stream,
                 {.residues = residues, .log_rates = log_rates, .length = length, .first = 1, .step = 4, .y = y});
  for (std::int64_t k = 0; k < length; ++k) {
    Complex want = 0;
    for (std::int64_t t = 0; t < length; ++t)
      want += unit(-static_cast<double>((4 * k + 1) * t) / static_cast<double>(4 * length));
    EXPECT_NEAR(y.view().row<double>(k)[0], want.real(), 1e-13);
    EXPECT_NEAR(y.view().row<double>(k)[1], want.imag(), 1e-13);
  }
}

TEST(Fourier, GradientOfTheModalSpectrumEqualsFiniteDifferences) {
  const Stream stream;
  constexpr std::int64_t D = 2, M = 3, length = 12;
  const Tensor residues = random_tensor(stream, DType::f64, {D, M}, 1),
               log_rates = random_tensor(stream, DType::f64, {D, M}, 2, -5, 1);
  const Tensor y(stream, DType::f64, {2 * length, D, 2}),
      d_y = random_tensor(stream, DType::f64, {2 * length, D, 2}, 3);
  const Tensor d_residues = Tensor::zeros(stream, DType::f64, {D, M}),
               d_log_rates = Tensor::zeros(stream, DType::f64, {D, M});
  const auto loss = [&] {
    modal_spectrum(stream,
                   {.residues = residues, .log_rates = log_rates, .length = length, .first = 1, .step = 2, .y = y});
    return dot(y, d_y);
  };
  modal_spectrum_backward(stream, {.residues = residues,
                                   .log_rates = log_rates,
                                   .length = length,
                                   .first = 1,
                                   .step = 2,
                                   .d_y = d_y,
                                   .d_residues = d_residues,
                                   .d_log_rates = d_log_rates});
  EXPECT_LE(relative_error(values_of(d_residues), finite_differences(residues, loss)), 1e-8);
  EXPECT_LE(relative_error(values_of(d_log_rates), finite_differences(log_rates, loss)), 1e-8);
}

TEST(Fourier, RefusesShapesThatDoNotFit) {
  const Stream stream;
  const Tensor x(stream, DType::f64, {10, 3, 2}), real(stream, DType::f64, {10, 3}),
      half(stream, DType::bf16, {10, 3, 2}), four(stream, DType::f64, {10, 4, 2});
  EXPECT_THROW(fourier_transform(stream, {.length = 4, .x = x}), Error);
  EXPECT_THROW(fourier_transform(stream, {.length = 5, .x = real}), Error);
  EXPECT_THROW(fourier_transform(stream, {.length = 5, .x = half}), Error);
  EXPECT_THROW(rotate(stream, {.x = x, .modulus = 5, .y = four}), Error);
  EXPECT_THROW(complex_multiply(stream, {.a = four, .b = x, .y = four}), Error);
}

}  // namespace
}  // namespace causeway
