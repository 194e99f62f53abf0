#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "kernels/activation.hpp"
#include "kernels/core/segments.hpp"
#include "kernels/random_fill.hpp"
#include "parallel/cost/kernel_runs.hpp"

/// What the timed runs of kernels share.
namespace causeway {

/// Owns the tensors of a run.
class RunTensors {
 public:
  explicit RunTensors(const Stream& stream) : stream_(stream) {}

  const Stream& stream() const { return stream_; }
  TensorView random(DType dtype, Shape shape) {
    const TensorView x = tensors_.emplace_back(stream_, dtype, shape);
    if (x.size() > 0) random_fill(stream_, {.random = RandomStream(1, tensors_.size()), .y = x});
    return x;
  }
  TensorView filled(DType dtype, Shape shape, double value) {
    const TensorView x = tensors_.emplace_back(stream_, dtype, shape);
    fill(stream_, {.value = value, .y = x});
    return x;
  }
  TensorView zeros(DType dtype, Shape shape) { return tensors_.emplace_back(Tensor::zeros(stream_, dtype, shape)); }
  SegmentsView one_document(std::int64_t tokens) {
    return documents_
        .emplace_back(std::make_unique<DeviceSegments>(stream_, std::vector<std::int64_t>{0, tokens}, tokens))
        ->view();
  }

 private:
  Stream stream_;
  std::vector<Tensor> tensors_;
  std::vector<std::unique_ptr<DeviceSegments>> documents_;
};

/// The tokens and channels of a timed run: as many as a rank has, or enough that a GPU is busy everywhere, and that a
/// CPU's caches do not hold its tensors.
struct RunSize {
  std::int64_t tokens, channels;

  double elements() const { return static_cast<double>(tokens) * static_cast<double>(channels); }
};

inline std::int64_t most_elements(const Stream& stream) {
  return std::int64_t{1} << (stream.device() == Device::cpu ? 20 : 26);
}

/// All channels, and fewer tokens than the rank has if there are too many.
inline RunSize some_tokens(const Stream& stream, std::int64_t tokens, std::int64_t channels, bool small) {
  const std::int64_t most = std::max<std::int64_t>(64, most_elements(stream) / std::max<std::int64_t>(channels, 1));
  const std::int64_t large = std::clamp<std::int64_t>(tokens, 1, most);
  return {small ? std::max<std::int64_t>(large / 16, 1) : large, channels};
}

/// The run of a kernel of hyena_block.
KernelRun run_of_block(RunTensors& made, const HyenaBlockForward& call, const TimedKernel& kernel,
                       const TimedShape& shape, bool small);

}  // namespace causeway
