#pragma once

#include <array>

#include "kernels/activation.hpp"
#include "kernels/attention.hpp"

namespace causeway {

/// The arguments of attention_backward for code that adds to gradients in the accumulator type. Without
/// `args.accumulate` the gradients are zeroed first; those in q's dtype are summed in separate tensors, which store()
/// rounds.
class AttentionSums {
 public:
  AttentionSums(const Stream& stream, const AttentionBackward& args) : stream_(stream), added_(args) {
    if (args.accumulate) return;
    added_.accumulate = true;
    const DType wide = accumulator_of(args.in.q.dtype);
    for (std::size_t i = 0; TensorView* const gradient : {&added_.d_q, &added_.d_k, &added_.d_v}) {
      rounded_[i] = *gradient;
      if (gradient->dtype != wide) {
        sums_[i] = Tensor(stream, wide, gradient->shape);
        *gradient = sums_[i];
      }
      if (gradient->size() > 0) fill(stream, {.value = 0, .y = *gradient});
      ++i;
    }
  }

  const AttentionBackward& added() const { return added_; }
  void store() const {
    for (std::size_t i = 0; i < sums_.size(); ++i)
      if (sums_[i].present() && rounded_[i].size() > 0) scale(stream_, {.x = sums_[i], .y = rounded_[i]});
  }

 private:
  const Stream& stream_;
  AttentionBackward added_;
  std::array<TensorView, 3> rounded_;
  std::array<Tensor, 3> sums_;
};

}  // namespace causeway
