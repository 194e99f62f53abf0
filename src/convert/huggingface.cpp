#include <algorithm>
#include <nlohmann/json.hpp>

#include "io/file/untrusted_json.hpp"
#include "src/convert/format.hpp"
#include "src/convert/mamba_mapping.hpp"

/// Hugging Face's Mamba: a folder of config.json (model_type "mamba") and safetensors, as transformers'
/// MambaForCausalLM.save_pretrained writes it (transformers/models/mamba/configuration_mamba.py).
namespace causeway {
namespace {

using nlohmann::json;

constexpr const char* embedding = "backbone.embeddings.weight";
/// Its name in mamba_ssm and in old files. transformers renames it when it loads them.
constexpr const char* old_embedding = "backbone.embedding.weight";

MambaShape shape_of(const ConfigKeys& config) {
  config.expect("model_type", "mamba");
  config.refuse("quantization_config", "its weights are quantized");
  config.expect("hidden_act", "silu");
  MambaShape shape{.options = {.vocabulary = config.integer("vocab_size", 50280),
                               .width = config.integer("hidden_size", 768),
                               .state = config.integer("state_size", 16),
                               .expand = config.integer("expand", 2),
                               .conv_taps = config.integer("conv_kernel", 4),
                               .norm_eps = config.positive("layer_norm_epsilon", 1e-5),
                               .tied_head = config.boolean("tie_word_embeddings", true)},
                   .conv_bias = config.boolean("use_conv_bias", true)};
  shape.set_layers(config.integer("num_hidden_layers", 32), config.where("num_hidden_layers"));
  shape.options.dt_rank = config.integer_or_auto("time_step_rank");
  const std::int64_t inner = shape.options.d_inner();
  require(config.integer("intermediate_size", inner) == inner, "{} is {}, expected {}: expand · hidden_size",
          config.where("intermediate_size"), config.integer("intermediate_size", inner), inner);
  return shape;
}

std::string_view torch_name(TensorType type) {
  switch (type) {
    case TensorType::f64:
      return "float64";
    case TensorType::f16:
      return "float16";
    case TensorType::bf16:
      return "bfloat16";
    default:
      return "float32";
  }
}

}  // namespace

bool is_huggingface(const ConvertSource& source) { return mamba_config_has(source, {"model_type"}); }

ForeignModel open_huggingface(const ConvertSource& source) {
  return open_mamba(source, shape_of, {embedding, old_embedding});
}

ForeignLayout huggingface_layout(const ModelOptions& options, const Remembered& remembered, TensorType type) {
  const MambaShape shape = expressible_as_mamba(options, remembered);
  json config = json::object();
  if (remembered.format == "huggingface" && !remembered.config.empty())
    config = parse_untrusted_json(remembered.config, "the source's config.json, as the checkpoint has it");
  config.erase("torch_dtype");
  config.update({{"architectures", {"MambaForCausalLM"}},
                 {"conv_kernel", options.conv_taps},
                 {"dtype", torch_name(type)},
                 {"expand", options.expand},
                 {"hidden_act", "silu"},
                 {"hidden_size", options.width},
                 {"intermediate_size", options.d_inner()},
                 {"layer_norm_epsilon", options.eps_of_norms()},
                 {"model_type", "mamba"},
                 {"num_hidden_layers", options.layers.size()},
                 {"residual_in_fp32", true},
                 {"state_size", options.state},
                 {"tie_word_embeddings", options.tied_head},
                 {"time_step_rank", options.rank_of_dt()},
                 {"use_conv_bias", shape.conv_bias},
                 {"vocab_size", options.vocabulary}});
  const auto has_bias = [](const auto& extra) { return extra.first.ends_with("_proj.bias"); };
  config["use_bias"] = std::ranges::any_of(remembered.extras, has_bias);
  return {.mapping = mamba_mapping(shape, embedding), .texts = {{mamba_config_file, config.dump(2) + "\n"}}};
}

}  // namespace causeway
