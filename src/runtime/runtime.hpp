#pragma once

#include <memory>

#include "kernels/core/stream.hpp"
#include "parallel/exchange/carry.hpp"
#include "parallel/transport/mesh.hpp"
#include "src/health/rank_progress.hpp"
#include "src/runtime/chosen_strategies.hpp"

namespace causeway {

/// Where this rank computes, and with which other ranks. Passed to everything that needs it; there are no globals.
struct Runtime {
  Stream stream;
  Mesh mesh;
  ChosenStrategies strategies;
  Schedule schedule = Schedule::automatic;
  int one_way_layers = 1;  ///< of the model that runs, for the shardings of its packs
  /// The progress of this rank; long work reports to it, so that the watchdog sees that the rank is not stuck.
  std::shared_ptr<RankProgress> rank_progress = std::make_shared<RankProgress>();
};

}  // namespace causeway
