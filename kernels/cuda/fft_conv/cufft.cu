#include "kernels/cuda/fft_conv/cufft.cuh"

#include <cufftXt.h>

#include <algorithm>
#include <bit>
#include <map>

#include "kernels/core/handle.hpp"
#include "kernels/core/tensor.hpp"
#include "kernels/cuda/device/check.cuh"

namespace causeway::cuda {
namespace {

void cufft_check(cufftResult status, std::source_location where = std::source_location::current()) {
  ensure(status == CUFFT_SUCCESS, "{}:{}: cuFFT: error {}", where.file_name(), where.line(), static_cast<int>(status));
}

/// cuFFT identifies a plan by a small integer.
struct CufftPlanTraits {
  using type = cufftHandle;
  static type null() { return -1; }
  static void close(type plan) noexcept { cufftDestroy(plan); }
};

struct CufftPlan {
  Handle<CufftPlanTraits> handle;
  std::int64_t workspace;  ///< bytes
  std::int64_t last_use;   ///< number of the call
};

/// The plans of one stream. They are kept because creating one takes longer than executing it. Each plan holds device
/// memory, and packs with other documents need other plans, so that only the most recently used ones are kept.
class CufftPlans {
 public:
  const CufftPlan& operator()(const Stream& stream, const TransformBatch& batch) {
    ++calls_;
    if (const auto found = plans_.find(batch); found != plans_.end()) {
      found->second.last_use = calls_;
      return found->second;
    }
    if (plans_.size() >= max_plans) {
      stream.wait();  // the plan to be erased may still be executing
      plans_.erase(std::ranges::min_element(plans_, {}, [](const auto& entry) { return entry.second.last_use; }));
    }
    cufftHandle created = CufftPlanTraits::null();
    cufft_check(cufftCreate(&created));
    CufftPlan plan{.handle = Handle<CufftPlanTraits>(created), .workspace = 0, .last_use = calls_};
    cufft_check(cufftSetAutoAllocation(created, 0));  // the stream's memory pool provides the workspace
    const cudaDataType type = batch.dtype == DType::f64 ? CUDA_C_64F : CUDA_C_32F;
    long long n = batch.length;
    std::size_t bytes = 0;
    cufft_check(cufftXtMakePlanMany(created, 1, &n, &n, batch.stride, batch.distance, type, &n, batch.stride,
                                    batch.distance, type, batch.count, &bytes, type));
    cufft_check(cufftSetStream(created, native_of(stream)));
    // A power of two, so that the pool needs blocks of few different sizes.
    plan.workspace = bytes == 0 ? 0 : static_cast<std::int64_t>(std::bit_ceil(bytes));
    return plans_.emplace(batch, std::move(plan)).first->second;
  }

 private:
  static constexpr std::size_t max_plans = 128;
  std::map<TransformBatch, CufftPlan> plans_;
  std::int64_t calls_ = 0;
};

}  // namespace

void transform(const Stream& stream, const TransformBatch& batch, bool inverse, void* data) {
  const CufftPlan& plan = stream.resource<CufftPlans>()(stream, batch);
  const Tensor workspace(stream, DType::u8, {plan.workspace});
  cufft_check(cufftSetWorkArea(plan.handle.get(), workspace.view().data));
  cufft_check(cufftXtExec(plan.handle.get(), data, data, inverse ? CUFFT_INVERSE : CUFFT_FORWARD));
}

}  // namespace causeway::cuda
