#pragma once

#include <memory>
#include <string>

#include "src/cli/config.hpp"
#include "src/runtime/runtime.hpp"

namespace causeway {

/// How packs are divided over ranks and computed. Used by train and score.
struct ComputeSettings {
  int data_parallel = 0, context_parallel = 0;
  std::string layout = "contiguous", strategy = "auto", schedule = "auto", shard = "optimizer", dtype = "f32",
              fp8 = "off", device = "cpu";
};

/// The options of these settings.
OptionGroup compute_group(ComputeSettings& settings);

/// Collective; wrong settings throw AgreedError(usage).
Runtime make_runtime(const ComputeSettings& settings, Communicator world, std::shared_ptr<RankProgress> rank_progress);

}  // namespace causeway
