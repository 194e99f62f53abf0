#include "kernels/gemm.hpp"

#include <algorithm>
#include <bit>
#include <map>
#include <type_traits>

#include "kernels/cuda/device/elementwise.cuh"
#include "kernels/cuda/gemm_plan.cuh"
#include "kernels/expect_gemm.hpp"
#include "kernels/fp8/expect_fp8.hpp"

namespace causeway::cuda {
namespace {

/// An extent near this one: up to 512 the same, above that rounded up to 16 values for each factor of two. Extents of a
/// model's weights are such values already; the number of a pack's tokens changes from step to step.
std::int64_t rounded(std::int64_t extent) {
  constexpr std::int64_t most_exact = 512, steps = 16;
  if (extent <= most_exact) return extent;
  return round_up(extent, static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(extent))) / 2 / steps);
}

/// The algorithms of all problems with the same rounded extents.
struct GemmAlgorithms {
  std::vector<GemmAlgorithm> proposed;  ///< of the rounded problem; empty: cuBLASLt has none
  GemmAlgorithm chosen;                 ///< the first of them; later the fastest
  std::int64_t calls = 0;               ///< that used the algorithm, until it is measured
};

/// The cuBLASLt objects for the calls of a GemmProblem.
struct GemmPlan {
  GemmDescription description;
  GemmAlgorithm algorithm;
  std::int64_t workspace;      ///< bytes
  GemmAlgorithms* algorithms;  ///< null: the algorithm is of this problem only
};

/// The cuBLASLt handle of one stream and its plans. The heuristic of cuBLASLt takes the host 0.1 to 0.3 ms, while the
/// GPU waits; so it is called once for all problems with the same rounded extents, which then use one algorithm. Of the
/// heuristic's answers with the bits of the first the fastest is used after a few calls, measured once.
class GemmPlans {
 public:
  GemmPlans() {
    cublasLtHandle_t created = nullptr;
    cublas_check(cublasLtCreate(&created));
    handle_ = LtHandle(created);
  }
  cublasLtHandle_t handle() const { return handle_.get(); }

  const GemmPlan& operator()(const Stream& stream, const GemmProblem& problem, const GemmOperands& operands) {
    auto found = plans_.find(problem);
    if (found == plans_.end()) found = plans_.emplace(problem, make_plan(problem)).first;
    GemmPlan& plan = found->second;
    if (plan.algorithms != nullptr && worth_measuring(problem) && ++plan.algorithms->calls == calls_before_measuring) {
      GemmAlgorithms& of = *plan.algorithms;
      of.chosen = fastest(stream, handle(), problem, plan.description, operands, of.proposed);
      for (auto& [other, its_plan] : plans_)
        if (its_plan.algorithms == &of) use_chosen(its_plan);
    }
    return plan;
  }

 private:
  /// Measuring takes about as long as 30 calls, so a product that occurs a few times is not measured. In other types
  /// the order of additions is not known.
  static constexpr std::int64_t calls_before_measuring = 8;
  static bool worth_measuring(const GemmProblem& of) {
    constexpr std::int64_t least_products = 1 << 28;  // a GPU takes about 5 µs
    return (of.from == DType::bf16 || of.from == DType::u8) && of.m * of.n >= least_products / of.k;
  }

  /// The plan with the algorithm of the rounded problem; with its own where the first one proposed does not fit.
  GemmPlan make_plan(const GemmProblem& of) {
    GemmProblem near = of;
    for (std::int64_t GemmProblem::*extent : {&GemmProblem::m, &GemmProblem::n, &GemmProblem::k})
      near.*extent = rounded(of.*extent);
    auto found = algorithms_.find(near);
    if (found == algorithms_.end()) {
      GemmAlgorithms algorithms{.proposed = algorithms_for(handle(), describe(near), near), .chosen = {}};
      if (!algorithms.proposed.empty()) algorithms.chosen = algorithms.proposed.front();
      found = algorithms_.emplace(near, std::move(algorithms)).first;
    }
    GemmAlgorithms& of_near = found->second;
    GemmPlan plan{.description = describe(of), .algorithm = {}, .workspace = 0, .algorithms = nullptr};
    if (!of_near.proposed.empty() && use(plan, of_near.proposed.front())) {
      plan.algorithms = &of_near;
      use_chosen(plan);
      return plan;
    }
    const std::vector<GemmAlgorithm> own = algorithms_for(handle(), plan.description, of);
    ensure(!own.empty() && use(plan, own.front()), "cuBLASLt has no algorithm for a gemm of {} x {} x {} from {} to {}",
           of.m, of.k, of.n, name_of(of.from), name_of(of.to));
    return plan;
  }

  /// Lets the plan use the algorithm if this can compute its problem.
  bool use(GemmPlan& plan, const GemmAlgorithm& algorithm) const {
    const std::optional<std::int64_t> workspace = workspace_of(handle(), plan.description, algorithm);
    if (!workspace) return false;
    plan.algorithm = algorithm;
    plan.workspace = *workspace;
    return true;
  }
  /// The chosen algorithm, or the first one, which has the same bits.
  void use_chosen(GemmPlan& plan) const {
    if (!use(plan, plan.algorithms->chosen)) use(plan, plan.algorithms->proposed.front());
  }

  LtHandle handle_;
  std::map<GemmProblem, GemmPlan> plans_;
  std::map<GemmProblem, GemmAlgorithms> algorithms_;  // by the rounded problem; plans point to them
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

template <class T>
void scale_by_beta(const Stream& stream, TensorView c, double beta) {
  for_each_element(stream, {c}, ScaleByBetaBody<T>{Rows<T>(c), static_cast<Accumulator<T>>(beta)});
}

/// c = product·(its row's scale)·(its column's scale) + beta·c.
template <class T>
struct ScaledProductBody {
  static constexpr int width = packet_width<T, float>;
  Rows<const float> product;
  Rows<T> c;
  const float *scales_a, *scales_b;
  float beta;

  template <int V>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    const auto from = product.template load<V>(row, column);
    Packet<T, V> to;
    if (beta != 0) to = c.template load<V>(row, column);
    const float scale = scales_a[row];
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const float x = from.at[v] * scale * scales_b[column + v];
      to.at[v] = narrowed<T>(beta != 0 ? x + beta * widened(to.at[v]) : x);
    }
    c.template store<V>(row, column, to);
  }
};

/// 10 times the major number plus the minor one.
int device_capability() {
  int device = 0, major = 0, minor = 0;
  cuda_check(cudaGetDevice(&device));
  cuda_check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  cuda_check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  return 10 * major + minor;
}

/// c = a·bᵀ of 8-bit floats.
GemmProblem problem_of(const Fp8Matrix& a, const Fp8Matrix& b, TensorView c, bool scales_rows) {
  const std::int64_t k = a.codes.columns();
  return {.m = c.rows(),
          .n = c.columns(),
          .k = k,
          .stride_a = k,
          .stride_b = k,
          .stride_c = c.row_stride,
          .from = DType::u8,
          .to = c.dtype,
          .transpose_a = false,
          .transpose_b = true,
          .alignment_a = alignment_of(a.codes.data),
          .alignment_b = alignment_of(b.codes.data),
          .alignment_c = alignment_of(c.data),
          .format_a = a.format,
          .format_b = b.format,
          .scales_rows = scales_rows};
}

void multiply_as_planned(const Stream& stream, const GemmProblem& problem, const GemmOperands& operands) {
  GemmPlans& plans = stream.resource<GemmPlans>();
  const GemmPlan& plan = plans(stream, problem, operands);
  const Tensor workspace(stream, DType::u8, {plan.workspace});
  cublas_check(multiply(plans.handle(), plan.description, operands, problem.from == DType::f64, plan.algorithm,
                        workspace, native_of(stream)));
}

/// fp8_gemm where cuBLASLt does not scale rows: the product of the codes in f32, then a pass that scales it, a tile of
/// rows at a time. Scales are powers of two, so this rounds no more.
// Lower bound: that of fp8_gemm, and 8 bytes an element of c for the product of the codes.
void multiply_codes_then_scale(const Stream& stream, const Fp8Gemm& args) {
  constexpr std::int64_t values = 1 << 24, unit = 128;  // of a tile: 64 MiB, which L2 caches of Ada and Blackwell hold
  const TensorView codes = args.a.codes, c = args.c;
  const std::int64_t tile = std::max(unit, values / c.columns() / unit * unit);
  const Tensor products(stream, DType::f32, {std::min(tile, c.rows()), c.columns()});
  for (std::int64_t row = 0; row < c.rows(); row += tile) {
    const std::int64_t rows = std::min(tile, c.rows() - row);
    const TensorView product = products.view().slice_rows(0, rows), to = c.slice_rows(row, rows);
    Fp8Matrix a = args.a;
    a.codes = codes.slice_rows(row, rows);
    a.scales = args.a.scales.slice_rows(row, rows);
    multiply_as_planned(stream, problem_of(a, args.b, product, false),
                        {.a = a.codes.data, .b = args.b.codes.data, .c = product.data, .d = product.data, .beta = 0});
    dispatch(c.dtype, [&]<class T>() {
      if constexpr (std::is_same_v<Accumulator<T>, float>)
        // not for_each_element, for which dense tensors are one row: a scale belongs to a row
        for_each_packet(stream, rows, c.columns(), rows_start_aligned({to, product}, ScaledProductBody<T>::width),
                        ScaledProductBody<T>{.product = Rows<const float>(product),
                                             .c = Rows<T>(to),
                                             .scales_a = static_cast<const float*>(a.scales.data),
                                             .scales_b = static_cast<const float*>(args.b.scales.data),
                                             .beta = static_cast<float>(args.beta)});
    });
  }
}

}  // namespace

// Lower bound: 2mnk operations at the rate of the matrix units, about 990 TFLOP/s in dense bf16 and 67 in f32, or the
// bytes of a, b and c.
void gemm(const Stream& stream, const Gemm& args) {
  const TensorView a = args.a, b = args.b, c = args.c;
  const std::int64_t m = c.rows(), n = c.columns(), k = expect_gemm(args);
  if (m == 0 || n == 0) return;
  if (k == 0) return dispatch(c.dtype, [&]<class T>() { scale_by_beta<T>(stream, c, args.beta); });
  multiply_as_planned(stream,
                      {.m = m,
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
                       .alignment_c = alignment_of(c.data)},
                      {.a = a.data, .b = b.data, .c = c.data, .d = c.data, .beta = args.beta});
}

bool has_fp8_gemm(std::int64_t k, TensorView c) {
  constexpr std::int64_t unit = 16;  // that cuBLASLt wants extents of 8-bit floats to be multiples of
  return device_capability() >= 89 && k > 0 && k % unit == 0 && c.columns() % unit == 0 && c.rows() > 0 &&
         (c.dtype == DType::bf16 || c.dtype == DType::f32) && alignment_of(c.data) == 16 &&
         c.row_stride * size_of(c.dtype) % 16 == 0;
}

// Lower bound: 2mnk operations at 1,979 TFLOP/s, or the bytes of a, b and c.
void fp8_gemm(const Stream& stream, const Fp8Gemm& args) {
  const std::int64_t k = expect_fp8_gemm(args);
  const TensorView c = args.c;
  if (c.size() == 0) return;
  if (k == 0) return dispatch(c.dtype, [&]<class T>() { scale_by_beta<T>(stream, c, args.beta); });
  require(has_fp8_gemm(k, c), "fp8_gemm: this GPU has no product of 8-bit floats of {} x {} x {}", c.rows(), k,
          c.columns());
  if (args.scale_after || device_capability() != 90) return multiply_codes_then_scale(stream, args);
  multiply_as_planned(stream, problem_of(args.a, args.b, c, true),
                      {.a = args.a.codes.data,
                       .b = args.b.codes.data,
                       .c = c.data,
                       .d = c.data,
                       .beta = args.beta,
                       .scales_a = args.a.scales.data,
                       .scales_b = args.b.scales.data});
}

}  // namespace causeway::cuda
