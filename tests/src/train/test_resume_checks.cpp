/// What a resumed run compares with its checkpoint: data by their content, and options. Through the program.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "io/data/dataset_writer.hpp"
#include "io/data/identity.hpp"
#include "tests/src/shell.hpp"

namespace causeway::test {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryFolder;

void write_dataset(const std::string& path, int first, const std::string& name = "d") {
  DatasetWriter writer(path, 512, "test");
  for (int d = first; d < first + 20; ++d) {
    writer.begin_document(name);
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(2 + d * 37 % 40), 65 + d % 7);
    writer.append(tokens, {});
  }
  writer.finish();
}

const std::string train =
    "@causeway train --model mamba-tiny --width 8 --state 4 --pack-tokens 64 --transport local --run run ";

struct Resumed {
  std::string options;
  int exit;
  std::vector<std::string> said;
  std::vector<std::string> not_said = {};
};

TEST(ResumeChecks, OtherDataAreRefusedAndOtherOptionsAreNamed) {
  const TemporaryFolder folder;
  write_dataset(folder / "a.h5", 0);
  write_dataset(folder / "b.h5", 7);
  write_dataset(folder / "renamed.h5", 0, "another name");
  ASSERT_EQ(shell(folder, train + "--data a.h5 --data b.h5:2 --steps 2").exit, 0);
  const std::string a = short_identity(identity_of(Dataset(folder / "a.h5"))),
                    b = short_identity(identity_of(Dataset(folder / "b.h5")));
  const std::string both = fmt::format("a.h5 (identity {}), b.h5 (identity {})", a, b);
  const std::vector<Resumed> table = {
      {"--data a.h5 --steps 3", 2, {"--data is a.h5 (identity " + a, "was trained on " + both, "--allow-changed-data"}},
      {"--data b.h5:2 --data a.h5 --steps 3", 2, {"was trained on " + both}},
      {"--data a.h5 --data a.h5:2 --steps 3 --ranks 3", 2, {"was trained on " + both}},
      {"--data a.h5 --data b.h5:2 --steps 2", 0, {"resumed from"}, {"changed", "before"}},
      {"--data renamed.h5:10 --data b.h5:20 --steps 2", 0, {"resumed from"}, {"changed", "before"}},
      {"--data a.h5 --data b.h5:3 --steps 2", 0, {"--data a.h5:1 b.h5:3, before a.h5:1 b.h5:2"}},
      {"--data a.h5 --data b.h5:2 --steps 3 --accumulate 2 --learning-rate 0.5 --warmup-steps 1",
       0,
       {"--steps 3, before 2", "--accumulate 2, before 1", "--learning-rate 0.5, before 0.001",
        "--warmup-steps 1, before 0"}},
      {"--data a.h5 --steps 3 --allow-changed-data", 0, {"was trained on " + both, "because of --allow-changed-data"}},
      {"--data a.h5 --data b.h5:2 --steps 3 --valid-data a.h5", 0, {"--valid-data is a.h5", "before none"}}};
  fs::rename(folder / "run", folder / "first");
  for (const Resumed& row : table)
    for (const std::string& resume : {std::string("auto"), std::string("first")}) {
      fs::remove_all(folder / "run");
      if (resume == "auto")
        fs::copy(folder / "first", folder / "run", fs::copy_options::recursive | fs::copy_options::copy_symlinks);
      const Outcome outcome = shell(folder, train + row.options + " --resume " + resume);
      EXPECT_EQ(outcome.exit, row.exit) << row.options << outcome.err;
      for (const std::string& text : row.said)
        EXPECT_NE(outcome.err.find(text), std::string::npos) << row.options << '\n' << text << '\n' << outcome.err;
      for (const std::string& text : row.not_said)
        EXPECT_EQ(outcome.err.find(text), std::string::npos) << row.options << '\n' << text << '\n' << outcome.err;
      // A refused run leaves the directory as it was.
      EXPECT_EQ(fs::exists(folder / "run/exit.json"), row.exit == 0 || resume == "auto") << row.options;
    }
}

TEST(ResumeChecks, ConfigResumesFromEveryFolderAndAutoSaysWhereItLooked) {
  const TemporaryFolder folder;
  write_dataset(folder / "a.h5", 0);
  fs::create_directory(folder / "elsewhere");
  const Outcome first = shell(folder, train + "--data a.h5:2 --valid-data a.h5 --steps 2 --resume auto");
  ASSERT_EQ(first.exit, 0) << first.err;
  EXPECT_NE(first.err.find("--resume auto: no checkpoint in " + (folder / "run")), std::string::npos) << first.err;
  const Outcome second =
      shell(folder, "env -C elsewhere @causeway train --config ../run/config.ini --resume auto --steps 3");
  EXPECT_EQ(second.exit, 0) << second.err;
  EXPECT_NE(second.err.find("resumed from " + (folder / "run/step-2")), std::string::npos) << second.err;
  EXPECT_TRUE(fs::is_empty(folder / "elsewhere"));
}

TEST(ResumeChecks, AMovedRunContinuesWhereItIsAndACopyIsRefused) {
  const TemporaryFolder folder;
  write_dataset(folder / "a.h5", 0);
  ASSERT_EQ(shell(folder, train + "--data a.h5 --steps 1").exit, 0);
  const std::string resume = "@causeway train --resume auto --config 'moved 5% #1/config.ini' ";
  const Outcome moved = shell(folder, "mv run 'moved 5% #1' && " + resume + "--steps 2");
  ASSERT_EQ(moved.exit, 0) << moved.err;
  EXPECT_NE(moved.err.find("the run was moved from " + (folder / "run") + " to moved 5% #1"), std::string::npos)
      << moved.err;
  EXPECT_FALSE(fs::exists(folder / "run"));
  EXPECT_EQ(shell(folder, resume + "--steps 3").exit, 0) << "config.ini names the new place";

  const Outcome copied = shell(folder,
                               "cp -r 'moved 5% #1' run && @causeway train --resume auto --config "
                               "run/config.ini --steps 4");
  EXPECT_EQ(copied.exit, 2);
  EXPECT_NE(copied.err.find("run/config.ini: was copied"), std::string::npos) << copied.err;
  EXPECT_EQ(shell(folder, "@causeway train --resume auto --config run/config.ini --run run --steps 4").exit, 0);
  EXPECT_TRUE(fs::exists(folder / "run/step-4"));
  EXPECT_FALSE(fs::exists(folder / "moved 5% #1/step-4"));
  EXPECT_EQ(shell(folder, "@causeway train --config run/config.ini --run other --resume auto --steps 1").exit, 0)
      << "the options of a run serve for another one";
}

TEST(ResumeChecks, TheFolderOfTheDataChangesNoByteOfACheckpoint) {
  const TemporaryFolder folder;
  for (const char* where : {"one", "two"}) {
    fs::create_directory(folder / where);
    write_dataset((folder / where) + "/a.h5", 0);
    ASSERT_EQ(shell(folder, fmt::format("env -C {} {} --data {}/a.h5 --steps 1", where, train, folder / where)).exit,
              0);
  }
  for (const char* file : {"index.h5", "manifest.json"})
    EXPECT_EQ(testing::bytes_of(folder / fmt::format("one/run/step-1/{}", file)),
              testing::bytes_of(folder / fmt::format("two/run/step-1/{}", file)));
}

TEST(ResumeChecks, ANewRunWithTheWeightsOfAnotherComparesNothing) {
  const TemporaryFolder folder;
  write_dataset(folder / "a.h5", 0);
  write_dataset(folder / "b.h5", 7);
  ASSERT_EQ(shell(folder, train + "--data a.h5 --steps 2").exit, 0);
  std::string other = train + "--data b.h5 --steps 3 --init-from run";
  other.replace(other.find("--run run"), 9, "--run new");
  const Outcome outcome = shell(folder, other);
  EXPECT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_EQ(outcome.err.find("before"), std::string::npos) << outcome.err;
  const auto environment = nlohmann::json::parse(testing::bytes_of(folder / "new/environment.json"));
  EXPECT_EQ(environment.at("data").at(0).at("identity"), identity_of(Dataset(folder / "b.h5")));
  EXPECT_EQ(testing::bytes_of(folder / "new/config.ini").find("allow-changed-data = true"), std::string::npos);
}

}  // namespace
}  // namespace causeway::test
