#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "src/model/model.hpp"
#include "src/runtime/runtime.hpp"
#include "src/train/settings/train_settings.hpp"

namespace causeway {

/// The content of environment.json: how the binary was built, what is trained, the mesh, each rank's host, and the
/// environment variables that configure MPI, NCCL, Slurm and threads. Collective; the same on every rank.
nlohmann::ordered_json describe_environment(const TrainSettings& settings, const Model& model, Runtime& runtime);

/// Content that the start of an attempt writes to the run directory.
struct RunStart {
  std::string config;                  ///< config.ini without its first comment
  nlohmann::ordered_json environment;  ///< of describe_environment
  std::int64_t resumed_step = 0;
};
/// The run directory of a training with `run` as --run. If config.ini gave it, and the directory of config.ini was
/// moved since, this is where config.ini lies. Throws Error(usage) where that directory is a copy of another one, which
/// still exists.
std::string run_of_config(const IniOrigin& origin, const std::string& run);

/// Writes README.txt, config.ini, environment.json and the attempt's first line of attempts.jsonl. Called on the first
/// rank only. Throws Error(io).
void write_start(const std::string& run, const RunStart& start);

}  // namespace causeway
