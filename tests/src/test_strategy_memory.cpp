/// Memory is divided over ranks: one of four ranks holds little more than a quarter of what a single rank holds.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>

#include "src/bench/strategies.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/threads.hpp"

namespace causeway::test {
namespace {

/// all_gather holds the keys and values of the whole pack; it exists for comparison. A Fourier transform has buffers of
/// some MiB, which are large compared with a pack as short as these: check long_conv manually, at 2^20 tokens.
bool exempt(std::string_view op, std::string_view strategy) {
  return strategy == "all_gather" || (op == "long_conv" && strategy != "all_to_all");
}

TEST(StrategyMemory, OneOfFourRanksHoldsAtMostThreeTenthsOfTheMemory) {
  for (const StrategyWorkload& measured : strategy_workloads(DType::f32, 64)) {
    const OpRow& row = measured.row;
    for (const OpStrategy& strategy : row.strategies) {
      std::vector<std::string> variants = strategy.variants;
      if (variants.empty()) variants.emplace_back();
      for (const std::string& variant : variants) {
        const bool quadratic = row.name == "attention" || variant == "--method direct";
        // On four ranks each needs several groups of channels, or nothing is pipelined there.
        const bool sliced_block = row.name == "hyena_block" && strategy.name == "all_to_all_pipelined";
        const StrategyWorkload work{.row = row,
                                    .filter = measured.filter,
                                    .strategy = strategy,
                                    .variant = variant,
                                    .layout = strategy.layouts.back(),  // zigzag if it works, with two chunks a rank
                                    .tokens = std::int64_t{1} << 15,
                                    .documents = quadratic ? 512 : 1,
                                    .channels = sliced_block              ? 256
                                                : row.name == "attention" ? 128
                                                                          : 64};
        std::array<std::int64_t, 2> bytes{};
        for (const int ranks : {1, 4})
          on_ranks(ranks, [&](Communicator& world) {
            // A transform has buffers for each thread, whose size does not depend on the pack.
            with_threads(1, [&] {
              Communicator ranks_of_it = world.split(0, world.rank());
              const StrategyMeasurement found = measure_strategy(work, world, ranks_of_it, Stream(), 0, 0);
              if (world.rank() == 0) bytes[ranks == 1 ? 0 : 1] = found.memory_bytes;
            });
          });
        const double part = static_cast<double>(bytes[1]) / static_cast<double>(bytes[0]);
        const std::string what = fmt::format("{} {} {} {}", work.name(), strategy.name, variant, name_of(work.layout));
        fmt::print("{:<60} {:>12} {:>12} {:.3f}\n", what, bytes[0], bytes[1], part);
        if (!exempt(row.name, strategy.name)) {
          EXPECT_LE(part, 0.3) << what;
        }
      }
    }
  }
}

}  // namespace
}  // namespace causeway::test
