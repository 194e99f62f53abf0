#include "src/convert/mamba_mapping.hpp"

#include <algorithm>
#include <filesystem>

#include "io/file/look_up.hpp"
#include "io/file/untrusted_json.hpp"
#include "io/tensors/safetensors.hpp"
#include "io/tensors/torch_file.hpp"
#include "kernels/core/error.hpp"

namespace causeway {
namespace {

namespace fs = std::filesystem;

std::string config_path(const ConvertSource& source) { return (fs::path(source.path) / mamba_config_file).string(); }

/// ModelOptions::check, with errors that name the configuration's file.
void check(const ModelOptions& options, const std::string& path) {
  try {
    options.check();
  } catch (const Error& error) {
    fail(error.code(), "{}: describes a model that Causeway does not have: {}", path, error.what());
  }
}

TensorFiles read_weights(const std::string& folder) {
  if (has_safetensors(folder)) return read_safetensors(folder);
  const std::string torch_file = (fs::path(folder) / "pytorch_model.bin").string();
  require(is_there(torch_file), "{}: has neither {} nor {} nor pytorch_model.bin", folder, safetensors_file,
          safetensors_index_file);
  return read_torch_file(torch_file);
}

}  // namespace

void MambaShape::set_layers(std::int64_t count, const std::string& where) {
  constexpr std::int64_t most = 10'000;
  require(count >= 1 && count <= most, "{} is {}, expected 1 to {}", where, count, most);
  options.layers.assign(static_cast<std::size_t>(count), "mamba");
}

Mapping mamba_mapping(const MambaShape& shape, const std::string& embedding) {
  const ModelOptions& options = shape.options;
  const std::int64_t width = options.width, inner = options.d_inner(), state = options.state,
                     rank = options.rank_of_dt(), vocabulary = options.vocabulary;
  Mapping mapping;
  const auto row = [&](const std::string& name, std::vector<std::int64_t> extents) {
    mapping.rows.push_back({.parameter = name, .tensors = {{name, std::move(extents)}}});
  };
  const auto zero = [&](const std::string& name, std::int64_t extent) {
    mapping.extras.push_back({.tensor = {name, {extent}}, .kind = ExtraTensor::Kind::zero});
  };
  mapping.rows.push_back({.parameter = "backbone.embedding.weight", .tensors = {{embedding, {vocabulary, width}}}});
  for (std::size_t layer = 0; layer < options.layers.size(); ++layer) {
    const std::string block = fmt::format("backbone.layers.{}.", layer), mixer = block + "mixer.";
    row(block + "norm.weight", {width});
    row(mixer + "in_proj.weight", {2 * inner, width});
    row(mixer + "conv1d.weight", {inner, 1, options.conv_taps});
    if (shape.conv_bias)
      row(mixer + "conv1d.bias", {inner});
    else
      mapping.rows.push_back({.parameter = mixer + "conv1d.bias", .tensors = {}, .transform = constant(inner, 0)});
    row(mixer + "x_proj.weight", {rank + 2 * state, inner});
    row(mixer + "dt_proj.weight", {inner, rank});
    row(mixer + "dt_proj.bias", {inner});
    row(mixer + "A_log", {inner, state});
    row(mixer + "D", {inner});
    row(mixer + "out_proj.weight", {width, inner});
    zero(mixer + "in_proj.bias", 2 * inner);
    zero(mixer + "out_proj.bias", width);
  }
  row("backbone.norm_f.weight", {width});
  if (options.tied_head)  // always written: load_state_dict(strict=True) expects it
    mapping.extras.push_back({.tensor = {"lm_head.weight", {vocabulary, width}},
                              .kind = ExtraTensor::Kind::copy,
                              .copy_of = embedding,
                              .always_written = true});
  else
    row("lm_head.weight", {vocabulary, width});
  return mapping;
}

MambaShape expressible_as_mamba(const ModelOptions& options, const Remembered& remembered) {
  const auto other = std::ranges::find_if(options.layers, [](const std::string& name) { return name != "mamba"; });
  require(other == options.layers.end(), "the model has a layer '{}', expected only mamba layers",
          other == options.layers.end() ? "" : *other);
  require(options.ffn == 0, "the model has gated MLPs (ffn {}), expected none", options.ffn);
  require(options.norm_form == "inside", "the model has --norm-form {}, expected inside", options.norm_form);
  MambaShape shape{.options = options};
  if (remembered.config.empty()) return shape;
  const std::string where = "/source of the checkpoint: config";
  const ConfigKeys config(parse_untrusted_json(remembered.config, where), where);
  if (remembered.format == "huggingface") shape.conv_bias = config.boolean("use_conv_bias", true);
  if (remembered.format == "mamba_ssm") shape.conv_bias = config.object("ssm_cfg").boolean("conv_bias", true);
  return shape;
}

bool mamba_config_has(const ConvertSource& source, std::initializer_list<const char*> keys) {
  if (!is_there(config_path(source))) return false;
  const nlohmann::json config = read_json_file(config_path(source), most_config_bytes);
  return config.is_object() && std::ranges::all_of(keys, [&](const char* key) { return config.contains(key); });
}

ForeignModel open_mamba(const ConvertSource& source, MambaShape (*shape_of)(const ConfigKeys& config),
                        std::initializer_list<const char*> embeddings) {
  const std::string path = config_path(source);
  const ConfigKeys config(read_json_file(path, most_config_bytes), path);
  const MambaShape shape = shape_of(config);
  check(shape.options, path);
  TensorFiles files = read_weights(source.path);
  const auto* const found =
      std::ranges::find_if(embeddings, [&](const char* name) { return files.find(name) != nullptr; });
  const std::string embedding = found == embeddings.end() ? *embeddings.begin() : *found;
  return {.options = shape.options,
          .files = std::move(files),
          .mapping = mamba_mapping(shape, embedding),
          .config = config.text()};
}

}  // namespace causeway
