#include "src/cli/launch.hpp"

#include <gtest/gtest.h>

#include <mutex>
#include <set>

namespace causeway::test {
namespace {

LaunchOptions local(int ranks) { return {.transport = "local", .ranks = ranks}; }

TEST(Launch, RunsTheBodyOnEveryRank) {
  for (const int ranks : {1, 2, 3, 7}) {
    std::mutex mutex;
    std::set<int> seen;
    const ExitCode code = launch(local(ranks), [&](Communicator world) {
      const std::lock_guard lock(mutex);
      seen.insert(world.rank());
      EXPECT_EQ(world.size(), ranks);
      return ExitCode::ok;
    });
    EXPECT_EQ(code, ExitCode::ok);
    EXPECT_EQ(seen.size(), static_cast<std::size_t>(ranks));
  }
}

TEST(Launch, ReturnsTheLargestCodeOfAllRanks) {
  EXPECT_EQ(launch(local(3), [](Communicator world) { return world.rank() == 1 ? ExitCode::requeue : ExitCode::ok; }),
            ExitCode::requeue);
}

TEST(Launch, OneRanksErrorEndsAllAndNamesTheRank) {
  try {
    launch(local(3), [](Communicator world) {
      if (world.rank() == 2) fail(ExitCode::io, "disk is full");
      world.barrier();  // the others wait here
      return ExitCode::ok;
    });
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::io);
    EXPECT_STREQ(error.what(), "rank 2: disk is full");
  }
}

TEST(Launch, AnAgreedErrorPassesAsItIs) {
  try {
    launch(local(3), [](Communicator world) {
      collectively(world, [&] { require(world.rank() != 1, "x.h5:/x is missing"); });
      return ExitCode::ok;
    });
    ADD_FAILURE() << "nothing was thrown";
  } catch (const AgreedError& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    EXPECT_STREQ(error.what(), "x.h5:/x is missing");
  }
}

TEST(Launch, ExceptionsOfOtherTypesAreInternalErrors) {
  EXPECT_EQ(error_of(std::bad_alloc()).code(), ExitCode::internal);
  EXPECT_EQ(error_of(std::runtime_error("x")).code(), ExitCode::internal);
  EXPECT_EQ(error_of(Error(ExitCode::io, "x")).code(), ExitCode::io);
}

TEST(Launch, WrongOptionsAreRefusedBeforeAnyRankStarts) {
  const LaunchOptions table[] = {{"local", 0}, {"local", -3}, {"local", 1 << 20}, {"local", 1024}, {"pigeon", 1}};
  for (const LaunchOptions& options : table) {
    try {
      launch(options, [](Communicator) -> ExitCode { throw std::logic_error("started"); });
      ADD_FAILURE() << options.transport << " " << options.ranks;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::usage) << options.transport << " " << options.ranks;
    }
  }
}

}  // namespace
}  // namespace causeway::test
