#pragma once

#include <string>

#include "src/model/model.hpp"
#include "src/train/train_settings.hpp"
#include "src/train/training_data.hpp"

namespace causeway {

/// The lines that a run begins with, and that --dry-run prints: model, ranks, memory, packs, strategies, data.
/// `choice` explains how the strategies were chosen; --dry-run shows it in full.
std::string describe_plan(const TrainSettings& settings, const Mesh& mesh, const Model& model, const DataMixture& data,
                          const std::string& choice);

}  // namespace causeway
