#include "src/infer/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/core/error.hpp"

namespace causeway {

std::int64_t sample(std::span<const double> logits, const SamplingOptions& options, double uniform) {
  std::vector<std::int64_t> ids(options.allowed.begin(), options.allowed.end());
  if (ids.empty()) {
    ids.resize(logits.size());
    std::iota(ids.begin(), ids.end(), 0);
  }
  const auto logit = [&](std::int64_t id) { return logits[static_cast<std::size_t>(id)]; };
  for (const std::int64_t id : ids)
    if (std::isnan(logit(id)) || logit(id) == std::numeric_limits<double>::infinity())
      fail(ExitCode::non_finite, "the logit of token {} is {}", id, logit(id));
  if (options.temperature == 0) return *std::ranges::max_element(ids, {}, logit);

  const auto before = [&](std::int64_t a, std::int64_t b) {
    return logit(a) > logit(b) || (logit(a) == logit(b) && a < b);
  };
  if (options.top_k > 0 && options.top_k < std::ssize(ids)) {
    std::ranges::nth_element(ids, ids.begin() + options.top_k, before);
    ids.resize(static_cast<std::size_t>(options.top_k));
  }
  std::ranges::sort(ids, before);

  std::vector<double> cumulative;
  double sum = 0;
  for (const std::int64_t id : ids)
    cumulative.push_back(sum += std::exp((logit(id) - logit(ids.front())) / options.temperature));
  if (options.top_p < 1) {
    const auto last = std::ranges::lower_bound(cumulative, options.top_p * sum);
    cumulative.erase(std::min(last + 1, cumulative.end()), cumulative.end());
    sum = cumulative.back();
  }
  const auto drawn = std::ranges::upper_bound(cumulative, uniform * sum);
  return ids[static_cast<std::size_t>(std::min(drawn - cumulative.begin(), std::ssize(cumulative) - 1))];
}

}  // namespace causeway
