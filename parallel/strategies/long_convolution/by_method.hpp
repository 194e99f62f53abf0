#pragma once

#include "parallel/strategy.hpp"

/// hyena_li's filter on whole documents without gates, by any of its methods.
namespace causeway::long_convolution {

/// y = h∗x + skip⊙x on the run of args.in.segments; x is args.in.v, q and k are absent. Pushes what backward pops, x
/// itself not.
void filter_forward(const Stream& stream, Method method, std::int64_t longest_document, const ModalConvForward& args,
                    Saved* saved);
/// args.states is popped.
void filter_backward(const Stream& stream, Method method, std::int64_t longest_document, const ModalConvBackward& args,
                     Saved& saved);

}  // namespace causeway::long_convolution
