#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

/// exp, log1p, expm1 and erf for whole vectors. On x86-64 glibc has vector versions (libmvec; at most 4 ulp; NaN and
/// infinity as in IEEE 754), but declares them to the compiler only under -ffast-math, which would break the handling
/// of NaN everywhere. These redeclarations make GCC use them without that option. On other systems loops call the
/// scalar functions.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
extern "C" {
[[gnu::simd("notinbranch")]] double exp(double) noexcept;
[[gnu::simd("notinbranch")]] float expf(float) noexcept;
#if __GLIBC_PREREQ(2, 35)
[[gnu::simd("notinbranch")]] double log1p(double) noexcept;
[[gnu::simd("notinbranch")]] float log1pf(float) noexcept;
[[gnu::simd("notinbranch")]] double expm1(double) noexcept;
[[gnu::simd("notinbranch")]] double erf(double) noexcept;
[[gnu::simd("notinbranch")]] float erff(float) noexcept;
#endif
}
#endif

namespace causeway::cpu {

/// 64 bytes of R as one value with + - * /: one cache line, one AVX-512 register, or several narrower registers on
/// other machines. `lanes` is its number of elements: 16 floats or 8 doubles.
template <class R>
inline constexpr std::int64_t lanes = 64 / sizeof(R);
template <class R>
struct VectorOf;
template <>
struct VectorOf<float> {
  using type [[gnu::vector_size(64), gnu::may_alias]] = float;
};
template <>
struct VectorOf<double> {
  using type [[gnu::vector_size(64), gnu::may_alias]] = double;
};
template <class R>
using Vector = typename VectorOf<R>::type;

/// exp(x).
template <class R>
R exponential(R x) {
  if constexpr (sizeof(R) == sizeof(float))
    return ::expf(x);
  else
    return ::exp(x);
}

/// log(1 + x).
template <class R>
R log_one_plus(R x) {
  if constexpr (sizeof(R) == sizeof(float))
    return ::log1pf(x);
  else
    return ::log1p(x);
}

/// exp(x) - 1.
inline double exponential_minus_one(double x) { return ::expm1(x); }

/// erf(x).
template <class R>
R error_function(R x) {
  if constexpr (sizeof(R) == sizeof(float))
    return ::erff(x);
  else
    return ::erf(x);
}

/// σ(x) = 1 / (1 + exp(-x)).
template <class R>
R sigmoid(R x) {
  return 1 / (1 + exponential(-x));
}

/// x·σ(x).
template <class R>
R silu(R x) {
  return x * sigmoid(x);
}

/// dsilu/dx = σ(x)(1 + x(1 - σ(x))).
template <class R>
R silu_derivative(R x) {
  const R s = sigmoid(x);
  return s * (1 + x * (1 - s));
}

/// log(1 + exp(x)); x itself above 20, where they differ by less than 2.1e-9.
template <class R>
R softplus(R x) {
  const R smooth = log_one_plus(exponential(x));
  return x > 20 ? x : smooth;
}

/// The derivative of softplus() as defined above: σ(x), and 1 above 20.
template <class R>
R softplus_derivative(R x) {
  const R smooth = sigmoid(x);
  return x > 20 ? 1 : smooth;
}

/// f applied to every lane.
template <class R, class F>
[[gnu::always_inline]] inline Vector<R> lanewise(const Vector<R>& x, const F& f) {
  Vector<R> y;
#pragma omp simd simdlen(64 / sizeof(R))
  for (std::int64_t d = 0; d < lanes<R>; ++d) y[d] = f(x[d]);
  return y;
}

/// The sum of the lanes.
template <class R>
[[gnu::always_inline]] inline R sum_of_lanes(const Vector<R>& x) {
  R sum = 0;
#pragma omp simd simdlen(64 / sizeof(R)) reduction(+ : sum)
  for (std::int64_t d = 0; d < lanes<R>; ++d) sum += x[d];
  return sum;
}

/// Loads `width` <= lanes elements, converted from T; the other lanes are zero.
template <class R, class T>
[[gnu::always_inline]] inline Vector<R> load_lanes(const T* from, std::int64_t width) {
  T copy[lanes<R>];
  if (width == lanes<R>) {
    std::memcpy(copy, from, sizeof copy);
  } else {
    std::fill_n(copy, lanes<R>, T{});
    std::copy_n(from, width, copy);
  }
  Vector<R> to;
  for (std::int64_t d = 0; d < lanes<R>; ++d) to[d] = static_cast<R>(copy[d]);
  return to;
}

/// Stores the first `width` lanes, converted to T.
template <class R, class T>
[[gnu::always_inline]] inline void store_lanes(const Vector<R>& from, T* to, std::int64_t width) {
  T copy[lanes<R>];
  for (std::int64_t d = 0; d < lanes<R>; ++d) copy[d] = static_cast<T>(from[d]);
  if (width == lanes<R>)
    std::memcpy(to, copy, sizeof copy);
  else
    std::copy_n(copy, width, to);
}

}  // namespace causeway::cpu
