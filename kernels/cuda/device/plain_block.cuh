#pragma once

#include "kernels/hyena_block.hpp"

/// hyena_block without a featurizer: the gated convolution alone, backward, in one pass on tensor cores. hyena_block/
/// has the kernel, blocked_conv/ calls it.
namespace causeway::cuda {

/// Whether there is such a kernel for a block whose `featurizer` is absent.
bool suits_plain_block(const HyenaBlockBackward& args);
void plain_block_backward(const Stream& stream, const HyenaBlockBackward& args);

}  // namespace causeway::cuda
