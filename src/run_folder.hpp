#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "src/model.hpp"
#include "src/runtime.hpp"
#include "src/train_settings.hpp"

namespace causeway {

/// Writes `text` to `path`, whole or not at all. Throws Error(io).
void write_text(const std::string& path, const std::string& text);

/// environment.json: how the binary was built, what is trained, the mesh, each rank's host, and the variables that steer
/// MPI, NCCL, Slurm and threads. Collective; the same on every rank.
nlohmann::ordered_json describe_environment(const TrainSettings& settings, const Model& model, Runtime& runtime);

}  // namespace causeway
