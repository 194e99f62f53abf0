#include <charconv>

#include "kernels/error.hpp"
#include "src/model_options.hpp"

namespace causeway {
namespace {

/// Sizes of mamba-*: Gu & Dao (arXiv 2312.00752), table 12 and the published state-spaces checkpoints. All have N = 16,
/// W = 4 and no MLP.
constexpr Preset table[] = {
    {"mamba-tiny", "trains in minutes on two cores", 64, "mamba*2"},
    {"mamba-130m", "768 × 24", 768, "mamba*24"},
    {"mamba-1.4b", "2048 × 48", 2048, "mamba*48"},
    {"mamba-2.8b", "2560 × 64", 2560, "mamba*64"},
};

}  // namespace

std::span<const Preset> presets() { return table; }

ModelOptions preset_options(std::string_view name) {
  std::string known;
  for (const Preset& preset : table) {
    if (preset.name == name) return {.width = preset.width, .layers = parse_layers(preset.layers)};
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

void ModelOptions::check() const {
  require(!layers.empty(), "--layers names no layer");
  const auto within = [](std::string_view option, std::int64_t value, std::int64_t low, std::int64_t high) {
    require(value >= low && value <= high, "--{} is {}, expected {} to {}", option, value, low, high);
  };
  within("vocabulary", vocabulary, 2, std::int64_t{1} << 24);
  within("width", width, 1, 1 << 20);
  within("state", state, 1, 1024);
  within("expand", expand, 1, 64);
  within("conv-taps", conv_taps, 1, 64);
  within("dt-rank", dt_rank, 0, 1 << 16);
}

}  // namespace causeway
