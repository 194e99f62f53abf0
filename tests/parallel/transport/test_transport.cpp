#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <vector>

#include "kernels/activation.hpp"
#include "kernels/core/random.hpp"
#include "parallel/transport/transport.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

std::vector<std::byte> pattern(std::size_t length, int from, int to, int number) {
  std::vector<std::byte> bytes(length);
  const RandomStream random(7, static_cast<std::uint64_t>((from * 100 + to) * 100 + number));
  for (std::size_t i = 0; i < length; ++i) bytes[i] = static_cast<std::byte>(random.bits(i));
  return bytes;
}

/// Bytes in the memory of a stream's device, which the host can set and read.
class Buffer {
 public:
  Buffer(const Stream& stream, const std::vector<std::byte>& content)
      : stream_(stream),
        bytes_(moved(view_of(const_cast<std::byte*>(content.data()), DType::u8, {std::ssize(content)}), Stream(),
                     stream)) {}
  Buffer(const Stream& stream, std::size_t length) : Buffer(stream, std::vector<std::byte>(length)) {}

  std::span<std::byte> span() const { return bytes_.view().as_bytes(); }
  std::vector<std::byte> content() const {
    const Tensor copy = moved(bytes_, stream_, Stream());
    const std::span<std::byte> bytes = copy.view().as_bytes();
    return {bytes.begin(), bytes.end()};
  }

 private:
  Stream stream_;
  Tensor bytes_;
};

class Transports : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, Transports, testing::ValuesIn(rank_counts));

/// Tests of operations on tensors, in the memory of every available device.
class TensorTransports : public testing::TestWithParam<std::tuple<int, Device>> {
 protected:
  void on_all(const std::function<void(Communicator& world, const Stream& stream)>& body) {
    on_ranks(std::get<0>(GetParam()), std::get<1>(GetParam()), body);
  }
};
INSTANTIATE_TEST_SUITE_P(Ranks, TensorTransports,
                         testing::Combine(testing::ValuesIn(rank_counts), testing::ValuesIn(devices())),
                         [](const auto& instance) {
                           return std::to_string(std::get<0>(instance.param)) + suffix_of(std::get<1>(instance.param));
                         });

TEST_P(TensorTransports, ExchangeDeliversMessagesOfAllLengths) {
  on_all([](Communicator& world, const Stream& stream) {
    // Several messages per pair of ranks, also to itself, some empty, in a different order on each rank. Some are
    // longer than the pieces of the MPI transport in these tests.
    const auto length = [](int from, int to, int number) {
      return static_cast<std::size_t>((from * 131 + to * 37 + number * 977) % 5 * 2477);
    };
    std::deque<Buffer> sent, received;
    std::vector<Transfer> transfers;
    const int n = world.size(), me = world.rank();
    for (int step = 0; step < n; ++step) {
      const int peer = (me + step) % n;
      for (int number = 0; number < 3; ++number) {
        sent.emplace_back(stream, pattern(length(me, peer, number), me, peer, number));
        received.emplace_back(stream, length(peer, me, number));
        transfers.push_back({peer, sent.back().span(), received.back().span()});
      }
    }
    world.exchange(transfers, stream);
    for (std::size_t i = 0; i < transfers.size(); ++i)
      EXPECT_EQ(received[i].content(),
                pattern(transfers[i].recv.size(), transfers[i].peer, me, static_cast<int>(i % 3)))
          << "from rank " << transfers[i].peer;
  });
}

TEST_P(TensorTransports, APeerOutsideTheGroupIsRefusedBeforeAnyMessageStarts) {
  on_all([](Communicator& world, const Stream& stream) {
    const int n = world.size(), me = world.rank(), right = (me + 1) % n, left = (me + n - 1) % n;
    const Buffer wrong(stream, pattern(1500, me, right, 0)), sent(stream, pattern(1500, me, right, 1)),
        received(stream, 1500);
    for (const int peer : {n, -1}) {
      EXPECT_THROW(
          (void)world.start(std::vector<Transfer>{{right, wrong.span(), {}}, {peer, wrong.span(), {}}}, stream), Error);
      EXPECT_THROW(
          (void)world.start(std::vector<Transfer>{{right, wrong.span(), {}}, {peer, {}, received.span()}}, stream),
          Error);
    }
    // The transport is as it was: the next message is the first that the peer receives.
    world.exchange(std::vector<Transfer>{{right, sent.span(), {}}, {left, {}, received.span()}}, stream);
    EXPECT_EQ(received.content(), pattern(1500, left, me, 1));
  });
}

TEST_P(TensorTransports, SeveralExchangesCanBeInFlightAndAreWaitedForInAnyOrder) {
  on_all([](Communicator& world, const Stream& stream) {
    const int n = world.size(), me = world.rank(), right = (me + 1) % n, left = (me + n - 1) % n;
    if (n == 1) return;
    std::deque<Buffer> sent, received;
    std::vector<Pending> pending;
    for (int number = 0; number < 5; ++number) {
      sent.emplace_back(stream, pattern(1500, me, right, number));
      received.emplace_back(stream, 1500);
    }
    for (std::size_t number = 0; number < 5; ++number)
      pending.push_back(world.start(
          std::vector<Transfer>{{right, sent[number].span(), {}}, {left, {}, received[number].span()}}, stream));
    for (const std::size_t number : {3, 0, 4, 2, 1}) pending[number].wait();
    for (int number = 0; number < 5; ++number)
      EXPECT_EQ(received[static_cast<std::size_t>(number)].content(), pattern(1500, left, me, number));
  });
}

TEST_P(Transports, TheWaitForAShortMessageIsNoWaitForItsReceiver) {
  on_ranks(GetParam(), [](Communicator& world) {
    const Stream stream;
    const int right = (world.rank() + 1) % world.size(), left = (world.rank() + world.size() - 1) % world.size();
    const std::vector<std::byte> expected = pattern(1 << 18, left, world.rank(), 0);
    std::vector<std::byte> received(expected.size());
    if (world.size() > 1) {
      std::vector<std::byte> sent = pattern(1 << 18, world.rank(), right, 0);
      Tensor posted = tensor_of(stream, DType::f64, {1, 3}, std::vector<double>{1, 2, 3.0 + world.rank()});
      world.exchange(std::vector<Transfer>{{.peer = right, .send = sent, .recv = {}}}, stream);
      std::ranges::fill(sent, std::byte{0});
      for (int i = 0; i < 2; ++i) world.post(moved(posted, stream, stream), right, stream);
    }
    world.barrier();  // no rank receives before
    if (world.size() == 1) return;
    world.exchange(std::vector<Transfer>{{.peer = left, .send = {}, .recv = received}}, stream);
    EXPECT_EQ(received, expected);
    for (int i = 0; i < 2; ++i) {
      std::vector<double> values(3);
      world.exchange(
          std::vector<Transfer>{{.peer = left, .send = {}, .recv = std::as_writable_bytes(std::span(values))}}, stream);
      EXPECT_EQ(values, (std::vector<double>{1, 2, 3.0 + left}));
    }
  });
}

/// Whether the file appears within 20 s, during which this rank makes no call of MPI.
bool appears(const std::filesystem::path& file) {
  const auto begin = std::chrono::steady_clock::now();
  while (!std::filesystem::exists(file))
    if (std::chrono::steady_clock::now() - begin > std::chrono::seconds(20)) return false;
  return true;
}

/// A state that a rank sends before it computes, in one piece. Open MPI needs scripts/mpi-env's limit for messages that
/// leave at once: longer ones move only while their sender is within MPI.
TEST(MpiTransport, AMessageArrivesWhileItsSenderComputes) {
  if (!under_mpi()) return;
  if (std::getenv("OMPI_MCA_btl_vader_eager_limit") == nullptr) GTEST_SKIP() << "scripts/mpi-env is not sourced";
  Communicator world(make_mpi_transport());
  const Stream stream;
  const std::string path = world.broadcast(
      (std::filesystem::temp_directory_path() / fmt::format("causeway-message-{}", getpid())).string(), 0);
  const std::string sent = path + "-sent", received = path + "-received";
  std::vector<std::byte> state(30000);
  bool arrived = true;
  if (world.rank() == 0 && world.size() > 1) {
    world.exchange(std::vector<Transfer>{{.peer = 1, .send = state, .recv = {}}}, stream);
    std::ofstream(sent) << "sent";
    arrived = appears(received);
  } else if (world.rank() == 1) {
    arrived = appears(sent);
    world.exchange(std::vector<Transfer>{{.peer = 0, .send = {}, .recv = state}}, stream);
    std::ofstream(received) << "received";
  }
  world.barrier();
  EXPECT_TRUE(arrived);
  if (world.rank() != 0) return;
  std::filesystem::remove(sent);
  std::filesystem::remove(received);
}

TEST_P(TensorTransports, AllGatherAndBroadcastDeliverWhatWasSent) {
  on_all([](Communicator& world, const Stream& stream) {
    const int n = world.size();
    for (const std::size_t length :
         {std::size_t{0}, std::size_t{1}, std::size_t{13}, std::size_t{1000}, std::size_t{9001}}) {
      const Buffer all(stream, length * static_cast<std::size_t>(n)), mine(stream, pattern(length, world.rank(), 0, 0));
      std::vector<std::byte> expected;
      world.all_gather(mine.span(), all.span(), stream);
      for (int peer = 0; peer < n; ++peer)
        for (const std::byte byte : pattern(length, peer, 0, 0)) expected.push_back(byte);
      EXPECT_EQ(all.content(), expected);
      const int root = static_cast<int>(length) % n;
      world.broadcast(mine.span(), root, stream);
      EXPECT_EQ(mine.content(), pattern(length, root, 0, 0));
    }
    EXPECT_EQ(world.broadcast(std::string(static_cast<std::size_t>(world.rank()), 'x'), n - 1),
              std::string(static_cast<std::size_t>(n - 1), 'x'));
  });
}

TEST_P(TensorTransports, ReductionsAddInRankOrder) {
  on_all([](Communicator& world, const Stream& stream) {
    const int n = world.size(), me = world.rank();
    // Values of very different size, so that another order would give other bits. Short and long buffers, and a length
    // that no number of ranks divides.
    const auto value = [](int rank, std::int64_t i) {
      const RandomStream random(3, static_cast<std::uint64_t>(rank));
      return static_cast<float>(random.normal(static_cast<std::uint64_t>(i)) * std::pow(10.0, rank % 4 * 2));
    };
    for (const std::int64_t count : {0, 1, 5, 1000, 50021}) {
      const Stream host;
      const Tensor values(host, DType::f32, {count});
      std::vector<float> sum, largest;
      for (std::int64_t i = 0; i < count; ++i) {
        values.view().as<float>()[static_cast<std::size_t>(i)] = value(me, i);
        sum.push_back(value(0, i));
        largest.push_back(value(0, i));
        for (int rank = 1; rank < n; ++rank) {
          sum.back() += value(rank, i);
          largest.back() = std::max(largest.back(), value(rank, i));
        }
      }
      // Parts of different lengths, one of them empty.
      std::vector<std::int64_t> counts(static_cast<std::size_t>(n), 0);
      for (std::int64_t left = count, rank = 0; rank < n; ++rank)
        left -= counts[static_cast<std::size_t>(rank)] = rank + 1 == n ? left : rank % 3 == 1 ? 0 : left / 3;
      const std::int64_t mine = counts[static_cast<std::size_t>(me)],
                         offset = std::accumulate(counts.begin(), counts.begin() + me, std::int64_t{0});
      const Tensor data = moved(values, host, stream), maximum = moved(values, host, stream),
                   part(stream, DType::f32, {mine});
      world.reduce_scatter(data, part, counts, Reduction::sum, stream);
      world.all_reduce(maximum, Reduction::max, stream);
      world.all_reduce(data, Reduction::sum, stream);
      const Tensor added = moved(data, stream, host), most = moved(maximum, stream, host),
                   scattered = moved(part, stream, host);
      for (std::size_t i = 0; i < sum.size(); ++i) {
        EXPECT_EQ(added.view().as<float>()[i], sum[i]) << i << " of " << count;
        EXPECT_EQ(most.view().as<float>()[i], largest[i]) << i << " of " << count;
      }
      for (std::int64_t i = 0; i < mine; ++i)
        EXPECT_EQ(scattered.view().as<float>()[static_cast<std::size_t>(i)], sum[static_cast<std::size_t>(offset + i)])
            << i << " of " << mine;
    }
  });
}

TEST_P(TensorTransports, EqualPartsAndIntegersAreReduced) {
  on_all([](Communicator& world, const Stream& stream) {
    const Stream host;
    const std::int64_t n = world.size(), me = world.rank(), each = 70001;
    std::vector<double> mine(static_cast<std::size_t>(n * each)), expected(static_cast<std::size_t>(each));
    for (std::size_t i = 0; i < mine.size(); ++i)
      mine[i] = 0.1 * static_cast<double>(me) + static_cast<double>(i % 977);
    for (std::int64_t rank = 0; rank < n; ++rank)
      for (std::size_t i = 0; i < expected.size(); ++i) {
        const double x =
            0.1 * static_cast<double>(rank) + static_cast<double>((static_cast<std::size_t>(me * each) + i) % 977);
        expected[i] = rank == 0 ? x : expected[i] + x;
      }
    const Tensor data = moved(tensor_of(host, DType::f64, {n * each}, mine), host, stream),
                 integers = moved(tensor_of(host, DType::i64, {3},
                                            std::vector<double>{static_cast<double>(me), 7, -static_cast<double>(me)}),
                                  host, stream),
                 part(stream, DType::f64, {each});
    world.reduce_scatter(data, part, std::vector<std::int64_t>(static_cast<std::size_t>(n), each), Reduction::sum,
                         stream);
    world.all_reduce(integers, Reduction::sum, stream);
    EXPECT_EQ(values_of(moved(part, stream, host)), expected);
    const double sum = 0.5 * static_cast<double>(n * (n - 1));
    EXPECT_EQ(values_of(moved(integers, stream, host)), (std::vector<double>{sum, 7.0 * static_cast<double>(n), -sum}));
  });
}

TEST_P(TensorTransports, AMessageHasTheBytesThatTheStreamWroteBefore) {
  on_all([](Communicator& world, const Stream& stream) {
    // Sends a buffer directly after it is written, and overwrites it directly after wait(), without waiting for the
    // stream.
    const int n = world.size(), me = world.rank(), right = (me + 1) % n, left = (me + n - 1) % n;
    constexpr std::int64_t length = 1 << 18;
    const Tensor out(stream, DType::f32, {length}), in(stream, DType::f32, {length}),
        sum = Tensor::zeros(stream, DType::f32, {length});
    double expected = 0;
    for (int round = 0; round < 20; ++round) {
      fill(stream, {.value = static_cast<double>(100 * me + round), .y = out});
      world.exchange(std::vector<Transfer>{{right, out.view().as_bytes(), {}}, {left, {}, in.view().as_bytes()}},
                     stream);
      scale(stream, {.x = in, .accumulate = true, .y = sum});
      expected += static_cast<double>(100 * left + round);
    }
    const std::vector<double> got = values_of(moved(sum, stream, Stream()));
    EXPECT_EQ(got, std::vector<double>(length, expected));
    // One rank on a GPU sends nothing and times nothing.
    if (n > 1 || stream.device() == Device::cpu) {
      EXPECT_GT(world.traffic().exposed_s + world.traffic().hidden_s, 0);
    }
  });
}

TEST_P(Transports, HostScalarsAreSummedAndMaximised) {
  on_ranks(GetParam(), [](Communicator& world) {
    const std::int64_t n = world.size(), me = world.rank();
    EXPECT_EQ(world.sum(me + 1), n * (n + 1) / 2);
    EXPECT_EQ(world.max(-me), 0);
    EXPECT_EQ(world.sum(0.5), 0.5 * static_cast<double>(n));
    EXPECT_EQ(world.max(static_cast<double>(me)), static_cast<double>(n - 1));
    EXPECT_TRUE(std::isnan(world.max(me == n / 2 ? std::nan("") : 1.0)));
  });
}

TEST_P(Transports, SplitGroupsByColorAndOrdersByKey) {
  on_ranks(GetParam(), [](Communicator& world) {
    const int n = world.size(), me = world.rank();
    Communicator part = world.split(me % 2, -me);  // odd and even ranks, in descending order
    const int members = (n - me % 2 + 1) / 2;
    EXPECT_EQ(part.size(), members);
    EXPECT_EQ(part.rank(), members - 1 - me / 2);
    Communicator again = part.split(0, part.rank());
    EXPECT_EQ(again.sum(std::int64_t{me}), part.sum(std::int64_t{me}));
    if (n == 1) return;
    // Messages of the part and of the whole group do not mix.
    std::int64_t got = -1;
    const std::int64_t sent = me;
    const int right = (me + 1) % n, left = (me + n - 1) % n;
    const Pending pending =
        world.start(std::vector<Transfer>{{right, std::as_bytes(std::span(&sent, 1)), {}}}, Stream());
    part.barrier();
    world.exchange(std::vector<Transfer>{{left, {}, std::as_writable_bytes(std::span(&got, 1))}}, Stream());
    EXPECT_EQ(got, left);
  });
}

TEST_P(Transports, TrafficCountsBytesSentToOtherRanks) {
  on_ranks(GetParam(), [](Communicator& world) {
    const std::int64_t n = world.size();
    const auto sent = [&](auto&& run) {
      const Traffic before = world.traffic();
      run();
      return std::pair(world.traffic().bytes_sent - before.bytes_sent,
                       world.traffic().messages_sent - before.messages_sent);
    };
    using Sent = std::pair<std::int64_t, std::int64_t>;
    std::vector<std::byte> a(120), b(120), all(120 * static_cast<std::size_t>(n));
    const Stream stream;
    const Tensor data = Tensor::zeros(stream, DType::f64, {n * 3});
    const std::vector<std::int64_t> counts(static_cast<std::size_t>(n), 3);
    const int me = world.rank(), right = (me + 1) % world.size(), left = (me + world.size() - 1) % world.size();
    EXPECT_EQ(sent([&] {
                world.exchange(std::vector<Transfer>{{me, a, b}}, stream);
              }),
              Sent(0, 0))
        << "a copy within the rank is not counted";
    EXPECT_EQ(sent([&] {
                world.exchange(std::vector<Transfer>{{right, a, {}}, {left, {}, b}}, stream);
              }),
              n > 1 ? Sent(120, 1) : Sent(0, 0));
    EXPECT_EQ(sent([&] { world.all_gather(a, all, stream); }), Sent((n - 1) * 120, n - 1));
    EXPECT_EQ(sent([&] { world.broadcast(a, 0, stream); }), me == 0 ? Sent((n - 1) * 120, n - 1) : Sent(0, 0));
    EXPECT_EQ(sent([&] { world.all_reduce(data, Reduction::sum, stream); }), Sent(2 * (n - 1) * 24, 2 * (n - 1)));
    EXPECT_EQ(sent([&] { world.reduce_scatter(data, data.view().slice_rows(0, 3), counts, Reduction::sum, stream); }),
              Sent((n - 1) * 24, n - 1));
    EXPECT_EQ(sent([&] { world.barrier(); }), Sent(0, 0));
    EXPECT_GT(world.traffic().exposed_s, 0);
  });
}

TEST_P(Transports, TimeBetweenStartAndWaitIsHidden) {
  on_ranks(GetParam(), [](Communicator& world) {
    Pending pending = world.start({}, Stream());
    const double before = world.traffic().hidden_s;
    const Communicator moved = std::move(world);  // a Pending remains valid when its communicator is moved
    pending.wait();
    EXPECT_GT(moved.traffic().hidden_s, before);
  });
}

TEST_P(Transports, CollectivelyThrowsTheLowestFailingRanksErrorEverywhere) {
  on_ranks(GetParam(), [](Communicator& world) {
    const int n = world.size(), me = world.rank(), first = n / 2;
    EXPECT_NO_THROW(collectively(world, [] {}));
    std::string caught = "nothing";
    ExitCode code = ExitCode::ok;
    try {
      collectively(world, [&] {
        if (me >= first) fail(me == first ? ExitCode::corrupt : ExitCode::io, "rank {} failed", me);
      });
    } catch (const AgreedError& error) {
      caught = error.what();
      code = error.code();
    }
    std::string other = "nothing";
    try {
      collectively(world, [&] {
        if (me == n - 1) throw std::runtime_error("not ours");
      });
    } catch (const AgreedError& error) {
      other = error.what();
    }
    EXPECT_EQ(caught, fmt::format("rank {} failed", first));
    EXPECT_EQ(code, ExitCode::corrupt);
    EXPECT_EQ(other, "internal error: not ours");
    EXPECT_EQ(world.sum(std::int64_t{1}), n) << "the ranks can communicate afterwards";
  });
}

/// The waits of threads end when another rank fails; under MPI the failing process ends the job.
class LocalRanks : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (under_mpi()) GTEST_SKIP() << "only for ranks that are threads";
  }
};
INSTANTIATE_TEST_SUITE_P(Ranks, LocalRanks, testing::ValuesIn(rank_counts));

TEST_P(LocalRanks, ARankThatThrowsEndsEveryKindOfWaitOfItsPeers) {
  const int n = GetParam();
  for (int kind = 0; kind < 4; ++kind) {
    try {
      run_local_ranks(n, [&](std::unique_ptr<Transport> transport) {
        Communicator world(std::move(transport));
        Communicator part = world.split(0, 0);
        std::vector<std::byte> never(8);
        const Pending pending =  // in flight while the exception unwinds
            world.rank() == 0 ? Pending() : world.start(std::vector<Transfer>{{0, {}, never}}, Stream());
        if (world.rank() == n - 1) fail(ExitCode::io, "rank {} of {}", world.rank(), n);
        if (kind == 0) part.barrier();
        if (kind == 1) world.exchange(std::vector<Transfer>{{n - 1, {}, never}}, Stream());
        if (kind == 2) world.sum(1.0);
        if (kind == 3) part.split(0, 0);
        ADD_FAILURE() << "rank " << world.rank() << " did not throw";
      });
      ADD_FAILURE() << "no exception was thrown";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::io);
      EXPECT_EQ(std::string(error.what()), fmt::format("rank {} of {}", n - 1, n));
    }
  }
}

TEST_P(LocalRanks, AbortGivesEveryPeerItsExitCode) {
  const int n = GetParam();
  if (n == 1) return;
  try {
    run_local_ranks(n, [&](std::unique_ptr<Transport> transport) {
      if (transport->rank() == 0) return transport->abort(75);
      transport->barrier();
    });
    FAIL() << "no exception was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::requeue);
  }
}

TEST_P(LocalRanks, AMessageOfUnexpectedLengthIsAnError) {
  EXPECT_THROW(
      run_local_ranks(GetParam(),
                      [](std::unique_ptr<Transport> transport) {
                        std::vector<std::byte> sent(8), received(9);
                        const int n = transport->size(), me = transport->rank();
                        transport
                            ->start(std::vector<Transfer>{{(me + 1) % n, sent, {}}, {(me + n - 1) % n, {}, received}},
                                    Stream())
                            .wait();
                      }),
      Error);
}

}  // namespace
}  // namespace causeway::test
