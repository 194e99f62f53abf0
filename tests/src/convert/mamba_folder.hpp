#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/tensors/safetensors_writer.hpp"

namespace causeway::test {

/// A small Mamba model in Hugging Face's form, with the names of transformers written out. Tests change what they need.
struct MambaFolder {
  nlohmann::json config;
  std::vector<TensorPlan> tensors;
  /// Value i of a tensor; by default other values in every tensor.
  std::function<double(const std::string& name, std::int64_t i)> value;
  std::int64_t most_shard_bytes = std::int64_t{1} << 40;

  explicit MambaFolder(TensorType type = TensorType::f32);
  TensorPlan& tensor(const std::string& name);
  void remove(const std::string& name);
  /// Writes config.json and the weights into the folder, which is created if it is missing.
  void write(const std::string& folder) const;
};

/// Bytes, type and shape of every tensor of a folder of safetensors, by name, as text.
std::map<std::string, std::string> tensors_in(const std::string& folder);

}  // namespace causeway::test
