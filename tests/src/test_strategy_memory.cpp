/// Memory is shared: on four ranks, a rank holds little more than a fourth of what one rank alone holds.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>

#include "src/bench/strategies.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/threads.hpp"

namespace causeway::test {
namespace {

/// all_gather holds all keys and values, and is there to be compared with. A Fourier transform has buffers of some MiB
/// that do not grow with a pack as short as these: long_conv's are held to the limit by hand, at 2^20 tokens.
bool exempt(std::string_view op, std::string_view strategy) {
  return strategy == "all_gather" || (op == "long_conv" && strategy != "all_to_all");
}

TEST(StrategyMemory, ARankOfFourHoldsAtMostThreeTenthsOfWhatOneHolds) {
  for (const OpRow& row : op_rows())
    for (const OpStrategy& strategy : row.strategies) {
      std::vector<std::string> variants = strategy.variants;
      if (variants.empty()) variants.emplace_back();
      for (const std::string& variant : variants) {
        const bool quadratic = row.name == "attention" || variant == "--method direct";
        const StrategyWorkload work{.row = row,
                                    .strategy = strategy,
                                    .variant = variant,
                                    .layout = strategy.layouts.back(),  // the one with more chunks, where there are two
                                    .tokens = std::int64_t{1} << 15,
                                    .documents = quadratic ? 512 : 1,
                                    .channels = row.name == "attention" ? 128 : 64};
        std::array<std::int64_t, 2> bytes{};
        for (const int ranks : {1, 4})
          on_ranks(ranks, [&](Communicator& world) {
            // A transform has buffers for each thread, however short the pack.
            with_threads(1, [&] {
              Communicator ranks_of_it = world.split(0, world.rank());
              const StrategyMeasurement measured = measure_strategy(work, world, ranks_of_it, Stream(), 0, 0);
              if (world.rank() == 0) bytes[ranks == 1 ? 0 : 1] = measured.memory_bytes;
            });
          });
        const double part = static_cast<double>(bytes[1]) / static_cast<double>(bytes[0]);
        const std::string what = fmt::format("{} {} {} {}", row.name, strategy.name, variant, name_of(work.layout));
        fmt::print("{:<60} {:>12} {:>12} {:.3f}\n", what, bytes[0], bytes[1], part);
        if (!exempt(row.name, strategy.name)) {
          EXPECT_LE(part, 0.3) << what;
        }
      }
    }
}

}  // namespace
}  // namespace causeway::test
