#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/cli/config.hpp"
#include "src/model/model.hpp"
#include "src/train/settings/compute_settings.hpp"

namespace causeway {

/// What a training step keeps in memory, and what it sends so that it need not keep it. Used by train and bench step.
struct MemorySettings {
  bool recompute = false;
  std::int64_t recompute_blocks = 1, keep_blocks = 0;
  std::string gradient_dtype = "f32", offload = "none";
  bool offloads(std::string_view what) const { return offload == what || offload == "all"; }
};

/// Options that several commands have: of packs (`train`, `bench step`, `pack`) and of a step (`train`, `bench step`).
std::vector<Option> packing_options(std::string& policy, std::int64_t& window);
Option accumulate_option(std::int64_t& accumulate);
std::vector<Option> memory_options(MemorySettings& settings);
/// Throws Error(usage) that names the first of these options that is wrong.
void check_step_options(std::int64_t window, std::int64_t accumulate, const MemorySettings& memory,
                        const std::string& shard);
/// What of the parameters a training keeps in memory.
ParameterMemory training_memory_of(const ComputeSettings& compute, const MemorySettings& memory,
                                   std::int64_t accumulate);
/// The options of a training's model beside its shape.
Model::Options training_options_of(const ComputeSettings& compute, const MemorySettings& memory);

}  // namespace causeway
