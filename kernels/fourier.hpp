#pragma once

#include <cstdint>

#include "kernels/core/kernel.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {

/// One rank's steps of a Fourier transform over ranks (parallel/exchange/rank_fft.hpp). A complex tensor is [rows, D,
/// 2] of an accumulator type: real and imaginary part next to each other. Gradients of complex numbers are ∂loss/∂re +
/// i·∂loss/∂im, so that the adjoint of a product with w is the one with conj(w).

/// In place, for every block of `length` consecutive rows and every channel: x[k] = Σ_j x[j] · exp(∓2πi jk/length), the
/// upper sign forwards. Not scaled: inverse after forward is `length` times the identity, and each is the other's
/// adjoint.
struct FourierTransform {
  std::int64_t length = 0;
  bool inverse = false;
  TensorView x;  ///< [blocks·length, D, 2]
};
extern const Kernel<FourierTransform> fourier_transform;

/// y[r,d] = alpha · x[r,d] · exp(2πi (first + r·step) / modulus), or += with `accumulate`: twiddle factors, the twist
/// of a negacyclic transform and, with step 0, a branch of a butterfly. x or y may be real, [rows, D]: a real y takes
/// the real part. A complex y may be x. Angles are reduced as integers.
struct Rotate {
  TensorView x;
  std::int64_t first = 0, step = 0, modulus = 1;
  double alpha = 1;
  bool accumulate = false;
  TensorView y;
};
extern const Kernel<Rotate> rotate;

/// y[r,d] = alpha · a[r,d] · b[r,g(d)], or of conj(b) with `conjugate`; g(d) = d / (D/G). y may be a.
struct ComplexMultiply {
  TensorView a;  ///< [rows, D, 2]
  TensorView b;  ///< [rows, G, 2]
  bool conjugate = false;
  double alpha = 1;
  TensorView y;  ///< [rows, D, 2]
};
extern const Kernel<ComplexMultiply> complex_multiply;

/// y[r,g] += Σ_{d∈g} a[r,d] · conj(b[r,d]): what ComplexMultiply's b gets from a = d_y and its a. In channel order.
struct ComplexMultiplyReduce {
  TensorView a, b;  ///< [rows, D, 2]
  TensorView y;     ///< [rows, G, 2], added to
};
extern const Kernel<ComplexMultiplyReduce> complex_multiply_reduce;

/// The modal filter h_t[d] = Σ_m residues[d,m] λ[d,m]^t, t < length, λ = exp(-exp(log_rates)), at frequencies of the
/// grid of 4·length points, in closed form: y[r,d] = Σ_t h_t ω^t = Σ_m residues (1 - λ^length ω^length) / (1 - λω), ω =
/// exp(-2πi j/(4·length)), j = first + r·step. j ≡ 0 (mod 4) are the cyclic transform of `length` points, j ≡ 2 the
/// negacyclic one, j ≡ 1 the one in which what wraps around comes back turned by a right angle.
struct ModalSpectrum {
  TensorView residues, log_rates;  ///< [D, M], accumulator type
  std::int64_t length = 0, first = 0, step = 1;
  TensorView y;  ///< [rows, D, 2], written
};
extern const Kernel<ModalSpectrum> modal_spectrum;

/// d_residues and d_log_rates += what they owe to d_y.
struct ModalSpectrumBackward {
  TensorView residues, log_rates;
  std::int64_t length = 0, first = 0, step = 1;
  TensorView d_y;                      ///< [rows, D, 2]
  TensorView d_residues, d_log_rates;  ///< [D, M], added to
};
extern const Kernel<ModalSpectrumBackward> modal_spectrum_backward;

}  // namespace causeway
