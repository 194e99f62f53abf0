#include "parallel/transport/mesh.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "tests/support/dropping_transport.hpp"
#include "tests/support/ranks.hpp"

namespace causeway::test {
namespace {

Communicator copy_of(Communicator& world) { return world.split(0, world.rank()); }

class Meshes : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, Meshes, testing::ValuesIn(rank_counts));

TEST_P(Meshes, EveryFactorisationGroupsNeighbouringRanks) {
  on_ranks(GetParam(), [](Communicator& world) {
    const int n = world.size(), me = world.rank();
    for (int context = 1; context <= n; ++context) {
      if (n % context != 0) continue;
      for (const int asked_data : {n / context, 0})
        for (const int asked_context : {context, 0}) {
          if (asked_data == 0 && asked_context == 0) continue;
          Mesh mesh(copy_of(world), asked_data, asked_context);
          EXPECT_EQ(mesh.data_size, n / context);
          EXPECT_EQ(mesh.context.size(), context);
          EXPECT_EQ(mesh.data_index, me / context);
          EXPECT_EQ(mesh.context.rank(), me % context);
          EXPECT_EQ(mesh.world.rank(), me);
          EXPECT_EQ(mesh.context.sum(std::int64_t{mesh.data_index}), std::int64_t{mesh.data_index} * context)
              << "all ranks of a group have the same data_index";
        }
    }
  });
}

TEST_P(Meshes, WithoutExtentsAllRanksAreOneContextGroup) {
  on_ranks(GetParam(), [](Communicator& world) {
    const Mesh mesh(copy_of(world), 0, 0);
    EXPECT_EQ(mesh.data_size, 1);
    EXPECT_EQ(mesh.context.size(), world.size());
  });
}

TEST_P(Meshes, TrafficIsThatOfTheWorldAndOfTheContextGroup) {
  on_ranks(GetParam(), [](Communicator& world) {
    Mesh mesh(copy_of(world), 0, 0);
    std::vector<double> values(8, 1.0);
    const TensorView view = view_of(values.data(), DType::f64, {8});
    mesh.world.all_reduce(view, Reduction::sum, Stream());
    const Traffic once = mesh.traffic();
    EXPECT_EQ(once.bytes_sent > 0, mesh.world.size() > 1);
    mesh.context.all_reduce(view, Reduction::sum, Stream());
    const Traffic twice = mesh.traffic();
    EXPECT_EQ(twice.bytes_sent, 2 * once.bytes_sent);
    EXPECT_EQ(twice.messages_sent, 2 * once.messages_sent);
    EXPECT_GE(twice.exposed_s, once.exposed_s);
  });
}

TEST_P(Meshes, ExtentsWhoseProductIsNotTheNumberOfRanksAreRefused) {
  on_ranks(GetParam(), [](Communicator& world) {
    const int n = world.size();
    const std::pair<int, int> wrong[] = {{n, 2}, {n + 1, 0}, {0, n + 1}, {-1, 0}, {1, -n}, {2, n}};
    for (const auto& [data, context] : wrong) {
      ExitCode code = ExitCode::ok;
      Communicator all = copy_of(world);
      try {
        Mesh(std::move(all), data, context);
      } catch (const Error& error) {
        code = error.code();
      }
      EXPECT_EQ(code, ExitCode::usage) << data << " × " << context << " on " << n;
    }
  });
}

TEST_P(Meshes, ADeafGroupReceivesZerosAndStillReduces) {
  on_ranks(GetParam(), [](Communicator& world) {
    const int n = world.size(), me = world.rank(), right = (me + 1) % n, left = (me + n - 1) % n;
    Mesh mesh(groups_receiving_zeros(world), 1, n);
    const std::vector<std::byte> sent(3, std::byte{7});
    const auto received = [&](Communicator& ranks) {
      std::vector<std::byte> bytes(3);
      ranks.exchange(std::vector<Transfer>{{right, sent, {}}, {left, {}, bytes}}, Stream());
      return bytes;
    };
    const auto gathered = [&](Communicator& ranks) {
      std::vector<std::byte> bytes(3 * static_cast<std::size_t>(n));
      ranks.all_gather(sent, bytes, Stream());
      return std::count(bytes.begin(), bytes.end(), std::byte{7});
    };
    EXPECT_EQ(received(mesh.world), sent);
    EXPECT_EQ(received(mesh.context), n > 1 ? std::vector<std::byte>(3) : sent);
    EXPECT_EQ(gathered(mesh.world), 3 * n);
    EXPECT_EQ(gathered(mesh.context), 3);
    EXPECT_EQ(mesh.context.sum(std::int64_t{1}), n);
  });
}

}  // namespace
}  // namespace causeway::test
