#include "src/train/settings/step_options.hpp"

#include "io/data/packing.hpp"
#include "src/cli/option_range.hpp"

namespace causeway {

std::vector<Option> packing_options(std::string& policy, std::int64_t& window) {
  std::vector<std::string> policies;
  for (const PackingPolicy& known : packing_policies()) policies.emplace_back(known.name);
  return {{"policy", &policy, "", "how documents are packed; causeway pack --report compares", policies},
          {"window", &window, "N", "how many of the next documents greedy and first_fit_decreasing choose from"}};
}

Option accumulate_option(std::int64_t& accumulate) {
  return {"accumulate", &accumulate, "N", "packs per step and data-parallel group, computed in sequence"};
}

std::vector<Option> memory_options(MemorySettings& settings) {
  return {{"recompute", &settings.recompute, "",
           "activation recomputation: keep only the input of each block and compute the block again in the backward "
           "pass; takes less memory and a third more operations"},
          {"recompute-blocks", &settings.recompute_blocks, "N",
           "with --recompute: keep only the input of every N-th block; takes still less memory, and another third "
           "more operations"},
          {"keep-blocks", &settings.keep_blocks, "N",
           "with --shard parameters: keep the gathered weights of the last N blocks for the backward pass, which saves "
           "gathering them again; takes the memory of N blocks' weights"},
          {"gradient-dtype",
           &settings.gradient_dtype,
           "",
           "type in which gradients are sent between ranks. f32: as they are (f64 with --dtype f64). bf16: rounded "
           "first, which halves the bytes that are sent; they are still added in f32, in the order of the ranks, and "
           "a rank's own are not rounded",
           {"f32", "bf16"}},
          {"offload",
           &settings.offload,
           "",
           "what is in host memory while the device does not need it. optimizer: master weights and moments, which "
           "the CPU updates while the next forward pass begins (OMP_NUM_THREADS threads a rank); activations: with "
           "--recompute, the inputs of blocks between their forward and backward pass; all: both. The results are the "
           "same, bit for bit",
           {"none", "optimizer", "activations", "all"}}};
}

void check_step_options(std::int64_t window, std::int64_t accumulate, const MemorySettings& memory,
                        const std::string& shard) {
  require_within("window", window, 1, std::int64_t{1} << 24);
  require_within("accumulate", accumulate, 1, std::int64_t{1} << 20);
  require_within("recompute-blocks", memory.recompute_blocks, 1, 10'000);
  require(memory.recompute_blocks == 1 || memory.recompute, "--recompute-blocks is {}, but --recompute is missing",
          memory.recompute_blocks);
  require(memory.recompute || !memory.offloads("activations"), "--offload is {}, but --recompute is missing",
          memory.offload);
  require_within("keep-blocks", memory.keep_blocks, 0, 10'000);
  require(memory.keep_blocks == 0 || shard == "parameters",
          "--keep-blocks is {}, but --shard is {}, expected parameters", memory.keep_blocks, shard);
}

ParameterMemory training_memory_of(const ComputeSettings& compute, const MemorySettings& memory,
                                   std::int64_t accumulate) {
  ParameterMemory kept{.level = parse_shard_level(compute.shard),
                       .several_passes = accumulate > 1,
                       .offload_optimizer = memory.offloads("optimizer")};
  if (memory.gradient_dtype == "bf16") kept.gradient_reduce_dtype = DType::bf16;
  return kept;
}

Model::Options training_options_of(const ComputeSettings& compute, const MemorySettings& memory) {
  return {.dtype = parse_dtype(compute.dtype),
          .fp8 = parse_fp8_level(compute.fp8),
          .recompute = memory.recompute,
          .recompute_blocks = memory.recompute_blocks,
          .keep_blocks = memory.keep_blocks,
          .offload_activations = memory.offloads("activations")};
}

}  // namespace causeway
