#pragma once

#include <cmath>
#include <cstdint>

/// exp and log1p on whole vectors. glibc has them on x86-64 (libmvec, at most 4 ulp, NaN and infinity as in IEEE) but tells the compiler so only under
/// -ffast-math, which would take NaN's meaning away everywhere; these redeclarations tell it without. Elsewhere loops call the scalar functions.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
extern "C" {
[[gnu::simd("notinbranch")]] double exp(double) noexcept;
[[gnu::simd("notinbranch")]] float expf(float) noexcept;
#if __GLIBC_PREREQ(2, 35)
[[gnu::simd("notinbranch")]] double log1p(double) noexcept;
[[gnu::simd("notinbranch")]] float log1pf(float) noexcept;
#endif
}
#endif

namespace causeway::cpu {

/// 64 bytes of R, one cache line, as one value with + - * /: an AVX-512 register, or as many narrower ones as the machine needs.
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

inline float exponential(float x) { return ::expf(x); }
inline double exponential(double x) { return ::exp(x); }
inline float log_one_plus(float x) { return ::log1pf(x); }
inline double log_one_plus(double x) { return ::log1p(x); }

template <class R>
R sigmoid(R x) {
  return 1 / (1 + exponential(-x));
}

/// log(1 + exp(x)); x itself above 20, where they differ by less than 2.1e-9.
template <class R>
R softplus(R x) {
  const R smooth = log_one_plus(exponential(x));
  return x > 20 ? x : smooth;
}

/// The derivative of softplus as it is above: 1 above 20.
template <class R>
R softplus_slope(R x) {
  const R smooth = sigmoid(x);
  return x > 20 ? 1 : smooth;
}

}  // namespace causeway::cpu
