#pragma once

#include <functional>

#include "parallel/strategy.hpp"

namespace causeway {

/// all_to_all, and with several slices all_to_all_pipelined, of a gated convolution with a row of parameters for each
/// of `groups` groups of channels. The gates are applied on this rank's own rows. `run` writes c = h∗x + skip⊙x for the
/// groups [begin, end); `plain` has the operator's inputs on the channels of these groups of the whole pack, without
/// the gates. x is kept for backward; `run` puts all other tensors that it keeps into slice_scope(saved, groups).
void gated_all_to_all_forward(const StrategyContext& context, const GatedConvInputs& in, TensorView y,
                              std::int64_t groups, int slices, Saved* saved,
                              const std::function<void(Range groups, const GatedConvInputs& plain, TensorView c)>& run);

/// The adjoint. `run` writes d_v of `d_plain`, and adds to its d_skip and to the groups' rows of the parameters'
/// gradients.
void gated_all_to_all_backward(
    const StrategyContext& context, const GatedConvInputs& in, const GatedConvGradients& gradients, std::int64_t groups,
    int slices, Saved& saved,
    const std::function<void(Range groups, const GatedConvInputs& plain, const GatedConvGradients& d_plain)>& run);

/// The costs of both; `kernel` is that of the forward pass with gates.
PassCosts gated_all_to_all_costs(const Sharding& sharding, const GatedConvInputs& in, std::int64_t groups,
                                 const TimedKernel& kernel, int slices);

}  // namespace causeway
