#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/core/random.hpp"

namespace causeway::testing {

/// Document lengths like those of PackMamba's corpus (arXiv 2408.03865): 57 to 2048 tokens, with a mean of 646. The
/// paper does not give the distribution; here it is log-normal, exp(mu + sigma·N(0, 1)), rounded and clipped to that
/// range, with mu chosen for a mean of 646.
inline std::vector<std::int64_t> packmamba_lengths(std::int64_t documents, double sigma, std::uint64_t seed = 1) {
  const RandomStream random(seed, 646);
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(documents));
  const auto draw = [&](double mu) {
    double sum = 0;
    for (std::size_t d = 0; d < lengths.size(); ++d) {
      lengths[d] =
          static_cast<std::int64_t>(std::clamp(std::round(std::exp(mu + sigma * random.normal(d))), 57.0, 2048.0));
      sum += static_cast<double>(lengths[d]);
    }
    return sum / static_cast<double>(documents);
  };
  double low = std::log(57.0), high = std::log(2048.0);
  for (int step = 0; step < 40; ++step) (draw((low + high) / 2) < 646 ? low : high) = (low + high) / 2;
  draw(low);
  return lengths;
}

}  // namespace causeway::testing
