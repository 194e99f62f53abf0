#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "src/convert/parameter_source.hpp"

namespace causeway {

/// The folder of a converted model. The caller renames it when it is complete.
struct ModelTarget {
  std::function<std::string(const std::string& name)> path_of;  ///< of a file in it
  std::optional<TensorType> type;                               ///< of all tensors; nothing: their source types
  std::int64_t most_shard_bytes = 0;
  std::int64_t step = 0;  ///< of a checkpoint
};

/// Each returns the number of tensors that it wrote.
std::int64_t write_model_as_checkpoint(const ParameterSource& source, const ModelTarget& target);
std::int64_t write_model_as_safetensors(const ParameterSource& source, const ForeignLayout& layout,
                                        const ModelTarget& target);

/// Converts values for the result. Throws Error(non_finite) with `name` for one that is not finite then.
Elements converted_for(const std::string& name, Elements elements, TensorType type);

}  // namespace causeway
