#pragma once

#include <memory>

#include "src/model/layer.hpp"

namespace causeway {

/// (a, b) = fc1(x), y = fc2(act(a) ⊙ b), `ffn` numbers wide inside. Which activation depends on the options, and for
/// "gelu_first" on the block: gelu in block 0, none after it, as in StripedHyena 2.
std::unique_ptr<Operator> make_gated_mlp(const ModelOptions& options, std::size_t block, const std::string& prefix,
                                         ParameterSet& parameters);

}  // namespace causeway
