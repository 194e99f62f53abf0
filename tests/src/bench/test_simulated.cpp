/// `causeway simulate`: the strategies' exchanges on a thousand ranks, recorded from their own code. What is recorded
/// is checked against ranks that really run.

#include "src/bench/simulated.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>

#include "kernels/core/dry_run/dry_run.hpp"
#include "tests/src/plan/small_profile.hpp"
#include "tests/src/shell.hpp"
#include "tests/support/forwarding_transport.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

/// Calls visit(work) for every strategy of an operator, or of all, with its schedules in all of its layouts.
void for_every_strategy(const std::function<void(const StrategyWorkload&)>& visit, std::int64_t tokens,
                        std::int64_t documents, std::int64_t channels, std::string_view op = "") {
  for (const StrategyWorkload& each : strategy_workloads(DType::f32, channels))
    for (const OpStrategy& strategy : each.row.strategies)
      for (const Layout layout : strategy.layouts)
        for (const std::string& variant : variants_with_other_messages(each, strategy)) {
          if (!op.empty() && each.name() != op) continue;
          SCOPED_TRACE(fmt::format("{} {} {} {}", each.name(), strategy.name, variant, name_of(layout)));
          StrategyWorkload work = each.with(strategy, variant, tokens, documents);
          work.layout = layout;
          visit(work);
        }
}

/// A test for each operator: together they take a quarter of a minute, and ctest runs them side by side.
class EveryOperator : public ::testing::TestWithParam<std::string> {};
std::vector<std::string> names_of_operators() {
  std::vector<std::string> names;
  for (const StrategyWorkload& work : strategy_workloads(DType::f32, 128)) names.push_back(work.name());
  return names;
}
INSTANTIATE_TEST_SUITE_P(All, EveryOperator, ::testing::ValuesIn(names_of_operators()), [](const auto& instance) {
  std::string name = instance.param;
  std::ranges::replace(name, '/', '_');
  return name;
});

TEST_P(EveryOperator, DoesNotDeadlockOnAThousandRanksWithAnyStrategy) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  const int ranks = 200;  // sanitizers take ten times as long
#else
  const int ranks = 1024;
#endif
  const Network network = network_of(small_profile());
  // Shards of 39 or 40 tokens, shorter than a filter's reach, and documents of 5 to 6 tokens: some cross an edge.
  for_every_strategy(
      [&](const StrategyWorkload& work) {
        // In order: what does not deadlock then does not on any transport.
        const SimulatedStrategy simulated(record_strategy(work, ranks), network, Delivery::in_order);
        EXPECT_GT(simulated.forward.messages(), 0);
        EXPECT_GT(simulated.backward.seconds(), 0);
      },
      40 * ranks - 17, 7 * ranks - 167, 128, GetParam());
}

TEST(SimulatedStrategies, ExchangeWhatRealRanksDo) {
  for (const int ranks : {3, 4})
    for (const std::int64_t documents : {1, 9})
      for_every_strategy(
          [&](const StrategyWorkload& work) {
            const RecordedStrategy recorded = record_strategy(work, ranks);
            const SimulatedStrategy simulated(recorded, {}, Delivery::in_order), same(recorded, {}, Delivery::buffered);
            EXPECT_EQ(same.forward.bytes(), simulated.forward.bytes());
            on_ranks(ranks, [&](Communicator& world) {
              const Stream stream;
              const Sharding sharding(ShardLayout(work.tokens, ranks, work.layout),
                                      Segments::equal_documents(work.tokens, work.documents), world.rank(), stream);
              const WorkloadTensors tensors(work, sharding.local_tokens(), stream);
              const BoundOperator op = bind(work, sharding, world, stream, tensors);
              Saved saved;
              const Traffic before = world.traffic();
              op.forward(&saved);
              const Traffic between = world.traffic();
              op.backward(saved);
              const Traffic after = world.traffic();
              const auto me = static_cast<std::size_t>(world.rank());
              EXPECT_EQ(simulated.forward.ranks[me].bytes_sent, between.bytes_sent - before.bytes_sent);
              EXPECT_EQ(simulated.forward.ranks[me].messages_sent, between.messages_sent - before.messages_sent);
              EXPECT_EQ(simulated.backward.ranks[me].bytes_sent, after.bytes_sent - between.bytes_sent);
              EXPECT_EQ(simulated.backward.ranks[me].messages_sent, after.messages_sent - between.messages_sent);
            });
          },
          131, documents, 128);
}

TEST(SimulatedStrategies, SendTheBytesAndMessagesOfTheCostModel) {
  const int ranks = 64;
  const Profile profile = small_profile();
  for_every_strategy(
      [&](StrategyWorkload work) {
        work.variant = "";  // the schedule that `auto` takes
        const SimulatedStrategy simulated(record_strategy(work, ranks), network_of(profile), Delivery::in_order);
        const Sharding sharding(ShardLayout(work.tokens, ranks, work.layout), Segments::one_document(work.tokens), 1);
        const std::vector calls{shapes_of(work, sharding.local_tokens())};
        const auto estimate_of = [&](PassCounts passes) {
          for (const Estimate& row : estimates(sharding, calls, machine_of_group(profile, ranks), passes))
            if (row.strategy == work.strategy.name) return row;
          return Estimate{};
        };
        const auto bytes_of = [&](PassCounts passes) {
          return static_cast<std::int64_t>(estimate_of(passes).bytes_sent);
        };
        EXPECT_EQ(simulated.forward.most_bytes(), bytes_of({.forward = 1, .backward = 0}));
        EXPECT_EQ(simulated.forward.most_messages(), estimate_of({.forward = 1, .backward = 0}).messages);
        EXPECT_EQ(simulated.backward.most_messages(), estimate_of({.forward = 0, .backward = 1}).messages);
        // Backward one rank may send most of one tensor and another most of the next: within a thousandth.
        const std::int64_t backward = bytes_of({.forward = 0, .backward = 1});
        EXPECT_LE(std::abs(simulated.backward.most_bytes() - backward), backward / 1000);
      },
      160 * ranks, 1, 1024);
}

/// fft transforms only the documents that span ranks, each over its own ranks, and moves them onto equal shards.
TEST(SimulatedStrategies, AFourierTransformSendsTheBytesAndMessagesOfItsDocuments) {
  const Profile profile = small_profile();
  for (const int ranks : {5, 12, 64})
    for (const std::int64_t documents : {1, 3, 9, 40, 700})
      for_every_strategy(
          [&](const StrategyWorkload& work) {
            if (work.strategy.name != "fft") return;
            SCOPED_TRACE(fmt::format("{} documents on {} ranks", documents, ranks));
            const SimulatedStrategy simulated(record_strategy(work, ranks), network_of(profile), Delivery::in_order);
            const Sharding sharding(ShardLayout(work.tokens, ranks, work.layout),
                                    Segments::equal_documents(work.tokens, work.documents), 1);
            const std::vector calls{shapes_of(work, sharding.local_tokens())};
            for (const bool forward : {true, false}) {
              const Simulation& pass = forward ? simulated.forward : simulated.backward;
              Estimate fft;
              for (const Estimate& row : estimates(sharding, calls, machine_of_group(profile, ranks),
                                                   {.forward = forward ? 1.0 : 0.0, .backward = forward ? 0.0 : 1.0}))
                if (row.strategy == "fft") fft = row;
              EXPECT_EQ(pass.most_bytes(), static_cast<std::int64_t>(fft.bytes_sent)) << forward;
              EXPECT_EQ(pass.most_messages(), fft.messages) << forward;
            }
          },
          160 * ranks - 7, documents, 1024);
}

/// What sends to all ranks: with few bytes a message it takes the time of its messages, with fewer groups than ranks
/// that of the ranks that receive most.
TEST(SimulatedStrategies, TakeTheTimeOfTheCostModel) {
  const int ranks = 128;
  Profile profile = small_profile();  // the simulated network is as fast to all as to a neighbour
  profile.network.all_bytes_per_s = profile.network.bytes_per_s;
  profile.machine.all_bytes_per_s = profile.machine.bytes_per_s;
  for (const std::int64_t tokens : {16 * ranks, 1024 * ranks})
    for_every_strategy(
        [&](StrategyWorkload work) {
          const bool to_all =
              work.strategy.name == "all_to_all" || work.strategy.name == "ring" || work.strategy.name == "all_gather";
          if (!to_all || work.layout != Layout::contiguous) return;
          work.variant = "";
          const SimulatedStrategy simulated(record_strategy(work, ranks), network_of(profile), Delivery::in_order);
          const double estimated = estimated_communication(work, ranks, profile);
          EXPECT_NEAR((simulated.forward.seconds() + simulated.backward.seconds()) / estimated, 1, 0.1) << tokens;
        },
        tokens, 1, 1024);
}

/// Records everything but one message that the rank expects.
class OneReceiveMissing final : public ForwardingTransport {
 public:
  using ForwardingTransport::ForwardingTransport;
  Pending start(std::span<const Transfer> transfers, const Stream& stream) override {
    std::vector<Transfer> kept(transfers.begin(), transfers.end());
    const auto missing = std::ranges::find_if(kept, [](const Transfer& transfer) { return !transfer.recv.empty(); });
    if (!missed_ && missing != kept.end()) {
      missing->recv = {};
      missed_ = true;
    }
    return inner().start(kept, stream);
  }

 private:
  bool missed_ = false;
};

TEST(SimulatedStrategies, APlanThatMissesAReceiveIsFoundAndItsRanksAreNamed) {
  const int ranks = 100, broken = 41;
  const Stream stream = dry_run_stream();
  for (const StrategyWorkload& each : strategy_workloads(DType::f32, 128))
    for (const OpStrategy& strategy : each.row.strategies) {
      SCOPED_TRACE(fmt::format("{} {}", each.name(), strategy.name));
      const StrategyWorkload work = each.with(strategy, variants_with_other_messages(each, strategy).front(), 300, 1);
      Recording recording(ranks);
      for (int rank = 0; rank < ranks; ++rank) {
        const Sharding sharding(ShardLayout(work.tokens, ranks, work.layout), Segments::one_document(work.tokens), rank,
                                stream);
        const WorkloadTensors tensors(work, sharding.local_tokens(), stream);
        std::unique_ptr<Transport> transport = recording.transport(rank);
        if (rank == broken) transport = std::make_unique<OneReceiveMissing>(std::move(transport));
        Communicator communicator(std::move(transport));
        bind(work, sharding, communicator, stream, tensors).forward(nullptr);
      }
      for (const Delivery delivery : {Delivery::buffered, Delivery::in_order}) try {
          simulate(recording, {}, delivery);
          ADD_FAILURE() << "not found";
        } catch (const Error& error) {
          EXPECT_NE(std::string(error.what()).find(fmt::format("rank {}", broken)), std::string::npos) << error.what();
        }
    }
}

TEST(SimulateCommand, PrintsARowForEachStrategyAndWritesJson) {
  const testing::TemporaryFolder folder;
  const Outcome outcome = shell(folder,
                                "@causeway simulate --ranks 32 --tokens 4K --channels 128 --document-tokens 100 "
                                "--filter 'selective_scan' --json r.json");
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("selective_scan all_to_all zigzag"), std::string::npos) << outcome.out;
  const nlohmann::json report = nlohmann::json::parse(testing::bytes_of(folder / "r.json"));
  EXPECT_EQ(report.at("results").size(), 8U);  // three schedules and all_to_all, in two layouts
  for (const nlohmann::json& row : report.at("results")) {
    EXPECT_GT(row.at("forward").at("seconds").get<double>(), 0);
    EXPECT_GE(row.at("forward").at("balance").get<double>(), 1);
  }
  EXPECT_EQ(shell(folder, "@causeway simulate --ranks 0").exit, 2);
  EXPECT_EQ(shell(folder, "@causeway simulate --channels 100").exit, 2);
  const Outcome nothing = shell(folder, "@causeway simulate --ranks 4 --filter nosuch --json n.json");
  EXPECT_EQ(nothing.exit, 2);
  EXPECT_NE(nothing.err.find("--filter is 'nosuch'"), std::string::npos) << nothing.err;
  EXPECT_FALSE(std::filesystem::exists(folder / "n.json"));
}

}  // namespace
}  // namespace causeway::test
