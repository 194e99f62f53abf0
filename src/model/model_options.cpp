#include "src/model/model_options.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <numeric>

#include "src/cli/option_range.hpp"
#include "src/model/layer.hpp"

namespace causeway {

namespace {

constexpr std::int64_t most_layers = 10'000;

}  // namespace

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
    require(star != 0, "--layers has '{}', expected NAME or NAME*COUNT", word);
    int count = 1;
    if (star != std::string_view::npos) {
      const char* const last = word.data() + word.size();
      const auto [stop, error] = std::from_chars(word.data() + star + 1, last, count);
      require(error == std::errc() && stop == last && count >= 1 && count <= most_layers,
              "--layers has '{}', expected NAME or NAME*COUNT", word);
    }
    require(static_cast<std::int64_t>(layers.size()) + count <= most_layers, "--layers names more than {} layers",
            most_layers);
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
  for (const std::string& layer : layers) find_layer(layer);
  const auto one_of = [](std::string_view option, const std::string& value, std::span<const std::string_view> known) {
    require(std::ranges::find(known, value) != known.end(), "--{} is '{}', expected one of: {}", option, value,
            fmt::join(known, ", "));
  };
  require_within("vocabulary", vocabulary, 2, std::int64_t{1} << 24);
  require_within("width", width, 1, 1 << 20);
  require_within("state", state, 1, 1024);
  require_within("expand", expand, 1, 64);
  require_within("conv-taps", conv_taps, 1, 64);
  require_within("dt-rank", dt_rank, 0, 1 << 16);
  require_within("heads", heads, 1, 1 << 16);
  require_within("rope-base", rope_base, 0, 1e12);
  require_within("filter-groups", filter_groups, 0, 1 << 20);
  require_within("se-taps", se_taps, 1, 1 << 10);
  require_within("mr-taps", mr_taps, 1, 1 << 20);
  require_within("modes", modes, 1, 1024);
  require_within("ffn", ffn, 0, 1 << 22);
  require_within("norm-eps", norm_eps, 0, 1);
  one_of("mr-decay", mr_decay, mr_decays);
  one_of("mlp-activation", mlp_activation, mlp_activations);
  one_of("norm-form", norm_form, norm_forms);
  require(rope_scaling > 0 && rope_scaling <= 1e9, "--rope-scaling is {}, expected a number above 0, at most 1e9",
          rope_scaling);
  if (uses("attention")) {
    require(width % heads == 0, "--heads is {}, expected a divisor of --width {}", heads, width);
    require(rope_base == 0 || width / heads % 2 == 0,
            "--heads is {}: a head has {} channels, expected an even number, or --rope-base 0", heads, width / heads);
    require(rope_base > 0 || !rope_stored, "--rope-stored needs rotary positions, but --rope-base is 0");
  }
  if (uses("se") || uses("mr"))
    require(width % groups_of_filters() == 0, "--filter-groups is {}, expected a divisor of --width {}", filter_groups,
            width);
}

}  // namespace causeway
