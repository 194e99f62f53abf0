#include "io/file/run_lock.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <thread>

#include "kernels/core/error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway {
namespace {

using testing::TemporaryFolder;

TEST(RunLock, OneHolderAtATime) {
  const TemporaryFolder folder;
  const std::string run = folder / "run";
  std::filesystem::create_directory(run);
  std::optional<RunLock> first(std::in_place, run, std::chrono::seconds(0));
  try {
    RunLock(run, std::chrono::seconds(0));
    ADD_FAILURE() << "held twice";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    EXPECT_NE(std::string(error.what()).find("run/lock"), std::string::npos) << error.what();
  }
  first.reset();
  EXPECT_NO_THROW(RunLock(run, std::chrono::seconds(0)));
}

TEST(RunLock, WaitsForAHolderThatEnds) {
  const TemporaryFolder folder;
  const std::string run = folder / "run";
  std::filesystem::create_directory(run);
  std::optional<RunLock> first(std::in_place, run, std::chrono::seconds(0));
  std::thread ends([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    first.reset();
  });
  EXPECT_NO_THROW(RunLock(run, std::chrono::seconds(60)));
  ends.join();
}

}  // namespace
}  // namespace causeway
