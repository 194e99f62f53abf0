#include "src/bench/documents.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/core/random.hpp"

namespace causeway {

std::vector<std::int64_t> packed_documents(std::int64_t tokens) {
  constexpr double mean_of_logarithm = 6.2, sigma = 0.8, shortest = 57,
                   longest = 2048;  // after clipping the mean is 645
  const RandomStream random(1, 646);
  std::vector<std::int64_t> cu_seqlens{0};
  for (std::uint64_t d = 0; cu_seqlens.back() < tokens; ++d) {
    const double length =
        std::clamp(std::round(std::exp(mean_of_logarithm + sigma * random.normal(d))), shortest, longest);
    cu_seqlens.push_back(std::min(tokens, cu_seqlens.back() + static_cast<std::int64_t>(length)));
  }
  return cu_seqlens;
}

}  // namespace causeway
