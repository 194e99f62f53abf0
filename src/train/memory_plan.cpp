#include "src/train/memory_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/core/integer.hpp"
#include "src/cli/log.hpp"
#include "src/cli/number_format.hpp"
#include "src/model/activation_memory.hpp"
#include "src/runtime/available_memory.hpp"

namespace causeway {

RankMemory memory_of_rank(const Model& model, const Runtime& runtime, std::int64_t pack_tokens) {
  const Mesh& mesh = runtime.mesh;
  RankMemory memory;
  for (const ParameterArena& arena : model.parameters().arenas()) {
    const std::int64_t wide = size_of(accumulator_of(arena.dtype)), ranks = mesh.world.size();
    memory.weights += static_cast<double>(round_up(arena.elements, ranks) * size_of(arena.dtype));
    if (arena.frozen) continue;
    memory.gradients += static_cast<double>(round_up(arena.elements, ranks) * wide);
    memory.optimizer += static_cast<double>(3 * wide * ceil_div(arena.elements, ranks));  // master, two moments
  }
  memory.checkpoint = memory.optimizer;
  const Model::Options& options = model.options();
  const ActivationBytes activations =
      activation_bytes(options.shape, {.tokens = ceil_div(pack_tokens, mesh.context.size()),
                                       .context_size = mesh.context.size(),
                                       .dtype = options.dtype,
                                       .device = runtime.stream.device(),
                                       .recompute = options.recompute,
                                       .recompute_blocks = options.recompute_blocks,
                                       .strategies = runtime.strategies.names()});
  memory.activations = activations.kept;
  memory.workspace = activations.working;
  return memory;
}

std::optional<AvailableMemory> available_memory(Runtime& runtime) {
  struct OfRank {
    std::array<char, 256> host{};
    double bytes = -1;
  } own;
  const bool on_gpu = runtime.stream.device() == Device::cuda;
  host_name().copy(own.host.data(), own.host.size() - 1);
  if (!on_gpu)
    own.bytes = available_host_memory().value_or(-1);
  else
    own.bytes = static_cast<double>(runtime.stream.memory().free_device_bytes().value_or(-1));
  Communicator& world = runtime.mesh.world;
  std::vector<OfRank> all(static_cast<std::size_t>(world.size()));
  world.all_gather(std::as_bytes(std::span(&own, 1)), std::as_writable_bytes(std::span(all)), Stream());

  std::optional<AvailableMemory> least;
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank].bytes < 0) return std::nullopt;
    // Ranks of a host share its memory; a rank has a GPU of its own.
    const auto sharing = on_gpu ? 1 : std::ranges::count(all, all[rank].host, &OfRank::host);
    if (!least || all[rank].bytes / static_cast<double>(sharing) < least->bytes / least->ranks)
      least = {
          .bytes = all[rank].bytes,
          .ranks = static_cast<int>(sharing),
          .where = on_gpu ? fmt::format("the GPU of rank {}", rank) : fmt::format("host {}", all[rank].host.data())};
  }
  return least;
}

std::string memory_text(const RankMemory& memory, Device device, const std::optional<AvailableMemory>& available,
                        std::optional<double> with_recompute) {
  const auto about = [](double bytes) { return "about " + binary_bytes(bytes); };
  const double rank = memory.on_device(device);
  std::string text = fmt::format(
      "memory of a rank: {}\n"
      "  weights {}, gradients {}, optimizer state {}\n"
      "  activations {}, workspace {} (estimated)\n"
      "  {}: copy of a checkpoint {}, this program {}",
      about(rank), binary_bytes(memory.weights), binary_bytes(memory.gradients), binary_bytes(memory.optimizer),
      about(memory.activations), about(memory.workspace), device == Device::cpu ? "beside them" : "on the host",
      binary_bytes(memory.checkpoint), binary_bytes(memory.program));
  if (!available) return text + "\nwhether it fits is not known: the memory of this machine cannot be read";
  const double needed = rank * available->ranks;
  const std::string needs = fmt::format(
      "{} need{} {}, {} has {} available", available->ranks == 1 ? "a rank" : fmt::format("{} ranks", available->ranks),
      available->ranks == 1 ? "s" : "", about(needed), available->where, binary_bytes(available->bytes));
  if (needed > available->bytes) {
    text += "\ndoes not fit: " + needs;
    if (with_recompute) text += fmt::format("; with --recompute {}", about(*with_recompute * available->ranks));
    return text;
  }
  constexpr double close = 0.8;  // of what is available; the estimate is not exact
  return text + (needed > close * available->bytes ? "\nfits, but closely: " : "\nfits: ") + needs;
}

}  // namespace causeway
