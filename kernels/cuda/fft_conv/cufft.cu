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

/// A plan is a small integer of cuFFT's.
struct PlanTraits {
  using type = cufftHandle;
  static type null() { return -1; }
  static void close(type plan) noexcept { cufftDestroy(plan); }
};

struct Plan {
  Handle<PlanTraits> handle;
  std::int64_t workspace;  ///< bytes
  std::int64_t used;       ///< when, in calls
};

/// One stream's plans: making one takes longer than executing it. Each holds memory of the device, and packs of ever
/// other documents ask for ever other batches: those used last are kept.
class Plans {
 public:
  const Plan& operator()(const Stream& stream, const TransformBatch& batch) {
    ++calls_;
    if (const auto found = plans_.find(batch); found != plans_.end()) {
      found->second.used = calls_;
      return found->second;
    }
    if (plans_.size() >= most_plans) {
      stream.wait();  // it may still be running
      plans_.erase(std::ranges::min_element(plans_, {}, [](const auto& entry) { return entry.second.used; }));
    }
    cufftHandle created = PlanTraits::null();
    cufft_check(cufftCreate(&created));
    Plan plan{.handle = Handle<PlanTraits>(created), .workspace = 0, .used = calls_};
    cufft_check(cufftSetAutoAllocation(created, 0));  // the stream's pool gives the workspace
    const cudaDataType type = batch.dtype == DType::f64 ? CUDA_C_64F : CUDA_C_32F;
    long long n = batch.length;
    std::size_t bytes = 0;
    cufft_check(cufftXtMakePlanMany(created, 1, &n, &n, batch.stride, batch.distance, type, &n, batch.stride,
                                    batch.distance, type, batch.count, &bytes, type));
    cufft_check(cufftSetStream(created, native_of(stream)));
    // A power of two: batches of many sizes ask the pool for blocks of few.
    plan.workspace = bytes == 0 ? 0 : static_cast<std::int64_t>(std::bit_ceil(bytes));
    return plans_.emplace(batch, std::move(plan)).first->second;
  }

 private:
  static constexpr std::size_t most_plans = 128;
  std::map<TransformBatch, Plan> plans_;
  std::int64_t calls_ = 0;
};

}  // namespace

void transform(const Stream& stream, const TransformBatch& batch, bool inverse, void* data) {
  const Plan& plan = stream.resource<Plans>()(stream, batch);
  const Tensor workspace(stream, DType::u8, {plan.workspace});
  cufft_check(cufftSetWorkArea(plan.handle.get(), workspace.view().data));
  cufft_check(cufftXtExec(plan.handle.get(), data, data, inverse ? CUFFT_INVERSE : CUFFT_FORWARD));
}

}  // namespace causeway::cuda
