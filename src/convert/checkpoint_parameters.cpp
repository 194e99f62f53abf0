#include <algorithm>
#include <filesystem>
#include <map>
#include <sstream>

#include "io/checkpoint/checkpoint.hpp"
#include "io/checkpoint/checkpoint_folders.hpp"
#include "io/file/look_up.hpp"
#include "src/convert/parameter_source.hpp"
#include "src/model/model_checkpoint.hpp"

namespace causeway {
namespace {

/// The texts "name type type …" of a checkpoint's source.
std::map<std::string, std::vector<TensorType>> types_of(const std::vector<std::string>& texts,
                                                        const std::string& path) {
  std::map<std::string, std::vector<TensorType>> types;
  for (const std::string& text : texts) {
    std::istringstream words(text);
    std::string name, type;
    words >> name;
    auto& of_name = types[name];
    while (words >> type) of_name.push_back(parse_tensor_type(type, path + ": a type in /source"));
  }
  return types;
}

}  // namespace

bool is_causeway(const ConvertSource& source) {
  const std::filesystem::path path = source.path;
  for (const std::string& name : {checkpoint_file(0), std::string(manifest_name), std::string("latest")})
    if (is_there((path / name).string())) return true;
  return step_of_folder(path.filename().string()).has_value();
}

ParameterSource checkpoint_parameters(const std::string& path) {
  const auto checkpoint = std::make_shared<const Checkpoint>(path);
  require_tensors_of_its_model(*checkpoint, false);
  ParameterSource source{.path = checkpoint->path(), .format = "causeway", .options = model_options_of(*checkpoint)};
  std::map<std::string, std::vector<TensorType>> source_types;
  if (const auto kept = checkpoint->source()) {
    source.remembered = {.format = kept->format, .config = kept->config};
    for (const auto& [name, types] : types_of(kept->extras, checkpoint->path()))
      if (!types.empty()) source.remembered.extras[name] = types.front();
    source_types = types_of(kept->types, checkpoint->path());
  }
  source.remembered.fp8 = fp8_level_of(*checkpoint);
  const Model model({.shape = source.options});
  for (const Parameter& parameter : model.parameters().parameters()) {
    const auto& name = parameter.spec.name;
    const TensorType type = tensor_type_of(checkpoint->tensor("parameters/" + name).type);
    source.parameters.push_back({name, parameter.spec.shape, type, source_types[name]});
  }
  const auto names = checkpoint->names();
  if (std::ranges::any_of(names, [](const std::string& name) { return name.starts_with("optimizer/"); }))
    source.warnings.push_back(
        fmt::format("{}: its optimizer state is left out; the result has the weights only", checkpoint->path()));
  for (const std::string& name : checkpoint->state().attribute_names())
    source.state[name] = checkpoint->state().attribute(name);
  source.read = [checkpoint](const ConvertedParameter& parameter) {
    Elements elements = zeros(parameter.elements(), parameter.type);
    checkpoint->read_stored("parameters/" + parameter.name, 0, elements.bytes);
    return elements;
  };
  return source;
}

}  // namespace causeway
