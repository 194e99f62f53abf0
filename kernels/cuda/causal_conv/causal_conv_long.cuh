#pragma once

#include "kernels/causal_conv.hpp"

/// causal_conv with more taps than registers hold: no window stands between tokens, lags are walked instead. The
/// arguments are as causal_conv's, checked.
namespace causeway::cuda {

void causal_conv_long_forward(const Stream& stream, const CausalConvForward& args);
void causal_conv_long_backward(const Stream& stream, const CausalConvBackward& args);

}  // namespace causeway::cuda
