#pragma once

#include "kernels/hyena_block.hpp"
#include "tests/support/packed_operator.hpp"

/// Cases of hyena_block with the formula as their reference.
namespace causeway::test {

/// How the state of a modal filter passes from run to run.
enum class Carried : std::uint8_t { by_summaries, by_scans };

struct HyenaBlock {
  std::string name;
  std::int64_t groups, group_size;
  std::int64_t featurizer;           // its taps
  std::int64_t taps = 0, modes = 0;  // of the filter; one of them is 0
  std::vector<std::int64_t> cu_seqlens;
  bool skip = true;
  Carried carried = Carried::by_summaries;

  std::int64_t channels() const { return groups * group_size; }
  std::int64_t reach() const { return featurizer - 1 + (taps > 0 ? taps - 1 : 0); }
};

/// The names of the three inputs.
inline constexpr const char* block_parts[] = {"q", "k", "v"};

/// The reference computes featurizer, gated convolution and their adjoints one after the other, a modal filter by its
/// taps. A run gets earlier rows only through its halo and its state; rows that no document reaches are NaN.
PackedCase packed(const HyenaBlock& c);

}  // namespace causeway::test
