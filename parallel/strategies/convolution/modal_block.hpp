#pragma once

#include "parallel/strategy.hpp"

/// hyena_block with a modal filter, for halo and halo_overlapped: the featurizer's halo, then the state of the modes as
/// in state_carry of hyena_li.
namespace causeway::convolution::modal_block {

void forward(const StrategyContext& context, HyenaBlockForward args, Saved* saved);
void backward(const StrategyContext& context, HyenaBlockBackward args, Saved& saved);
PassCosts cost(const Sharding& sharding, const HyenaBlockForward& args);

}  // namespace causeway::convolution::modal_block
