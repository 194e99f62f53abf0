#pragma once

#include "parallel/strategy.hpp"

/// The filter of hyena_li on whole documents without gates, by any method.
namespace causeway::long_convolution {

/// y = h∗x + skip⊙x on the documents of args.in.segments; x is args.in.v, q and k are absent. Saves what backward needs
/// besides x. `method` replaces context.method.
void filter_forward(const StrategyContext& context, Method method, std::int64_t longest_document,
                    const ModalConvForward& args, Saved* saved);
/// The adjoint. args.states is taken out of `saved`.
void filter_backward(const StrategyContext& context, Method method, std::int64_t longest_document,
                     const ModalConvBackward& args, Saved& saved);

}  // namespace causeway::long_convolution
