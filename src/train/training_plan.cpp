#include "src/train/training_plan.hpp"

#include <fmt/format.h>

#include "kernels/core/integer.hpp"
#include "src/output/safe_text.hpp"

namespace causeway {
namespace {

/// Bytes of parameter memory on a rank.
struct ParameterBytes {
  std::int64_t replicated = 0;  ///< weights and gradients
  std::int64_t sharded = 0;     ///< this rank's shard of the optimizer state: master weights and two moments
};

ParameterBytes parameter_bytes(const ParameterSet& parameters, int ranks) {
  ParameterBytes bytes;
  for (const ParameterArena& arena : parameters.arenas()) {
    const std::int64_t wide = size_of(accumulator_of(arena.dtype));
    bytes.replicated += arena.elements * (size_of(arena.dtype) + (arena.frozen ? 0 : wide));
    if (!arena.frozen) bytes.sharded += 3 * wide * ceil_div(arena.elements, ranks);
  }
  return bytes;
}

std::string mib(std::int64_t bytes) { return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20)); }

}  // namespace

std::string describe_plan(const TrainSettings& settings, const Mesh& mesh, const Model& model, const DataMixture& data,
                          const std::string& choice) {
  const ModelOptions& shape = model.options().shape;
  const ParameterBytes bytes = parameter_bytes(model.parameters(), mesh.world.size());
  std::string text = fmt::format(
      "model: {} × {}, {} layers ({}), {} parameters, {}\n"
      "ranks: {} = {} data × {} context ({}); a rank holds {} of weights and gradients and {} of optimizer state\n"
      "step: {} packs of at most {} tokens, at most {} tokens a rank at a time{}; {} steps",
      shape.width, shape.vocabulary, shape.layers.size(), layers_text(shape.layers), model.parameters().count(),
      name_of(model.options().dtype), mesh.world.size(), mesh.data_size, mesh.context.size(), settings.compute.layout,
      mib(bytes.replicated), mib(bytes.sharded), settings.accumulate * mesh.data_size, settings.pack_tokens,
      ceil_div(settings.pack_tokens, mesh.context.size()), settings.recompute ? ", blocks recomputed" : "",
      settings.steps);
  text += settings.dry_run ? '\n' + choice : fmt::format("\nstrategies: {}", settings.compute.strategy);
  for (const Dataset& dataset : data.datasets)
    text += fmt::format("\ndata: {}, {} documents, {} tokens", one_line(dataset.path()), dataset.documents(),
                        dataset.tokens());
  return text;
}

}  // namespace causeway
