/// Files that cannot be read now: no lock, an error of the disk, no permission. They are not damaged.

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint_folders.hpp"
#include "io/data/dataset.hpp"
#include "io/file/descriptor.hpp"
#include "tests/src/shell.hpp"
#include "tests/src/small_dataset.hpp"

namespace causeway::test {
namespace {

namespace fs = std::filesystem;
using testing::bytes_of;
using testing::TemporaryFolder;

const std::string train =
    "@causeway train --data data.h5 --model mamba-tiny --width 8 --state 4 --pack-tokens 64 --transport local "
    "--strategy causal_conv=halo,selective_scan=state_carry --ranks 2 ";

/// The folder of a test: data.h5 and a run with checkpoints of steps 2 and 4.
void make_run(const TemporaryFolder& folder) {
  write_small_dataset(folder / "data.h5");
  const Outcome outcome = shell(folder, train + "--steps 4 --checkpoint-every 2 --run run");
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
}

std::vector<std::string> names_of_all(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) names.push_back(entry.path().string());
  std::ranges::sort(names);
  return names;
}

struct Unreadable {
  const char* call;
  const char* path;
  int error;
};

TEST(UnreadableFiles, ResumeAutoEndsWith74AndChangesNoCheckpoint) {
  const TemporaryFolder folder;
  make_run(folder);
  const std::vector<std::string> before = names_of_all(folder / "run");
  for (const Unreadable& row : std::vector<Unreadable>{{"flock", "run/step-4/index.h5", EAGAIN},
                                                       {"open", "run/step-4/shard-00001.h5", EACCES},
                                                       {"open", "run/step-4/shard-00001.h5", EMFILE},
                                                       {"open", "run/step-4/manifest.json", ENOMEM},
                                                       {"read", "run/step-4/shard-00000.h5", EIO},
                                                       {"read", "run/step-4/manifest.json", EIO},
                                                       {"read", "run/step-4/index.h5", ENOSPC},
                                                       {"stat", "run/step-4/", ESTALE},
                                                       {"stat", "run/latest", EIO}}) {
    const std::string rule = fmt::format("{}:{}:{}", row.call, row.path, row.error);
    const Outcome outcome =
        shell(folder, with_calls(rule, train + "--steps 6 --checkpoint-every 2 --keep-last 1 --run run --resume auto"));
    EXPECT_EQ(outcome.exit, 74) << rule << outcome.err;
    EXPECT_NE(outcome.err.find(std::string(row.path).substr(0, 10)), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.err.find("damaged"), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.err.find("missing"), std::string::npos) << outcome.err;
    EXPECT_EQ(names_of_all(folder / "run"), before) << rule;
  }
  EXPECT_EQ(shell(folder, train + "--steps 6 --run run --resume auto").exit, 0);
}

TEST(UnreadableFiles, AreNotCalledDamagedByAnyCommand) {
  const TemporaryFolder folder;
  make_run(folder);
  for (const char* rule : {"read:run/step-4/shard-00001.h5:5", "flock:run/step-4/:11", "open:run/step-4/:13"})
    for (const std::string& command :
         {std::string("@causeway inspect run --verify"), std::string("@causeway inspect run/step-4"),
          train + "--steps 6 --run other --init-from run", train + "--steps 6 --run run --resume run/step-4",
          std::string("@causeway score --checkpoint run --data data.h5 --out scores.h5"),
          std::string("@causeway generate --checkpoint run --prompt A --tokens 1")}) {
      const Outcome outcome = shell(folder, with_calls(rule, command));
      EXPECT_EQ(outcome.exit, 74) << rule << " " << command << outcome.err;
      EXPECT_EQ(outcome.out.find("DAMAGED"), std::string::npos) << outcome.out;
      EXPECT_FALSE(fs::exists(folder / "scores.h5"));
    }
  const Outcome verified =
      shell(folder, with_calls("read:run/step-4/shard-00001.h5:5", "@causeway inspect run --verify"));
  EXPECT_NE(verified.out.find("step-2        undamaged"), std::string::npos) << verified.out;
  EXPECT_NE(verified.out.find("step-4        NOT READ: run/step-4/shard-00001.h5: cannot read: Input/output error"),
            std::string::npos)
      << verified.out;
}

TEST(UnreadableFiles, AMissingFileIsStillDamage) {
  const TemporaryFolder folder;
  make_run(folder);
  fs::remove(folder / "run/step-4/shard-00001.h5");
  const Outcome verified =
      shell(folder, with_calls("read:run/step-2/shard-00001.h5:5", "@causeway inspect run --verify"));
  EXPECT_EQ(verified.exit, 65) << verified.out;
  EXPECT_NE(verified.out.find("step-2        NOT READ"), std::string::npos) << verified.out;
  EXPECT_NE(verified.out.find("step-4        DAMAGED"), std::string::npos) << verified.out;
}

TEST(UnreadableFiles, AFileSystemWithoutLocksWorks) {
  const TemporaryFolder folder;
  make_run(folder);
  for (const int error : {ENOLCK, ENOSYS, EOPNOTSUPP}) {
    const std::string rule = fmt::format("flock:causeway-test:{}", error);
    const Outcome outcome =
        shell(folder, with_calls(rule, train + fmt::format("--steps 4 --checkpoint-every 2 --run run{}", error)));
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    EXPECT_NE(outcome.err.find(fmt::format("warning: run{}: is not locked", error)), std::string::npos) << outcome.err;
    EXPECT_EQ(bytes_of(fmt::format("{}{}/step-4/manifest.json", folder / "run", error)),
              bytes_of(folder / "run/step-4/manifest.json"));
    EXPECT_EQ(shell(folder, with_calls(rule, train + fmt::format("--steps 5 --run run{} --resume auto", error))).exit,
              0);
    EXPECT_EQ(shell(folder, with_calls(rule, "@causeway inspect run data.h5 --verify")).exit, 0);
  }
  // The variable has precedence in libHDF5: who asks for locks gets an error that names it.
  const Outcome forced = shell(folder, with_calls(fmt::format("flock:data.h5:{}", ENOLCK),
                                                  "env HDF5_USE_FILE_LOCKING=TRUE @causeway inspect data.h5"));
  EXPECT_EQ(forced.exit, 74) << forced.err;
  EXPECT_NE(forced.err.find("HDF5_USE_FILE_LOCKING"), std::string::npos) << forced.err;
}

TEST(UnreadableFiles, AFileThatAnotherProgramHasLockedIsAnIoError) {
  const TemporaryFolder folder;
  make_run(folder);
  for (const char* name : {"data.h5", "run/step-4/index.h5", "run/step-4/shard-00000.h5"}) {
    const Descriptor file(::open((folder / name).c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_EQ(::flock(file.get(), LOCK_EX | LOCK_NB), 0);
    const Outcome outcome = shell(folder, "@causeway score --checkpoint run --data data.h5 --out scores.h5");
    EXPECT_EQ(outcome.exit, 74) << outcome.err;
    EXPECT_NE(outcome.err.find(name), std::string::npos) << outcome.err;
    EXPECT_NE(outcome.err.find("HDF5_USE_FILE_LOCKING"), std::string::npos) << outcome.err;
    EXPECT_EQ(shell(folder, "env HDF5_USE_FILE_LOCKING=FALSE @causeway inspect run data.h5 --verify").exit, 0);
  }
}

TEST(UnreadableFiles, MetricsThatCannotBeReadAreKept) {
  const TemporaryFolder folder;
  make_run(folder);
  const std::string before = bytes_of(folder / "run/metrics.jsonl");
  for (const char* rule : {"open:run/metrics.jsonl:13", "read:run/metrics.jsonl:5"}) {
    const Outcome outcome = shell(folder, with_calls(rule, train + "--steps 6 --run run --resume auto"));
    EXPECT_EQ(outcome.exit, 74) << outcome.err;
    EXPECT_EQ(bytes_of(folder / "run/metrics.jsonl"), before);
  }
}

TEST(UnreadableFiles, PermissionBitsAreAnIoError) {
  if (::getuid() != 0 || std::system("setpriv --reuid 65534 --clear-groups true 2>/dev/null") != 0)
    GTEST_SKIP() << "cannot become another user";
  const TemporaryFolder folder;
  make_run(folder);
  ASSERT_EQ(shell(folder, "chmod -R a+rwX .").exit, 0);
  const std::string user = "setpriv --reuid 65534 --clear-groups ";
  for (const char* name :
       {"run/step-4/shard-00001.h5", "run/step-4/index.h5", "run/step-4/manifest.json", "run/step-4"}) {
    const fs::perms before = fs::status(folder / name).permissions();
    fs::permissions(folder / name, fs::perms::none);
    for (const std::string& command :
         {train + "--steps 6 --run run --resume auto", std::string("@causeway inspect run --verify")}) {
      const Outcome outcome = shell(folder, user + command);
      EXPECT_EQ(outcome.exit, 74) << name << outcome.err;
      EXPECT_NE(outcome.err.find("Permission denied"), std::string::npos) << outcome.err;
    }
    fs::permissions(folder / name, before);
  }
  EXPECT_EQ(published_steps(folder / "run"), (std::vector<std::int64_t>{4, 2}));
}

TEST(UnreadableFiles, InspectLeavesNoneOfARunOutWithoutAWord) {
  const TemporaryFolder folder;
  make_run(folder);
  for (const std::string name : {"metrics.jsonl", "attempts.jsonl", "environment.json", "exit.json"}) {
    const Outcome outcome = shell(folder, with_calls("open:run/" + name + ":5", "@causeway inspect run"));
    EXPECT_EQ(outcome.exit, 74) << name << outcome.out << outcome.err;
    EXPECT_NE(outcome.err.find("run/" + name + ": cannot open"), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
  fs::remove(folder / "run/exit.json");
  EXPECT_EQ(shell(folder, "@causeway inspect run").exit, 0);
}

}  // namespace
}  // namespace causeway::test
