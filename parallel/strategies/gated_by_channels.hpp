#pragma once

#include <functional>

#include "parallel/strategy.hpp"

namespace causeway {

/// all_to_all and, with several slices, all_to_all_pipelined of a gated convolution whose `groups` of channels have a
/// row of parameters each. The gates stay on this rank's rows; `run` writes c = h∗x + skip⊙x for the groups
/// [begin, end), `plain` being the operator's inputs without gates on their channels of the whole pack. x is
/// kept for backward; what else `run` needs again it puts into the same slice_scope(saved, groups).
void gated_by_channels_forward(
    const StrategyContext& context, const GatedConvInputs& in, TensorView y, std::int64_t groups, int slices,
    Saved* saved, const std::function<void(Range groups, const GatedConvInputs& plain, TensorView c)>& run);

/// `run` writes d_v of `d_plain` and adds to its d_skip, and to the groups' rows of the parameters' gradients.
void gated_by_channels_backward(
    const StrategyContext& context, const GatedConvInputs& in, const GatedConvGradients& gradients, std::int64_t groups,
    int slices, Saved& saved,
    const std::function<void(Range groups, const GatedConvInputs& plain, const GatedConvGradients& d_plain)>& run);

}  // namespace causeway
