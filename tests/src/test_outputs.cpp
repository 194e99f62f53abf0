// What commands leave of the files that they write, however they end.
#include <gtest/gtest.h>

#include "tests/src/shell.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

/// Starts an import that waits for more input, and sends it a signal as soon as its temporary file exists. Returns its
/// exit code and what is in the folder then.
std::string import_ended_by(const TemporaryFolder& folder, const std::string& signal) {
  folder.write("script", expanded("mkfifo input; @causeway import input --format lines --out data.h5 & import=$!\n"
                                  "exec 3>input; echo line >&3; until ls data.h5.tmp-*; do sleep 0.01; done >&2\n"
                                  "kill -" +
                                  signal + " $import; wait $import; echo $?; exec 3>&-; rm input script; ls\n"));
  return shell(folder, "bash script").out;
}

TEST(Outputs, AnImportThatASignalEndsRemovesItsTemporaryFile) {
  const TemporaryFolder folder;
  EXPECT_EQ(import_ended_by(folder, "TERM"), "143\nstderr\nstdout\n");
  EXPECT_EQ(import_ended_by(folder, "HUP"), "129\nstderr\nstdout\n");
}

TEST(Outputs, WhatAKilledImportLeavesIsRemovedByTheNext) {
  const TemporaryFolder folder;
  const std::string killed = import_ended_by(folder, "KILL");
  EXPECT_EQ(killed.find("137\ndata.h5.tmp-"), 0u) << killed;
  folder.write("a.lines", "one\n");
  EXPECT_EQ(shell(folder, "@causeway import a.lines --out data.h5").exit, 0);
  EXPECT_EQ(folder.count(), 4u);
}

TEST(Outputs, ANameOf255BytesIsWritten) {
  const TemporaryFolder folder;
  folder.write("a.lines", "one\n");
  const std::string name = std::string(252, 'x') + ".h5";
  const Outcome outcome = shell(folder, "@causeway import a.lines --out " + name);
  EXPECT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_TRUE(std::filesystem::exists(folder / name));
}

const std::string train =
    "@causeway train --data data.h5 --run run --layers attention --width 8 --heads 2 --pack-tokens 16 --steps 1";

TEST(Outputs, ScoreReplacesItsEarlierResultAndNoOtherFile) {
  const TemporaryFolder folder;
  folder.write("a.lines", "one\ntwo\n");
  folder.write("empty", "");
  ASSERT_EQ(shell(folder, "@causeway import a.lines --out data.h5 && @causeway import a.lines --out other.h5").exit, 0);
  const Outcome trained = shell(folder, train);
  ASSERT_EQ(trained.exit, 0) << trained.err;
  const std::string score = "@causeway score --checkpoint run --data data.h5 --out ";
  for (const char* name : {"a.lines", "other.h5"}) {
    const std::string bytes = testing::bytes_of(folder / name);
    const std::size_t files = folder.count();
    const Outcome outcome = shell(folder, score + name);
    EXPECT_EQ(outcome.exit, 2) << outcome.err;
    EXPECT_NE(outcome.err.find(std::string(name) + ": exists and is not an earlier result"), std::string::npos)
        << outcome.err;
    EXPECT_EQ(testing::bytes_of(folder / name), bytes);
    EXPECT_EQ(folder.count(), files);
  }
  for (const char* name : {"scores.h5", "scores.h5", "empty"}) EXPECT_EQ(shell(folder, score + name).exit, 0) << name;
}

TEST(Outputs, ScoreTakesPacksOfAnySizeInTheSameTime) {
  const TemporaryFolder folder;
  folder.write("a.lines", "one\ntwo\n");
  ASSERT_EQ(shell(folder, "@causeway import a.lines --out data.h5").exit, 0);
  const Outcome trained = shell(folder, train);
  ASSERT_EQ(trained.exit, 0) << trained.err;
  const Outcome outcome = shell(folder,
                                "timeout 60 @causeway score --checkpoint run --data data.h5 --out scores.h5 "
                                "--pack-tokens 9223372036854775807 --ranks 2 --strategy attention=ring");
  EXPECT_EQ(outcome.exit, 0) << outcome.err;
}

TEST(Outputs, SplitPrintsALineForAFileWithALineEndInItsName) {
  const TemporaryFolder folder;
  folder.write("a.lines", "one\ntwo\n");
  const Outcome outcome = shell(folder,
                                "@causeway import a.lines --out data.h5 && "
                                "@causeway split data.h5 --train 't\n.h5' --valid v.h5");
  EXPECT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("t\\x0a.h5\nvalid"), std::string::npos) << outcome.out;
}

TEST(Outputs, DamagedNamesEndScoreAndSplitWith65AndWithoutAFile) {
  const TemporaryFolder folder;
  folder.write("a.fa", ">first_name\nACGT\n>last_name\nTTGACA\n");
  ASSERT_EQ(shell(folder, "@causeway import a.fa --out data.h5").exit, 0);
  const Outcome trained = shell(folder, train);
  ASSERT_EQ(trained.exit, 0) << trained.err;
  std::string bytes = testing::bytes_of(folder / "data.h5");
  bytes.replace(bytes.find("last_name"), 4, "lost");
  folder.write("data.h5", bytes);
  for (const char* command :
       {"@causeway score --checkpoint run --data data.h5 --out scores.h5",
        "@mpirun -n 2 @causeway score --checkpoint run --data data.h5 --out scores.h5",
        "@causeway split data.h5 --train scores.h5 --valid valid.h5", "@causeway inspect data.h5 --verify"}) {
    const std::size_t files = folder.count();
    const Outcome outcome = shell(folder, command);
    EXPECT_EQ(outcome.exit, 65) << command << "\n" << outcome.err;
    EXPECT_NE(outcome.err.find("data.h5:/names"), std::string::npos) << outcome.err;
    EXPECT_EQ(folder.count(), files) << command;
  }
}

}  // namespace
}  // namespace causeway::test
