#pragma once

#include <string>

#include "src/model/model.hpp"
#include "src/train/data/data_mixture.hpp"
#include "src/train/settings/train_settings.hpp"

namespace causeway {

/// The lines that a run begins with, and that --dry-run prints: model, ranks, memory, packs, strategies, data.
std::string describe_plan(const TrainSettings& settings, const Runtime& runtime, const Model& model,
                          const DataMixture& data);

}  // namespace causeway
