#include "kernels/core/integer.hpp"
#include "src/convert/mamba_mapping.hpp"

/// mamba_ssm's own form (state-spaces/mamba, mamba_ssm/models/config_mamba.py): a folder of config.json with d_model
/// and n_layer, and pytorch_model.bin.
namespace causeway {
namespace {

MambaShape shape_of(const ConfigKeys& config) {
  const ConfigKeys ssm = config.object("ssm_cfg");
  ssm.expect("layer", "Mamba1");
  config.expect("d_intermediate", 0);
  config.expect("attn_layer_idx", nlohmann::json::array());
  config.expect("rms_norm", true);
  MambaShape shape{.options = {.width = config.integer("d_model", 2560),
                               .state = ssm.integer("d_state", 16),
                               .expand = ssm.integer("expand", 2),
                               .conv_taps = ssm.integer("d_conv", 4),
                               .norm_eps = config.positive("norm_epsilon", 1e-5),
                               .tied_head = config.boolean("tie_embeddings", true)},
                   .conv_bias = ssm.boolean("conv_bias", true)};
  shape.set_layers(config.integer("n_layer", 64), config.where("n_layer"));
  shape.options.dt_rank = ssm.integer_or_auto("dt_rank");
  const std::int64_t vocabulary = config.integer("vocab_size", 50277),
                     multiple = config.integer("pad_vocab_size_multiple", 8);
  require(multiple >= 1, "{} is {}, expected 1 or more", config.where("pad_vocab_size_multiple"), multiple);
  shape.options.vocabulary = round_up(vocabulary, multiple);
  return shape;
}

}  // namespace

bool is_mamba_ssm(const ConvertSource& source) { return mamba_config_has(source, {"d_model", "n_layer"}); }

ForeignModel open_mamba_ssm(const ConvertSource& source) {
  return open_mamba(source, shape_of, {"backbone.embedding.weight"});
}

}  // namespace causeway
