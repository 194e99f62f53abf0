#include <algorithm>
#include <cstring>
#include <limits>

#include "io/checkpoint/streamed_checkpoint.hpp"
#include "src/convert/model_writer.hpp"
#include "src/model/model_checkpoint.hpp"

namespace causeway {
namespace {

/// The type in which a model of these weights computes by default.
DType compute_type(TensorType weights) {
  if (weights == TensorType::f64) return DType::f64;
  return weights == TensorType::bf16 ? DType::bf16 : DType::f32;
}

/// A parameter that a transform computed in f64 stays so in an f32 checkpoint, because f32 would not give its tensor's
/// bytes back: the rates of li.
TensorType stored_type(const ConvertedParameter& parameter, const ModelTarget& target) {
  const auto& types = parameter.source_types;
  const bool computed =
      parameter.type == TensorType::f64 && !types.empty() && std::ranges::find(types, TensorType::f64) == types.end();
  return computed && target.type == TensorType::f32 ? TensorType::f64 : target.type.value_or(parameter.type);
}

std::string joined(const std::string& name, const std::vector<TensorType>& types) {
  std::string text = name;
  for (const TensorType type : types) text += fmt::format(" {}", name_of(type));
  return text;
}

CheckpointSource source_of(const ParameterSource& source, const ModelTarget& target) {
  CheckpointSource kept{.format = source.remembered.format, .config = source.remembered.config};
  for (const auto& [name, type] : source.remembered.extras) kept.extras.push_back(joined(name, {type}));
  for (const ConvertedParameter& parameter : source.parameters) {
    const TensorType stored = stored_type(parameter, target);
    const auto& types = parameter.source_types;
    const bool other = std::ranges::any_of(types, [&](TensorType type) { return type != stored; });
    const bool exact = std::ranges::all_of(types, [&](TensorType type) { return holds_all_of(stored, type); });
    if (other && exact) kept.types.push_back(joined(parameter.name, types));
  }
  return kept;
}

}  // namespace

std::int64_t write_model_as_checkpoint(const ParameterSource& source, const ModelTarget& target) {
  StreamedCheckpoint checkpoint{
      .step = target.step, .most_shard_bytes = target.most_shard_bytes, .path_of = target.path_of};
  CheckpointContent& content = checkpoint.content;
  const TensorType weights = target.type.value_or(source.parameters.front().type);
  content.attributes = attributes_of(source.options, compute_type(weights), source.remembered.fp8);
  content.state = source.state;
  if (content.state.empty())
    content.state = {{"step", std::int64_t{0}},
                     {"tokens_seen", std::int64_t{0}},
                     {"cursor", std::int64_t{0}},
                     {"seed", std::int64_t{0}},
                     {"loss", std::numeric_limits<double>::quiet_NaN()}};
  if (!source.remembered.format.empty()) content.source = source_of(source, target);
  for (const ConvertedParameter& parameter : source.parameters) {
    content.tensors.push_back({.name = "parameters/" + parameter.name,
                               .shape = parameter.shape,
                               .stored = stored_as(stored_type(parameter, target))});
  }
  Elements current;
  checkpoint.read = [&](std::size_t tensor, std::int64_t begin, std::span<std::byte> out) {
    const ConvertedParameter& parameter = source.parameters[tensor];
    if (begin == 0) {
      current = {};  // frees the memory of the one before
      current = converted_for(parameter.name, source.read(parameter), stored_type(parameter, target));
    }
    std::memcpy(out.data(), current.bytes.data() + begin, out.size());
  };
  write_streamed_checkpoint(checkpoint);
  return std::ssize(source.parameters);
}

}  // namespace causeway
