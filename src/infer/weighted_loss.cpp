#include "src/infer/weighted_loss.hpp"

#include <algorithm>
#include <vector>

namespace causeway {

void WeightedLoss::add(std::int64_t first, std::span<const double> losses) {
  if (!data_.has_loss_mask() && !data_.has_loss_weights()) return;
  const auto cu_seqlens = data_.cu_seqlens();
  std::vector<float> weights(
      static_cast<std::size_t>(std::min(std::ssize(losses), std::max<std::int64_t>(0, data_.tokens() - first - 1))));
  data_.read_label_weights(std::min(first + 1, data_.tokens()), weights);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const std::int64_t label = first + static_cast<std::int64_t>(i) + 1;
    while (cu_seqlens[document_ + 1] <= label) ++document_;
    if (weights[i] == 0 || cu_seqlens[document_] == label) continue;  // the first token of a document is not predicted
    loss_ += static_cast<double>(weights[i]) * losses[i];
    weight_ += static_cast<double>(weights[i]);
  }
}

std::optional<double> WeightedLoss::mean() const { return weight_ > 0 ? std::optional(loss_ / weight_) : std::nullopt; }

}  // namespace causeway
