#pragma once

#include "parallel/strategy.hpp"

/// The filter of hyena_li on whole documents without gates, by any method.
namespace causeway::long_convolution {

/// y = h∗x + skip⊙x on the documents of args.in.segments; x is args.in.v, q and k are absent. Pushes what backward
/// pops, x itself not.
void filter_forward(const Stream& stream, Method method, std::int64_t longest_document, const ModalConvForward& args,
                    Saved* saved);
/// args.states is popped.
void filter_backward(const Stream& stream, Method method, std::int64_t longest_document, const ModalConvBackward& args,
                     Saved& saved);

}  // namespace causeway::long_convolution
