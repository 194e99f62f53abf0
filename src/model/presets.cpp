#include <algorithm>

#include "kernels/core/error.hpp"
#include "src/model/model_options.hpp"

namespace causeway {
namespace {

constexpr int tiny_attention[] = {3}, attention_1b[] = {3, 10, 17, 24}, attention_7b[] = {3, 10, 17, 24, 31},
              attention_40b[] = {3, 10, 17, 24, 31, 35, 42, 49};

/// mamba-*: Gu & Dao (arXiv 2312.00752), table 12 and the published state-spaces checkpoints; N = 16, W = 4, no MLP.
/// sh2-*: StripedHyena 2 (arXiv 2503.01868) and the published Evo 2 configurations.
const Preset table[] = {
    {.name = "mamba-tiny", .summary = "trains in minutes on two cores", .width = 64, .count = 2, .pattern = "mamba"},
    {.name = "mamba-130m", .summary = "768 × 24", .width = 768, .count = 24, .pattern = "mamba"},
    {.name = "mamba-1.4b", .summary = "2048 × 48", .width = 2048, .count = 48, .pattern = "mamba"},
    {.name = "mamba-2.8b", .summary = "2560 × 64", .width = 2560, .count = 64, .pattern = "mamba"},
    {.name = "sh2-tiny",
     .summary = "every operator of StripedHyena 2; trains in minutes on two cores",
     .width = 64,
     .count = 4,
     .pattern = "se mr li",
     .attention = tiny_attention,
     .heads = 4,
     .ffn = 176,
     .filter_groups = 8,
     .mr_taps = 32},
    {.name = "sh2-1b",
     .summary = "1920 × 25",
     .width = 1920,
     .count = 25,
     .pattern = "se mr li",
     .attention = attention_1b,
     .heads = 15,
     .ffn = 5120,
     .filter_groups = 128},
    {.name = "sh2-7b",
     .summary = "4096 × 32",
     .width = 4096,
     .count = 32,
     .pattern = "se mr li",
     .attention = attention_7b,
     .heads = 32,
     .ffn = 11008,
     .filter_groups = 256},
    {.name = "sh2-40b",
     .summary = "8192 × 50",
     .width = 8192,
     .count = 50,
     .pattern = "se mr li",
     .attention = attention_40b,
     .heads = 64,
     .ffn = 21888,
     .filter_groups = 512,
     .rope_base = 1e6},
};

/// The mixer of each block: attention where the preset lists it, else the next name of the pattern.
std::vector<std::string> layers_of(const Preset& preset) {
  const std::vector<std::string> pattern = parse_layers(preset.pattern);
  std::vector<std::string> layers;
  std::size_t next = 0;
  for (int i = 0; i < preset.count; ++i) {
    const bool attends = std::ranges::find(preset.attention, i) != preset.attention.end();
    layers.push_back(attends ? "attention" : pattern[next++ % pattern.size()]);
  }
  return layers;
}

}  // namespace

std::span<const Preset> presets() { return table; }

ModelOptions preset_options(std::string_view name) {
  std::string known;
  for (const Preset& preset : table) {
    if (preset.name == name)
      return {.width = preset.width,
              .layers = layers_of(preset),
              .heads = preset.heads,
              .rope_base = preset.rope_base,
              .filter_groups = preset.filter_groups,
              .mr_taps = preset.mr_taps,
              .ffn = preset.ffn};
    known += fmt::format("{}{}", known.empty() ? "" : ", ", preset.name);
  }
  fail(ExitCode::usage, "--model is '{}', expected one of: {}", name, known);
}

}  // namespace causeway
