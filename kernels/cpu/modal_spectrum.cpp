#include <cmath>
#include <complex>
#include <numbers>
#include <vector>

#include "kernels/cpu/expect.hpp"
#include "kernels/fourier.hpp"

namespace causeway::cpu {
namespace {

using Complex = std::complex<double>;

Complex times(Complex a, Complex b) { return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()}; }
Complex inverse(Complex a) { return std::conj(a) / std::norm(a); }

/// One mode in float64: what 1 - λ loses to cancellation where λ is near 1 would be lost for good.
struct Mode {
  Mode(double log_rate, std::int64_t length_)
      : length(length_), rate(std::exp(log_rate)), decay(std::exp(-rate)), loss(-std::expm1(-rate)), far(std::exp(-rate * static_cast<double>(length))),
        far_loss(-std::expm1(-rate * static_cast<double>(length))) {}

  std::int64_t length;
  double rate, decay, loss;  ///< λ = decay, 1 - λ = loss
  double far, far_loss;      ///< λ^length, 1 - λ^length
};

/// A point of the grid of 2·length frequencies: ω = exp(-πi j/length).
struct Frequency {
  Frequency(std::int64_t index, std::int64_t length) : odd(index % 2 != 0) {
    const std::int64_t j = ((index % (2 * length)) + 2 * length) % (2 * length);
    const double half = std::numbers::pi * static_cast<double>(j) / static_cast<double>(2 * length);
    sine = std::sin(half);
    omega = {1 - 2 * sine * sine, -2 * sine * std::cos(half)};
  }
  Complex omega;
  double sine;  ///< of half the angle
  bool odd;

  /// 1 - λω = (1 - λ) + 2λ sin² - iλ Im ω.
  Complex denominator(const Mode& mode) const { return {mode.loss + 2 * mode.decay * sine * sine, -mode.decay * omega.imag()}; }
  double numerator(const Mode& mode) const { return odd ? 1 + mode.far : mode.far_loss; }
  Complex value(const Mode& mode) const { return numerator(mode) * inverse(denominator(mode)); }
  /// λ ∂value/∂λ.
  Complex slope(const Mode& mode) const {
    const Complex over = inverse(denominator(mode));
    const double lost = static_cast<double>(mode.length) * mode.far;
    return times(Complex(odd ? lost : -lost) + times(value(mode), mode.decay * omega), over);
  }
};

template <class R>
Mode mode_of(TensorView log_rates, std::int64_t d, std::int64_t m, std::int64_t length) {
  return {static_cast<double>(log_rates.row<const R>(d)[m]), length};
}

template <class R>
void spectrum(const ModalSpectrum& args) {
  const std::int64_t D = args.residues.rows(), M = args.residues.columns(), rows = args.y.rows();
  std::vector<Mode> modes;
  for (std::int64_t d = 0; d < D; ++d)
    for (std::int64_t m = 0; m < M; ++m) modes.push_back(mode_of<R>(args.log_rates, d, m, args.length));
#pragma omp parallel for schedule(static)
  for (std::int64_t d = 0; d < D; ++d) {
    for (std::int64_t r = 0; r < rows; ++r) {
      const Frequency at(args.first + r * args.step, args.length);
      Complex sum = 0;
      for (std::int64_t m = 0; m < M; ++m) sum += static_cast<double>(args.residues.row<const R>(d)[m]) * at.value(modes[static_cast<std::size_t>(d * M + m)]);
      R* const y = args.y.row<R>(r) + 2 * d;
      y[0] = static_cast<R>(sum.real());
      y[1] = static_cast<R>(sum.imag());
    }
  }
}

template <class R>
void spectrum_backward(const ModalSpectrumBackward& args) {
  const std::int64_t D = args.residues.rows(), M = args.residues.columns(), rows = args.d_y.rows();
#pragma omp parallel for schedule(static)
  for (std::int64_t d = 0; d < D; ++d)
    for (std::int64_t m = 0; m < M; ++m) {
      const Mode mode = mode_of<R>(args.log_rates, d, m, args.length);
      double d_residue = 0, slope = 0;
      for (std::int64_t r = 0; r < rows; ++r) {
        const Frequency at(args.first + r * args.step, args.length);
        const R* const g = args.d_y.row<const R>(r) + 2 * d;
        const Complex value = at.value(mode), derivative = at.slope(mode);
        d_residue += static_cast<double>(g[0]) * value.real() + static_cast<double>(g[1]) * value.imag();
        slope += static_cast<double>(g[0]) * derivative.real() + static_cast<double>(g[1]) * derivative.imag();
      }
      args.d_residues.row<R>(d)[m] += static_cast<R>(d_residue);
      args.d_log_rates.row<R>(d)[m] += static_cast<R>(-mode.rate * static_cast<double>(args.residues.row<const R>(d)[m]) * slope);
    }
}

template <class Args>
void expect_spectrum(const Args& args, std::string_view name, TensorView y) {
  ensure(args.length > 0, "a filter of {} taps", args.length);
  ensure(args.residues.dtype == accumulator_of(args.residues.dtype), "residues are {}", name_of(args.residues.dtype));
  expect("log_rates", args.log_rates, args.residues.dtype, args.residues.shape);
  expect(name, y, args.residues.dtype, {y.rows(), args.residues.rows(), 2});
}

}  // namespace

void modal_spectrum(const Stream&, const ModalSpectrum& args) {
  expect_spectrum(args, "y", args.y);
  dispatch(args.residues.dtype, [&]<class Type> { spectrum<Accumulator<Type>>(args); });
}

void modal_spectrum_backward(const Stream&, const ModalSpectrumBackward& args) {
  expect_spectrum(args, "d_y", args.d_y);
  expect("d_residues", args.d_residues, args.residues.dtype, args.residues.shape);
  expect("d_log_rates", args.d_log_rates, args.residues.dtype, args.residues.shape);
  dispatch(args.residues.dtype, [&]<class Type> { spectrum_backward<Accumulator<Type>>(args); });
}

}  // namespace causeway::cpu
