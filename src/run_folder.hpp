#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "kernels/error.hpp"
#include "src/model.hpp"
#include "src/runtime.hpp"
#include "src/train_settings.hpp"

namespace causeway {

/// Writes `text` to `path`, whole or not at all. Throws Error(io).
void write_text(const std::string& path, const std::string& text);

/// environment.json: how the binary was built, what is trained, the mesh, each rank's host, and the variables that
/// steer MPI, NCCL, Slurm and threads. Collective; the same on every rank.
nlohmann::ordered_json describe_environment(const TrainSettings& settings, const Model& model, Runtime& runtime);

/// What an attempt leaves in the run's folder as it starts.
struct RunStart {
  std::string config;                  ///< INI
  nlohmann::ordered_json environment;  ///< of describe_environment
  std::int64_t resumed_step = 0;
};
/// Writes README.txt, config.ini, environment.json and the attempt's first line of attempts.jsonl. The first rank
/// alone. Throws Error(io).
void write_start(const std::string& run, const RunStart& start);

/// How an attempt ended.
struct RunEnding {
  ExitCode code = ExitCode::ok;
  std::string reason;
  std::int64_t step = 0;
  std::optional<double> loss = std::nullopt;
  std::vector<std::string> ranks = {};  ///< where each stood, where that is to be told
};
/// Writes exit.json and the attempt's last line of attempts.jsonl: any rank, whichever knows. Throws Error(io).
void write_ending(const std::string& run, const RunEnding& ending);
/// Writes exit.json of an attempt that ended before it had started, by `error`. Throws Error(io).
void write_failed_start(const std::string& run, const Error& error);

}  // namespace causeway
