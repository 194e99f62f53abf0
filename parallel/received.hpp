#pragma once

#include <vector>

#include "kernels/core/tensor.hpp"

namespace causeway {

/// What a forward pass received over the edges of its chunks (halos, states), if the pass will be computed again for
/// the backward pass (recomputation). The first pass keeps copies; a repetition takes them, and neither computes nor
/// sends them again. That is a few rows per layer. All ranks must repeat the same passes.
class Received {
 public:
  /// From now on passes are repetitions, each from the first tensor on.
  void rewind() {
    repeats_ = true;
    next_ = 0;
  }
  /// Whether this pass takes what the first one received: then it must not exchange it.
  bool repeats() const { return repeats_; }
  /// In the first pass keeps a copy of `x`, dense; in a repetition writes what the first pass kept at this point.
  void pass(const Stream& stream, TensorView x) {
    if (!repeats_) kept_.emplace_back(stream, x.dtype, x.shape);
    ensure(next_ < kept_.size() && kept_[next_].view().shape == x.shape, "the repeated pass receives other tensors");
    const TensorView kept = kept_[next_++];
    repeats_ ? stream.copy(x.data, kept.data, x.bytes()) : stream.copy(kept.data, x.data, x.bytes());
  }

 private:
  std::vector<Tensor> kept_;
  std::size_t next_ = 0;
  bool repeats_ = false;
};

}  // namespace causeway
