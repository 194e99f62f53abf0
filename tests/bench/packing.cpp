// PackMamba (arXiv 2408.03865) reports a padding rate of 19.1 % for packing in order and of 0.41 % for its local greedy
// packing, for documents of 57 to 2048 tokens with a mean of 646. It does not give the distribution of lengths, the
// window, or (as far as we know) the pack length of these two figures. This program prints the padding of all policies
// over a grid of these. The result is discussed in the README of io/.
#include <fmt/format.h>

#include "io/data/packing.hpp"
#include "tests/support/packmamba_lengths.hpp"

int main() {
  using namespace causeway;
  fmt::print(
      "padding rate in %, 100,000 documents of 57 to 2048 tokens, mean 646, log-normal of width sigma\n{:>6}{:>6}{:>8}",
      "pack", "sigma", "window");
  for (const PackingPolicy& policy : packing_policies()) fmt::print("{:>22}", policy.name);
  fmt::print("\n");
  for (const std::int64_t pack_tokens : {2048, 4096}) {
    for (const double sigma : {0.5, 1.0, 1.6, 2.3, 3.0}) {
      std::vector<std::int64_t> cu_seqlens = {0};
      for (const std::int64_t length : testing::packmamba_lengths(100'000, sigma))
        cu_seqlens.push_back(cu_seqlens.back() + length);
      for (const std::int64_t window : {16, 64, 256, 1024}) {
        fmt::print("{:>6}{:>6}{:>8}", pack_tokens, sigma, window);
        for (const PackingPolicy& policy : packing_policies()) {
          const auto found = measure_packing({.policy = policy.name, .pack_tokens = pack_tokens, .window = window},
                                             documents_of(cu_seqlens));
          fmt::print("{:>22.2f}", 100 * found.padding_rate());
        }
        fmt::print("\n");
      }
    }
  }
}
