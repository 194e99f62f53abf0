#include "src/convert/format.hpp"
#include "src/convert/striped_hyena/filter_transforms.hpp"
#include "src/convert/striped_hyena/rows.hpp"
#include "src/convert/striped_hyena/source.hpp"
#include "src/model/model_checkpoint.hpp"

/// Evo 2 as published: vortex's names (https://github.com/Zymrael/vortex), in a file of torch.save or in safetensors,
/// and a YAML file of the model's shape.
namespace causeway {
namespace {

const StripedHyenaNames names = {.norm = "pre_norm.scale",
                                 .norm2 = "post_norm.scale",
                                 .gate = "mlp.l1.weight",
                                 .up = "mlp.l2.weight",
                                 .down = "mlp.l3.weight",
                                 .projections = "projections",
                                 .out = "out_filter_dense",
                                 .featurizer = "filter.short_filter",
                                 .attention_projections = "inner_mha_cls.Wqkv",
                                 .attention_out = "inner_mha_cls.out_proj",
                                 .inv_freq = "inner_mha_cls.rotary_emb.inv_freq"};

/// se and mr: h, and D of long filters.
void add_explicit_filter(StripedHyenaRows& rows, const VortexShape& shape, bool is_mr, const std::string& parameter,
                         const std::string& tensor) {
  const ModelOptions& options = shape.options;
  const std::int64_t taps = is_mr ? options.mr_taps : options.se_taps,
                     groups = is_mr ? shape.mr_groups : shape.se_groups, all_groups = options.groups_of_filters();
  const bool is_long = taps >= vortex_long_filter;
  rows.row(parameter + "h", tensor + "h", {groups, 1, taps},
           stored_filter({.groups = groups, .taps = taps, .repeated = all_groups / groups, .reversed = !is_long}));
  if (is_mr) {
    rows.combine_last(parameter + "decay", product_of);
    rows.add(parameter + "decay", kept_in_other(all_groups * taps, 1));
  }
  if (is_long)
    rows.row(parameter + "skip", tensor + "D", {options.width});
  else if (is_mr || options.se_skip)
    rows.add(parameter + "skip", constant(options.width, 0));
}

void add_modal_filter(StripedHyenaRows& rows, const ModelOptions& options, const std::string& parameter,
                      const std::string& tensor) {
  const std::int64_t width = options.width, modes = options.modes;
  rows.row(parameter + "gamma", tensor + "log_poles", {width, modes, 1}, log_of_rate());
  rows.combine_last(parameter + "p", sum_of);
  rows.add(parameter + "p", kept_in_other(width * modes, 0));
  rows.row(parameter + "residues", tensor + "residues", {width, modes});
  rows.row(parameter + "skip", tensor + "D", {width});
}

/// `files`: null for writing.
Mapping mapping_of(const VortexShape& shape, const TensorFiles* files) {
  const ModelOptions& options = shape.options;
  StripedHyenaRows rows(shape, names, files);
  rows.head("unembed.weight", "embedding_layer.weight");
  for (std::size_t number = 0; number < options.layers.size(); ++number) {
    const std::string& layer = options.layers[number];
    const std::string prefix = fmt::format("blocks.{}.", number),
                      filter = fmt::format("backbone.layers.{}.mixer.filter.", number);
    rows.layer(number, prefix, {3 * options.width, 1, 3});
    if (layer == "li")
      add_modal_filter(rows, options, filter, prefix + "filter.");
    else if (layer != "attention")
      add_explicit_filter(rows, shape, layer == "mr", filter, prefix + "filter.");
  }
  rows.row("backbone.norm_f.weight", "norm.scale", {options.width});
  return std::move(rows.mapping);
}

}  // namespace

bool is_vortex(const ConvertSource& source) {
  return striped_hyena_source_has(source, {"embedding_layer.weight", "blocks.0.pre_norm.scale"});
}

ForeignModel open_vortex(const ConvertSource& source) {
  return open_striped_hyena(
      source, [](const VortexShape& shape, const TensorFiles& files) { return mapping_of(shape, &files); });
}

ForeignLayout vortex_layout(const ModelOptions& options, const Remembered& remembered, TensorType) {
  VortexShape shape = expressible_as_vortex(options);
  shape.fp8 = remembered.fp8 != Fp8Level::off;
  std::string yaml = vortex_yaml(shape);
  // The source's file has more keys, and can have fewer groups for one of the two filters.
  if ((remembered.format == "vortex" || remembered.format == "savanna") && !remembered.config.empty()) {
    VortexShape source = vortex_shape(YamlKeys(remembered.config, "the source's YAML file, as the checkpoint has it"));
    source.options.rope_stored = options.rope_stored;
    if (attributes_of(source.options, DType::f64) == attributes_of(options, DType::f64)) {
      shape = source;
      yaml = remembered.config;
    }
  }
  return {.mapping = mapping_of(shape, nullptr), .texts = {{vortex_config_file, yaml}}};
}

}  // namespace causeway
