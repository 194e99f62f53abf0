#pragma once

#include <map>
#include <memory>
#include <string>

#include "kernels/core/stream.hpp"
#include "parallel/exchange/carry.hpp"
#include "parallel/transport/mesh.hpp"
#include "src/health/rank_progress.hpp"

namespace causeway {

/// Where this rank computes and with whom: the one context object, passed, never global.
struct Runtime {
  Stream stream;
  Mesh mesh;
  std::map<std::string, std::string, std::less<>> strategies;  ///< operator → strategy as chosen; absent means "auto"
  Schedule schedule = Schedule::automatic;
  std::shared_ptr<RankProgress> rank_progress =
      std::make_shared<RankProgress>();  ///< this rank's; told by whatever takes long

  std::string_view strategy(std::string_view op) const {
    const auto chosen = strategies.find(op);
    return chosen == strategies.end() ? std::string_view("auto") : std::string_view(chosen->second);
  }
};

}  // namespace causeway
