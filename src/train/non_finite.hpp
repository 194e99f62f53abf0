#pragma once

#include <span>
#include <string>

#include "src/model/model.hpp"
#include "src/train/training_data.hpp"

namespace causeway {

/// Where a step's numbers first cease to be finite, in words: the layer whose output does, or, where all outputs are
/// finite, the layer whose output's gradient does on the way back, or else the last parameter whose gradient does; and
/// the first rank on which it does. Runs the packs once more, and backward only where forward finds nothing; the
/// gradients are lost. `packs`: this rank's. Collective; the same on every rank.
std::string find_non_finite(Model& model, Runtime& runtime, const DataMixture& data, std::span<const Pack> packs,
                            Layout layout);

}  // namespace causeway
