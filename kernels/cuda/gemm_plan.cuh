#pragma once

#include <cublasLt.h>

#include <compare>
#include <cstdint>
#include <optional>
#include <source_location>
#include <vector>

#include "kernels/core/handle.hpp"
#include "kernels/core/tensor.hpp"
#include "kernels/cuda/device/check.cuh"
#include "kernels/fp8/float8.hpp"

/// cuBLASLt's objects for a matrix product, and the algorithms that it proposes.
namespace causeway::cuda {

inline void cublas_check(cublasStatus_t status, std::source_location where = std::source_location::current()) {
  ensure(status == CUBLAS_STATUS_SUCCESS, "{}:{}: cuBLASLt: {}", where.file_name(), where.line(),
         cublasLtGetStatusString(status));
}

template <class T, cublasStatus_t (*destroy)(T)>
struct CublasLtTraits {
  using type = T;
  static type null() { return nullptr; }
  static void close(type value) noexcept { destroy(value); }
};
using LtHandle = Handle<CublasLtTraits<cublasLtHandle_t, cublasLtDestroy>>;
using MatmulOperation = Handle<CublasLtTraits<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>>;
using MatrixLayout = Handle<CublasLtTraits<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>>;
using MatmulPreference = Handle<CublasLtTraits<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>>;

constexpr std::uint64_t max_gemm_workspace = 32 << 20;  // bytes; NVIDIA recommends this for Hopper

/// Everything that the choice of an algorithm by cuBLASLt depends on.
struct GemmProblem {
  std::int64_t m, n, k, stride_a, stride_b, stride_c;
  DType from, to;  ///< from u8: 8-bit floats
  bool transpose_a, transpose_b;
  std::uint32_t alignment_a, alignment_b, alignment_c;  ///< bytes
  Fp8Format format_a = Fp8Format::e4m3, format_b = Fp8Format::e4m3;
  bool scales_rows = true;  ///< of 8-bit floats; otherwise the result is the product of the codes

  auto operator<=>(const GemmProblem&) const = default;
};

/// The descriptions of a product. c = op(a)·op(b) stored by rows is cᵀ = op(b)ᵀ·op(a)ᵀ stored by columns: the operands
/// are exchanged, no data moves.
struct GemmDescription {
  MatmulOperation operation;
  MatrixLayout a, b, c;
};
GemmDescription describe(const GemmProblem& of);

/// An algorithm of cuBLASLt. Its own type has no name, and nvcc 13.0 cannot compile a vector of such a type.
struct GemmAlgorithm {
  cublasLtMatmulAlgo_t value;
};

/// The operands of one call.
struct GemmOperands {
  const void *a, *b, *c;
  void* d;  ///< the result: c's memory, or other memory of its layout
  double beta;
  const void *scales_a = nullptr, *scales_b = nullptr;  ///< of 8-bit floats
};

/// Enqueues d = op(a)·op(b) + beta·c.
cublasStatus_t multiply(cublasLtHandle_t handle, const GemmDescription& of, const GemmOperands& operands, bool wide,
                        const GemmAlgorithm& algorithm, TensorView workspace, cudaStream_t stream);

/// The bytes of workspace with which the algorithm can compute the product; none if it cannot.
std::optional<std::int64_t> workspace_of(cublasLtHandle_t handle, const GemmDescription& of,
                                         const GemmAlgorithm& algorithm);

/// What cuBLASLt's heuristic proposes, best first: its first answer, and those of the next ones that add the products
/// of an element in the same order. Empty if it has no answer.
std::vector<GemmAlgorithm> algorithms_for(cublasLtHandle_t handle, const GemmDescription& description,
                                          const GemmProblem& of);

/// Measures the algorithms, of which there is at least one, on the operands of a call, and waits for it. Returns the
/// fastest one with the bits of the first. Overwrites c only if beta is 0.
GemmAlgorithm fastest(const Stream& stream, cublasLtHandle_t handle, const GemmProblem& of,
                      const GemmDescription& description, const GemmOperands& operands,
                      const std::vector<GemmAlgorithm>& algorithms);

}  // namespace causeway::cuda
