#include "kernels/gemm.hpp"

#include <cublasLt.h>

#include <algorithm>
#include <bit>
#include <compare>
#include <map>
#include <optional>

#include "kernels/core/handle.hpp"
#include "kernels/cuda/device/elementwise.cuh"

namespace causeway::cuda {
namespace {

void cublas_check(cublasStatus_t status, std::source_location where = std::source_location::current()) {
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

/// Everything that the choice of an algorithm by cuBLASLt depends on.
struct GemmProblem {
  std::int64_t m, n, k, stride_a, stride_b, stride_c;
  DType from, to;
  bool transpose_a, transpose_b;
  std::uint32_t alignment_a, alignment_b, alignment_c;  ///< bytes

  auto operator<=>(const GemmProblem&) const = default;
};

/// The cuBLASLt objects for the calls of a GemmProblem.
struct GemmPlan {
  MatmulOperation operation;
  MatrixLayout a, b, c;
  cublasLtMatmulAlgo_t algorithm;
  std::int64_t workspace;  ///< bytes
};

cudaDataType_t data_type(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return CUDA_R_64F;
    case DType::f32:
      return CUDA_R_32F;
    case DType::bf16:
      return CUDA_R_16BF;
    default:
      fail(ExitCode::internal, "gemm: the type is {}, expected f64, f32 or bf16", name_of(dtype));
  }
}

/// Causeway's rows are the columns of cuBLASLt.
MatrixLayout layout_of(DType dtype, std::int64_t rows, std::int64_t columns, std::int64_t row_stride) {
  cublasLtMatrixLayout_t created = nullptr;
  cublas_check(cublasLtMatrixLayoutCreate(&created, data_type(dtype), static_cast<std::uint64_t>(columns),
                                          static_cast<std::uint64_t>(rows), std::max(row_stride, columns)));
  return MatrixLayout(created);
}

template <class T>
void set(const MatmulOperation& operation, cublasLtMatmulDescAttributes_t attribute, T value) {
  cublas_check(cublasLtMatmulDescSetAttribute(operation.get(), attribute, &value, sizeof(value)));
}
template <class T>
void set(const MatmulPreference& preference, cublasLtMatmulPreferenceAttributes_t attribute, T value) {
  cublas_check(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof(value)));
}

/// An extent near this one: up to 512 the same, above that rounded up to 16 values for each factor of two. Extents of a
/// model's weights are such values already; the number of a pack's tokens changes from step to step.
std::int64_t rounded(std::int64_t extent) {
  constexpr std::int64_t most_exact = 512, steps = 16;
  if (extent <= most_exact) return extent;
  return round_up(extent, static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(extent))) / 2 / steps);
}

/// The cuBLASLt handle of one stream and its plans. The heuristic of cuBLASLt takes the host 0.1 to 0.3 ms, while the
/// GPU waits; so it is called once for all problems with the same rounded extents, which then use one algorithm.
class GemmPlans {
 public:
  GemmPlans() {
    cublasLtHandle_t created = nullptr;
    cublas_check(cublasLtCreate(&created));
    handle_ = LtHandle(created);
  }
  cublasLtHandle_t handle() const { return handle_.get(); }
  const GemmPlan& operator()(const GemmProblem& problem) {
    const auto found = plans_.find(problem);
    return found != plans_.end() ? found->second : plans_.emplace(problem, make_plan(problem)).first->second;
  }

 private:
  /// The plan with the algorithm of the rounded problem; with its own where that does not fit.
  GemmPlan make_plan(const GemmProblem& of) {
    GemmProblem near = of;
    for (std::int64_t GemmProblem::*extent : {&GemmProblem::m, &GemmProblem::n, &GemmProblem::k})
      near.*extent = rounded(of.*extent);
    GemmPlan plan = describe(of);
    auto found = algorithms_.find(near);
    if (found == algorithms_.end()) found = algorithms_.emplace(near, choose(describe(near), near)).first;
    cublasLtMatmulHeuristicResult_t fit = {};
    if (found->second &&
        cublasLtMatmulAlgoCheck(handle(), plan.operation.get(), plan.b.get(), plan.a.get(), plan.c.get(), plan.c.get(),
                                &*found->second, &fit) == CUBLAS_STATUS_SUCCESS &&
        fit.workspaceSize <= max_workspace) {
      plan.algorithm = *found->second;
    } else {
      const std::optional<cublasLtMatmulAlgo_t> own = choose(plan, of);
      ensure(own.has_value(), "cuBLASLt has no algorithm for a gemm of {} x {} x {} from {} to {}", of.m, of.k, of.n,
             name_of(of.from), name_of(of.to));
      plan.algorithm = *own;
      cublas_check(cublasLtMatmulAlgoCheck(handle(), plan.operation.get(), plan.b.get(), plan.a.get(), plan.c.get(),
                                           plan.c.get(), &plan.algorithm, &fit));
    }
    plan.workspace = static_cast<std::int64_t>(fit.workspaceSize);
    return plan;
  }

  /// c = op(a)·op(b) stored by rows is cᵀ = op(b)ᵀ·op(a)ᵀ stored by columns: the operands are exchanged, no data moves.
  static GemmPlan describe(const GemmProblem& of) {
    const bool wide = of.from == DType::f64;
    cublasLtMatmulDesc_t operation = nullptr;
    // float32 and not tf32, as on the CPU.
    cublas_check(cublasLtMatmulDescCreate(&operation, wide ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
                                          wide ? CUDA_R_64F : CUDA_R_32F));
    GemmPlan plan{.operation = MatmulOperation(operation),
                  .a = layout_of(of.from, of.transpose_a ? of.k : of.m, of.transpose_a ? of.m : of.k, of.stride_a),
                  .b = layout_of(of.from, of.transpose_b ? of.n : of.k, of.transpose_b ? of.k : of.n, of.stride_b),
                  .c = layout_of(of.to, of.m, of.n, of.stride_c),
                  .algorithm = {},
                  .workspace = 0};
    set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, of.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSB, of.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    return plan;
  }

  /// The first choice of the heuristic, if it has any.
  std::optional<cublasLtMatmulAlgo_t> choose(const GemmPlan& plan, const GemmProblem& of) const {
    cublasLtMatmulPreference_t created = nullptr;
    cublas_check(cublasLtMatmulPreferenceCreate(&created));
    const MatmulPreference preference(created);
    set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, max_workspace);
    // If k is split, the partial sums are added in the workspace in a fixed order, not in c, whose type may be narrow.
    set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, of.alignment_b);
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, of.alignment_a);
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, of.alignment_c);
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, of.alignment_c);
    cublasLtMatmulHeuristicResult_t found = {};
    int count = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle(), plan.operation.get(), plan.b.get(), plan.a.get(), plan.c.get(),
                                       plan.c.get(), preference.get(), 1, &found, &count);
    if (status != CUBLAS_STATUS_NOT_SUPPORTED) cublas_check(status);
    return count == 1 ? std::optional(found.algo) : std::nullopt;
  }

  static constexpr std::uint64_t max_workspace = 32 << 20;  // bytes; NVIDIA recommends this for Hopper
  LtHandle handle_;
  std::map<GemmProblem, GemmPlan> plans_;
  std::map<GemmProblem, std::optional<cublasLtMatmulAlgo_t>> algorithms_;  // by the rounded problem
};

std::uint32_t alignment_of(const void* data) {
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  std::uint32_t alignment = 16;
  while (address % alignment != 0) alignment /= 2;
  return alignment;
}

/// c = beta·c. If beta is zero, c becomes 0 even where it contained NaN.
template <class T>
struct ScaleByBetaBody {
  static constexpr int width = packet_width<T>;
  Rows<T> c;
  Accumulator<T> beta;

  template <int V>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    auto to = c.template load<V>(row, column);
#pragma unroll
    for (int v = 0; v < V; ++v) to.at[v] = narrowed<T>(beta == 0 ? Accumulator<T>{0} : beta * widened(to.at[v]));
    c.template store<V>(row, column, to);
  }
};

}  // namespace

// Lower bound: 2mnk operations at the rate of the matrix units, about 990 TFLOP/s in dense bf16 and 67 in f32, or the
// bytes of a, b and c.
void gemm(const Stream& stream, const Gemm& args) {
  const TensorView a = args.a, b = args.b, c = args.c;
  const std::int64_t m = c.rows(), n = c.columns(), k = args.transpose_a ? a.rows() : a.columns();
  ensure((args.transpose_a ? a.columns() : a.rows()) == m && (args.transpose_b ? b.columns() : b.rows()) == k &&
             (args.transpose_b ? b.rows() : b.columns()) == n,
         "gemm: shapes {}{} and {}{} do not fit the result {}", a.shape.to_string(), args.transpose_a ? "ᵀ" : "",
         b.shape.to_string(), args.transpose_b ? "ᵀ" : "", c.shape.to_string());
  ensure(a.dtype == b.dtype && (c.dtype == a.dtype || c.dtype == accumulator_of(a.dtype)),
         "gemm: a is {}, b is {}, c is {}; expected a and b of one type, c of that or of its accumulator type",
         name_of(a.dtype), name_of(b.dtype), name_of(c.dtype));
  if (m == 0 || n == 0) return;
  if (k == 0)
    return dispatch(c.dtype, [&]<class T>() {
      for_each_element(stream, {c}, ScaleByBetaBody<T>{Rows<T>(c), static_cast<Accumulator<T>>(args.beta)});
    });
  GemmPlans& plans = stream.resource<GemmPlans>();
  const GemmPlan& plan = plans({.m = m,
                                .n = n,
                                .k = k,
                                .stride_a = a.row_stride,
                                .stride_b = b.row_stride,
                                .stride_c = c.row_stride,
                                .from = a.dtype,
                                .to = c.dtype,
                                .transpose_a = args.transpose_a,
                                .transpose_b = args.transpose_b,
                                .alignment_a = alignment_of(a.data),
                                .alignment_b = alignment_of(b.data),
                                .alignment_c = alignment_of(c.data)});
  const Tensor workspace(stream, DType::u8, {plan.workspace});
  const auto multiply = [&]<class R> {  // alpha and beta have the type of the sums
    const R alpha = 1, beta = static_cast<R>(args.beta);
    cublas_check(cublasLtMatmul(plans.handle(), plan.operation.get(), &alpha, b.data, plan.b.get(), a.data,
                                plan.a.get(), &beta, c.data, plan.c.get(), c.data, plan.c.get(), &plan.algorithm,
                                workspace.view().data, static_cast<std::size_t>(plan.workspace), native_of(stream)));
  };
  if (a.dtype == DType::f64)
    multiply.template operator()<double>();
  else
    multiply.template operator()<float>();
}

}  // namespace causeway::cuda
