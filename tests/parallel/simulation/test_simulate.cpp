/// Recorded ranks in simulated time: when messages arrive, and that ranks which wait for ever are found and named.

#include "parallel/simulation/simulate.hpp"

#include <gtest/gtest.h>

#include <array>
#include <string>

#include "kernels/core/dry_run/dry_run.hpp"
#include "kernels/core/tensor.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway::test {
namespace {

constexpr Network round_network{.island_ranks = 2,
                                .leaf_ranks = 4,
                                .island = {.latency_s = 1, .bytes_per_s = 100},
                                .network = {.latency_s = 10, .bytes_per_s = 10},
                                .across_s = 5};

/// Bytes that nobody reads or writes.
std::array<std::byte, 1000> memory;
std::span<std::byte> bytes(std::size_t count) { return {memory.data(), count}; }

/// What the ranks do in a test.
class Ranks {
 public:
  explicit Ranks(int ranks) : recording(ranks) {
    for (int rank = 0; rank < ranks; ++rank) transports_.push_back(recording.transport(rank));
  }
  [[nodiscard]] Pending send(int from, int to, std::size_t count) {
    return start(from, {{.peer = to, .send = bytes(count), .recv = {}}});
  }
  [[nodiscard]] Pending receive(int at, int from, std::size_t count) {
    return start(at, {{.peer = from, .send = {}, .recv = bytes(count)}});
  }
  [[nodiscard]] Pending start(int rank, const std::vector<Transfer>& transfers) {
    return transports_[static_cast<std::size_t>(rank)]->start(transfers, Stream());
  }
  Simulation simulated(Delivery delivery = Delivery::buffered, Network network = round_network) const {
    return simulate(recording, network, delivery);
  }
  std::string error(Delivery delivery) const {
    try {
      simulated(delivery);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  Recording recording;

 private:
  std::vector<std::unique_ptr<Transport>> transports_;
};

TEST(Simulate, AMessageTakesItsBytesAndTheLatencyOfItsWay) {
  struct Case {
    int to;
    double seconds;
  };
  // In the island, in the leaf, and to another leaf. The sender has sent all before it arrives.
  for (const auto& [to, seconds] : {Case{1, 1 + 1.0}, Case{2, 10 + 10.0}, Case{4, 10 + 5 + 10.0}}) {
    Ranks ranks(6);
    ranks.send(0, to, 100).wait();
    ranks.receive(to, 0, 100).wait();
    for (const Delivery delivery : {Delivery::buffered, Delivery::in_order}) {
      const Simulation result = ranks.simulated(delivery);
      EXPECT_DOUBLE_EQ(result.seconds(), seconds) << "to rank " << to;
      EXPECT_DOUBLE_EQ(result.ranks[static_cast<std::size_t>(to)].waiting_s, seconds);
      EXPECT_EQ(result.bytes(), 100);
      EXPECT_EQ(result.messages(), 1);
      EXPECT_EQ(result.ranks[0].network_bytes, to == 1 ? 0 : 100);
      EXPECT_DOUBLE_EQ(result.balance(), 6);
    }
  }
}

TEST(Simulate, MessagesShareTheWayOfTheirSenderAndOfTheirReceiver) {
  Ranks ranks(4);
  for (const int peer : {2, 3}) ranks.receive(peer, 0, 100).wait();
  ranks.start(0, {{.peer = 2, .send = bytes(100), .recv = {}}, {.peer = 3, .send = bytes(100), .recv = {}}}).wait();
  EXPECT_DOUBLE_EQ(ranks.simulated().seconds(), 20 + 10);
  Ranks others(4);
  for (const int peer : {2, 3}) others.send(peer, 0, 100).wait();
  others.start(0, {{.peer = 2, .send = {}, .recv = bytes(100)}, {.peer = 3, .send = {}, .recv = bytes(100)}}).wait();
  EXPECT_DOUBLE_EQ(others.simulated().seconds(), 20);  // until the latency of the second message is over
  Network blocking = round_network;
  blocking.oversubscription = 4;
  Ranks across(6);
  across.send(0, 4, 100).wait();
  across.receive(4, 0, 100).wait();
  EXPECT_DOUBLE_EQ(across.simulated(Delivery::buffered, blocking).seconds(), 40 + 15);
  Network slow_calls = round_network;
  slow_calls.island.message_s = slow_calls.network.message_s = 7;
  EXPECT_DOUBLE_EQ(across.simulated(Delivery::buffered, slow_calls).seconds(), 10 + 7 + 15);
}

TEST(Simulate, ARankThatComputesNothingWaitsForTheChainBeforeIt) {
  Ranks ranks(4);
  for (int rank = 0; rank < 4; ++rank) {
    if (rank > 0) ranks.receive(rank, rank - 1, 100).wait();
    if (rank < 3) ranks.send(rank, rank + 1, 100).wait();
  }
  const Simulation result = ranks.simulated();
  EXPECT_DOUBLE_EQ(result.ranks[1].waiting_s, 2 + 10);  // for its message, then until its own has left
  EXPECT_DOUBLE_EQ(result.seconds(), 2 + 20 + 2);
}

TEST(Simulate, RanksThatWaitForEachOtherAreADeadlock) {
  Ranks ranks(3);
  for (const int rank : {0, 1}) {
    ranks.receive(rank, 1 - rank, 8).wait();
    ranks.send(rank, 1 - rank, 8).wait();
  }
  for (const Delivery delivery : {Delivery::buffered, Delivery::in_order}) {
    const std::string error = ranks.error(delivery);
    EXPECT_NE(error.find("deadlock: 2 of 3 ranks"), std::string::npos) << error;
    EXPECT_NE(error.find("rank 0 waits for 8 bytes from rank 1, which waits"), std::string::npos) << error;
    EXPECT_NE(error.find("rank 1 waits for 8 bytes from rank 0, which waits"), std::string::npos) << error;
  }
}

TEST(Simulate, RanksThatBothSendFirstDependOnBuffers) {
  Ranks ranks(2);
  for (const int rank : {0, 1}) {
    ranks.send(rank, 1 - rank, 8).wait();
    ranks.receive(rank, 1 - rank, 8).wait();
  }
  EXPECT_EQ(ranks.error(Delivery::buffered), "");
  EXPECT_NE(ranks.error(Delivery::in_order).find("rank 0 sends 8 bytes to rank 1, which waits"), std::string::npos);
  Ranks together(2);
  for (const int rank : {0, 1}) together.start(rank, {{.peer = 1 - rank, .send = bytes(8), .recv = bytes(8)}}).wait();
  EXPECT_EQ(together.error(Delivery::in_order), "");
}

TEST(Simulate, MessagesThatDoNotMatchNameTheirRanks) {
  Ranks unequal(2);
  unequal.send(0, 1, 8).wait();
  unequal.receive(1, 0, 9).wait();
  EXPECT_NE(unequal.error(Delivery::buffered).find("rank 0 sends 8 bytes to rank 1, which expects 9"),
            std::string::npos);
  Ranks unreceived(2);
  unreceived.send(1, 0, 8).wait();
  EXPECT_NE(unreceived.error(Delivery::buffered).find("rank 1 sends 8 bytes to rank 0, which never receives them"),
            std::string::npos);
  EXPECT_NE(unreceived.error(Delivery::in_order).find("rank 1 sends 8 bytes to rank 0, which has ended"),
            std::string::npos);
}

TEST(Simulate, CollectivesEndOnAThousandRanksAndAreRecordedOnce) {
  const int size = 1000;
  Recording recording(size);
  const Stream stream = dry_run_stream();
  const std::int64_t elements = 1024 * size;  // of a tensor that nobody writes
  for (int rank = 0; rank < size; ++rank) {
    Communicator ranks(recording.transport(rank));
    const Tensor part(stream, DType::f32, {8}), all(stream, DType::f32, {8 * size}),
        gradients(stream, DType::f32, {elements});
    ranks.all_gather(part.view().as_bytes(), all.view().as_bytes(), stream);
    ranks.all_reduce(gradients, Reduction::sum, stream);
    ranks.broadcast(part.view().as_bytes(), 3, stream);
    ranks.barrier();
    EXPECT_EQ(ranks.sum(std::int64_t{rank}), rank) << "a recorded rank keeps its own value";
  }
  for (const Delivery delivery : {Delivery::buffered, Delivery::in_order})
    EXPECT_GT(simulate(recording, round_network, delivery).seconds(), 0);
  EXPECT_LT(recording.memory_bytes(), 3 << 20) << "lists of messages that ranks have in common are kept once";
}

}  // namespace
}  // namespace causeway::test
