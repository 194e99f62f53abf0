#pragma once

#include "kernels/hyena_block.hpp"

namespace causeway::composed {

/// The last step of hyena_block's backward, by causal_conv: from the gradients of the features [tokens, 3D] to d_q,
/// d_k, d_v, d_halo and d_featurizer. d_halo has what comes through the run's first tokens, and zeros.
void featurizer_adjoint(const Stream& stream, const HyenaBlockBackward& args, TensorView d_features);

}  // namespace causeway::composed
