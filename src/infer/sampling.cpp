#include "src/infer/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/core/error.hpp"

namespace causeway {

std::int64_t sample(std::span<const double> logits, const SamplingOptions& options, double uniform) {
  for (std::size_t i = 0; i < logits.size(); ++i)
    if (std::isnan(logits[i]) || logits[i] == std::numeric_limits<double>::infinity())
      fail(ExitCode::non_finite, "the logit of token {} is {}", i, logits[i]);
  if (options.temperature == 0) return std::ranges::max_element(logits) - logits.begin();

  std::vector<std::int64_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto logit = [&](std::int64_t id) { return logits[static_cast<std::size_t>(id)]; };
  std::ranges::stable_sort(ids, [&](std::int64_t a, std::int64_t b) { return logit(a) > logit(b); });
  if (options.top_k > 0 && options.top_k < std::ssize(ids)) ids.resize(static_cast<std::size_t>(options.top_k));

  std::vector<double> cumulative;
  double sum = 0;
  for (const std::int64_t id : ids)
    cumulative.push_back(sum += std::exp((logit(id) - logit(ids.front())) / options.temperature));
  const auto drawn = std::ranges::upper_bound(cumulative, uniform * sum);
  return ids[static_cast<std::size_t>(std::min(drawn - cumulative.begin(), std::ssize(ids) - 1))];
}

}  // namespace causeway
