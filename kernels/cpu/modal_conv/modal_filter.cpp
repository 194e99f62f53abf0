#include <cmath>

#include "kernels/cpu/modal_conv/modal_rate.hpp"
#include "kernels/cpu/vector_math.hpp"
#include "kernels/expect.hpp"
#include "kernels/modal_conv.hpp"

namespace causeway::cpu {
namespace {

/// Powers of λ in a table: λ^t = λ^{t0} · λ^{t-t0}. Both factors are accurate, so that no error accumulates along the
/// filter.
constexpr std::int64_t table_size = 128;

template <class R>
double rate_of(TensorView log_rates, std::int64_t d, std::int64_t m) {
  return modal_rate(static_cast<double>(log_rates.row<const R>(d)[m]));
}

/// power[i] = λ^i.
template <class R>
void fill_table(double rate, R* power) {
#pragma omp simd
  for (std::int64_t i = 0; i < table_size; ++i) power[i] = static_cast<R>(exponential(-rate * static_cast<double>(i)));
}

template <class R>
void filter(const Stream& stream, const ModalFilter& args) {
  const std::int64_t D = args.taps.rows(), length = args.taps.columns(), M = args.residues.columns();
  const Tensor tables(stream, dtype_of<R>, {D, table_size});
#pragma omp parallel for schedule(static)
  for (std::int64_t d = 0; d < D; ++d) {
    R *const power = tables.view().row<R>(d), *const taps = args.taps.row<R>(d);
    std::fill_n(taps, length, R{0});
    for (std::int64_t m = 0; m < M; ++m) {
      const double rate = rate_of<R>(args.log_rates, d, m),
                   residue = static_cast<double>(args.residues.row<const R>(d)[m]);
      fill_table(rate, power);
      for (std::int64_t t = 0; t < length; t += table_size) {
        const R scale = static_cast<R>(residue * std::exp(-rate * static_cast<double>(t)));
        for (std::int64_t i = 0; i < std::min(table_size, length - t); ++i) taps[t + i] += scale * power[i];
      }
    }
  }
}

template <class R>
void filter_backward(const Stream& stream, const ModalFilterBackward& args) {
  const std::int64_t D = args.d_taps.rows(), length = args.d_taps.columns(), M = args.residues.columns();
  const Tensor tables(stream, dtype_of<R>, {D, table_size});
#pragma omp parallel for schedule(static)
  for (std::int64_t d = 0; d < D; ++d) {
    R* const power = tables.view().row<R>(d);
    const R* const d_taps = args.d_taps.row<const R>(d);
    for (std::int64_t m = 0; m < M; ++m) {
      const double rate = rate_of<R>(args.log_rates, d, m),
                   residue = static_cast<double>(args.residues.row<const R>(d)[m]);
      fill_table(rate, power);
      double sum = 0, counted = 0;  // Σ d_taps λ^t, Σ d_taps t λ^t
      for (std::int64_t t = 0; t < length; t += table_size) {
        R block_sum = 0, block_counted = 0;  // of the table's range, with t counted from its start
#pragma omp simd reduction(+ : block_sum, block_counted)
        for (std::int64_t i = 0; i < std::min(table_size, length - t); ++i) {
          const R term = d_taps[t + i] * power[i];
          block_sum += term;
          block_counted += term * static_cast<R>(i);
        }
        const double scale = std::exp(-rate * static_cast<double>(t));
        sum += scale * static_cast<double>(block_sum);
        counted +=
            scale * (static_cast<double>(block_counted) + static_cast<double>(t) * static_cast<double>(block_sum));
      }
      args.d_residues.row<R>(d)[m] += static_cast<R>(sum);
      args.d_log_rates.row<R>(d)[m] += static_cast<R>(-rate * residue * counted);
    }
  }
}

void expect_filter(TensorView residues, TensorView log_rates, std::string_view name, TensorView taps) {
  ensure(residues.dtype == accumulator_of(residues.dtype), "residues are {}, expected f64 or f32",
         name_of(residues.dtype));
  expect("log_rates", log_rates, residues.dtype, residues.shape);
  expect(name, taps, residues.dtype, {residues.rows(), taps.columns()});
}

}  // namespace

void modal_filter(const Stream& stream, const ModalFilter& args) {
  expect_filter(args.residues, args.log_rates, "taps", args.taps);
  dispatch(args.residues.dtype, [&]<class Type> { filter<Accumulator<Type>>(stream, args); });
}

void modal_filter_backward(const Stream& stream, const ModalFilterBackward& args) {
  expect_filter(args.residues, args.log_rates, "d_taps", args.d_taps);
  expect("d_residues", args.d_residues, args.residues.dtype, args.residues.shape);
  expect("d_log_rates", args.d_log_rates, args.residues.dtype, args.residues.shape);
  dispatch(args.residues.dtype, [&]<class Type> { filter_backward<Accumulator<Type>>(stream, args); });
}

}  // namespace causeway::cpu
