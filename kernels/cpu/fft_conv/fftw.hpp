#pragma once

#include <fftw3.h>

#include <cstdint>
#include <mutex>
#include <type_traits>

#include "kernels/core/error.hpp"
#include "kernels/core/handle.hpp"

/// FFTW in double and in single precision under one name. Every plan transforms `batch` rows in place and is made for
/// buffers aligned as `like` is; executing it is thread-safe.
namespace causeway::cpu {

/// FFTW's planner is one for the process, whichever rank's thread calls it.
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

/// Elements from one row to the next: every row aligned alike, and rows of a power of two not all on the same lines of
/// a cache.
constexpr std::int64_t fft_row_stride(std::int64_t length) { return (length + 15) / 16 * 16 + 16; }

/// Rows of `length` reals to length/2 + 1 complex numbers and back (times length). `length` is even; rows stand
/// fft_row_stride(length) reals apart.
template <class R>
class RealFft {
 public:
  RealFft(std::int64_t length, std::int64_t batch, R* like) {
    const int n = static_cast<int>(length), howmany = static_cast<int>(batch),
              distance = static_cast<int>(fft_row_stride(length));
    const std::lock_guard lock(fftw_planner());
    if constexpr (std::is_same_v<R, double>) {
      auto* const numbers = reinterpret_cast<fftw_complex*>(like);
      forward_ = FftwPlan<R>(fftw_plan_many_dft_r2c(1, &n, howmany, like, nullptr, 1, distance, numbers, nullptr, 1,
                                                    distance / 2, FFTW_ESTIMATE));
      inverse_ = FftwPlan<R>(fftw_plan_many_dft_c2r(1, &n, howmany, numbers, nullptr, 1, distance / 2, like, nullptr, 1,
                                                    distance, FFTW_ESTIMATE));
    } else {
      auto* const numbers = reinterpret_cast<fftwf_complex*>(like);
      forward_ = FftwPlan<R>(fftwf_plan_many_dft_r2c(1, &n, howmany, like, nullptr, 1, distance, numbers, nullptr, 1,
                                                     distance / 2, FFTW_ESTIMATE));
      inverse_ = FftwPlan<R>(fftwf_plan_many_dft_c2r(1, &n, howmany, numbers, nullptr, 1, distance / 2, like, nullptr,
                                                     1, distance, FFTW_ESTIMATE));
    }
    ensure(forward_ && inverse_, "FFTW has no plan for {} rows of {} numbers", batch, length);
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

/// Rows of `length` complex numbers, forwards or inverse; rows stand fft_row_stride(length) complex numbers apart.
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
    ensure(static_cast<bool>(plan_), "FFTW has no plan for {} rows of {} complex numbers", batch, length);
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
