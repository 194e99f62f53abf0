#include "src/model/model_checkpoint.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <span>

namespace causeway {
namespace {

/// A group of the checkpoint, and the optimizer's tensor that it holds.
struct OptimizerGroup {
  const char* name;
  Tensor Optimizer::Shard::*tensor;
};
constexpr OptimizerGroup optimizer_groups[] = {{"optimizer/exp_avg/", &Optimizer::Shard::exp_avg},
                                               {"optimizer/exp_avg_sq/", &Optimizer::Shard::exp_avg_sq},
                                               {"optimizer/master/", &Optimizer::Shard::master}};

struct StoredTensor {
  std::vector<std::int64_t> shape;
  hdf5::ElementType type;
};

/// What a checkpoint of these parameters has, by name.
std::map<std::string, StoredTensor> stored_tensors(const ParameterSet& parameters) {
  std::map<std::string, StoredTensor> all;
  for (const Parameter& parameter : parameters.parameters()) {
    const DType dtype = parameters.arenas()[parameter.arena].dtype;
    const std::vector<std::int64_t> shape = extents_of(parameter.spec.shape);
    all["parameters/" + parameter.spec.name] = {shape, stored_as(dtype)};
    if (parameter.spec.frozen) continue;
    for (const OptimizerGroup& group : optimizer_groups)
      all[group.name + parameter.spec.name] = {shape, stored_as(accumulator_of(dtype))};
  }
  return all;
}

bool is_of_optimizer(const std::string& name) { return name.starts_with("optimizer/"); }

/// The first of the names, and how many more there are.
std::string listed(const std::vector<std::string>& names) {
  constexpr std::size_t most = 6;
  std::string text = fmt::format("{}", fmt::join(std::span(names).first(std::min(most, names.size())), ", "));
  return names.size() > most ? fmt::format("{} and {} more", text, names.size() - most) : text;
}

}  // namespace

std::map<std::string, hdf5::Value> attributes_of(const ModelOptions& options, DType dtype, Fp8Level fp8) {
  std::map<std::string, hdf5::Value> attributes{{"dtype", std::string(name_of(dtype))},
                                                {"vocabulary", options.vocabulary},
                                                {"width", options.width},
                                                {"layers", layers_text(options.layers)},
                                                {"state", options.state},
                                                {"expand", options.expand},
                                                {"conv_taps", options.conv_taps},
                                                {"dt_rank", options.rank_of_dt()},
                                                {"heads", options.heads},
                                                {"rope_base", options.rope_base},
                                                {"rope_scaling", options.rope_scaling},
                                                {"rope_stored", std::int64_t{options.rope_stored}},
                                                {"out_bias", std::int64_t{options.out_bias}},
                                                {"filter_groups", options.groups_of_filters()},
                                                {"se_taps", options.se_taps},
                                                {"se_skip", std::int64_t{options.se_skip}},
                                                {"mr_taps", options.mr_taps},
                                                {"mr_decay", options.mr_decay},
                                                {"modes", options.modes},
                                                {"ffn", options.ffn},
                                                {"mlp_activation", options.mlp_activation},
                                                {"norm_eps", options.eps_of_norms()},
                                                {"norm_form", options.norm_form},
                                                {"tied_head", std::int64_t{options.tied_head}}};
  if (fp8 != Fp8Level::off) attributes["fp8"] = std::string(name_of(fp8));
  return attributes;
}

Fp8Level fp8_level_of(const Checkpoint& checkpoint) {
  return checkpoint.has_attribute("fp8") ? parse_fp8_level(checkpoint.text("fp8")) : Fp8Level::off;
}

std::string fp8_warning(const Checkpoint& checkpoint, Fp8Level chosen) {
  const Fp8Level trained = fp8_level_of(checkpoint);
  if (chosen >= trained) return "";
  return fmt::format("{}: the model was trained with FP8, but --fp8 is {}: expect a higher loss than with --fp8 {}",
                     checkpoint.path(), name_of(chosen), name_of(trained));
}

ModelOptions model_options_of(const Checkpoint& checkpoint) {
  ModelOptions options{.vocabulary = checkpoint.integer("vocabulary"),
                       .width = checkpoint.integer("width"),
                       .layers = parse_layers(checkpoint.text("layers")),
                       .state = checkpoint.integer("state"),
                       .expand = checkpoint.integer("expand"),
                       .conv_taps = checkpoint.integer("conv_taps"),
                       .dt_rank = checkpoint.integer("dt_rank"),
                       .tied_head = checkpoint.integer("tied_head") != 0};
  // The first checkpoints, of Mamba models only, do not have these attributes: their options keep the defaults.
  if (checkpoint.has_attribute("heads")) {
    options.heads = checkpoint.integer("heads");
    options.rope_base = checkpoint.number("rope_base");
    options.filter_groups = checkpoint.integer("filter_groups");
    options.se_taps = checkpoint.integer("se_taps");
    options.mr_taps = checkpoint.integer("mr_taps");
    options.mr_decay = checkpoint.text("mr_decay");
    options.modes = checkpoint.integer("modes");
    options.ffn = checkpoint.integer("ffn");
    options.mlp_activation = checkpoint.text("mlp_activation");
    options.norm_eps = checkpoint.number("norm_eps");
  }
  // Later checkpoints also have the options of published StripedHyena 2 models.
  if (checkpoint.has_attribute("out_bias")) {
    options.rope_scaling = checkpoint.number("rope_scaling");
    options.rope_stored = checkpoint.integer("rope_stored") != 0;
    options.out_bias = checkpoint.integer("out_bias") != 0;
    options.norm_form = checkpoint.text("norm_form");
  }
  if (checkpoint.has_attribute("se_skip")) options.se_skip = checkpoint.integer("se_skip") != 0;
  options.check();
  return options;
}

void require_same_model(const Checkpoint& checkpoint, const ModelOptions& wanted_shape) {
  const DType dtype = parse_dtype(checkpoint.text("dtype"));
  const auto wanted = attributes_of(wanted_shape, dtype), found = attributes_of(model_options_of(checkpoint), dtype);
  const auto text = [](const hdf5::Value& any) {
    return std::visit([](const auto& held) { return fmt::format("{}", held); }, any);
  };
  const auto require_same = [&](const std::string& name) {
    require(found.at(name) == wanted.at(name), "{}: the checkpoint's {} is {}, the options say {}", checkpoint.path(),
            name, text(found.at(name)), text(wanted.at(name)));
  };
  for (const char* name : {"width", "layers"}) require_same(name);  // first: the defaults of others derive from them
  for (const auto& [name, value] : wanted) require_same(name);
}

void require_tensors_of_its_model(const Checkpoint& checkpoint, bool whole, int rank, int ranks) {
  const Model model({.shape = model_options_of(checkpoint), .dtype = parse_dtype(checkpoint.text("dtype"))});
  const std::map<std::string, StoredTensor> wanted = stored_tensors(model.parameters());
  const std::vector<std::string> found = checkpoint.names();
  const bool weights_only = !whole && std::ranges::none_of(found, is_of_optimizer);
  std::vector<std::string> unused = checkpoint.unknown_objects(), missing;
  for (const std::string& name : found)
    if (!wanted.contains(name)) unused.push_back(name);
  const std::set<std::string> there(found.begin(), found.end());
  for (const auto& [name, tensor] : wanted)
    if (!there.contains(name) && !(weights_only && is_of_optimizer(name))) missing.push_back(name);
  const std::string lacks = missing.empty() ? "" : fmt::format("has no {}", listed(missing));
  require(unused.empty(), "{}: has {}, for which its model ({}, width {}) has no use{}{}", checkpoint.path(),
          listed(unused), layers_text(model.options().shape.layers), model.options().shape.width,
          missing.empty() ? "" : "; it ", lacks);
  require(!whole || std::ranges::any_of(found, is_of_optimizer),
          "{}: has no optimizer state, expected a checkpoint of a run to resume; --init-from takes only its weights",
          checkpoint.path());
  if (!missing.empty()) fail(ExitCode::corrupt, "{}: {}, expected all tensors of its model", checkpoint.path(), lacks);
  for (std::size_t n = static_cast<std::size_t>(rank); n < found.size(); n += static_cast<std::size_t>(ranks)) {
    const Checkpoint::TensorInfo tensor = checkpoint.tensor(found[n]);
    const StoredTensor& expected = wanted.at(tensor.name);
    // Weights are converted when they are read; those of other programs keep their types.
    const bool is_type_good =
        is_of_optimizer(tensor.name) ? tensor.type == expected.type : hdf5::is_weight(tensor.type);
    if (tensor.shape != expected.shape || !is_type_good)
      fail(ExitCode::corrupt, "{}:/{}: is {} [{}], expected {} [{}] for the model that the checkpoint describes",
           checkpoint.path(), tensor.name, tensor.type.to_string(), fmt::join(tensor.shape, ", "),
           expected.type.to_string(), fmt::join(expected.shape, ", "));
  }
}

std::vector<CheckpointTensor> checkpoint_tensors(const ParameterSet& parameters, const Optimizer& optimizer) {
  std::vector<CheckpointTensor> tensors;
  const auto add = [&](const std::string& prefix, const Parameter& parameter, Range owned, TensorView values) {
    tensors.push_back({.name = prefix + parameter.spec.name,
                       .shape = parameter.spec.shape,
                       .dtype = values.dtype,
                       .owned = {owned.begin, owned.end},
                       .data = values.data});
  };
  for (const Parameter& parameter : parameters.parameters()) {
    const ParameterSet::Part part = parameters.owned(parameter);
    add("parameters/", parameter, part.elements, part.weights);
  }
  for (const OptimizerGroup& group : optimizer_groups)
    for (const Parameter& parameter : parameters.parameters()) {
      if (parameter.spec.frozen) continue;
      const ParameterSet::Part part = parameters.owned(parameter);
      const TensorView shard = optimizer.shards()[parameter.arena].*group.tensor;
      add(group.name, parameter, part.elements, shard.slice_rows(part.shard.begin, part.shard.size()));
    }
  return tensors;
}

void load_parameters(const Checkpoint& checkpoint, const ParameterSet& parameters, const Stream& stream) {
  for (const Parameter& parameter : parameters.parameters()) {
    const ParameterSet::Part part = parameters.held(parameter);
    checkpoint.read("parameters/" + parameter.spec.name, parameter.spec.shape, part.weights.dtype,
                    {part.elements.begin, part.elements.end}, part.weights.data, stream);
  }
}

void load_optimizer(const Checkpoint& checkpoint, const ParameterSet& parameters, const Optimizer& optimizer,
                    const Stream& stream) {
  for (const OptimizerGroup& group : optimizer_groups)
    for (const Parameter& parameter : parameters.parameters()) {
      if (parameter.spec.frozen) continue;
      const ParameterSet::Part part = parameters.owned(parameter);
      const TensorView shard = optimizer.shards()[parameter.arena].*group.tensor;
      checkpoint.read(group.name + parameter.spec.name, parameter.spec.shape, shard.dtype,
                      {part.elements.begin, part.elements.end},
                      shard.slice_rows(part.shard.begin, part.shard.size()).data, stream);
    }
}

}  // namespace causeway
