#pragma once

#include <fftw3.h>

#include <cstdint>
#include <mutex>
#include <type_traits>

#include "kernels/core/error.hpp"
#include "kernels/core/handle.hpp"
#include "kernels/core/integer.hpp"

/// FFTW in double and single precision under one name. Every plan transforms `batch` rows in place, in buffers with the
/// alignment of the one it was made with. Executing a plan is thread-safe.
namespace causeway::cpu {

/// The lock of FFTW's planner, which is not thread-safe. Ranks may be threads of one process.
std::mutex& fftw_planner();

struct FftwPlanTraits {
  using type = fftw_plan;
  static type null() { return nullptr; }
  static void close(type plan) noexcept {
    const std::lock_guard lock(fftw_planner());
    fftw_destroy_plan(plan);
  }
};
struct FftwfPlanTraits {
  using type = fftwf_plan;
  static type null() { return nullptr; }
  static void close(type plan) noexcept {
    const std::lock_guard lock(fftw_planner());
    fftwf_destroy_plan(plan);
  }
};
template <class R>
using FftwPlan = Handle<std::conditional_t<std::is_same_v<R, double>, FftwPlanTraits, FftwfPlanTraits>>;

/// Elements from the start of one row to the start of the next. All rows have the same alignment, and rows of a power
/// of two do not all map to the same cache sets.
constexpr std::int64_t fft_row_stride(std::int64_t length) { return round_up(length, 16) + 16; }

/// Transforms rows of `length` reals, an even number, to length/2 + 1 complex points, and back (times length). Rows are
/// fft_row_stride(length) reals apart.
template <class R>
class RealFft {
 public:
  /// Plans for `batch` rows in buffers with the alignment of `like`. Throws Error(internal) if FFTW has no plan.
  RealFft(std::int64_t length, std::int64_t batch, R* like) {
    const int n = static_cast<int>(length), howmany = static_cast<int>(batch),
              distance = static_cast<int>(fft_row_stride(length));
    const std::lock_guard lock(fftw_planner());
    if constexpr (std::is_same_v<R, double>) {
      auto* const points = reinterpret_cast<fftw_complex*>(like);
      forward_ = FftwPlan<R>(fftw_plan_many_dft_r2c(1, &n, howmany, like, nullptr, 1, distance, points, nullptr, 1,
                                                    distance / 2, FFTW_ESTIMATE));
      inverse_ = FftwPlan<R>(fftw_plan_many_dft_c2r(1, &n, howmany, points, nullptr, 1, distance / 2, like, nullptr, 1,
                                                    distance, FFTW_ESTIMATE));
    } else {
      auto* const points = reinterpret_cast<fftwf_complex*>(like);
      forward_ = FftwPlan<R>(fftwf_plan_many_dft_r2c(1, &n, howmany, like, nullptr, 1, distance, points, nullptr, 1,
                                                     distance / 2, FFTW_ESTIMATE));
      inverse_ = FftwPlan<R>(fftwf_plan_many_dft_c2r(1, &n, howmany, points, nullptr, 1, distance / 2, like, nullptr, 1,
                                                     distance, FFTW_ESTIMATE));
    }
    ensure(forward_ && inverse_, "FFTW has no plan for {} rows of {} reals", batch, length);
  }
  void forward(R* rows) const {
    if constexpr (std::is_same_v<R, double>)
      fftw_execute_dft_r2c(forward_.get(), rows, reinterpret_cast<fftw_complex*>(rows));
    else
      fftwf_execute_dft_r2c(forward_.get(), rows, reinterpret_cast<fftwf_complex*>(rows));
  }
  void inverse(R* rows) const {
    if constexpr (std::is_same_v<R, double>)
      fftw_execute_dft_c2r(inverse_.get(), reinterpret_cast<fftw_complex*>(rows), rows);
    else
      fftwf_execute_dft_c2r(inverse_.get(), reinterpret_cast<fftwf_complex*>(rows), rows);
  }

 private:
  FftwPlan<R> forward_, inverse_;
};

/// Transforms rows of `length` complex points, forwards or inverse, not scaled. Rows are fft_row_stride(length) complex
/// points apart.
template <class R>
class ComplexFft {
 public:
  ComplexFft(std::int64_t length, std::int64_t batch, bool inverse, R* like) {
    const int n = static_cast<int>(length), howmany = static_cast<int>(batch),
              distance = static_cast<int>(fft_row_stride(length));
    const int sign = inverse ? FFTW_BACKWARD : FFTW_FORWARD;
    const std::lock_guard lock(fftw_planner());
    if constexpr (std::is_same_v<R, double>) {
      auto* const x = reinterpret_cast<fftw_complex*>(like);
      plan_ = FftwPlan<R>(
          fftw_plan_many_dft(1, &n, howmany, x, nullptr, 1, distance, x, nullptr, 1, distance, sign, FFTW_ESTIMATE));
    } else {
      auto* const x = reinterpret_cast<fftwf_complex*>(like);
      plan_ = FftwPlan<R>(
          fftwf_plan_many_dft(1, &n, howmany, x, nullptr, 1, distance, x, nullptr, 1, distance, sign, FFTW_ESTIMATE));
    }
    ensure(static_cast<bool>(plan_), "FFTW has no plan for {} rows of {} complex points", batch, length);
  }
  void operator()(R* rows) const {
    if constexpr (std::is_same_v<R, double>)
      fftw_execute_dft(plan_.get(), reinterpret_cast<fftw_complex*>(rows), reinterpret_cast<fftw_complex*>(rows));
    else
      fftwf_execute_dft(plan_.get(), reinterpret_cast<fftwf_complex*>(rows), reinterpret_cast<fftwf_complex*>(rows));
  }

 private:
  FftwPlan<R> plan_;
};

}  // namespace causeway::cpu
