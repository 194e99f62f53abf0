#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "kernels/cpu/modal_conv/modal_rate.hpp"
#include "kernels/expect.hpp"
#include "kernels/fourier.hpp"

namespace causeway::cpu {
namespace {

constexpr std::int64_t block_rows = 256;  // frequencies of a block: its tables fit the L1 cache

/// One mode, in float64. 1 - λ is computed without cancellation: for λ near 1, digits lost there would be lost in the
/// result.
struct Mode {
  Mode(double log_rate, std::int64_t length_)
      : length(static_cast<double>(length_)),
        rate(modal_rate(log_rate)),
        decay(std::exp(-rate)),
        loss(-std::expm1(-rate)),
        far(std::exp(-rate * length)),
        far_loss(-std::expm1(-rate * length)) {}

  /// The real part of 1 - λ^length ω^length, given that of ω^length, which is -1, 0 or 1.
  double numerator(double power) const { return far_loss * power + (1 - power); }

  double length;
  double rate, decay, loss;  ///< λ = decay, 1 - λ = loss
  double far, far_loss;      ///< λ^length, 1 - λ^length
};

template <class R>
std::vector<Mode> modes_of(TensorView log_rates, std::int64_t length) {
  std::vector<Mode> modes;
  for (std::int64_t d = 0; d < log_rates.rows(); ++d)
    for (std::int64_t m = 0; m < log_rates.columns(); ++m)
      modes.emplace_back(static_cast<double>(log_rates.row<const R>(d)[m]), length);
  return modes;
}

/// Some frequencies of the grid of 4·length points, which all modes of all channels use: ω = exp(-2πi j/(4·length)) as
/// `re` and `im`; `twice` = 2 sin² of half its angle, so that 1 - λω = (1 - λ) + λ·twice - iλ Im ω keeps the digits of
/// 1 - λ; and ω^length, a power of -i, as `power_re` and `power_im`.
struct Frequencies {
  Frequencies(std::int64_t first, std::int64_t step, std::int64_t length, std::int64_t rows) : count(rows) {
    constexpr double powers_re[] = {1, 0, -1, 0}, powers_im[] = {0, -1, 0, 1};
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t index = first + r * step, j = (index % (4 * length) + 4 * length) % (4 * length);
      const std::int64_t near =
          j > 2 * length ? j - 4 * length : j;  // an angle near 0 is more accurate than one near 2π
      const double half = std::numbers::pi * static_cast<double>(near) / static_cast<double>(4 * length);
      const double sine = std::sin(half);
      power_re[r] = powers_re[j % 4];
      power_im[r] = powers_im[j % 4];
      twice[r] = 2 * sine * sine;
      re[r] = 1 - twice[r];
      im[r] = -2 * sine * std::cos(half);
    }
  }
  std::int64_t count;
  double power_re[block_rows], power_im[block_rows], twice[block_rows], re[block_rows], im[block_rows];
};

/// Complex points of a block.
struct ComplexBlock {
  double re[block_rows], im[block_rows];
};

/// Calls body(first row, frequencies) for one block after the other.
template <class Args, class Body>
void for_each_block(const Args& args, std::int64_t rows, const Body& body) {
  for (std::int64_t row = 0; row < rows; row += block_rows)
    body(row, Frequencies(args.first + row * args.step, args.step, args.length, std::min(block_rows, rows - row)));
}

template <class R>
void spectrum(const ModalSpectrum& args) {
  const std::int64_t D = args.residues.rows(), M = args.residues.columns();
  const std::vector<Mode> modes = modes_of<R>(args.log_rates, args.length);
  for_each_block(args, args.y.rows(), [&](std::int64_t row, const Frequencies& at) {
#pragma omp parallel for schedule(static)
    for (std::int64_t d = 0; d < D; ++d) {
      ComplexBlock sum{};
      for (std::int64_t m = 0; m < M; ++m) {
        const Mode mode = modes[static_cast<std::size_t>(d * M + m)];
        const double residue = static_cast<double>(args.residues.row<const R>(d)[m]);
#pragma omp simd
        for (std::int64_t r = 0; r < at.count; ++r) {
          const double re = mode.loss + mode.decay * at.twice[r], im = mode.decay * at.im[r];  // of conj(1 - λω)
          const double over = residue / (re * re + im * im), n_re = mode.numerator(at.power_re[r]),
                       n_im = -mode.far * at.power_im[r];
          sum.re[r] += over * (n_re * re - n_im * im);
          sum.im[r] += over * (n_re * im + n_im * re);
        }
      }
      for (std::int64_t r = 0; r < at.count; ++r) {
        R* const y = args.y.row<R>(row + r) + 2 * d;
        y[0] = static_cast<R>(sum.re[r]);
        y[1] = static_cast<R>(sum.im[r]);
      }
    }
  });
}

/// With v = n/(1 - λω), n = 1 - λ^length ω^length: λ ∂v/∂λ = (λω v - length λ^length ω^length) / (1 - λω).
template <class R>
void spectrum_backward(const ModalSpectrumBackward& args) {
  const std::int64_t D = args.residues.rows(), M = args.residues.columns();
  const std::vector<Mode> modes = modes_of<R>(args.log_rates, args.length);
  std::vector<double> values(modes.size()), slopes(modes.size());
  for_each_block(args, args.d_y.rows(), [&](std::int64_t row, const Frequencies& at) {
#pragma omp parallel for schedule(static)
    for (std::int64_t d = 0; d < D; ++d) {
      ComplexBlock g;
      for (std::int64_t r = 0; r < at.count; ++r) {
        g.re[r] = static_cast<double>(args.d_y.row<const R>(row + r)[2 * d]);
        g.im[r] = static_cast<double>(args.d_y.row<const R>(row + r)[2 * d + 1]);
      }
      for (std::int64_t m = 0; m < M; ++m) {
        const auto i = static_cast<std::size_t>(d * M + m);
        const Mode mode = modes[i];
        const double far_slope = mode.length * mode.far;
        double value = 0, slope = 0;
#pragma omp simd reduction(+ : value, slope)
        for (std::int64_t r = 0; r < at.count; ++r) {
          const double re = mode.loss + mode.decay * at.twice[r], im = mode.decay * at.im[r];  // of conj(1 - λω)
          const double over = 1 / (re * re + im * im), o_re = over * re, o_im = over * im;
          const double n_re = mode.numerator(at.power_re[r]), n_im = -mode.far * at.power_im[r];
          const double v_re = n_re * o_re - n_im * o_im, v_im = n_re * o_im + n_im * o_re;
          const double z_re = mode.decay * at.re[r], z_im = mode.decay * at.im[r];
          const double t_re = v_re * z_re - v_im * z_im - far_slope * at.power_re[r],
                       t_im = v_re * z_im + v_im * z_re - far_slope * at.power_im[r];
          value += g.re[r] * v_re + g.im[r] * v_im;
          slope += g.re[r] * (t_re * o_re - t_im * o_im) + g.im[r] * (t_re * o_im + t_im * o_re);
        }
        values[i] += value;
        slopes[i] += slope;
      }
    }
  });
  for (std::int64_t d = 0; d < D; ++d)
    for (std::int64_t m = 0; m < M; ++m) {
      const auto i = static_cast<std::size_t>(d * M + m);
      args.d_residues.row<R>(d)[m] += static_cast<R>(values[i]);
      args.d_log_rates.row<R>(d)[m] +=
          static_cast<R>(-modes[i].rate * static_cast<double>(args.residues.row<const R>(d)[m]) * slopes[i]);
    }
}

template <class Args>
void expect_spectrum(const Args& args, std::string_view name, TensorView y) {
  ensure(args.length > 0, "length is {} taps, expected at least 1", args.length);
  ensure(args.residues.dtype == accumulator_of(args.residues.dtype), "residues are {}, expected f64 or f32",
         name_of(args.residues.dtype));
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
