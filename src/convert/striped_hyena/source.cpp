#include "src/convert/striped_hyena/source.hpp"

#include <algorithm>
#include <filesystem>

#include "io/file/look_up.hpp"
#include "io/tensors/safetensors.hpp"
#include "io/tensors/torch_file.hpp"
#include "kernels/core/error.hpp"

namespace causeway {
namespace {

namespace fs = std::filesystem;

bool is_folder(const std::string& path) { return kind_of(path) == fs::file_type::directory; }
bool is_safetensors(const std::string& path) { return is_folder(path) || path.ends_with(".safetensors"); }

}  // namespace

TensorFiles striped_hyena_tensors(const ConvertSource& source) {
  return is_safetensors(source.path) ? read_safetensors(source.path) : read_torch_file(source.path);
}

bool striped_hyena_source_has(const ConvertSource& source, std::initializer_list<std::string_view> tensors) {
  if (is_folder(source.path) ? !has_safetensors(source.path)
                             : !is_safetensors(source.path) && !is_torch_file(source.path))
    return false;
  const TensorFiles files = striped_hyena_tensors(source);
  return std::ranges::any_of(tensors, [&](std::string_view name) { return files.find(std::string(name)) != nullptr; });
}

YamlKeys striped_hyena_keys(const ConvertSource& source) {
  std::string path = source.model_config;
  if (path.empty() && is_folder(source.path)) path = (fs::path(source.path) / vortex_config_file).string();
  require(!path.empty() && is_there(path),
          "{}: needs the YAML file of its model, which is published beside vortex's weights: --model-config FILE",
          source.path);
  return YamlKeys::read(path);
}

std::vector<std::string> striped_hyena_warnings(const VortexShape& shape) {
  if (!shape.fp8) return {};
  return {
      "the model was trained with FP8 input projections (use_fp8_input_projections), which Causeway does not have: "
      "expect losses higher by 0.16 to 0.78 nats a token (1B, 20B and 40B; the 7B models lose nothing)"};
}

}  // namespace causeway
