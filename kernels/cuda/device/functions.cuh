#pragma once

#include <cmath>

/// The functions of kernels/cpu/vector_math.hpp in device code. float32 uses the special-function unit of the
/// multiprocessor, whose exp(x) has an error of up to 2 + 1.2|x| units in the last place.
namespace causeway::cuda {

inline constexpr double log2_e = 1.4426950408889634, ln_2 = 0.6931471805599453;

/// 2^x.
__device__ inline float exponential_base_2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline double exponential_base_2(double x) { return ::exp2(x); }

/// e^x.
__device__ inline float exponential(float x) { return __expf(x); }
__device__ inline double exponential(double x) { return ::exp(x); }

/// 1 / x; the error for float is at most one unit in the last place.
__device__ inline float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline double reciprocal(double x) { return 1 / x; }

/// 1 / (1 + e^-x).
__device__ inline float sigmoid(float x) {
  return __fdividef(1.0f, 1.0f + exponential_base_2(x * static_cast<float>(-log2_e)));
}
__device__ inline double sigmoid(double x) { return 1 / (1 + ::exp(-x)); }

/// x σ(x).
template <class R>
__device__ R silu(R x) {
  return x * sigmoid(x);
}

/// dsilu/dx = σ(x)(1 + x(1 - σ(x))).
template <class R>
__device__ R silu_slope(R x) {
  const R sigma = sigmoid(x);
  return sigma * (1 + x * (1 - sigma));
}

/// exp(log_rate), limited to exp(64) as in cpu/modal_rate.hpp; NaN stays NaN.
template <class R>
__device__ R modal_rate(R log_rate) {
  return ::exp(log_rate > R(64) ? R(64) : log_rate);
}

/// log(1 + e^x); x if x is above 20. In float it is max(x, 0) + e P(e), where e = e^-|x| and P approximates
/// log(1 + e) / e with a relative error of 2·10^-7: one exponential, and a small Δ keeps its digits.
__device__ inline float softplus(float x) {
  const float e = exponential_base_2(fabsf(x) * static_cast<float>(-log2_e));
  float p = -0.00877895302f;
  for (const float coefficient :
       {0.0449866331f, -0.109022898f, 0.178472073f, -0.245368659f, 0.332840638f, -0.499981803f, 1.0f})
    p = p * e + coefficient;
  return p * e + fmaxf(x, 0.0f);
}
__device__ inline double softplus(double x) { return x > 20 ? x : ::log1p(::exp(x)); }

/// dsoftplus/dx = σ(x), computed from y = softplus(x): 1 - e^-y; 1 if y is above 20.
__device__ inline float softplus_slope_at(float y) { return y > 20 ? 1 : -expm1f(-y); }
__device__ inline double softplus_slope_at(double y) { return y > 20 ? 1 : -::expm1(-y); }

}  // namespace causeway::cuda
