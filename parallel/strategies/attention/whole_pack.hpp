#pragma once

#include "parallel/strategy.hpp"

/// What every strategy of attention is on one rank: the kernels on the whole pack, without messages and blocks.
namespace causeway::attention::whole_pack {

void forward(const StrategyContext& context, const RotaryAttentionForward& args, Saved* saved);
void backward(const StrategyContext& context, const RotaryAttentionBackward& args, Saved& saved);

}  // namespace causeway::attention::whole_pack
