#include "kernels/cuda/gemm_plan.cuh"

#include <algorithm>
#include <array>
#include <span>

#include "kernels/core/event.hpp"
#include "kernels/cuda/device/elementwise.cuh"
#include "kernels/cuda/gemm_choice.hpp"

namespace causeway::cuda {
namespace {

cudaDataType_t data_type(DType dtype, Fp8Format format) {
  switch (dtype) {
    case DType::u8:
      return format == Fp8Format::e4m3 ? CUDA_R_8F_E4M3 : CUDA_R_8F_E5M2;
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
MatrixLayout layout_of(DType dtype, Fp8Format format, std::int64_t rows, std::int64_t columns,
                       std::int64_t row_stride) {
  cublasLtMatrixLayout_t created = nullptr;
  cublas_check(cublasLtMatrixLayoutCreate(&created, data_type(dtype, format), static_cast<std::uint64_t>(columns),
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

void set_scales(const GemmDescription& of, const void* scales_a, const void* scales_b) {
  set(of.operation, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, scales_b);
  set(of.operation, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, scales_a);
}

/// What the order of an element's additions depends on: the family of kernels, in how many parts k is cut, and how
/// they are added. Of 419 other answers for 60 products of bf16 (cuBLASLt 13.1, H200) exactly those with the same
/// three values had the bits of the first answer.
std::array<std::int32_t, 3> order_of_sums(const GemmAlgorithm& algorithm) {
  std::array<std::int32_t, 3> values{};
  constexpr std::array attributes{CUBLASLT_ALGO_CONFIG_ID, CUBLASLT_ALGO_CONFIG_SPLITK_NUM,
                                  CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME};
  for (std::size_t i = 0; i < attributes.size(); ++i) {
    std::size_t written = 0;
    cublas_check(
        cublasLtMatmulAlgoConfigGetAttribute(&algorithm.value, attributes[i], &values[i], sizeof(values[i]), &written));
  }
  return values;
}

/// sum += Σ over the elements of x [rows, columns], which are words, of a hash of each word and its place. Additions of
/// integers have the same result in any order.
///
/// block: 256 columns of every gridDim.y-th row
/// thread: one column
template <class Word>
__global__ void __launch_bounds__(256) add_fingerprint(const Word* x, std::int64_t rows, std::int64_t columns,
                                                       std::int64_t row_stride, unsigned long long* sum) {
  const std::int64_t column = std::int64_t{blockIdx.x} * 256 + threadIdx.x;
  unsigned long long own = 0;
  if (column < columns)
    for (std::int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
      unsigned long long hash = x[row * row_stride + column] + 0x9e3779b97f4a7c15ull * (row * columns + column + 1);
      hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9ull;
      own += hash ^ (hash >> 27);
    }
  atomicAdd(sum, own);
}

}  // namespace

GemmDescription describe(const GemmProblem& of) {
  const bool wide = of.from == DType::f64;
  cublasLtMatmulDesc_t operation = nullptr;
  // float32 and not tf32, as on the CPU.
  cublas_check(cublasLtMatmulDescCreate(&operation, wide ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
                                        wide ? CUDA_R_64F : CUDA_R_32F));
  GemmDescription description{
      .operation = MatmulOperation(operation),
      .a = layout_of(of.from, of.format_a, of.transpose_a ? of.k : of.m, of.transpose_a ? of.m : of.k, of.stride_a),
      .b = layout_of(of.from, of.format_b, of.transpose_b ? of.n : of.k, of.transpose_b ? of.k : of.n, of.stride_b),
      .c = layout_of(of.to, {}, of.m, of.n, of.stride_c)};
  set(description.operation, CUBLASLT_MATMUL_DESC_TRANSA, of.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(description.operation, CUBLASLT_MATMUL_DESC_TRANSB, of.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
  if (of.from != DType::u8) return description;
  // Sums are moved to f32 registers every 128 products, not only at the end.
  set(description.operation, CUBLASLT_MATMUL_DESC_FAST_ACCUM, std::int8_t{0});
  if (!of.scales_rows) return description;
  // A scale for each row of a and of b.
  for (const auto attribute : {CUBLASLT_MATMUL_DESC_A_SCALE_MODE, CUBLASLT_MATMUL_DESC_B_SCALE_MODE})
    set(description.operation, attribute, static_cast<std::int32_t>(CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F));
  set_scales(description, reinterpret_cast<const void*>(16), reinterpret_cast<const void*>(16));  // for the heuristic
  return description;
}

cublasStatus_t multiply(cublasLtHandle_t handle, const GemmDescription& of, const GemmOperands& operands, bool wide,
                        const GemmAlgorithm& algorithm, TensorView workspace, cudaStream_t stream) {
  if (operands.scales_a != nullptr) set_scales(of, operands.scales_a, operands.scales_b);
  const auto call = [&]<class R> {  // alpha and beta have the type of the sums
    const R alpha = 1, beta = static_cast<R>(operands.beta);
    return cublasLtMatmul(handle, of.operation.get(), &alpha, operands.b, of.b.get(), operands.a, of.a.get(), &beta,
                          operands.c, of.c.get(), operands.d, of.c.get(), &algorithm.value, workspace.data,
                          static_cast<std::size_t>(workspace.size()), stream);
  };
  return wide ? call.template operator()<double>() : call.template operator()<float>();
}

std::optional<std::int64_t> workspace_of(cublasLtHandle_t handle, const GemmDescription& of,
                                         const GemmAlgorithm& algorithm) {
  cublasLtMatmulHeuristicResult_t fit = {};
  if (cublasLtMatmulAlgoCheck(handle, of.operation.get(), of.b.get(), of.a.get(), of.c.get(), of.c.get(),
                              &algorithm.value, &fit) != CUBLAS_STATUS_SUCCESS ||
      fit.workspaceSize > max_gemm_workspace)
    return {};
  return static_cast<std::int64_t>(fit.workspaceSize);
}

std::vector<GemmAlgorithm> algorithms_for(cublasLtHandle_t handle, const GemmDescription& description,
                                          const GemmProblem& of) {
  cublasLtMatmulPreference_t created = nullptr;
  cublas_check(cublasLtMatmulPreferenceCreate(&created));
  const MatmulPreference preference(created);
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, max_gemm_workspace);
  // If k is split, the partial sums are added in the workspace in a fixed order, not in c, whose type may be narrow.
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, of.alignment_b);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, of.alignment_a);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, of.alignment_c);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, of.alignment_c);
  std::array<cublasLtMatmulHeuristicResult_t, 8> found{};
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle, description.operation.get(), description.b.get(), description.a.get(), description.c.get(),
      description.c.get(), preference.get(), static_cast<int>(found.size()), found.data(), &count);
  if (status != CUBLAS_STATUS_NOT_SUPPORTED) cublas_check(status);
  std::vector<GemmAlgorithm> algorithms;
  for (const cublasLtMatmulHeuristicResult_t& each : std::span(found).first(static_cast<std::size_t>(count)))
    if (const GemmAlgorithm algorithm{each.algo};
        algorithms.empty() || order_of_sums(algorithm) == order_of_sums(algorithms.front()))
      algorithms.push_back(algorithm);
  return algorithms;
}

GemmAlgorithm fastest(const Stream& stream, cublasLtHandle_t handle, const GemmProblem& of,
                      const GemmDescription& description, const GemmOperands& operands,
                      const std::vector<GemmAlgorithm>& algorithms) {
  constexpr double least_seconds = 2e-4;  // of a measurement, against the resolution of events
  constexpr int most_repeats = 16;
  GemmOperands trial = operands;
  const std::int64_t bytes = of.m * std::max(of.stride_c, of.n) * size_of(of.to);
  Tensor result;  // what c must not be overwritten by
  if (operands.beta != 0) {
    if (stream.memory().free_device_bytes().value_or(0) < 2 * bytes) return algorithms.front();
    result = Tensor(stream, DType::u8, {bytes});
    trial.d = result.view().data;
  }
  const Tensor workspace(stream, DType::u8, {static_cast<std::int64_t>(max_gemm_workspace)}),
      fingerprint(stream, DType::i64, {1});
  const auto run = [&](std::size_t i) {
    const std::optional<std::int64_t> needed = workspace_of(handle, description, algorithms[i]);
    return needed && multiply(handle, description, trial, of.from == DType::f64, algorithms[i], workspace,
                              native_of(stream)) == CUBLAS_STATUS_SUCCESS;
  };
  const auto result_of = [&](std::size_t i) -> std::optional<std::uint64_t> {
    if (!run(i)) return {};
    auto* const sum = static_cast<unsigned long long*>(fingerprint.view().data);
    stream.zero(sum, sizeof(*sum));
    const dim3 grid(grid_of(of.n, 256), static_cast<unsigned>(std::min<std::int64_t>(of.m, 64)));
    const auto add = [&]<class Word> {
      add_fingerprint<<<grid, 256, 0, native_of(stream)>>>(static_cast<const Word*>(trial.d), of.m, of.n, of.stride_c,
                                                           sum);
      cuda_check(cudaGetLastError());
    };
    of.to == DType::bf16 ? add.template operator()<std::uint16_t>() : add.template operator()<std::uint32_t>();
    const Tensor on_host(stream.host(), DType::i64, {1});
    stream.copy(on_host.view().data, sum, sizeof(*sum));
    stream.wait();
    return static_cast<std::uint64_t>(on_host.view().as<std::int64_t>()[0]);
  };
  const auto seconds_of_runs = [&](std::size_t i, int repeats) {
    const Event begin(stream, true);
    for (int r = 0; r < repeats; ++r) run(i);
    const Event end(stream, true);
    end.wait();
    return end.seconds_since(begin) / repeats;
  };
  int repeats = 0;  // set by the first measurement
  const auto seconds_of = [&](std::size_t i) {
    if (repeats == 0)
      repeats = std::clamp(static_cast<int>(least_seconds / seconds_of_runs(i, 2)) + 1, 2, most_repeats);
    return seconds_of_runs(i, repeats);
  };
  return algorithms[fastest_with_the_same_result(algorithms.size(), result_of, seconds_of)];
}

}  // namespace causeway::cuda
