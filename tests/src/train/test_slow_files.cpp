/// A file system on which one call takes longer than the watchdog waits for anything else.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "io/data/dataset.hpp"
#include "tests/src/shell.hpp"
#include "tests/src/small_dataset.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

const std::string train =
    "@causeway train --data data.h5 --model mamba-tiny --width 8 --state 4 --pack-tokens 64 --steps 2 --run run "
    "--strategy causal_conv=halo,selective_scan=state_carry --transport local --ranks 2 --watchdog 2 ";

TEST(SlowFiles, ASlowFlushOfACheckpointEndsNoRun) {
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  // A shard, while the other rank waits for this one; then the index, which rank 0 writes.
  const Outcome outcome = shell(folder, with_calls("fsync:shard-00001:0:3500,fsync:index.h5:0:3500", train));
  EXPECT_EQ(outcome.exit, 0) << outcome.err;
}

TEST(SlowFiles, ASlowRemovalOfAnOldCheckpointEndsNoRun) {
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  const Outcome outcome =
      shell(folder, with_calls("remove:index.h5:0:3500", train + "--checkpoint-every 1 --keep-last 1 "));
  EXPECT_EQ(outcome.exit, 0) << outcome.err;
}

TEST(SlowFiles, ASlowStartAndASlowResultEndNoJob) {
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  ASSERT_EQ(shell(folder, with_calls("fsync:config.ini:0:3500", train)).exit, 0);
  const Outcome outcome =
      shell(folder, with_calls("fsync:scores.h5.tmp:0:3500",
                               "@causeway score --transport local --ranks 2 --watchdog 2 --checkpoint run "
                               "--data data.h5 --out scores.h5"));
  EXPECT_EQ(outcome.exit, 0) << outcome.err;
}

TEST(SlowFiles, DataThatOpenSlowlyEndNoRun) {
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  std::string command = train;  // on one rank: every rank opens the file several times
  command.replace(command.find("--ranks 2"), 9, "--ranks 1");
  const Outcome outcome = shell(folder, with_calls("open:data.h5:0:600", command));
  EXPECT_EQ(outcome.exit, 0) << outcome.err;
}

/// Rank 0 is stopped while it writes its line of metrics, for which the other rank waits: that rank must not be taken
/// for one that is inside the system itself.
TEST(SlowFiles, ARankThatIsStoppedWhileOthersWaitForItsFilesIsFound) {
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  const std::string command =
      "@mpirun -n 2 " +
      with_calls("open:metrics.jsonl:0:1000",
                 "@causeway train --data data.h5 --model mamba-tiny --width 8 --state 4 --pack-tokens 64 "
                 "--steps 50 --run run --watchdog 2");
  const std::string script = folder.write(
      "script", expanded(command) +
                    " & pid=$!\n"
                    "until grep -qs '.step.:2,' run/metrics.jsonl; do kill -0 $pid || break; sleep 0.05; done\n"
                    "sleep 0.3\nkill -STOP $(pgrep -P $pid | sed -n 1p)\nwait $pid\n");
  const Outcome outcome = shell(folder, "sh " + script);
  EXPECT_EQ(outcome.exit, 76) << outcome.err;
  EXPECT_NE(outcome.err.find("rank 0"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("has been stopped, or is gone"), std::string::npos) << outcome.err;
}

TEST(SlowFiles, ACallThatNeverReturnsIsFound) {
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  std::string command = train + "--watchdog-io 2";
  command.replace(command.find("--transport local --ranks 2"), 27, "");
  command.replace(command.find("@causeway"), 9, "@mpirun -n 2 @causeway");
  const Outcome outcome = shell(folder, with_calls("fsync:shard-00001:0:90000", command));
  EXPECT_EQ(outcome.exit, 76) << outcome.err;
  EXPECT_NE(outcome.err.find("no progress for 2 s; rank 1"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("is stuck writing its checkpoint: shard, inside the system"), std::string::npos)
      << outcome.err;
}

}  // namespace
}  // namespace causeway::test
