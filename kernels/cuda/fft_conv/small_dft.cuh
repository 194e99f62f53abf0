#pragma once

/// Discrete Fourier transforms of at most 16 complex points, in the registers of one thread.
namespace causeway::cuda {

/// A complex point. The alignment lets one memory access move both parts.
template <class R>
struct alignas(2 * sizeof(R)) Complex {
  R re, im;
};

template <class R>
__device__ Complex<R> operator+(Complex<R> a, Complex<R> b) {
  return {a.re + b.re, a.im + b.im};
}
template <class R>
__device__ Complex<R> operator-(Complex<R> a, Complex<R> b) {
  return {a.re - b.re, a.im - b.im};
}
template <class R>
__device__ Complex<R> operator*(Complex<R> a, Complex<R> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
template <class R>
__device__ Complex<R> conjugate(Complex<R> a) {
  return {a.re, -a.im};
}

/// exp(πi·x).
__device__ inline Complex<float> cis_pi(float x) {
  Complex<float> w;
  ::sincospif(x, &w.im, &w.re);
  return w;
}

/// x · exp(-2πi k/16). Factors whose parts are 0, ±1 or equal in size take fewer multiplications.
template <int k>
__device__ __forceinline__ Complex<float> times_twiddle(Complex<float> x) {
  constexpr float root = 0.70710678118654752f, c = 0.92387953251128674f, s = 0.38268343236508977f;
  if constexpr (k == 0) return x;
  if constexpr (k == 2) return {root * (x.re + x.im), root * (x.im - x.re)};
  if constexpr (k == 4) return {x.im, -x.re};
  if constexpr (k == 6) return {root * (x.im - x.re), -root * (x.re + x.im)};
  if constexpr (k == 1) return x * Complex<float>{c, -s};
  if constexpr (k == 3) return x * Complex<float>{s, -c};
  if constexpr (k == 5) return x * Complex<float>{-s, -c};
  if constexpr (k == 7) return x * Complex<float>{-c, -s};
}

/// The last stage of a transform by decimation in time: x[k] and x[k + n/2] for k >= at, from the transforms of the
/// even and of the odd points. It is a recursion and not a loop because times_twiddle needs a constant. It is not a
/// lambda because the compiler may keep a lambda as a function call, and then the arrays are in memory.
template <int n, int at = 0>
__device__ __forceinline__ void butterflies(const Complex<float> (&even)[n / 2], const Complex<float> (&odd)[n / 2],
                                            Complex<float> (&x)[n]) {
  if constexpr (at < n / 2) {
    const Complex<float> w = times_twiddle<at * 16 / n>(odd[at]);
    x[at] = even[at] + w;
    x[at + n / 2] = even[at] - w;
    butterflies<n, at + 1>(even, odd, x);
  }
}

/// x[k] = Σ_j x[j] exp(-2πi jk/n), n a power of two.
template <int n>
__device__ __forceinline__ void dft(Complex<float> (&x)[n]) {
  static_assert(n <= 16);
  if constexpr (n > 1) {
    Complex<float> even[n / 2], odd[n / 2];
#pragma unroll
    for (int j = 0; j < n / 2; ++j) {
      even[j] = x[2 * j];
      odd[j] = x[2 * j + 1];
    }
    dft(even);
    dft(odd);
    butterflies(even, odd, x);
  }
}

template <int n>
__device__ __forceinline__ void swap_parts(Complex<float> (&x)[n]) {
#pragma unroll
  for (int j = 0; j < n; ++j) x[j] = {x[j].im, x[j].re};
}

/// x[j] = Σ_k x[k] exp(+2πi jk/n): the inverse of dft, times n.
template <int n>
__device__ __forceinline__ void inverse_dft(Complex<float> (&x)[n]) {
  swap_parts(x);
  dft(x);
  swap_parts(x);
}

/// Sets w[j] = w[0] · step^j for all j >= known; the powers below `known` are given. Powers are products of squares,
/// so that the rounding error grows with the logarithm of j.
template <int n, int known = 1>
__device__ __forceinline__ void fill_powers(Complex<float> (&w)[n], Complex<float> step) {
  if constexpr (known < n) {
#pragma unroll
    for (int j = 0; j < known; ++j) w[known + j] = w[j] * step;
    fill_powers<n, 2 * known>(w, step * step);
  }
}

/// x[j] *= first · step^j.
template <int n>
__device__ __forceinline__ void multiply_by_powers(Complex<float> (&x)[n], Complex<float> first, Complex<float> step) {
  Complex<float> w[n];
  w[0] = first;
  fill_powers(w, step);
#pragma unroll
  for (int j = 0; j < n; ++j) x[j] = x[j] * w[j];
}

/// x[j] *= step^j.
template <int n>
__device__ __forceinline__ void multiply_by_powers(Complex<float> (&x)[n], Complex<float> step) {
  Complex<float> w[n];
  w[1 % n] = step;
#pragma unroll
  for (int j = 2; j < n; ++j) w[j] = w[j / 2] * w[j - j / 2];
#pragma unroll
  for (int j = 1; j < n; ++j) x[j] = x[j] * w[j];
}

}  // namespace causeway::cuda
