#include "src/train/training_plan.hpp"

#include <fmt/format.h>

#include "kernels/core/integer.hpp"
#include "src/cli/number_format.hpp"
#include "src/output/safe_text.hpp"
#include "src/train/memory_plan.hpp"

namespace causeway {

std::string describe_plan(const TrainSettings& settings, const Runtime& runtime, const Model& model,
                          const DataMixture& data) {
  const Mesh& mesh = runtime.mesh;
  const ModelOptions& shape = model.options().shape;
  const RankMemory bytes = memory_of_rank(model, runtime, settings.pack_tokens,
                                          training_memory_of(settings.compute, settings.memory, settings.accumulate));
  const std::int64_t packs = settings.accumulate * mesh.data_size;
  std::string text = fmt::format(
      "model: width {}, vocabulary {}, {} layers ({}), {} parameters, {}\n"
      "ranks: {} = {} data × {} context ({}); a rank holds {} of weights and gradients and {} of optimizer state\n"
      "step: {} pack{} of at most {} tokens, at most {} tokens a rank at a time{}; {} steps",
      shape.width, shape.vocabulary, shape.layers.size(), layers_text(shape.layers), model.parameters().count(),
      name_of(model.options().dtype), mesh.world.size(), mesh.data_size, mesh.context.size(), settings.compute.layout,
      binary_bytes(bytes.weights + bytes.gradients), binary_bytes(bytes.optimizer), packs, packs == 1 ? "" : "s",
      settings.pack_tokens, ceil_div(settings.pack_tokens, mesh.context.size()),
      settings.memory.recompute ? ", blocks recomputed" : "", settings.steps);
  text += fmt::format("\nstrategies: {}; schedule {}", settings.compute.strategy, settings.compute.schedule);
  if (runtime.schedule == Schedule::automatic && mesh.context.size() > 1)
    text += fmt::format(", {} layers in one direction", runtime.one_way_layers);
  for (const Dataset& dataset : data.datasets)
    text += fmt::format("\ndata: {}, {} documents, {} tokens", one_line(dataset.path()), dataset.documents(),
                        dataset.tokens());
  return text;
}

}  // namespace causeway
