#include "tests/support/ranks.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string_view>

#include "kernels/core/gpu.hpp"
#include "parallel/transport/device_transport.hpp"

namespace causeway::test {
namespace {

/// Under MPI longer messages are divided, so that tests cover the code for messages of more than a gigabyte.
constexpr std::int64_t piece_bytes = 4000;

std::optional<Communicator>& mpi_world() {
  static std::optional<Communicator> world;  // static: GoogleTest gives a test no other access to an object of main
  return world;
}

/// Expensive objects that are kept from test to test: a stream for every rank of this process, and the groups of
/// processes on GPUs, by size.
struct Gpus {
  std::vector<Stream> streams;
  std::map<int, Communicator> worlds;

  const Stream& stream(int rank) {
    while (std::ssize(streams) <= rank) streams.emplace_back(Device::cuda);
    return streams[static_cast<std::size_t>(rank)];
  }
};
std::optional<Gpus>& gpus() {
  static std::optional<Gpus> kept;
  return kept;
}

/// Prints the failures of ranks that print nothing else.
class FailurePrinter : public testing::EmptyTestEventListener {
 public:
  explicit FailurePrinter(int rank) : rank_(rank) {}
  void OnTestStart(const testing::TestInfo& test) override {
    name_ = fmt::format("{}.{}", test.test_suite_name(), test.name());
  }
  void OnTestPartResult(const testing::TestPartResult& part) override {
    if (!part.failed()) return;
    fmt::print(stderr, "rank {}: {}: {}:{}: {}\n", rank_, name_, part.file_name() != nullptr ? part.file_name() : "?",
               part.line_number(), part.message());
  }

 private:
  int rank_;
  std::string name_;
};

}  // namespace

bool under_mpi() { return mpi_world().has_value(); }

std::vector<Device> devices() {
  return visible_gpus() > 0 ? std::vector{Device::cpu, Device::cuda} : std::vector{Device::cpu};
}

void on_ranks(int ranks, Device device, const std::function<void(Communicator& world, const Stream& stream)>& body) {
  if (device == Device::cpu) return on_ranks(ranks, [&](Communicator& world) { body(world, Stream()); });
  if (!gpus()) gpus().emplace();
  if (!under_mpi()) {
    gpus()->stream(ranks - 1);
    return on_ranks(ranks, [&](Communicator& world) {
      body(world, gpus()->streams[static_cast<std::size_t>(world.rank())]);
      world.barrier();  // no rank frees memory that another one still reads
    });
  }
  on_ranks(ranks, [&](Communicator& processes) {
    auto& worlds = gpus()->worlds;
    const Stream& stream = gpus()->stream(0);
    if (!worlds.contains(ranks))
      worlds.emplace(ranks, Communicator(make_device_transport(processes.transport(), stream)));
    body(worlds.at(ranks), stream);
  });
}

void on_ranks(int ranks, const std::function<void(Communicator& world)>& body) {
  if (!under_mpi()) {
    try {
      run_local_ranks(ranks, [&](std::unique_ptr<Transport> transport) {
        Communicator world(std::move(transport));
        body(world);
      });
    } catch (const std::exception& error) {
      ADD_FAILURE() << error.what();
    }
    return;
  }
  Communicator& all = *mpi_world();
  if (ranks > all.size()) GTEST_SKIP() << ranks << " ranks needed, mpirun started " << all.size();
  Communicator world = all.split(all.rank() < ranks ? 0 : 1, all.rank());
  if (all.rank() >= ranks) return;
  try {
    body(world);
  } catch (const std::exception& error) {
    fmt::print(stderr, "rank {}: {}\n", all.rank(), error.what());
    all.transport().abort(static_cast<int>(ExitCode::internal));
  }
}

int run_all_tests(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const bool mpi =
      std::any_of(argv, argv + argc, [](const char* argument) { return std::string_view(argument) == "--mpi"; });
  if (!mpi) {
    const int failed = RUN_ALL_TESTS();
    gpus().reset();  // before CUDA shuts down
    return failed;
  }
  mpi_world().emplace(make_mpi_transport(piece_bytes));
  select_gpu(mpi_world()->transport());
  const int rank = mpi_world()->rank();
  if (rank != 0) {
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());  // GoogleTest transfers its ownership
    listeners.Append(new FailurePrinter(rank));                    // and takes ownership of this one
  }
  const int failed = RUN_ALL_TESTS();
  const auto anywhere = mpi_world()->max(std::int64_t{failed});
  gpus().reset();
  mpi_world().reset();
  if (rank == 0 && failed == 0 && anywhere != 0) fmt::print(stderr, "tests failed on other ranks, see above\n");
  return anywhere == 0 ? 0 : 1;
}

}  // namespace causeway::test
