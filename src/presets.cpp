#include <algorithm>
#include <charconv>
#include <numeric>

#include <fmt/ranges.h>

#include "kernels/error.hpp"
#include "src/model_options.hpp"

namespace causeway {
namespace {

constexpr int tiny_attention[] = {3}, attention_1b[] = {3, 10, 17, 24}, attention_7b[] = {3, 10, 17, 24, 31},
              attention_40b[] = {3, 10, 17, 24, 31, 35, 42, 49};

/// mamba-*: Gu & Dao (arXiv 2312.00752), table 12 and the published state-spaces checkpoints; N = 16, W = 4, no MLP.
/// sh2-*: StripedHyena 2 (arXiv 2503.01868) and the published Evo 2 configurations.
constexpr Preset table[] = {
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

/// The preset's pattern in turn, passing over the places of attention.
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

std::vector<std::string> parse_layers(std::string_view text) {
  std::vector<std::string> layers;
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] == ' ') {
      ++at;
      continue;
    }
    const std::size_t end = std::min(text.find(' ', at), text.size());
    const std::string_view word = text.substr(at, end - at);
    const std::size_t star = word.find('*');
    int count = 1;
    if (star != std::string_view::npos) {
      const char* const last = word.data() + word.size();
      const auto [stop, error] = std::from_chars(word.data() + star + 1, last, count);
      require(error == std::errc() && stop == last && count >= 1 && count <= 10'000,
              "--layers has '{}', expected NAME or NAME*COUNT", word);
    }
    layers.insert(layers.end(), static_cast<std::size_t>(count), std::string(word.substr(0, star)));
    at = end;
  }
  return layers;
}

std::string layers_text(std::span<const std::string> layers) {
  std::string text;
  for (std::size_t begin = 0; begin < layers.size();) {
    std::size_t end = begin;
    while (end < layers.size() && layers[end] == layers[begin]) ++end;
    text += fmt::format("{}{}", text.empty() ? "" : " ", layers[begin]);
    if (end - begin > 1) text += fmt::format("*{}", end - begin);
    begin = end;
  }
  return text;
}

std::int64_t ModelOptions::groups_of_filters() const {
  return filter_groups > 0 ? filter_groups : width / std::gcd(width, std::int64_t{16});
}

double ModelOptions::eps_of_norms() const {
  if (norm_eps > 0) return norm_eps;
  return std::ranges::all_of(layers, [](const std::string& layer) { return layer == "mamba"; }) ? 1e-5 : 1e-6;
}

bool ModelOptions::uses(std::string_view layer) const { return std::ranges::find(layers, layer) != layers.end(); }

void ModelOptions::check() const {
  require(!layers.empty(), "--layers names no layer");
  const auto within = [](std::string_view option, auto value, decltype(value) low, decltype(value) high) {
    require(value >= low && value <= high, "--{} is {}, expected {} to {}", option, value, low, high);
  };
  const auto one_of = [](std::string_view option, const std::string& value, std::span<const std::string_view> known) {
    require(std::ranges::find(known, value) != known.end(), "--{} is '{}', expected one of: {}", option, value,
            fmt::join(known, ", "));
  };
  within("vocabulary", vocabulary, 2, std::int64_t{1} << 24);
  within("width", width, 1, 1 << 20);
  within("state", state, 1, 1024);
  within("expand", expand, 1, 64);
  within("conv-taps", conv_taps, 1, 64);
  within("dt-rank", dt_rank, 0, 1 << 16);
  within("heads", heads, 1, 1 << 16);
  within("rope-base", rope_base, 0, 1e12);
  within("filter-groups", filter_groups, 0, 1 << 20);
  within("se-taps", se_taps, 1, 1 << 10);
  within("mr-taps", mr_taps, 1, 1 << 20);
  within("modes", modes, 1, 1024);
  within("ffn", ffn, 0, 1 << 22);
  within("norm-eps", norm_eps, 0, 1);
  one_of("mr-decay", mr_decay, mr_decays);
  one_of("mlp-activation", mlp_activation, mlp_activations);
  if (uses("attention")) {
    require(width % heads == 0, "--heads is {}, expected a divisor of --width {}", heads, width);
    require(rope_base == 0 || width / heads % 2 == 0,
            "--heads is {}: heads of {} channels, expected an even number, or --rope-base 0", heads, width / heads);
  }
  if (uses("se") || uses("mr"))
    require(width % groups_of_filters() == 0, "--filter-groups is {}, expected a divisor of --width {}", filter_groups,
            width);
}

}  // namespace causeway
