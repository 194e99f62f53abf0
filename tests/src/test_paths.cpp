/// Paths with the characters that some library, file format or shell reads as something else.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "tests/src/shell.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

/// In single quotes for a shell.
std::string word(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

constexpr const char* small = "--model mamba-tiny --width 16 --layers-count 1 --pack-tokens 64 --checkpoint-every 1";

TEST(Paths, EveryCommandWritesAndReadsFilesUnderAnyName) {
  const std::string names[] = {
      "50%", "a%20b/%b%0b", " x#y ;=\"z\" ", "a'b\\n\n\t$HOME*", "caf\xe9\x1b[2J:3", std::string(255, 'n')};
  for (const std::string& name : names) {
    const TemporaryFolder folder;
    folder.write("a.fa", ">a\nACGTACGTACGTAGCTAGCTAGCATCGATCGATCGAC\n>b\nGGTTAACCGGTTAACCAGTAGCATGCATGCAT\n");
    for (const char* kind : {"data", "valid", "run", "scores", "input", "profile", "plan"})
      std::filesystem::create_directories(
          std::filesystem::path(folder / fmt::format("{}/{}", kind, name)).parent_path());
    std::filesystem::copy(folder / "a.fa", folder / ("input/" + name));
    const std::string data = word("data/" + name), valid = word("valid/" + name), run = word("run/" + name),
                      scores = word("scores/" + name), input = word("input/" + name), profile = word("profile/" + name),
                      plan = word("plan/" + name);
    const std::string config = word("run/" + name + "/config.ini");
    const std::string commands[] = {
        fmt::format("import {} --format fasta --out whole.h5", input),
        fmt::format("split whole.h5 --train {} --valid {} --held-out 0.4 --by tail", data, valid),
        fmt::format("pack --data {}", data),
        fmt::format("train --data {} --valid-data {} --run {} {} --steps 1", data, valid, run, small),
        fmt::format("train --config {} --resume auto --steps 2", config),
        fmt::format("inspect --verify {} {}", run, data),
        fmt::format("score --checkpoint {} --data {} --out {}", run, data, scores),
        fmt::format("generate --checkpoint {} --prompt-file {} --tokens 1", run, input),
        fmt::format("watch {} --once", run),
        fmt::format("bench checkpoint --folder {} --megabytes 1", run),
        fmt::format("bench profile --tokens 64 --profile {}", profile),
        fmt::format("plan --pack-tokens 64 --ranks 2 --profile {} --json {}", profile, plan),
    };
    for (const std::string& command : commands) {
      const Outcome outcome = shell(folder, "@causeway " + command);
      EXPECT_EQ(outcome.exit, 0) << command << "\n" << outcome.err;
      for (const char* unsafe : {"\x1b", "\xe9"})
        if (!command.starts_with("generate")) {
          EXPECT_EQ((outcome.out + outcome.err).find(unsafe), std::string::npos)
              << command << outcome.out << outcome.err;
        }
    }
    EXPECT_TRUE(std::filesystem::exists(folder / ("run/" + name + "/step-2")));
  }
}

TEST(Paths, AnOrdinaryRunWorksAfterItWasMovedUnderAPercentSign) {
  const TemporaryFolder folder;
  folder.write("a.fa", ">a\nACGTACGTACGTAGCTAGCTAGCATCGATCGATCGAC\n");
  ASSERT_EQ(shell(folder, "@causeway import a.fa --out d.h5").exit, 0);
  ASSERT_EQ(shell(folder, fmt::format("@causeway train --data d.h5 --run r {} --steps 1", small)).exit, 0);
  std::filesystem::create_directory(folder / "a%b");
  std::filesystem::rename(folder / "r", folder / "a%b/r");
  EXPECT_EQ(shell(folder, "@causeway inspect --verify 'a%b/r'").exit, 0);
  const Outcome resumed =
      shell(folder, fmt::format("@causeway train --data d.h5 --run 'a%b/r' {} --steps 2 --resume auto", small));
  EXPECT_EQ(resumed.exit, 0) << resumed.err;
  EXPECT_TRUE(std::filesystem::exists(folder / "a%b/r/step-2"));
}

/// "{long}" is a name of 256 bytes, "{deep}" a path longer than PATH_MAX, "loop" a link to itself, "file" a file.
TEST(Paths, WhatTheSystemRefusesHasTheSystemsReasonAndMakesNoFolder) {
  const TemporaryFolder folder;
  folder.write("file", "text");
  folder.write("a.fa", ">a\nACGTACGTACGTAGCTAGCTAGCATCGATCGATCGAC\n");
  ASSERT_EQ(shell(folder, "@causeway import a.fa --out d.h5").exit, 0);
  std::filesystem::create_symlink("loop", folder / "loop");
  const std::string name(256, 'n');
  std::string deep = ".";
  for (int i = 0; i < 2100; ++i) deep += "/.";
  deep += "/a.fa";
  struct Row {
    std::string path, reason;
  };
  const Row table[] = {
      {name, "File name too long"}, {deep, "File name too long"}, {"loop", "Too many levels of symbolic links"}};
  for (const Row& row : table)
    for (const std::string& command :
         {"import " + row.path + " --format fasta --out o.h5", "import a.fa --out " + row.path, "inspect " + row.path,
          "pack --data " + row.path, "split " + row.path + " --train t.h5 --valid v.h5 --by tail",
          "split d.h5 --train " + row.path + " --valid v.h5 --by tail", "watch --once " + row.path,
          "score --data d.h5 --out s.h5 --checkpoint " + row.path, "generate --prompt A --checkpoint " + row.path,
          "op --batch " + row.path, "op causal_conv --out o.h5 --in " + row.path, "train --config " + row.path,
          fmt::format("train --data d.h5 --steps 1 {} --run {}", small, row.path),
          fmt::format("train --data {} --steps 1 {} --run r", row.path, small)}) {
      const Outcome outcome = shell(folder, "@causeway " + command);
      // A circle of links is nothing that could be read, and as an output it exists.
      const bool circle = row.path == "loop", exists = outcome.err.find("loop: exists") != std::string::npos;
      EXPECT_TRUE(outcome.exit == 74 || (circle && outcome.exit == 2))
          << outcome.exit << " " << command.substr(0, 100) << "\n"
          << outcome.err;
      EXPECT_TRUE(exists || outcome.err.find(row.reason) != std::string::npos) << command.substr(0, 100) << "\n"
                                                                               << outcome.err;
      EXPECT_EQ(folder.count(), 6u) << command.substr(0, 100);  // stdout and stderr too
    }
}

/// As a user without rights, where the test may become one: root reads everything.
TEST(Paths, WhatMayNotBeReadOrWrittenIsAnIoErrorAndNotMissing) {
  const TemporaryFolder folder;
  if (::geteuid() != 0 || shell(folder, "setpriv --reuid 65534 --clear-groups true").exit != 0)
    GTEST_SKIP() << "cannot become another user";
  namespace fs = std::filesystem;
  folder.write("a.fa", ">a\nACGTACGTACGTAGCTAGCTAGCATCGATCGATCGAC\n");
  ASSERT_EQ(shell(folder, "@causeway import a.fa --out d.h5").exit, 0);
  ASSERT_EQ(shell(folder, fmt::format("@causeway train --data d.h5 --run r {} --steps 1", small)).exit, 0);
  fs::permissions(folder / "", fs::perms(0755));
  fs::create_directory(folder / "closed");
  fs::copy(folder / "d.h5", folder / "closed/d.h5");
  fs::copy(folder / "r", folder / "closed/r", fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  fs::permissions(folder / "closed", fs::perms(0600));
  fs::copy(folder / "d.h5", folder / "secret.h5");
  fs::copy(folder / "a.fa", folder / "secret.fa");
  for (const char* name : {"secret.h5", "secret.fa"}) fs::permissions(folder / name, fs::perms(0));
  for (const std::string& command :
       {std::string("import secret.fa --out o.h5"),
        std::string("import closed/d.h5 --format text --out o.h5"),
        std::string("import a.fa --out o.h5"),
        std::string("inspect secret.h5"),
        std::string("inspect closed/d.h5"),
        std::string("inspect closed/r"),
        std::string("inspect closed"),
        std::string("watch --once closed/r"),
        std::string("watch --once closed"),
        std::string("pack --data secret.h5"),
        std::string("pack --data closed/d.h5"),
        std::string("split d.h5 --train t.h5 --valid v.h5 --by tail"),
        std::string("score --checkpoint closed/r --data d.h5 --out o.h5"),
        std::string("score --checkpoint r --data secret.h5 --out o.h5"),
        std::string("op --batch secret.fa"),
        std::string("op causal_conv --in closed/d.h5 --out o.h5"),
        std::string("generate --checkpoint r --prompt-file secret.fa"),
        std::string("train --config secret.fa"),
        fmt::format("train --data d.h5 --run new {} --steps 1", small),
        fmt::format("train --data closed/d.h5 --run new {} --steps 1", small),
        fmt::format("train --data d.h5 --run closed/r --resume auto {} --steps 2", small),
        fmt::format("train --data d.h5 --run r --resume auto {} --steps 2", small),
        fmt::format("train --data d.h5 --run new --init-from closed/r {} --steps 1", small)}) {
    const Outcome outcome = shell(folder, "setpriv --reuid 65534 --clear-groups @causeway " + command);
    EXPECT_EQ(outcome.exit, 74) << command << "\n" << outcome.err;
    EXPECT_NE(outcome.err.find("Permission denied"), std::string::npos) << command << "\n" << outcome.err;
    EXPECT_EQ(outcome.err.find("no such"), std::string::npos) << command << "\n" << outcome.err;
  }
}

}  // namespace
}  // namespace causeway::test
