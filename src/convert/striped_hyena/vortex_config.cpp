#include "src/convert/striped_hyena/vortex_config.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "kernels/core/error.hpp"
#include "src/model/layers/hyena.hpp"

namespace causeway {
namespace {

constexpr std::int64_t most_layers = 10'000;

/// Keys that say how a program runs the model, or how it was initialised, not what it computes.
constexpr std::string_view ignored[] = {"model_name",
                                        "max_seqlen",
                                        "seqlen",
                                        "max_batch_size",
                                        "model_parallel_size",
                                        "pipe_parallel_size",
                                        "inference_mode",
                                        "prefill_style",
                                        "print_activations",
                                        "log_intermediate_values",
                                        "ground_truth_activations_path",
                                        "low_mem_mode",
                                        "compile",
                                        "tokenizer_type",
                                        "vocab_file",
                                        "make_vocab_size_divisible_by",
                                        "mlp_init_method",
                                        "mlp_output_init_method",
                                        "use_flash_attn",
                                        "use_flash_depthwise",
                                        "use_flashfft",
                                        "use_hcs_kernel",
                                        "use_hcm_kernel",
                                        "use_hcl_kernel",
                                        "params_dtype",
                                        "attn_block_dtype",
                                        "hyena_block_dtype",
                                        "mlp_dtype",
                                        "depthwise_dtype"};

/// A switch of which Causeway has one position.
struct FixedSwitch {
  std::string_view key;
  bool expected, if_missing;  ///< as vortex reads a missing key
};
constexpr FixedSwitch fixed_switches[] = {
    {"hyena_flip_x1x2", false, false},   {"short_filter_bias", false, false},  {"final_norm", true, true},
    {"column_split_hyena", false, true}, {"column_split", true, true},         {"interleave", true, false},
    {"qkv_proj_bias", false, false},     {"use_laughing_hyena", false, false}, {"smeared_gqa", false, false},
};

void expect(const YamlKeys& keys, std::string_view key, std::int64_t wanted, std::int64_t otherwise) {
  const std::int64_t found = keys.integer(key, otherwise);
  require(found == wanted, "{} is {}, expected {}, which is all that Causeway has", keys.where(key), found, wanted);
}

void check_fixed(const YamlKeys& keys, std::int64_t width) {
  for (const FixedSwitch& each : fixed_switches) {
    const bool found = keys.boolean(each.key, each.if_missing);
    require(found == each.expected, "{} is {}, expected {}, which is all that Causeway has", keys.where(each.key),
            keys.has(each.key) ? fmt::format("{}", found) : fmt::format("missing, which means {}", found),
            each.expected);
  }
  expect(keys, "proj_groups", 1, 1);
  expect(keys, "hyena_filter_groups", 1, 1);
  expect(keys, "num_filters", width, width);
  expect(keys, "hcl_filter_groups", width, width);
  require(!keys.has("long_fir_threshold"), "{} has a value: li's filters would be cut, which Causeway cannot honour",
          keys.where("long_fir_threshold"));
}

/// The mixer of every layer, from the lists of their numbers.
std::vector<std::string> layers_of(const YamlKeys& keys) {
  const std::int64_t count = keys.integer("num_layers");
  require(count >= 1 && count <= most_layers, "{} is {}, expected 1 to {}", keys.where("num_layers"), count,
          most_layers);
  std::vector<std::string> layers(static_cast<std::size_t>(count));
  for (const auto& [key, layer] : {std::pair{"hcs_layer_idxs", "se"}, std::pair{"hcm_layer_idxs", "mr"},
                                   std::pair{"hcl_layer_idxs", "li"}, std::pair{"attn_layer_idxs", "attention"}})
    for (const std::int64_t number : keys.integers(key)) {
      require(number < count, "{} has {}, expected numbers below num_layers, {}", keys.where(key), number, count);
      std::string& name = layers[static_cast<std::size_t>(number)];
      require(name.empty(), "{} has layer {}, which is {} already", keys.where(key), number, name);
      name = layer;
    }
  const auto none = std::ranges::find(layers, "");
  require(none == layers.end(), "{}: layer {} is in none of the lists of layers", keys.where("num_layers"),
          none - layers.begin());
  return layers;
}

/// vortex's inner width of an MLP where no key sets it: 8/3 of the width, rounded up.
std::int64_t default_ffn(const YamlKeys& keys, std::int64_t width) {
  const std::int64_t multiple = keys.integer("inner_size_multiple_of", 64) * keys.integer("model_parallel_size", 1);
  require(multiple >= 1, "{} is {}, expected 1 or more", keys.where("inner_size_multiple_of"), multiple);
  return (8 * width / 3 + multiple - 1) / multiple * multiple;
}

std::string activation_of(const YamlKeys& keys) {
  const std::string word = keys.word("mlp_activation", "gelu");
  const bool first_only = keys.boolean("evo2_style_activations", false);
  if (word == "gelu" && first_only) return "gelu_first";
  if (word == "silu" && !first_only) return "swiglu";
  fail(ExitCode::usage, "{} is {} and evo2_style_activations {}, expected gelu and true, or silu and false",
       keys.where("mlp_activation"), word, first_only);
}

void read_filters(const YamlKeys& keys, VortexShape& shape) {
  ModelOptions& options = shape.options;
  const auto read = [&](const char* layer, const char* taps_key, const char* groups_key, std::int64_t& taps,
                        std::int64_t& groups) {
    if (!options.uses(layer)) return keys.ignore(taps_key), keys.ignore(groups_key);
    taps = keys.integer(taps_key);
    groups = keys.integer(groups_key);
    require(groups >= 1 && options.width % groups == 0, "{} is {}, expected a divisor of hidden_size, {}",
            keys.where(groups_key), groups, options.width);
  };
  shape.se_groups = shape.mr_groups = 1;
  read("se", "hcs_filter_length", "hcs_filter_groups", options.se_taps, shape.se_groups);
  read("mr", "hcm_filter_length", "hcm_filter_groups", options.mr_taps, shape.mr_groups);
  options.se_skip = !options.uses("se") || options.se_taps >= vortex_long_filter;
  options.filter_groups = std::lcm(shape.se_groups, shape.mr_groups);
  if (!options.uses("se")) shape.se_groups = options.filter_groups;
  if (!options.uses("mr")) shape.mr_groups = options.filter_groups;
}

void read_attention(const YamlKeys& keys, VortexShape& shape) {
  ModelOptions& options = shape.options;
  for (const char* key : {"num_attention_heads", "rotary_emb_base", "use_interpolated_rotary_pos_emb",
                          "rotary_emb_scaling_factor", "mha_out_proj_bias"})
    keys.ignore(key);
  if (!options.uses("attention")) return;
  options.heads = keys.integer("num_attention_heads");
  options.rope_base = keys.number("rotary_emb_base", 1e6);
  require(options.rope_base > 0, "{} is {}, expected a number above 0", keys.where("rotary_emb_base"),
          options.rope_base);
  if (keys.boolean("use_interpolated_rotary_pos_emb", false))
    options.rope_scaling = keys.number("rotary_emb_scaling_factor", 1);
  shape.attention_bias = keys.boolean("mha_out_proj_bias", true);
}

}  // namespace

VortexShape vortex_shape(const YamlKeys& keys) {
  VortexShape shape;
  ModelOptions& options = shape.options;
  options.vocabulary = keys.integer("vocab_size");
  options.width = keys.integer("hidden_size");
  require(options.width >= 1, "{} is 0", keys.where("hidden_size"));
  options.layers = layers_of(keys);
  check_fixed(keys, options.width);
  expect(keys, "short_filter_length", Featurizer::taps, Featurizer::taps);
  read_filters(keys, shape);
  read_attention(keys, shape);
  options.modes = keys.integer("state_size", options.modes);
  const bool has_hyena = std::ranges::any_of(options.layers, [](const auto& name) { return name != "attention"; });
  shape.hyena_bias = keys.boolean("hyena_out_proj_bias", false) && has_hyena;
  options.out_bias = shape.hyena_bias || shape.attention_bias;
  options.ffn = keys.integer("inner_mlp_size", default_ffn(keys, options.width));
  require(options.ffn >= 1, "{} is 0", keys.where("inner_mlp_size"));
  options.mlp_activation = activation_of(keys);
  options.norm_eps = keys.number("eps");
  require(options.norm_eps > 0, "{} is {}, expected a number above 0", keys.where("eps"), options.norm_eps);
  options.norm_form = keys.boolean("use_flash_rmsnorm", false) ? "inside" : "outside";
  options.tied_head = keys.boolean("tie_embeddings", false);
  shape.fp8 = keys.boolean("use_fp8_input_projections", false);
  for (const std::string_view key : ignored) keys.ignore(key);
  keys.refuse_others();
  return shape;
}

VortexShape expressible_as_vortex(const ModelOptions& options) {
  for (const std::string& layer : options.layers)
    require(layer == "se" || layer == "mr" || layer == "li" || layer == "attention",
            "the model has a layer '{}', expected se, mr, li and attention", layer);
  require(options.ffn > 0, "the model has no MLPs (ffn is 0), expected one in each layer");
  require(!options.uses("attention") || options.rope_base > 0,
          "the model's attention has no rotary positions (rope_base is 0)");
  require(!options.uses("se") || options.se_skip || options.se_taps < vortex_long_filter,
          "the model's se filters have {} taps and no skip, expected a skip from {} taps on", options.se_taps,
          vortex_long_filter);
  return {.options = options,
          .se_groups = options.groups_of_filters(),
          .mr_groups = options.groups_of_filters(),
          .hyena_bias = options.out_bias,
          .attention_bias = options.out_bias};
}

std::string vortex_yaml(const VortexShape& shape) {
  const ModelOptions& options = shape.options;
  std::string text;
  const auto line = [&](std::string_view key, const auto& value) { text += fmt::format("{}: {}\n", key, value); };
  const auto numbers_of = [&](std::string_view layer) {
    std::vector<std::size_t> numbers;
    for (std::size_t number = 0; number < options.layers.size(); ++number)
      if (options.layers[number] == layer) numbers.push_back(number);
    return fmt::format("[{}]", fmt::join(numbers, ", "));
  };
  // 1.0e-06: PyYAML reads 1e-06 as a string.
  const auto number = [](double value) {
    const std::string digits = fmt::format("{:#}", value);
    const std::size_t at = digits.find(".e");
    return at == digits.npos ? digits : fmt::format("{}.0{}", digits.substr(0, at), digits.substr(at + 1));
  };
  line("vocab_size", options.vocabulary);
  line("hidden_size", options.width);
  line("num_filters", options.width);
  line("num_layers", options.layers.size());
  line("hcs_layer_idxs", numbers_of("se"));
  line("hcm_layer_idxs", numbers_of("mr"));
  line("hcl_layer_idxs", numbers_of("li"));
  line("attn_layer_idxs", numbers_of("attention"));
  line("hcs_filter_length", options.se_taps);
  line("hcm_filter_length", options.mr_taps);
  line("hcs_filter_groups", shape.se_groups);
  line("hcm_filter_groups", shape.mr_groups);
  line("hcl_filter_groups", options.width);
  line("state_size", options.modes);
  line("short_filter_length", Featurizer::taps);
  line("num_attention_heads", options.heads);
  line("rotary_emb_base", number(options.rope_base));
  line("use_interpolated_rotary_pos_emb", options.rope_scaling != 1);
  line("rotary_emb_scaling_factor", number(options.rope_scaling));
  line("inner_mlp_size", options.ffn);
  line("inner_size_multiple_of", 1);
  line("mlp_activation", options.mlp_activation == "swiglu" ? "silu" : "gelu");
  line("evo2_style_activations", options.mlp_activation != "swiglu");
  line("eps", number(options.eps_of_norms()));
  line("use_flash_rmsnorm", options.norm_form == "inside");
  line("tie_embeddings", options.tied_head);
  line("mha_out_proj_bias", shape.attention_bias);
  line("hyena_out_proj_bias", shape.hyena_bias);
  line("use_fp8_input_projections", shape.fp8);
  for (const FixedSwitch& each : fixed_switches) line(each.key, each.expected);
  for (const char* key :
       {"proj_groups", "hyena_filter_groups", "model_parallel_size", "pipe_parallel_size", "max_batch_size"})
    line(key, 1);
  line("max_seqlen", 8192);
  line("inference_mode", true);
  line("prefill_style", "fft");
  for (const char* key : {"print_activations", "use_flash_attn", "use_flash_depthwise", "use_flashfft"})
    line(key, false);
  return text;
}

}  // namespace causeway
