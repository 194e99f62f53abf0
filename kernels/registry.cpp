/// The list of all kernels, one line each. A line pairs the function in kernels/cpu/ with the one in kernels/cuda/.

#include "kernels/activation.hpp"
#include "kernels/adamw.hpp"
#include "kernels/attention.hpp"
#include "kernels/bias.hpp"
#include "kernels/blocked_conv.hpp"
#include "kernels/causal_conv.hpp"
#include "kernels/core/dry_run/dry_run.hpp"
#include "kernels/cross_entropy.hpp"
#include "kernels/embedding.hpp"
#include "kernels/fft_conv.hpp"
#include "kernels/fourier.hpp"
#include "kernels/fp8/fp8.hpp"
#include "kernels/gemm.hpp"
#include "kernels/hyena_block.hpp"
#include "kernels/modal_conv.hpp"
#include "kernels/norm.hpp"
#include "kernels/probe.hpp"
#include "kernels/random_fill.hpp"
#include "kernels/reorder.hpp"
#include "kernels/selective_scan.hpp"

namespace causeway {
namespace {

/// A function for the CPU, which a dry run leaves out.
template <auto function, class Args>
void on_cpu(const Stream& stream, const Args& args) {
  if (!is_dry_run(stream)) function(stream, args);
}

}  // namespace
}  // namespace causeway

/// Declares cpu::name, which kernels/cpu/ defines, and defines a kernel `name` that runs only on the CPU.
#define CAUSEWAY_CPU_KERNEL(Args, name)                       \
  namespace causeway {                                        \
  namespace cpu {                                             \
  void name(const Stream&, const Args&);                      \
  }                                                           \
  const Kernel<Args> name{#name, on_cpu<cpu::name>, nullptr}; \
  }                                                           \
  static_assert(true)

/// The same for a kernel that runs on both devices: kernels/cuda/ defines cuda::name.
#if CAUSEWAY_CUDA
#define CAUSEWAY_KERNEL(Args, name)                              \
  namespace causeway {                                           \
  namespace cpu {                                                \
  void name(const Stream&, const Args&);                         \
  }                                                              \
  namespace cuda {                                               \
  void name(const Stream&, const Args&);                         \
  }                                                              \
  const Kernel<Args> name{#name, on_cpu<cpu::name>, cuda::name}; \
  }                                                              \
  static_assert(true)
#else
#define CAUSEWAY_KERNEL(Args, name) CAUSEWAY_CPU_KERNEL(Args, name)
#endif

/// A kernel that is made of others: kernels/composed/ defines composed::name. CAUSEWAY_FUSED_KERNEL is for one that a
/// GPU has its own kernel of: kernels/cuda/ defines cuda::name.
#if CAUSEWAY_CUDA
#define CAUSEWAY_CUDA_ONLY(function) function
#else
#define CAUSEWAY_CUDA_ONLY(function) nullptr
#endif
#define CAUSEWAY_COMPOSED_KERNEL(Args, name)                                                  \
  namespace causeway {                                                                        \
  namespace composed {                                                                        \
  void name(const Stream&, const Args&);                                                      \
  }                                                                                           \
  const Kernel<Args> name{#name, on_cpu<composed::name>, CAUSEWAY_CUDA_ONLY(composed::name)}; \
  }                                                                                           \
  static_assert(true)
#define CAUSEWAY_FUSED_KERNEL(Args, name)                                                 \
  namespace causeway {                                                                    \
  namespace composed {                                                                    \
  void name(const Stream&, const Args&);                                                  \
  }                                                                                       \
  namespace cuda {                                                                        \
  void name(const Stream&, const Args&);                                                  \
  }                                                                                       \
  const Kernel<Args> name{#name, on_cpu<composed::name>, CAUSEWAY_CUDA_ONLY(cuda::name)}; \
  }                                                                                       \
  static_assert(true)

CAUSEWAY_KERNEL(Scale, scale);
CAUSEWAY_KERNEL(SumOfRankParts, sum_of_rank_parts);
CAUSEWAY_KERNEL(Fill, fill);
CAUSEWAY_KERNEL(GatedActivationForward, gated_activation_forward);
CAUSEWAY_KERNEL(GatedActivationBackward, gated_activation_backward);
CAUSEWAY_KERNEL(Multiply, multiply);
CAUSEWAY_KERNEL(NegativeExponential, negative_exponential);
CAUSEWAY_KERNEL(NegativeExponentialBackward, negative_exponential_backward);
CAUSEWAY_KERNEL(SumOfElements, sum_of_elements);
CAUSEWAY_KERNEL(SumOfSquares, sum_of_squares);
CAUSEWAY_KERNEL(RepeatedExponential, repeated_exponential);
CAUSEWAY_KERNEL(CopyRows, copy_rows);
CAUSEWAY_KERNEL(Transpose, transpose);
CAUSEWAY_KERNEL(Gemm, gemm);
CAUSEWAY_KERNEL(RoundToFp8, round_to_fp8);
CAUSEWAY_KERNEL(QuantiseToFp8, quantise_to_fp8);
CAUSEWAY_KERNEL(TransposeFp8, transpose_fp8);
CAUSEWAY_KERNEL(Fp8Gemm, fp8_gemm);
CAUSEWAY_KERNEL(BiasForward, bias_forward);
CAUSEWAY_KERNEL(BiasBackward, bias_backward);
CAUSEWAY_KERNEL(RmsNormForward, rms_norm_forward);
CAUSEWAY_KERNEL(RmsNormBackward, rms_norm_backward);
CAUSEWAY_KERNEL(EmbeddingForward, embedding_forward);
CAUSEWAY_KERNEL(EmbeddingBackward, embedding_backward);
CAUSEWAY_KERNEL(CrossEntropy, cross_entropy);
CAUSEWAY_KERNEL(AdamW, adamw);
CAUSEWAY_KERNEL(AwaitAdamW, await_adamw);
CAUSEWAY_KERNEL(GradientFactor, gradient_factor);
CAUSEWAY_KERNEL(RandomFill, random_fill);
CAUSEWAY_KERNEL(CausalConvForward, causal_conv_forward);
CAUSEWAY_KERNEL(CausalConvBackward, causal_conv_backward);
CAUSEWAY_KERNEL(BlockedConvForward, blocked_conv_forward);
CAUSEWAY_KERNEL(BlockedConvBackward, blocked_conv_backward);
CAUSEWAY_KERNEL(ModalConvForward, modal_conv_forward);
CAUSEWAY_KERNEL(ModalConvBackward, modal_conv_backward);
CAUSEWAY_KERNEL(ModalConvSummary, modal_conv_summary);
CAUSEWAY_KERNEL(ModalConvAdjointSummary, modal_conv_adjoint_summary);
CAUSEWAY_KERNEL(ModalConvFold, modal_conv_fold);
CAUSEWAY_KERNEL(ModalFilter, modal_filter);
CAUSEWAY_KERNEL(ModalFilterBackward, modal_filter_backward);
CAUSEWAY_KERNEL(FftConvForward, fft_conv_forward);
CAUSEWAY_KERNEL(FftConvBackward, fft_conv_backward);
CAUSEWAY_KERNEL(FftConvSpectra, fft_conv_spectra);
CAUSEWAY_KERNEL(AttentionForward, attention_forward);
CAUSEWAY_KERNEL(AttentionDelta, attention_delta);
CAUSEWAY_KERNEL(AttentionBackward, attention_backward);
CAUSEWAY_KERNEL(Rope, rope);
CAUSEWAY_KERNEL(FourierTransform, fourier_transform);
CAUSEWAY_KERNEL(Rotate, rotate);
CAUSEWAY_KERNEL(ComplexMultiply, complex_multiply);
CAUSEWAY_KERNEL(ComplexMultiplyReduce, complex_multiply_reduce);
CAUSEWAY_KERNEL(ModalSpectrum, modal_spectrum);
CAUSEWAY_KERNEL(ModalSpectrumBackward, modal_spectrum_backward);
CAUSEWAY_KERNEL(SelectiveScanForward, selective_scan_forward);
CAUSEWAY_KERNEL(SelectiveScanBackward, selective_scan_backward);
CAUSEWAY_KERNEL(SelectiveScanSummary, selective_scan_summary);
CAUSEWAY_KERNEL(SelectiveScanAdjointSummary, selective_scan_adjoint_summary);
CAUSEWAY_KERNEL(SelectiveScanFold, selective_scan_fold);

CAUSEWAY_FUSED_KERNEL(HyenaBlockForward, hyena_block_forward);
CAUSEWAY_FUSED_KERNEL(HyenaBlockBackward, hyena_block_backward);
CAUSEWAY_FUSED_KERNEL(HyenaBlockSummary, hyena_block_summary);
CAUSEWAY_COMPOSED_KERNEL(HyenaBlockAdjointSummary, hyena_block_adjoint_summary);

#if CAUSEWAY_CUDA
namespace causeway::cuda {
AttentionForm attention_form(const AttentionInputs& in);
bool has_fp8_gemm(std::int64_t k, TensorView c);
bool hyena_block_is_fused(const HyenaBlockForward& args);
bool hyena_block_is_fused(const HyenaBlockBackward& args);
}  // namespace causeway::cuda
causeway::AttentionForm causeway::attention_form(Device device, const AttentionInputs& in) {
  return device == Device::cuda ? cuda::attention_form(in) : AttentionForm{};
}
bool causeway::has_fp8_gemm(Device device, std::int64_t k, TensorView c) {
  return device == Device::cuda && cuda::has_fp8_gemm(k, c);
}
bool causeway::hyena_block_is_fused(Device device, const HyenaBlockForward& args) {
  return device == Device::cuda && cuda::hyena_block_is_fused(args);
}
bool causeway::hyena_block_is_fused(Device device, const HyenaBlockBackward& args) {
  return device == Device::cuda && cuda::hyena_block_is_fused(args);
}
#else
causeway::AttentionForm causeway::attention_form(Device, const AttentionInputs&) { return {}; }
bool causeway::has_fp8_gemm(Device, std::int64_t, TensorView) { return false; }
bool causeway::hyena_block_is_fused(Device, const HyenaBlockForward&) { return false; }
bool causeway::hyena_block_is_fused(Device, const HyenaBlockBackward&) { return false; }
#endif
