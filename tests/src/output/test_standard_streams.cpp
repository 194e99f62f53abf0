/// Standard streams that are closed, full, or have no reader, and limits of a file's size.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/src/shell.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::bytes_of;
using testing::TemporaryFolder;

constexpr const char* train =
    "@causeway train --data d.h5 --model mamba-tiny --width 16 --layers-count 1 --pack-tokens 64 --steps 3 "
    "--checkpoint-every 1";

void import_reads(const TemporaryFolder& folder) {
  folder.write("a.fa", ">a\nACGTACGTACGTAGCTAGCTAGCATCGATCGATCGAC\n>b\nGGTTAACCGGTTAACCAGTAGCATGCATGCAT\n");
  ASSERT_EQ(shell(folder, "@causeway import a.fa --out d.h5").exit, 0);
}

TEST(StandardStreams, ALogThatCannotBeWrittenDoesNotEndATraining) {
  const TemporaryFolder folder;
  import_reads(folder);
  const std::string commands[] = {
      fmt::format("sh -c '{} --run r0 2>/dev/full'", train),
      fmt::format("sh -c '{} --run r1 2>&-'", train),
      fmt::format("sh -c '{} --run r2 <&- >&- 2>&-'", train),
      fmt::format("sh -c '{} --run r3 --ranks 2 2>/dev/full'", train),
      fmt::format("@mpirun -n 2 sh -c '{} --run r4 2>/dev/full'", train),
      fmt::format("@mpirun -n 2 sh -c '{} --run r5 2>&-'", train),
      fmt::format("bash -c '{} --run r6 2>&1 | true; exit ${{PIPESTATUS[0]}}'", train),
  };
  for (std::size_t run = 0; run < std::size(commands); ++run) {
    EXPECT_EQ(shell(folder, commands[run]).exit, 0) << commands[run];
    const std::string path = folder / fmt::format("r{}", run);
    EXPECT_TRUE(std::filesystem::is_directory(path + "/step-3")) << commands[run];
    EXPECT_EQ(bytes_of(path + "/lock"), "") << commands[run];  // descriptor 2 is not the lock file
  }
}

TEST(StandardStreams, AnAnswerThatCannotBeWrittenIsAnIoError) {
  const TemporaryFolder folder;
  import_reads(folder);
  ASSERT_EQ(shell(folder, fmt::format("{} --run r", train)).exit, 0);
  for (const std::string& command :
       {std::string("--help"), std::string("--version"), std::string("op --list"), std::string("inspect d.h5 r"),
        std::string("pack --data d.h5"), std::string("generate --checkpoint r --prompt AC --tokens 3"),
        std::string("watch r --once"), std::string("train --print-config"), std::string("bench --help"),
        std::string(train).substr(10) + " --run other --dry-run"}) {
    const Outcome full = shell(folder, fmt::format("sh -c '@causeway {} >/dev/full'", command));
    EXPECT_EQ(full.exit, 74) << command;
    EXPECT_NE(full.err.find("cannot write to standard output: No space left"), std::string::npos) << full.err;
    const Outcome closed = shell(folder, fmt::format("sh -c '@causeway {} >&-'", command));
    EXPECT_EQ(closed.exit, 74) << command;
    EXPECT_NE(closed.err.find("cannot write to standard output: Bad file"), std::string::npos) << closed.err;
  }
  EXPECT_FALSE(std::filesystem::exists(folder / "other"));
}

TEST(StandardStreams, AReaderThatGoesAwayIsAnIoErrorAndNoSignal) {
  const TemporaryFolder folder;
  std::string cases;
  for (int i = 0; i < 3000; ++i) cases += "causal_conv --in missing.h5\n";
  folder.write("cases", cases);
  const Outcome outcome = shell(folder, "bash -c '@causeway op --batch cases | head -1; exit ${PIPESTATUS[0]}'");
  EXPECT_EQ(outcome.exit, 74);
  EXPECT_EQ(outcome.err, "");  // nothing is wrong: the reader wanted no more
}

TEST(StandardStreams, AFileSizeLimitIsAnIoErrorAndLeavesNoFile) {
  const TemporaryFolder folder;
  import_reads(folder);
  ASSERT_EQ(shell(folder, fmt::format("{} --run r", train)).exit, 0);
  const std::size_t before = folder.count();
  for (const char* command : {"import a.fa --out new.h5", "split d.h5 --train new1.h5 --valid new2.h5 --by tail",
                              "score --checkpoint r --data d.h5 --out new.h5", "bench checkpoint --megabytes 1"})
    for (const int limit : {0, 1, 4}) {  // blocks of 1024 bytes, for the first and for a later write of a file
      // The log goes through a pipe: it is under the limit too where it is a file.
      const Outcome outcome = shell(folder, fmt::format("bash -c '(ulimit -f {}; @causeway {}) 2>&1 >/dev/null | cat; "
                                                        "exit ${{PIPESTATUS[0]}}'",
                                                        limit, command));
      EXPECT_EQ(outcome.exit, 74) << command << " " << limit << outcome.out;
      EXPECT_NE(outcome.out.find("File too large"), std::string::npos) << command << " " << limit << outcome.out;
      EXPECT_EQ(folder.count(), before) << command << " " << limit;
    }
}

TEST(StandardStreams, AFileSizeLimitEndsATrainingOfTwoRanksWithItsCode) {
  const TemporaryFolder folder;
  import_reads(folder);
  EXPECT_EQ(shell(folder, fmt::format("bash -c 'ulimit -f 8; {} --run r --ranks 2'", train)).exit, 74);
  EXPECT_NE(bytes_of(folder / "r/exit.json").find("File too large"), std::string::npos);
  for (const auto& entry : std::filesystem::directory_iterator(folder / "r"))
    EXPECT_FALSE(entry.is_directory()) << entry.path();  // no half-written checkpoint
}

}  // namespace
}  // namespace causeway::test
