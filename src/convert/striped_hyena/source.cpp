#include "src/convert/striped_hyena/source.hpp"

#include <algorithm>
#include <filesystem>
#include <set>

#include "io/file/look_up.hpp"
#include "io/tensors/safetensors.hpp"
#include "io/tensors/torch_file.hpp"
#include "kernels/core/error.hpp"

namespace causeway {
namespace {

namespace fs = std::filesystem;

bool is_folder(const std::string& path) { return kind_of(path) == fs::file_type::directory; }
bool is_safetensors(const std::string& path) { return is_folder(path) || path.ends_with(".safetensors"); }

/// The source's path; for a folder that has one .pt file, or the parts of one, and no safetensors: that file.
std::string path_of_weights(const ConvertSource& source) {
  if (!is_folder(source.path) || has_safetensors(source.path)) return source.path;
  std::set<std::string> files;
  for (const auto& entry : fs::directory_iterator(source.path)) {
    const std::string path = entry.path().string(), whole = path.substr(0, path.rfind(".part"));
    if (whole.ends_with(".pt")) files.insert(whole);
  }
  return files.size() == 1 ? *files.begin() : source.path;
}

TensorFiles tensors_of(const std::string& path) {
  return is_safetensors(path) ? read_safetensors(path) : read_torch_file(path);
}

YamlKeys keys_of(const ConvertSource& source) {
  std::string path = source.model_config;
  if (path.empty() && is_folder(source.path)) path = (fs::path(source.path) / vortex_config_file).string();
  require(!path.empty() && is_there(path),
          "{}: needs the YAML file of its model, which is published beside vortex's weights: --model-config FILE",
          source.path);
  return YamlKeys::read(path);
}

std::vector<std::string> warnings_of(const VortexShape& shape) {
  if (!shape.fp8) return {};
  return {
      "the model was trained with FP8 input projections (use_fp8_input_projections): use it with --fp8 projections; "
      "without, losses are higher by 0.16 to 0.78 nats a token (1B, 20B and 40B; the 7B models lose nothing)"};
}

}  // namespace

bool striped_hyena_source_has(const ConvertSource& source, std::initializer_list<std::string_view> tensors) {
  const std::string path = path_of_weights(source);
  if (is_folder(path) ? !has_safetensors(path) : !is_safetensors(path) && !is_torch_file(path)) return false;
  const TensorFiles files = tensors_of(path);
  return std::ranges::any_of(tensors, [&](std::string_view name) { return files.find(std::string(name)) != nullptr; });
}

ForeignModel open_striped_hyena(const ConvertSource& source,
                                Mapping (*mapping_of)(const VortexShape& shape, const TensorFiles& files)) {
  const YamlKeys keys = keys_of(source);
  VortexShape shape = vortex_shape(keys);
  shape.options.rope_stored = shape.options.uses("attention");
  TensorFiles files = tensors_of(path_of_weights(source));
  Mapping mapping = mapping_of(shape, files);
  return {.options = shape.options,
          .files = std::move(files),
          .mapping = std::move(mapping),
          .config = keys.text(),
          .warnings = warnings_of(shape),
          .fp8 = shape.fp8 ? Fp8Level::projections : Fp8Level::off};
}

}  // namespace causeway
