#include "src/train/non_finite.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <limits>

namespace causeway {
namespace {

constexpr std::int64_t not_found = std::numeric_limits<std::int32_t>::max();

/// The smallest of the ranks' values, and the lowest rank that has it.
struct FirstOccurrence {
  std::int64_t at, rank;
  bool found() const { return at != not_found; }
};
FirstOccurrence first_of(Communicator& world, std::int64_t at) {
  const std::int64_t least = -world.max(-at);
  return {least, -world.max(at == least ? -std::int64_t{world.rank()} : -not_found)};
}

bool finite(const Stream& stream, TensorView x) { return std::isfinite(sum_in_order(stream, x)); }

}  // namespace

std::string find_non_finite(Model& model, Runtime& runtime, const DataMixture& data, std::span<const Pack> packs,
                            Layout layout, LabelWeights weights) {
  const Stream& stream = runtime.stream;
  Communicator& world = runtime.mesh.world;
  const auto output_of = [](std::int64_t layers) {
    return layers == 0 ? std::string("the embedding") : fmt::format("the output of layer {}", layers - 1);
  };
  const auto on = [&](std::int64_t rank) { return fmt::format("rank {} of {}", rank, world.size()); };

  std::int64_t layer = not_found;
  for (const Pack& pack : packs) {
    const PackOnRank work = place_pack(data, pack, layout, runtime, weights);
    const Tensor losses(stream, accumulator_of(model.options().dtype), {work.sharding->local_tokens()});
    runtime.rank_progress->enter(Phase::forward);
    model.evaluate({runtime, *work.sharding}, work.batch(), losses, [&](std::int64_t layers, TensorView residual) {
      if (!finite(stream, residual)) layer = std::min(layer, layers);
    });
  }
  if (const FirstOccurrence first = first_of(world, layer); first.found())
    return fmt::format("first in {}, {}", output_of(first.at), on(first.rank));

  const std::int64_t depth = std::ssize(model.options().shape.layers);
  std::int64_t back = not_found;  // counted in layers from the end
  ParameterSet& parameters = model.parameters();
  const auto& all = parameters.parameters();
  std::int64_t parameter_back = not_found;  // counted in parameters from the end
  parameters.observe_gradients([&](const Parameter& parameter) {
    if (!parameter.gradient.present() || finite(stream, parameter.gradient)) return;
    const auto last =
        std::find_if(all.rbegin(), all.rend(), [&](const Parameter& other) { return &other == &parameter; });
    parameter_back = std::min(parameter_back, std::distance(all.rbegin(), last));
  });
  parameters.zero_gradients(stream);
  const Tensor loss = Tensor::zeros(stream, DType::f64, {1});
  for (const Pack& pack : packs) {
    const PackOnRank work = place_pack(data, pack, layout, runtime, weights);
    model.train({runtime, *work.sharding}, work.batch(), loss, [&](std::int64_t layers, TensorView gradient) {
      if (!finite(stream, gradient)) back = std::min(back, depth - layers);
    });
  }
  parameters.observe_gradients({});
  if (const FirstOccurrence first = first_of(world, back); first.found())
    return fmt::format("every layer's output is finite; first in the gradient of {}, {}", output_of(depth - first.at),
                       on(first.rank));

  if (const FirstOccurrence first = first_of(world, parameter_back); first.found())
    return fmt::format("every layer's output is finite, so is its gradient; first in the gradient of {}, {}",
                       all[all.size() - 1 - static_cast<std::size_t>(first.at)].spec.name, on(first.rank));
  return "every layer's output and every rank's gradients are finite, their sum is not";
}

}  // namespace causeway
