#pragma once

#include <cstdint>

#include "kernels/core/kernel.hpp"
#include "kernels/core/tensor.hpp"

/// The steps of one rank of a Fourier transform over ranks (parallel/exchange/distributed_fft.hpp). A complex tensor is
/// [rows, D, 2] of an accumulator type (f64 or f32): the real and the imaginary part of a complex point are adjacent.
/// The gradient of a complex point is ∂loss/∂re + i·∂loss/∂im; so the adjoint of a multiplication by w is the
/// multiplication by conj(w). Every kernel throws Error(internal) if shapes or dtypes do not fit.
namespace causeway {

/// In place, for every block of `length` consecutive rows and every channel: x[k] = Σ_j x[j] · exp(∓2πi jk/length),
/// with the minus sign forwards. Not scaled: inverse after forward is `length` times the identity, and each is the
/// adjoint of the other.
struct FourierTransform {
  std::int64_t length = 0;  ///< > 0
  bool inverse = false;
  TensorView x;  ///< [blocks·length, D, 2]
};
extern const Kernel<FourierTransform> fourier_transform;

/// y[r,d] = alpha · x[r,d] · exp(2πi (first + r·step) / modulus), or += with `accumulate`. It applies twiddle factors,
/// the twist of a negacyclic transform and, with step 0, one branch of a butterfly. x or y may be real, [rows, D], and
/// of any floating-point dtype; a real y gets the real part. A complex y may be the same memory as x. Angles are
/// reduced modulo a full rotation as integers, so that they are exact for any row.
struct Rotate {
  TensorView x;
  std::int64_t first = 0, step = 0, modulus = 1;
  double alpha = 1;
  bool accumulate = false;
  TensorView y;
};
extern const Kernel<Rotate> rotate;

/// y[r,d] = alpha · a[r,d] · b[r,g(d)], with conj(b) if `conjugate`; g(d) = d / (D/G). y may be the same memory as a.
struct ComplexMultiply {
  TensorView a;  ///< [rows, D, 2]
  TensorView b;  ///< [rows, G, 2]
  bool conjugate = false;
  double alpha = 1;
  TensorView y;  ///< [rows, D, 2]
};
extern const Kernel<ComplexMultiply> complex_multiply;

/// y[r,g] += Σ_{d∈g} a[r,d] · conj(b[r,d]), in the order of the channels. With a = d_y and b = the a of ComplexMultiply
/// it is the gradient of that kernel's b.
struct ComplexMultiplyReduce {
  TensorView a, b;  ///< [rows, D, 2]
  TensorView y;     ///< [rows, G, 2], added to
};
extern const Kernel<ComplexMultiplyReduce> complex_multiply_reduce;

/// The spectrum of the modal filter h_t[d] = Σ_m residues[d,m] λ[d,m]^t, t < length, λ = exp(-exp(log_rates)), in
/// closed form, at points of a grid of 4·length frequencies: y[r,d] = Σ_t h_t ω^t = Σ_m residues (1 - λ^length
/// ω^length) / (1 - λω), ω = exp(-2πi j/(4·length)), j = first + r·step. The points j ≡ 0 (mod 4) are the cyclic
/// transform of `length` points. j ≡ 2 is the negacyclic one. For j ≡ 1, terms that wrap around are multiplied by ±i.
/// Computed in float64, then rounded to the accumulator type.
struct ModalSpectrum {
  TensorView residues, log_rates;  ///< [D, M], accumulator type
  std::int64_t length = 0, first = 0, step = 1;
  TensorView y;  ///< [rows, D, 2], written
};
extern const Kernel<ModalSpectrum> modal_spectrum;

/// The gradients of ModalSpectrum: d_residues and d_log_rates, added to, given d_y.
struct ModalSpectrumBackward {
  TensorView residues, log_rates;
  std::int64_t length = 0, first = 0, step = 1;
  TensorView d_y;                      ///< [rows, D, 2]
  TensorView d_residues, d_log_rates;  ///< [D, M], accumulator type, added to
};
extern const Kernel<ModalSpectrumBackward> modal_spectrum_backward;

}  // namespace causeway
