#pragma once

#include <memory>

#include "src/model/layer.hpp"

namespace causeway {

/// (a, b) = fc1(x), y = fc2(act(a) ⊙ b), with options.ffn channels inside: fc1 [2·ffn, width], fc2 [width, ffn].
/// act is silu for "swiglu"; for "gelu_first" gelu in block 0 and the identity in the others, as in StripedHyena 2.
std::unique_ptr<PerTokenSublayer> make_gated_mlp(const ModelOptions& options, std::size_t block,
                                                 const std::string& prefix, ParameterSet& parameters);

}  // namespace causeway
