#pragma once

#include "kernels/causal_conv.hpp"

/// causal_conv with more taps than fit into registers: threads loop over the lags and read x from a cache. The
/// arguments are those of causal_conv and have been checked.
namespace causeway::cuda {

void causal_conv_long_forward(const Stream& stream, const CausalConvForward& args);
void causal_conv_long_backward(const Stream& stream, const CausalConvBackward& args);

}  // namespace causeway::cuda
