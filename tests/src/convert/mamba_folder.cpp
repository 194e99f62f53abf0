#include "tests/src/convert/mamba_folder.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "io/tensors/safetensors.hpp"

namespace causeway::test {

MambaFolder::MambaFolder(TensorType type)
    : config{{"model_type", "mamba"},
             {"vocab_size", 24},
             {"hidden_size", 8},
             {"state_size", 4},
             {"expand", 2},
             {"conv_kernel", 3},
             {"num_hidden_layers", 2},
             {"hidden_act", "silu"},
             {"use_bias", false},
             {"use_conv_bias", true},
             {"time_step_rank", "auto"},
             {"layer_norm_epsilon", 1e-5},
             {"tie_word_embeddings", true},
             {"eos_token_id", 7}},
      value([](const std::string& name, std::int64_t i) {
        return static_cast<double>((i * 7 + static_cast<std::int64_t>(name.size())) % 31 - 15) / 16;
      }) {
  tensors = {{"backbone.embeddings.weight", type, {24, 8}}, {"backbone.norm_f.weight", type, {8}}};
  for (const char* layer : {"backbone.layers.0.", "backbone.layers.1."}) {
    const std::string mixer = std::string(layer) + "mixer.";
    tensors.insert(tensors.end(), {{std::string(layer) + "norm.weight", type, {8}},
                                   {mixer + "in_proj.weight", type, {32, 8}},
                                   {mixer + "conv1d.weight", type, {16, 1, 3}},
                                   {mixer + "conv1d.bias", type, {16}},
                                   {mixer + "x_proj.weight", type, {9, 16}},
                                   {mixer + "dt_proj.weight", type, {16, 1}},
                                   {mixer + "dt_proj.bias", type, {16}},
                                   {mixer + "A_log", type, {16, 4}},
                                   {mixer + "D", type, {16}},
                                   {mixer + "out_proj.weight", type, {8, 16}}});
  }
}

TensorPlan& MambaFolder::tensor(const std::string& name) {
  return *std::ranges::find(tensors, name, &TensorPlan::name);
}

void MambaFolder::remove(const std::string& name) {
  std::erase_if(tensors, [&](const TensorPlan& tensor) { return tensor.name == name; });
}

void MambaFolder::write(const std::string& folder) const {
  std::filesystem::create_directories(folder);
  const std::filesystem::path path = folder;
  std::ofstream(path / "config.json") << config.dump(2);
  SafetensorsWriter writer([&](const std::string& name) { return (path / name).string(); }, tensors, most_shard_bytes);
  for (const TensorPlan& tensor : writer.order()) {
    std::vector<double> values;
    for (std::int64_t i = 0; i < tensor.bytes() / size_of(tensor.type); ++i) values.push_back(value(tensor.name, i));
    std::vector<std::byte> bytes(static_cast<std::size_t>(tensor.bytes()));
    if (is_floating(tensor.type))
      convert_elements(TensorType::f64, std::as_bytes(std::span(values)), tensor.type, bytes);
    writer.write(bytes);
  }
  writer.finish();
}

std::map<std::string, std::string> tensors_in(const std::string& folder) {
  const TensorFiles files = read_safetensors(folder);
  std::map<std::string, std::string> all;
  for (const FileTensor& tensor : files.tensors()) {
    std::string bytes(static_cast<std::size_t>(tensor.bytes()), '\0');
    files.read(tensor, std::as_writable_bytes(std::span(bytes)));
    all[tensor.name] = fmt::format("{} {} ", name_of(tensor.type), tensor.shape) + bytes;
  }
  return all;
}

}  // namespace causeway::test
