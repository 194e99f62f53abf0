#include "src/convert/striped_hyena/vortex_config.hpp"

#include <gtest/gtest.h>

#include "kernels/core/error.hpp"
#include "tests/support/yaml.hpp"

namespace causeway {
namespace {

/// The configuration of a small model, with one line changed, added (key not there yet) or removed (value "-").
std::string yaml_with(const std::string& key = "", const std::string& value = "") {
  const std::vector<std::pair<std::string, std::string>> lines = {
      {"vocab_size", "512"},          {"hidden_size", "32"},
      {"num_filters", "32"},          {"num_layers", "4"},
      {"hcs_layer_idxs", "[0]"},      {"hcm_layer_idxs", "[1]"},
      {"hcl_layer_idxs", "[2]"},      {"attn_layer_idxs", "[3]"},
      {"hcs_filter_length", "7"},     {"hcm_filter_length", "128"},
      {"hcs_filter_groups", "4"},     {"hcm_filter_groups", "8"},
      {"hcl_filter_groups", "32"},    {"state_size", "16"},
      {"short_filter_length", "3"},   {"num_attention_heads", "4"},
      {"inner_mlp_size", "48"},       {"eps", "1.0e-06"},
      {"rotary_emb_base", "10000.0"}, {"tie_embeddings", "True"},
      {"mha_out_proj_bias", "True"},  {"hyena_out_proj_bias", "True"},
      {"qkv_proj_bias", "False"},     {"evo2_style_activations", "True"},
      {"mlp_activation", "gelu"},     {"column_split_hyena", "False"},
      {"interleave", "True"},         {"use_fp8_input_projections", "False"},
      {"max_seqlen", "8192"},         {"model_name", "small"}};
  std::string text;
  bool found = key.empty();
  for (const auto& [name, known] : lines) {
    const bool changed = name == key;
    found = found || changed;
    if (!changed || value != "-") text += fmt::format("{}: {}\n", name, changed ? value : known);
  }
  return found ? text : text + fmt::format("{}: {}\n", key, value);
}

VortexShape shape_with(const std::string& key = "", const std::string& value = "") {
  return vortex_shape(YamlKeys(yaml_with(key, value), "model.yml"));
}

class VortexConfig : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!testing::has_yaml()) GTEST_SKIP() << "this build has no yaml-cpp";
  }
};

TEST_F(VortexConfig, GivesTheModelsOptions) {
  const VortexShape shape = shape_with();
  const ModelOptions& options = shape.options;
  EXPECT_EQ(options.layers, (std::vector<std::string>{"se", "mr", "li", "attention"}));
  EXPECT_EQ(options.width, 32);
  EXPECT_EQ(options.ffn, 48);
  EXPECT_EQ(options.norm_form, "outside");
  EXPECT_EQ(options.norm_eps, 1e-6);
  EXPECT_TRUE(options.out_bias && options.tied_head);
  EXPECT_EQ(options.rope_scaling, 1);
  EXPECT_EQ(options.filter_groups, 8);
  EXPECT_EQ(shape.se_groups, 4);
  options.check();
}

TEST_F(VortexConfig, HonoursTheValuesThatModelsDifferIn) {
  EXPECT_FALSE(shape_with("tie_embeddings", "False").options.tied_head);
  EXPECT_EQ(shape_with("rotary_emb_base", "1000000").options.rope_base, 1e6);
  EXPECT_EQ(shape_with("rotary_emb_base", "-").options.rope_base, 1e6);               // vortex's default
  EXPECT_EQ(shape_with("rotary_emb_scaling_factor", "128").options.rope_scaling, 1);  // not without interpolation
  EXPECT_EQ(shape_with("use_interpolated_rotary_pos_emb", "True\nrotary_emb_scaling_factor: 128").options.rope_scaling,
            128);
  EXPECT_EQ(shape_with("use_flash_rmsnorm", "True").options.norm_form, "inside");
  EXPECT_EQ(shape_with("inner_mlp_size", "-").options.ffn, 128);  // 8/3 · 32, rounded up to 64s
  EXPECT_TRUE(shape_with("use_fp8_input_projections", "True").fp8);
  const VortexShape half = shape_with("hyena_out_proj_bias", "False");
  EXPECT_TRUE(half.options.out_bias && half.attention_bias && !half.hyena_bias);
}

/// The keys of evo2-7b-1m.yml.
TEST_F(VortexConfig, KnowsEveryKeyThatIsPublished) {
  const char* more = R"(shc
mlp_init_method: torch.nn.init.zeros_
mlp_output_init_method: torch.nn.init.zeros_
use_interpolated_rotary_pos_emb: True
rotary_emb_scaling_factor: 128
make_vocab_size_divisible_by: 8
inner_size_multiple_of: 16
log_intermediate_values: False
proj_groups: 1
hyena_filter_groups: 1
short_filter_bias: false
column_split: True
model_parallel_size: 1
pipe_parallel_size: 1
hyena_flip_x1x2: False
max_batch_size: 1
final_norm: True # a comment
use_flash_attn: True
use_flash_rmsnorm: False
use_flash_depthwise: False
use_flashfft: False
use_laughing_hyena: False
inference_mode: True
tokenizer_type: CharLevelTokenizer
prefill_style: fft
print_activations: False)";
  EXPECT_EQ(shape_with("model_name", more).options.rope_scaling, 128);
}

TEST_F(VortexConfig, RefusesByNameWhatItCannotHonour) {
  const std::pair<const char*, const char*> values[] = {{"hyena_flip_x1x2", "True"},
                                                        {"short_filter_bias", "True"},
                                                        {"final_norm", "False"},
                                                        {"proj_groups", "4"},
                                                        {"hyena_filter_groups", "2"},
                                                        {"num_filters", "16"},
                                                        {"column_split_hyena", "True"},
                                                        {"column_split_hyena", "-"},
                                                        {"column_split", "False"},
                                                        {"interleave", "False"},
                                                        {"interleave", "-"},
                                                        {"qkv_proj_bias", "True"},
                                                        {"hcl_filter_groups", "16"},
                                                        {"short_filter_length", "4"},
                                                        {"mlp_activation", "relu"},
                                                        {"mlp_activation", "silu"},
                                                        {"hcs_filter_groups", "5"},
                                                        {"hcm_filter_groups", "0"},
                                                        {"hcm_layer_idxs", "[0]"},
                                                        {"hcm_layer_idxs", "[4]"},
                                                        {"hcm_layer_idxs", "[]"},
                                                        {"hcm_layer_idxs", "1"},
                                                        {"num_layers", "0"},
                                                        {"num_layers", "99999999"},
                                                        {"hidden_size", "0"},
                                                        {"hidden_size", "-"},
                                                        {"eps", "0"},
                                                        {"eps", "-"},
                                                        {"inner_mlp_size", "0"},
                                                        {"rotary_emb_base", "0"},
                                                        {"long_fir_threshold", "4096"},
                                                        {"use_laughing_hyena", "True"},
                                                        {"sliding_window", "128"},
                                                        {"smeared_gqa", "True"},
                                                        {"use_fp8_input_projections", "maybe"}};
  for (const auto& [key, value] : values) {
    try {
      shape_with(key, value);
      ADD_FAILURE() << key << ": " << value << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::usage);
      EXPECT_NE(std::string(error.what()).find("model.yml"), std::string::npos) << error.what();
    }
  }
}

TEST_F(VortexConfig, TheYamlThatIsWrittenGivesTheSameOptions) {
  for (const auto& [key, value] : {std::pair{"", ""},
                                   {"tie_embeddings", "False"},
                                   {"eps", "0.00001"},
                                   {"rotary_emb_base", "100000000000"},
                                   {"hcs_filter_groups", "8"},
                                   {"use_interpolated_rotary_pos_emb", "True\nrotary_emb_scaling_factor: 32"}}) {
    const VortexShape shape = shape_with(key, value);
    const VortexShape again = vortex_shape(YamlKeys(vortex_yaml(shape), "written"));
    EXPECT_EQ(again.options, shape.options) << vortex_yaml(shape);
    EXPECT_EQ(again.se_groups, shape.se_groups);
  }
}

TEST_F(VortexConfig, SaysWhatOfAModelVortexCannotExpress) {
  ModelOptions options = preset_options("sh2-tiny");
  expressible_as_vortex(options);
  const auto refusal = [](const ModelOptions& other) {
    try {
      expressible_as_vortex(other);
      return std::string();
    } catch (const Error& error) {
      return std::string(error.what());
    }
  };
  options.layers[0] = "mamba";
  EXPECT_NE(refusal(options).find("'mamba'"), std::string::npos);
  options = preset_options("sh2-tiny");
  options.ffn = 0;
  EXPECT_NE(refusal(options).find("ffn"), std::string::npos);
  options = preset_options("sh2-tiny");
  options.rope_base = 0;
  EXPECT_NE(refusal(options).find("rotary"), std::string::npos);
}

}  // namespace
}  // namespace causeway
