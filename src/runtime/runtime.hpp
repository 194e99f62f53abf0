#pragma once

#include <memory>

#include "kernels/core/stream.hpp"
#include "parallel/exchange/carry.hpp"
#include "parallel/transport/mesh.hpp"
#include "src/health/rank_progress.hpp"
#include "src/runtime/chosen_strategies.hpp"

namespace causeway {

/// Where this rank computes and with whom: the one context object, passed, never global.
struct Runtime {
  Stream stream;
  Mesh mesh;
  ChosenStrategies strategies;
  Schedule schedule = Schedule::automatic;
  std::shared_ptr<RankProgress> rank_progress =
      std::make_shared<RankProgress>();  ///< this rank's; told by whatever takes long
};

}  // namespace causeway
