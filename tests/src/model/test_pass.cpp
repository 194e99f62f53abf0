#include <gtest/gtest.h>

#include "tests/src/model_support.hpp"

namespace causeway::test {
namespace {

/// What the rank has computed, in order.
thread_local std::string computed;

TEST(Pass, ComputationBesideAnOperatorComesAfterItOnTheRankThatLeadsARelayOnly) {
  on_ranks(3, [](Communicator& world) {
    Runtime runtime{.stream = Stream(), .mesh = Mesh(world.split(0, world.rank()), 1, 3), .strategies = {}};
    // state_carry and all_to_all, whose backward pass only leaves a trace.
    SelectiveScanStrategy carried = find_strategy(selective_scan_strategies(), "test", "state_carry"),
                          exchanged = find_strategy(selective_scan_strategies(), "test", "all_to_all");
    carried.backward =
        exchanged.backward = [](const StrategyContext&, SelectiveScanBackward, Saved&) { computed += "scan "; };
    struct Case {
      Schedule schedule;
      int layers;
      bool leads;
    };
    for (const auto& [schedule, layers, leads] :
         {Case{Schedule::relay, 1, true}, Case{Schedule::chain, 9, false}, Case{Schedule::gather, 9, false},
          Case{Schedule::automatic, 1, false}, Case{Schedule::automatic, 9, true}}) {
      runtime.schedule = schedule;
      Sharding sharding(ShardLayout(30, 3, Layout::contiguous), Segments::one_document(30), world.rank());
      sharding.set_one_way_layers(layers);
      const Pass pass{runtime, sharding};
      Saved saved;
      for (const SelectiveScanStrategy& strategy : {carried, exchanged}) {
        computed.clear();
        pass.backward(strategy, {}, saved, [] { computed += "beside "; });
        const bool scans_first = leads && world.rank() == 2 && strategy.name == "state_carry";
        EXPECT_EQ(computed, scans_first ? "scan beside " : "beside scan ")
            << strategy.name << " " << name_of(schedule) << " " << layers << " layers, rank " << world.rank();
      }
    }
  });
}

}  // namespace
}  // namespace causeway::test
