#pragma once

#include "kernels/gated_conv.hpp"
#include "tests/support/packed_operator.hpp"

/// What the tests of the gated convolutions share: their arguments by name, and the formula of those whose filter is a
/// row of taps.
namespace causeway::test {

/// Rows [begin, end) of q, k and v; skip.
GatedConvInputs gated_inputs(const Views& in, std::int64_t begin, std::int64_t end, const SegmentsView& segments);
GatedConvGradients gated_gradients(const Views& in, const Views& out, std::int64_t begin, std::int64_t end);

/// y = q ⊙ ( taps∗(k⊙v) + skip ⊙ (k⊙v) ), channel d of the taps of group d / group_size.
struct GatedConvolution {
  std::string name;
  std::int64_t groups, group_size, length;
  std::vector<std::int64_t> cu_seqlens;
  bool gates = true, skip = true;

  std::int64_t channels() const { return groups * group_size; }
};

/// A case of it by operators.md's formula, without a kernel yet: `run` is the caller's to set.
PackedCase packed(const GatedConvolution& c);

}  // namespace causeway::test
