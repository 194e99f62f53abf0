#include "src/train/settings/model_settings.hpp"

#include <fmt/format.h>

#include "src/cli/option_range.hpp"
#include "src/model/layer.hpp"

namespace causeway {

ModelOptions resolve(const ModelSettings& settings, const ModelOptions& otherwise) {
  ModelOptions options = otherwise;
  if (!settings.model.empty())
    options = preset_options(settings.model);
  else if (!settings.layers.empty())
    options = preset_options(default_preset);
  if (!settings.layers.empty()) options.layers = parse_layers(settings.layers);
  if (settings.layers_count != 0) {
    require_within("layers-count", settings.layers_count, 1, 10'000);
    const std::vector<std::string> pattern = options.layers;
    require(!pattern.empty(), "--layers is empty: expected at least one layer");
    options.layers.clear();
    for (std::int64_t i = 0; i < settings.layers_count; ++i)
      options.layers.push_back(pattern[static_cast<std::size_t>(i) % pattern.size()]);
  }
  const auto choose = [](auto& field, const auto& given, const auto& unset) {
    if (given != unset) field = given;
  };
  choose(options.width, settings.width, 0);
  choose(options.state, settings.state, 0);
  choose(options.expand, settings.expand, 0);
  choose(options.conv_taps, settings.conv_taps, 0);
  choose(options.dt_rank, settings.dt_rank, 0);
  choose(options.vocabulary, settings.vocabulary, 0);
  choose(options.heads, settings.heads, 0);
  choose(options.rope_base, settings.rope_base, -1);
  choose(options.rope_scaling, settings.rope_scaling, 0);
  choose(options.filter_groups, settings.filter_groups, 0);
  choose(options.se_taps, settings.se_taps, 0);
  choose(options.mr_taps, settings.mr_taps, 0);
  choose(options.mr_decay, settings.mr_decay, "");
  choose(options.modes, settings.modes, 0);
  choose(options.ffn, settings.ffn, -1);
  choose(options.mlp_activation, settings.mlp_activation, "");
  choose(options.norm_eps, settings.norm_eps, 0);
  choose(options.norm_form, settings.norm_form, "");
  if (settings.untied_head) options.tied_head = false;
  if (settings.out_bias) options.out_bias = true;
  if (settings.rope_stored) options.rope_stored = true;
  if (settings.no_se_skip) options.se_skip = false;
  return options;
}

ModelSettings settings_of(const ModelOptions& shape, const std::string& model) {
  return {.model = model,
          .layers = layers_text(shape.layers),
          .width = shape.width,
          .state = shape.state,
          .expand = shape.expand,
          .conv_taps = shape.conv_taps,
          .dt_rank = shape.dt_rank,
          .vocabulary = shape.vocabulary,
          .heads = shape.heads,
          .filter_groups = shape.filter_groups,
          .se_taps = shape.se_taps,
          .mr_taps = shape.mr_taps,
          .modes = shape.modes,
          .ffn = shape.ffn,
          .rope_base = shape.rope_base,
          .rope_scaling = shape.rope_scaling,
          .norm_eps = shape.norm_eps,
          .mr_decay = shape.mr_decay,
          .mlp_activation = shape.mlp_activation,
          .norm_form = shape.norm_form,
          .untied_head = !shape.tied_head,
          .out_bias = shape.out_bias,
          .rope_stored = shape.rope_stored,
          .no_se_skip = !shape.se_skip};
}

OptionGroup model_group(ModelSettings& settings) {
  const auto names_of = [](const auto& table) {
    std::string names;
    for (const auto& row : table) names += fmt::format("{}{}", names.empty() ? "" : ", ", row.name);
    return names;
  };
  const auto option = [](const char* name, Option::Field field, const char* value, std::string help,
                         std::string_view shown_default) {
    return Option{.name = name,
                  .field = field,
                  .value = value,
                  .help = std::move(help),
                  .shown_default = std::string(shown_default)};
  };
  constexpr const char* preset = "0: the preset's";
  OptionGroup group = {
      "Model",
      {option("model", &settings.model, "PRESET", "one of " + names_of(presets()) + "; the options below change it",
              default_preset),
       option("layers", &settings.layers, "\"NAME NAME*COUNT …\"",
              "the kind of each layer, each one of " + names_of(layers()), "the preset's"),
       option("layers-count", &settings.layers_count, "N",
              "number of layers; the pattern of --layers is repeated or cut", preset),
       option("width", &settings.width, "N", "channels of the residual stream", preset),
       option("state", &settings.state, "N", "states of each channel of the selective scan", preset),
       option("expand", &settings.expand, "N", "inner channels of a Mamba block, as a multiple of the width", preset),
       option("conv-taps", &settings.conv_taps, "N", "taps of the short convolution", preset),
       option("dt-rank", &settings.dt_rank, "N", "rank of the projection to the step size",
              "0: the preset's, else width/16"),
       option("heads", &settings.heads, "N", "attention heads", preset),
       option("rope-base", &settings.rope_base, "X",
              "base of the rotary position embedding of attention; 0: no positions", "-1: the preset's, else 10000"),
       option("rope-scaling", &settings.rope_scaling, "S",
              "divide positions by S before the rotary embedding (linear position interpolation, for contexts longer "
              "than the first training's)",
              "0: the preset's, else 1"),
       {"rope-stored", &settings.rope_stored, "",
        "store the rotary frequencies of each attention layer in the checkpoint, as the parameter inv_freq, which is "
        "used but not trained"},
       {"out-bias", &settings.out_bias, "", "add a bias to the output projection of se, mr, li and attention"},
       option("filter-groups", &settings.filter_groups, "N",
              "number of filters of se and of mr; each filter serves the same number of channels",
              "0: the preset's, else one for 16 channels"),
       option("se-taps", &settings.se_taps, "N", "taps of se's filters", "0: the preset's, else 7"),
       {"no-se-skip", &settings.no_se_skip, "", "se adds no skip to its filter's output, as in published models"},
       option("mr-taps", &settings.mr_taps, "N", "taps of mr's filters", "0: the preset's, else 128"),
       option("mr-decay", &settings.mr_decay, "strong|normal|weak",
              "range of decay rates of mr's filters: over its taps the slowest decays to exp(-1), exp(-0.1) or "
              "exp(-0.01)",
              "the preset's, else weak"),
       option("modes", &settings.modes, "N", "modes of each channel of li's filters", "0: the preset's, else 16"),
       option("ffn", &settings.ffn, "N", "inner width of the gated MLP after each mixer; 0: no MLP",
              "-1: the preset's, else 0"),
       option("mlp-activation", &settings.mlp_activation, "gelu_first|swiglu",
              "activation of the MLP's gate: gelu_first: GELU in the first layer and none in the others; swiglu: "
              "SiLU in all",
              "the preset's, else gelu_first"),
       option("norm-eps", &settings.norm_eps, "X", "added to the mean square in RMSNorm",
              "0: the preset's, else 1e-5 if all layers are mamba and 1e-6 if not"),
       option(
           "norm-form", &settings.norm_form, "inside|outside",
           "where RMSNorm adds --norm-eps: inside the root, x / sqrt(ms + eps), or outside, x / (sqrt(ms) + eps), as "
           "in the published StripedHyena 2 models; ms is the mean square",
           "the preset's, else inside"),
       option("vocabulary", &settings.vocabulary, "N", "number of token ids", preset),
       {"untied-head", &settings.untied_head, "", "use a separate output head instead of the transposed embedding"}}};
  for (const auto& row : presets()) find_option(group, "model").suggestions.emplace_back(row.name);
  for (Option& row : group.options)
    if (row.name != "model") row.part_of = "model";
  return group;
}

}  // namespace causeway
