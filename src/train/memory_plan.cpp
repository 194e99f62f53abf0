#include "src/train/memory_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/core/integer.hpp"
#include "parallel/transport/collectives.hpp"
#include "src/cli/log.hpp"
#include "src/cli/number_format.hpp"
#include "src/model/activation_memory.hpp"
#include "src/model/offload/offloaded_adamw.hpp"
#include "src/runtime/available_memory.hpp"

namespace causeway {

namespace {

/// Bytes of a group of parameters: its whole weights, and its whole gradients.
struct GroupBytes {
  double weights = 0, gradients = 0;
  double exchange = 0;  ///< while its gradients are summed
};

std::vector<GroupBytes> bytes_of_groups(const ParameterSet& parameters, int ranks, std::optional<DType> reduce_dtype) {
  std::vector<GroupBytes> groups(parameters.groups());
  for (const ParameterArena& arena : parameters.arenas())
    for (std::size_t group = 0; group < arena.parts.size(); ++group) {
      const auto padded = static_cast<double>(ParameterLayout::padded_elements(arena.parts[group].elements, ranks));
      groups[group].weights += padded * static_cast<double>(size_of(arena.dtype));
      if (arena.frozen) continue;
      const DType wide = accumulator_of(arena.dtype);
      groups[group].gradients += padded * static_cast<double>(size_of(wide));
      if (ranks > 1)
        groups[group].exchange +=
            static_cast<double>(bytes_of_sum(static_cast<std::int64_t>(padded), wide, ranks, reduce_dtype));
    }
  return groups;
}

/// Bytes of the buffers through which OffloadedAdamW copies.
double staging_bytes(const ParameterSet& parameters, int ranks) {
  std::int64_t most = 0;
  for (const ParameterArena& arena : parameters.arenas()) {
    if (arena.frozen) continue;
    for (const ParameterArena::Part& part : arena.parts)
      most =
          std::max(most, OffloadedAdamW::staging_bytes(ParameterLayout::padded_elements(part.elements, ranks) / ranks,
                                                       accumulator_of(arena.dtype)));
  }
  return static_cast<double>(most);
}

/// What a rank holds beside its shards in the head, in each block's backward pass, and when the last gradients are
/// summed (GatheredWeights, GradientSums).
class BlockBuffers {
 public:
  BlockBuffers(const PassShape& shape, std::vector<GroupBytes> groups, ShardLevel level, bool gradients_are_rounded)
      : shape_(shape),
        plan_(plan_of_training(shape)),
        groups_(std::move(groups)),
        level_(level),
        gradients_are_rounded_(gradients_are_rounded) {}

  RankMemory at_head() const {
    RankMemory memory;
    add_gathered(plan_of_forward(shape_).steps.size() - 1, memory);
    if (level_ >= ShardLevel::gradients)
      for (const std::size_t group : shape_.head_step()) memory.block_gradients += groups_[group].gradients;
    return memory;
  }

  RankMemory at_backward(std::size_t block) const {
    RankMemory memory;
    const std::size_t group = group_of_block(block);
    std::size_t step = plan_.steps.size() - 1;  // the group's last one
    while (plan_.steps[step] != PassStep{group}) --step;
    add_gathered(step, memory);
    // Beside the block's gradients are those of the block after it, which are being summed, and the tied embedding's.
    memory.exchange = groups_[group + 1].exchange;
    if (level_ < ShardLevel::gradients) return memory;
    memory.block_gradients = groups_[group].gradients + (gradients_are_rounded_ ? 0 : groups_[group + 1].gradients) +
                             (shape_.tied_head ? groups_[embedding_group].gradients : 0);
    return memory;
  }

  RankMemory at_end() const {
    RankMemory memory;
    memory.exchange = groups_[embedding_group].exchange;
    if (level_ >= ShardLevel::gradients) memory.block_gradients = groups_[embedding_group].gradients;
    return memory;
  }

 private:
  /// The weights of this step, of the next one, and those that are kept for later ones.
  void add_gathered(std::size_t step, RankMemory& memory) const {
    if (level_ < ShardLevel::parameters) return;
    std::set<std::size_t> held;
    for (std::size_t i = step; i < plan_.steps.size(); ++i)
      for (const std::size_t group : plan_.steps[i])
        if (i < step + 2 || plan_.keeps(group)) held.insert(group);
    for (const std::size_t group : held) memory.gathered += groups_[group].weights;
  }

  PassShape shape_;
  PassPlan plan_;
  std::vector<GroupBytes> groups_;
  ShardLevel level_;
  bool gradients_are_rounded_;  // before they are sent
};

}  // namespace

RankMemory memory_of_rank(const Model& model, const Runtime& runtime, std::int64_t pack_tokens,
                          const ParameterMemory& parameters, std::vector<std::int64_t> cu_seqlens) {
  return memory_of_rank(model, {.pack_tokens = pack_tokens,
                                .ranks = runtime.mesh.world.size(),
                                .context_size = runtime.mesh.context.size(),
                                .device = runtime.stream.device(),
                                .parameters = parameters,
                                .strategies = runtime.strategies.names(),
                                .cu_seqlens = std::move(cu_seqlens)});
}

RankMemory memory_of_rank(const Model& model, const MemoryShape& shape) {
  const Model::Options& options = model.options();
  const ParameterMemory& parameters = shape.parameters;
  const ActivationBytes activations =
      activation_bytes(options.shape, {.tokens = ceil_div(shape.pack_tokens, shape.context_size),
                                       .context_size = shape.context_size,
                                       .dtype = options.dtype,
                                       .device = shape.device,
                                       .recompute = options.recompute,
                                       .recompute_blocks = options.recompute_blocks,
                                       .block_tile = options.block_tile,
                                       .fp8 = options.fp8,
                                       .offload = options.recompute && options.offload_activations,
                                       .strategies = shape.strategies,
                                       .cu_seqlens = shape.cu_seqlens});
  const int ranks = shape.ranks;
  const ShardLevel level = ranks == 1 ? ShardLevel::optimizer : parameters.level;
  const std::optional<DType> reduce_dtype = ranks == 1 ? std::nullopt : parameters.gradient_reduce_dtype;
  const std::vector<GroupBytes> groups = bytes_of_groups(model.parameters(), ranks, reduce_dtype);
  const BlockBuffers buffers(model.pass_shape(), groups, level, reduce_dtype.has_value());

  RankMemory most;
  const auto consider = [&](RankMemory moment, double bytes, bool in_head) {
    moment.in_head = in_head;
    moment.activations = std::min(activations.kept, bytes);
    moment.workspace = bytes - moment.activations;
    if (moment.tensors() > most.tensors()) most = moment;
  };
  consider(buffers.at_head(), activations.at_head, true);
  for (std::size_t block = 0; block < activations.at_backward.size(); ++block)
    consider(buffers.at_backward(block), activations.at_backward[block], false);
  consider(buffers.at_end(), activations.at_end, false);

  const auto share = [&](bool sharded) { return sharded ? 1.0 / ranks : 1.0; };
  for (const GroupBytes& group : groups) {
    most.weights += group.weights * share(level >= ShardLevel::parameters);
    most.gradients += group.gradients * share(level >= ShardLevel::gradients);
    if (level == ShardLevel::optimizer && parameters.several_passes && ranks > 1)
      most.gradients += group.gradients * share(true);
    most.optimizer += 3 * group.gradients * share(true);  // master weights, two moments
  }
  most.checkpoint = most.optimizer;
  if (parameters.offload_optimizer) most.optimizer += staging_bytes(model.parameters(), ranks);
  // On the CPU host memory is the device's.
  if (shape.device == Device::cpu) {
    most.activations += activations.offloaded;
  } else {
    most.host_activations = activations.offloaded;
    if (parameters.offload_optimizer) std::swap(most.host_optimizer, most.optimizer);
  }
  return most;
}

std::optional<AvailableMemory> available_memory(Runtime& runtime, Device where) {
  struct OfRank {
    std::array<char, 256> host{};
    double bytes = -1;
  } own;
  const bool on_gpu = where == Device::cuda;
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

void require_host_memory(Runtime& runtime, const RankMemory& memory) {
  const std::optional<AvailableMemory> available = available_memory(runtime, Device::cpu);
  const double needed = memory.on_host(runtime.stream.device());
  collectively(runtime.mesh.world, [&] {
    if (!available || needed * available->ranks <= available->bytes) return;
    fail(ExitCode::internal,
         "--offload: {} rank{} need{} {} of host memory (a rank: optimizer state {}, activations {}, copy of a "
         "checkpoint {}), but {} has {} available",
         available->ranks, available->ranks == 1 ? "" : "s", available->ranks == 1 ? "s" : "",
         binary_bytes(needed * available->ranks),
         binary_bytes(memory.host_optimizer > 0 ? memory.host_optimizer : memory.optimizer),
         binary_bytes(memory.host_activations > 0 ? memory.host_activations : memory.activations),
         binary_bytes(memory.checkpoint), available->where, binary_bytes(available->bytes));
  });
}

std::string fit_text(double rank, const std::optional<AvailableMemory>& available,
                     std::optional<double> with_recompute) {
  const auto about = [](double bytes) { return "about " + binary_bytes(bytes); };
  if (!available) return "whether it fits is not known: the memory of this machine cannot be read";
  const double needed = rank * available->ranks;
  const std::string needs = fmt::format(
      "{} need{} {}, {} has {} available", available->ranks == 1 ? "a rank" : fmt::format("{} ranks", available->ranks),
      available->ranks == 1 ? "s" : "", about(needed), available->where, binary_bytes(available->bytes));
  if (needed > available->bytes)
    return "does not fit: " + needs +
           (with_recompute ? fmt::format("; with --recompute {}", about(*with_recompute * available->ranks)) : "");
  constexpr double close = 0.8;  // of what is available; the estimate is not exact
  return (needed > close * available->bytes ? "fits, but closely: " : "fits: ") + needs;
}

std::string memory_text(const RankMemory& memory, Device device, const std::optional<AvailableMemory>& available,
                        std::optional<double> with_recompute) {
  const auto about = [](double bytes) { return "about " + binary_bytes(bytes); };
  const double rank = memory.on_device(device);
  const std::string blocks = memory.of_blocks() == 0
                                 ? ""
                                 : fmt::format("  whole blocks: weights {}, gradients {}, gradients received {}\n",
                                               binary_bytes(memory.gathered), binary_bytes(memory.block_gradients),
                                               binary_bytes(memory.exchange));
  const std::string offloaded =
      memory.host_optimizer + memory.host_activations == 0
          ? ""
          : fmt::format("optimizer state {}, activations {}, ", binary_bytes(memory.host_optimizer),
                        binary_bytes(memory.host_activations));
  std::string text = fmt::format(
      "memory of a rank: {}\n"
      "  weights {}, gradients {}, optimizer state {}\n{}"
      "  activations {}, workspace of {} {} (estimated)\n"
      "  {}: {}copy of a checkpoint {}, this program {}",
      about(rank), binary_bytes(memory.weights), binary_bytes(memory.gradients), binary_bytes(memory.optimizer), blocks,
      about(memory.activations), memory.in_head ? "the head" : "a block", about(memory.workspace),
      device == Device::cpu ? "beside them" : "on the host", offloaded, binary_bytes(memory.checkpoint),
      binary_bytes(memory.program));
  return text + '\n' + fit_text(rank, available, with_recompute);
}

}  // namespace causeway
