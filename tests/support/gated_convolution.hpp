#pragma once

#include "kernels/gated_conv.hpp"
#include "tests/support/packed_operator.hpp"

/// Shared by the tests of gated convolutions: their arguments by name, and the formula of those with an explicit
/// filter.
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

/// A test case with that formula as its reference. The caller sets `run`, which calls the kernels.
PackedCase packed(const GatedConvolution& c);

}  // namespace causeway::test
