#pragma once

#include <span>
#include <string>

#include "src/model/model.hpp"
#include "src/train/data/pack_on_rank.hpp"

namespace causeway {

/// Finds where the values of a step first become non-finite, and returns it as text. Looks for, in this order: the
/// first layer whose output is not finite; the last layer whose output's gradient is not (backward computes it first);
/// the last parameter whose gradient is not. Names the lowest rank that has this value. Runs the packs again, and
/// backward only where forward finds nothing; the gradients are overwritten. `packs`: this rank's. Collective; all
/// ranks return the same text.
std::string find_non_finite(Model& model, Runtime& runtime, const DataMixture& data, std::span<const Pack> packs,
                            Layout layout, LabelWeights weights);

}  // namespace causeway
