#pragma once

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint.hpp"

/// What a run of the program left, for tests to compare.
namespace causeway::test {

/// The lines of a run's metrics.jsonl.
inline std::vector<nlohmann::json> metrics(const std::string& run) {
  std::vector<nlohmann::json> lines;
  std::ifstream file(run + "/metrics.jsonl");
  for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

/// Those of its members that must not depend on whether the run was stopped and resumed.
inline std::vector<std::string> results(const std::string& run) {
  std::vector<std::string> lines;
  for (const auto& line : metrics(run)) {
    nlohmann::json kept;
    for (const char* key : {"step", "loss", "learning_rate", "grad_norm", "tokens", "eval_loss"})
      if (line.contains(key)) kept[key] = line[key];
    lines.push_back(kept.dump());
  }
  return lines;
}

/// All values of all tensors of a checkpoint, or of a run's latest one.
inline std::vector<double> weights_and_moments(const std::string& path) {
  const Checkpoint checkpoint(path);
  std::vector<double> all;
  for (const Checkpoint::TensorInfo& tensor : checkpoint.tensors()) {
    std::vector<double> values(static_cast<std::size_t>(tensor.size()));
    checkpoint.read(tensor.name, 0, values);
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

}  // namespace causeway::test
