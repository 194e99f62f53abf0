#include "src/convert/striped_hyena/rows.hpp"

#include <fmt/format.h>

#include "src/convert/striped_hyena/filter_transforms.hpp"

namespace causeway {

void StripedHyenaRows::row(std::string parameter, std::string tensor, std::vector<std::int64_t> extents,
                           Transform transform) {
  mapping.rows.push_back({.parameter = std::move(parameter),
                          .tensors = {{std::move(tensor), std::move(extents)}},
                          .transform = std::move(transform)});
}

void StripedHyenaRows::add(std::string parameter, Transform transform) {
  mapping.rows.push_back({.parameter = std::move(parameter), .tensors = {}, .transform = std::move(transform)});
}

void StripedHyenaRows::combine_last(std::string other, Elements (*combine)(Elements, Elements)) {
  mapping.rows.back().other = std::move(other);
  mapping.rows.back().combine = combine;
}

void StripedHyenaRows::zero(std::string tensor, std::int64_t extent) {
  mapping.extras.push_back({.tensor = {std::move(tensor), {extent}}, .kind = ExtraTensor::Kind::zero});
}

void StripedHyenaRows::out_projection(const std::string& mixer, const std::string& tensor, bool bias) {
  const std::int64_t width = shape_.options.width;
  row(mixer + "out_proj.weight", tensor + ".weight", {width, width});
  if (bias)
    row(mixer + "out_proj.bias", tensor + ".bias", {width});
  else if (shape_.options.out_bias)
    add(mixer + "out_proj.bias", constant(width, 0));
  if (!bias) zero(tensor + ".bias", width);
}

void StripedHyenaRows::attention(const std::string& mixer, const std::string& prefix) {
  const ModelOptions& options = shape_.options;
  const std::int64_t width = options.width, channels = width / options.heads;
  const std::string projections = prefix + names_.attention_projections, inv_freq = prefix + names_.inv_freq;
  // Rows (head, q|k|v, number in the head) to (q|k|v, head, number).
  row(mixer + "projections.weight", projections + ".weight", {3 * width, width}, outer_axes_swapped(options.heads, 3));
  zero(projections + ".bias", 3 * width);
  out_projection(mixer, prefix + names_.attention_out, shape_.attention_bias);
  const auto frequencies = [base = options.rope_base, channels] { return computed_frequencies(base, channels); };
  if (!options.rope_stored) {
    mapping.extras.push_back(
        {.tensor = {inv_freq, {channels / 2}}, .kind = ExtraTensor::Kind::made, .make = frequencies});
  } else if (files_ == nullptr || files_->find(inv_freq) != nullptr) {
    row(mixer + "inv_freq", inv_freq, {channels / 2});
  } else {
    mapping.rows.push_back(
        {.parameter = mixer + "inv_freq",
         .tensors = {},
         .transform = {.result_type = TensorType::f32,
                       .to_parameter = [frequencies](const std::vector<Elements>&) { return frequencies(); }}});
  }
}

void StripedHyenaRows::layer(std::size_t number, const std::string& prefix,
                             const std::vector<std::int64_t>& featurizer_extents) {
  const ModelOptions& options = shape_.options;
  const std::int64_t width = options.width, ffn = options.ffn;
  const std::string block = fmt::format("backbone.layers.{}.", number), mixer = block + "mixer.";
  row(block + "norm.weight", prefix + names_.norm, {width});
  row(block + "norm2.weight", prefix + names_.norm2, {width});
  mapping.rows.push_back({.parameter = block + "mlp.fc1.weight",
                          .tensors = {{prefix + names_.gate, {ffn, width}}, {prefix + names_.up, {ffn, width}}}});
  row(block + "mlp.fc2.weight", prefix + names_.down, {width, ffn});
  if (options.layers[number] == "attention") return attention(mixer, prefix);
  // Rows q, k, v, q, k, v, … to all q, all k, all v.
  const std::string projections = prefix + names_.projections, featurizer = prefix + names_.featurizer;
  row(mixer + "projections.weight", projections + ".weight", {3 * width, width}, outer_axes_swapped(width, 3));
  row(mixer + "featurizer.weight", featurizer + "_weight", featurizer_extents, outer_axes_swapped(width, 3));
  zero(projections + ".bias", 3 * width);
  zero(featurizer + "_bias", 3 * width);
  out_projection(mixer, prefix + names_.out, shape_.hyena_bias);
}

void StripedHyenaRows::head(const std::string& tensor, const std::string& embedding) {
  const ModelOptions& options = shape_.options;
  const std::vector<std::int64_t> extents = {options.vocabulary, options.width};
  row("backbone.embedding.weight", embedding, extents);
  if (!options.tied_head)
    row("lm_head.weight", tensor, extents);
  else
    mapping.extras.push_back({.tensor = {tensor, extents}, .kind = ExtraTensor::Kind::copy, .copy_of = embedding});
}

}  // namespace causeway
