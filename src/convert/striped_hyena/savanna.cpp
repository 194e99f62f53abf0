#include <algorithm>

#include "kernels/core/error.hpp"
#include "src/convert/format.hpp"
#include "src/convert/striped_hyena/filter_transforms.hpp"
#include "src/convert/striped_hyena/rows.hpp"
#include "src/convert/striped_hyena/source.hpp"

/// Evo 2 as savanna, its training program, stores it (https://github.com/Zymrael/savanna): a file of torch.save with
/// the model under "module", and vortex's YAML file of the shape.
namespace causeway {
namespace {

const StripedHyenaNames names = {.norm = "input_layernorm.weight",
                                 .norm2 = "pre_mlp_layernorm.weight",
                                 .gate = "mlp.w1.weight",
                                 .up = "mlp.w2.weight",
                                 .down = "mlp.w3.weight",
                                 .projections = "mixer.dense_projection",
                                 .out = "mixer.dense",
                                 .featurizer = "mixer.hyena_proj_conv.short_conv",
                                 .attention_projections = "mixer.dense_projection",
                                 .attention_out = "mixer.dense",
                                 .inv_freq = "mixer.rotary_emb.inv_freq"};
constexpr const char* embedding = "sequential.0.word_embeddings.weight";

/// Extents of a tensor in the file, which the mapping then finds right; `otherwise` if it is missing.
std::vector<std::int64_t> extents_in(const TensorFiles& files, const std::string& name,
                                     std::vector<std::int64_t> otherwise) {
  const FileTensor* tensor = files.find(name);
  return tensor == nullptr ? otherwise : tensor->shape;
}

void add_short_filter(StripedHyenaRows& rows, const VortexShape& shape, const TensorFiles& files,
                      const std::string& parameter, const std::string& mixer) {
  const ModelOptions& options = shape.options;
  const std::int64_t groups = shape.se_groups, taps = options.se_taps;
  const std::string name = mixer + "short_conv.short_conv_weight";
  // Some versions have an axis of length 1 between the two.
  const bool flat = extents_in(files, name, {}).size() == 2;
  rows.row(parameter + "h", name, flat ? std::vector{groups, taps} : std::vector{groups, std::int64_t{1}, taps},
           stored_filter(
               {.groups = groups, .taps = taps, .repeated = options.groups_of_filters() / groups, .reversed = true}));
  if (options.se_skip) rows.add(parameter + "skip", constant(options.width, 0));
  rows.zero(mixer + "conv_bias", options.width);
}

void add_medium_filter(StripedHyenaRows& rows, const VortexShape& shape, const TensorFiles& files,
                       const std::string& parameter, const std::string& mixer) {
  const ModelOptions& options = shape.options;
  const std::int64_t groups = shape.mr_groups, taps = options.mr_taps, all_groups = options.groups_of_filters();
  // Columns after the taps are left over from training with longer filters.
  const auto stored = [&](const std::string& name) {
    const std::vector<std::int64_t> found = extents_in(files, name, {});
    return NamedShape{name, {groups, found.size() == 2 ? std::max(found[1], taps) : taps}};
  };
  rows.mapping.rows.push_back(
      {.parameter = parameter + "h",
       .tensors = {stored(mixer + "filter.h"), stored(mixer + "filter.decay")},
       .transform = product_of_leading_taps({.groups = groups, .taps = taps, .repeated = all_groups / groups})});
  rows.add(parameter + "decay", constant(all_groups * taps, 1));
  rows.row(parameter + "skip", mixer + "conv_bias", {options.width});
}

void add_modal_filter(StripedHyenaRows& rows, const ModelOptions& options, const std::string& parameter,
                      const std::string& mixer) {
  const std::vector<std::int64_t> extents = {options.width, options.modes};
  rows.row(parameter + "p", mixer + "filter.p", extents);
  rows.row(parameter + "gamma", mixer + "filter.gamma", extents);
  rows.row(parameter + "residues", mixer + "filter.R", extents);
  rows.row(parameter + "skip", mixer + "conv_bias", {options.width});
}

/// The final norm follows the layers after one other module, in some models after none.
std::string final_norm(const TensorFiles& files, std::size_t layers) {
  const std::string direct = fmt::format("sequential.{}.norm.weight", layers + 2);
  return files.find(direct) != nullptr ? direct : fmt::format("sequential.{}.norm.weight", layers + 3);
}

/// The head of a model that is not tied.
std::string head_name(const TensorFiles& files) {
  for (const FileTensor& tensor : files.tensors())
    if (tensor.name.starts_with("sequential.") && tensor.name.ends_with(".final_linear.weight")) return tensor.name;
  return "final_linear.weight";
}

Mapping mapping_of(const VortexShape& shape, const TensorFiles& files) {
  const ModelOptions& options = shape.options;
  StripedHyenaRows rows(shape, names, &files);
  rows.head(head_name(files), embedding);
  for (std::size_t number = 0; number < options.layers.size(); ++number) {
    const std::string& layer = options.layers[number];
    const std::string prefix = fmt::format("sequential.{}.", number + 2), mixer = prefix + "mixer.mixer.",
                      filter = fmt::format("backbone.layers.{}.mixer.filter.", number);
    rows.layer(number, prefix, {3 * options.width, 3});
    if (layer == "se") add_short_filter(rows, shape, files, filter, mixer);
    if (layer == "mr") add_medium_filter(rows, shape, files, filter, mixer);
    if (layer == "li") add_modal_filter(rows, options, filter, mixer);
  }
  rows.row("backbone.norm_f.weight", final_norm(files, options.layers.size()), {options.width});
  return std::move(rows.mapping);
}

}  // namespace

bool is_savanna(const ConvertSource& source) {
  return striped_hyena_source_has(source, {embedding, "sequential.2.input_layernorm.weight"});
}

ForeignModel open_savanna(const ConvertSource& source) { return open_striped_hyena(source, mapping_of); }

}  // namespace causeway
