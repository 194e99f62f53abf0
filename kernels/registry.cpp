/// Every kernel, a line each: pairs kernels/cpu/<op>.cpp with kernels/cuda/<op>.cu.

#include "kernels/activation.hpp"
#include "kernels/adamw.hpp"
#include "kernels/causal_conv.hpp"
#include "kernels/cross_entropy.hpp"
#include "kernels/embedding.hpp"
#include "kernels/gemm.hpp"
#include "kernels/norm.hpp"
#include "kernels/reorder.hpp"
#include "kernels/selective_scan.hpp"

/// Declares cpu::name, defined in kernels/cpu/, and defines the kernel `name`, which a GPU does not have.
#define CAUSEWAY_CPU_KERNEL(Args, name)                      \
  namespace causeway::cpu {                                  \
  void name(const Stream&, const Args&);                     \
  }                                                          \
  const causeway::Kernel<causeway::Args> causeway::name { #name, causeway::cpu::name, nullptr }

/// The same for a kernel that both devices have: cuda::name is defined in kernels/cuda/.
#if CAUSEWAY_CUDA
#define CAUSEWAY_KERNEL(Args, name)                          \
  namespace causeway::cpu {                                  \
  void name(const Stream&, const Args&);                     \
  }                                                          \
  namespace causeway::cuda {                                 \
  void name(const Stream&, const Args&);                     \
  }                                                          \
  const causeway::Kernel<causeway::Args> causeway::name { #name, causeway::cpu::name, causeway::cuda::name }
#else
#define CAUSEWAY_KERNEL(Args, name) CAUSEWAY_CPU_KERNEL(Args, name)
#endif

CAUSEWAY_KERNEL(Scale, scale);
CAUSEWAY_KERNEL(Fill, fill);
CAUSEWAY_CPU_KERNEL(NegativeExponential, negative_exponential);
CAUSEWAY_CPU_KERNEL(NegativeExponentialBackward, negative_exponential_backward);
CAUSEWAY_CPU_KERNEL(SumOfSquares, sum_of_squares);
CAUSEWAY_KERNEL(CopyRows, copy_rows);
CAUSEWAY_CPU_KERNEL(Gemm, gemm);
CAUSEWAY_CPU_KERNEL(RmsNormForward, rms_norm_forward);
CAUSEWAY_CPU_KERNEL(RmsNormBackward, rms_norm_backward);
CAUSEWAY_CPU_KERNEL(EmbeddingForward, embedding_forward);
CAUSEWAY_CPU_KERNEL(EmbeddingBackward, embedding_backward);
CAUSEWAY_CPU_KERNEL(CrossEntropy, cross_entropy);
CAUSEWAY_CPU_KERNEL(AdamW, adamw);
CAUSEWAY_CPU_KERNEL(CausalConvForward, causal_conv_forward);
CAUSEWAY_CPU_KERNEL(CausalConvBackward, causal_conv_backward);
CAUSEWAY_CPU_KERNEL(SelectiveScanForward, selective_scan_forward);
CAUSEWAY_CPU_KERNEL(SelectiveScanBackward, selective_scan_backward);
CAUSEWAY_CPU_KERNEL(SelectiveScanSummary, selective_scan_summary);
CAUSEWAY_CPU_KERNEL(SelectiveScanAdjointSummary, selective_scan_adjoint_summary);
CAUSEWAY_CPU_KERNEL(SelectiveScanFold, selective_scan_fold);
