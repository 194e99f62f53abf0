#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace causeway {

struct ConvertProgress {
  std::int64_t bytes = 0, total_bytes = 0;  ///< of the parameters, in the source's types
  std::string parameter;
};

struct ConvertOptions {
  std::string source, to, out;
  std::string from = "auto";
  std::string model_config;
  std::string dtype = "source";  ///< or f64, f32, f16, bf16: the type of all tensors of the result
  std::int64_t most_shard_bytes = std::int64_t{5'000'000'000};
  bool force = false;
  std::function<void(const ConvertProgress&)> progress = {};
};

struct ConvertReport {
  std::string from;
  std::int64_t tensors = 0, values = 0;  ///< of the result
  std::vector<std::string> warnings;
};

/// Converts a model, one parameter at a time. The result is a folder that appears complete or not at all. Throws
/// Error(usage) for a source or target that is refused, Error(corrupt) for damaged files, Error(non_finite) for values
/// that are not finite in the result's type.
ConvertReport convert(const ConvertOptions& options);

}  // namespace causeway
