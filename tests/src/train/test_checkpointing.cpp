/// Checkpoints of runs of the program: written while training continues, resumed on any mesh, kept, removed, damaged.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "io/checkpoint/checkpoint_folders.hpp"
#include "io/checkpoint/manifest.hpp"
#include "io/data/dataset_writer.hpp"
#include "io/file/run_lock.hpp"
#include "io/hdf5/hdf5.hpp"
#include "tests/src/run_results.hpp"
#include "tests/src/shell.hpp"

namespace causeway::test {
namespace {

namespace fs = std::filesystem;
using testing::bytes_of;
using testing::TemporaryFolder;

void write_dataset(const std::string& path) {
  DatasetWriter writer(path, 512, "test");
  for (int d = 0; d < 60; ++d) {
    writer.begin_document(fmt::format("document {}", d));
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(1 + d * 37 % 90));
    for (std::size_t i = 0; i < tokens.size(); ++i)
      tokens[i] = static_cast<std::int32_t>(65 + (i * (d % 3 + 1) + d) % 5);
    writer.append(tokens, {});
  }
  writer.finish();
}

const std::string train =
    "@causeway train --data data.h5 --model mamba-tiny --width 8 --state 4 --pack-tokens 64 --learning-rate 3e-3 "
    "--strategy causal_conv=halo,selective_scan=state_carry --transport local ";

TEST(Checkpointing, ChangesNoBitOfTraining) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5");
  ASSERT_EQ(shell(folder, train + "--ranks 2 --steps 12 --run without").exit, 0);
  const Outcome with =
      shell(folder, train + "--ranks 2 --steps 12 --checkpoint-every 1 --keep-last 2 --keep-every 5 --run with");
  ASSERT_EQ(with.exit, 0) << with.err;
  EXPECT_EQ(bytes_of(folder / "with/step-12/manifest.json"), bytes_of(folder / "without/step-12/manifest.json"));
  EXPECT_EQ(published_steps(folder / "with"), (std::vector<std::int64_t>{12, 11, 10, 5}));
  std::int64_t announced = 0;
  for (const auto& line : metrics(folder / "with")) {
    EXPECT_TRUE(line.contains("checkpoint_s")) << line;
    if (!line.contains("checkpoint_step")) continue;
    ++announced;
    EXPECT_LE(line["checkpoint_step"], line["step"]);
    EXPECT_GT(line["checkpoint_bytes"], 0);
    EXPECT_GT(line["checkpoint_write_s"], 0);
  }
  EXPECT_GE(announced, 11);  // the last step's line contains only its own
}

TEST(Checkpointing, ResumesOnEveryMeshInF64) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5");
  const std::string f64 = train + "--dtype f64 --steps 60 --checkpoint-every 10 ";
  const std::string wide = "--ranks 4 --context-parallel 4 --accumulate 2 ";
  ASSERT_EQ(shell(folder, f64 + wide + "--run whole").exit, 0);
  const auto whole = metrics(folder / "whole");
  struct Row {
    std::string mesh;
    bool bitwise;
  };
  const Row table[] = {{wide, true},
                       {"--ranks 4 --data-parallel 2 --context-parallel 2 ", false},
                       {"--ranks 3 --context-parallel 3 --layout zigzag --accumulate 2 ", false},
                       {"--ranks 1 --accumulate 2 ", false}};
  for (const Row& row : table) {
    const Outcome outcome = shell(folder, f64 + row.mesh + "--run other --resume whole/step-10");
    ASSERT_EQ(outcome.exit, 0) << outcome.err;
    const auto other = metrics(folder / "other");
    ASSERT_EQ(other.size(), 50u);
    for (std::size_t i = 0; i < other.size(); ++i) {
      EXPECT_EQ(other[i]["step"], whole[i + 10]["step"]);
      EXPECT_NEAR(other[i]["loss"].get<double>() / whole[i + 10]["loss"].get<double>(), 1, row.bitwise ? 0 : 1e-8)
          << row.mesh;
    }
    if (row.bitwise) {
      EXPECT_EQ(bytes_of(folder / "other/step-60/manifest.json"), bytes_of(folder / "whole/step-60/manifest.json"));
    }
    fs::remove_all(folder / "other");
  }
}

TEST(Checkpointing, ResumeAutoTakesTheNewestUndamagedOne) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5");
  const std::string go = train + "--ranks 2 --steps 8 --checkpoint-every 2 ";
  ASSERT_EQ(shell(folder, go + "--run good").exit, 0);
  const auto damaged_run = [&](const std::function<void(const std::string& run)>& damage) {
    fs::remove_all(folder / "run");
    fs::copy(folder / "good", folder / "run", fs::copy_options::recursive | fs::copy_options::copy_symlinks);
    damage(folder / "run");
    return shell(folder, go + "--resume auto --run run");
  };
  const auto expect_to_go_on = [&](const Outcome& outcome, const std::string& from,
                                   const std::vector<std::string>& warnings) {
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    EXPECT_NE(outcome.err.find("resumed from run/" + from), std::string::npos) << outcome.err;
    for (const std::string& warning : warnings)
      EXPECT_NE(outcome.err.find("warning: " + warning), std::string::npos) << outcome.err;
    EXPECT_EQ(bytes_of(folder / "run/latest/manifest.json"), bytes_of(folder / "good/latest/manifest.json"));
    EXPECT_EQ(shell(folder, "@causeway inspect run --verify").exit, 0);
  };
  expect_to_go_on(damaged_run([](const std::string& run) {
                    fs::remove(run + "/step-8/shard-00001.h5");
                    fs::resize_file(run + "/step-6/manifest.json", 10);
                    fs::remove_all(run + "/step-4");
                    fs::create_directory(run + "/step-4");
                  }),
                  "step-2",
                  {"run/step-8/shard-00001.h5: is missing", "run/step-6/manifest.json: is damaged",
                   "run/step-4/manifest.json: is missing"});
  expect_to_go_on(damaged_run([](const std::string& run) {
                    fs::remove(run + "/latest");  // --resume auto does not need it
                    fs::create_symlink("step-2", run + "/latest");
                  }),
                  "step-8", {});
  expect_to_go_on(damaged_run([](const std::string& run) {
                    fs::rename(run + "/step-8", run + "/step-8.old");  // as a crash while it is replaced leaves it
                    fs::create_directories(run + "/step-9.tmp");
                  }),
                  "step-8", {});
  const Outcome none = damaged_run([](const std::string& run) {
    for (const char* step : {"2", "4", "6", "8"}) fs::remove(fmt::format("{}/step-{}/index.h5", run, step));
  });
  EXPECT_EQ(none.exit, 65);
  EXPECT_NE(bytes_of(folder / "run/exit.json").find("all of its 4 checkpoints are damaged"), std::string::npos);
  EXPECT_NE(none.err.find("all of its 4 checkpoints are damaged; the newest: run/step-8/index.h5: is missing"),
            std::string::npos)
      << none.err;
  const Outcome inspected = shell(folder, "@causeway inspect run --verify");
  EXPECT_EQ(inspected.exit, 65);
  EXPECT_NE(inspected.out.find("step-6        DAMAGED: run/step-6/index.h5: is missing"), std::string::npos)
      << inspected.out;
  EXPECT_NE(inspected.err.find("4 of 4 checkpoints damaged"), std::string::npos) << inspected.err;
}

/// Sets an attribute of /state in a checkpoint's index, and updates the manifest so that it matches. No crash does
/// that.
void forge_state(const std::string& checkpoint, const std::string& name, std::int64_t value) {
  const std::string index = checkpoint + "/index.h5";
  {
    auto file = hdf5::File::open(index, hdf5::Access::update);
    auto state = file.group("state");
    state.set_attribute(name, value);
  }
  Manifest manifest = read_manifest(checkpoint);
  manifest.files.front() = fingerprint_of(index);
  std::ofstream(checkpoint + "/manifest.json", std::ios::binary) << manifest.to_json();
}

TEST(Checkpointing, InvalidCheckpointsAreSkipped) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5");
  ASSERT_EQ(shell(folder, train + "--steps 4 --checkpoint-every 2 --run good").exit, 0);
  const std::string on = train + "--steps 5 --run run --resume auto";
  const std::vector<std::pair<std::string, std::function<void()>>> table = {
      {"run/step-9", [&] { folder.write("run/step-9", "a file"); }},
      {"run/step-9/manifest.json: is missing", [&] { fs::create_directory(folder / "run/step-9"); }},
      {"step is 3, expected 4", [&] { forge_state(folder / "run/step-4", "step", 3); }},
      {"cursor is -1", [&] { forge_state(folder / "run/step-4", "cursor", -1); }},
      {"cursor is 3, expected at least 4", [&] { forge_state(folder / "run/step-4", "cursor", 3); }},
      {"cursor is 4611686018427387904", [&] { forge_state(folder / "run/step-4", "cursor", std::int64_t{1} << 62); }},
      {"cursor is 1000000000, expected at most 4, 1 packs in each of 4 steps",
       [&] {
         forge_state(folder / "run/step-4", "tokens_seen", std::int64_t{1} << 40);
         forge_state(folder / "run/step-4", "cursor", 1'000'000'000);
       }},
      {"but 5 tokens were seen, expected at least 128", [&] { forge_state(folder / "run/step-4", "tokens_seen", 5); }}};
  for (const auto& [said, damage] : table) {
    fs::remove_all(folder / "run");
    fs::copy(folder / "good", folder / "run", fs::copy_options::recursive | fs::copy_options::copy_symlinks);
    damage();
    EXPECT_EQ(shell(folder, "@causeway inspect --verify run").exit, 65) << said;
    const Outcome outcome = shell(folder, on);
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    EXPECT_NE(outcome.err.find(said), std::string::npos) << outcome.err;
    EXPECT_EQ(bytes_of(folder / "run/metrics.jsonl").find("\"step\":9"), std::string::npos);
  }
}

TEST(Checkpointing, AResumedRunWithoutAStepLeftSaysSo) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5");
  ASSERT_EQ(shell(folder, train + "--steps 2 --run run").exit, 0);
  const Outcome again = shell(folder, train + "--steps 2 --run run --resume auto");
  EXPECT_EQ(again.exit, 0);
  EXPECT_NE(again.err.find("all 2 steps are done already"), std::string::npos) << again.err;
}

TEST(Checkpointing, DamagedOnesDoNotCountAmongThoseKept) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5");
  ASSERT_EQ(shell(folder, train + "--steps 6 --checkpoint-every 2 --keep-last 2 --run run").exit, 0);
  fs::resize_file(folder / "run/step-6/index.h5", 100);
  ASSERT_EQ(shell(folder, train + "--steps 7 --checkpoint-every 7 --keep-last 2 --run run --resume auto").exit, 0);
  EXPECT_EQ(published_steps(folder / "run"), (std::vector<std::int64_t>{7, 6, 4}));
}

TEST(Checkpointing, OptionsThatChangeTheSequenceOfPacksAreRefused) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5");
  ASSERT_EQ(shell(folder, train + "--steps 2 --run run").exit, 0);
  for (const char* option : {"--pack-tokens 48", "--window 7", "--policy in_order"}) {
    std::string command = train + "--steps 3 --run run --resume auto ";
    if (std::string(option).starts_with("--pack")) command.replace(command.find("--pack-tokens 64"), 16, "");
    const Outcome outcome = shell(folder, command + option);
    EXPECT_EQ(outcome.exit, 2) << outcome.err;
    EXPECT_NE(outcome.err.find(std::string(option).substr(0, 8)), std::string::npos) << outcome.err;
    EXPECT_NE(outcome.err.find("was trained with"), std::string::npos) << outcome.err;
  }
}

TEST(Checkpointing, OnlyOneProcessTrainsInARunDirectory) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5");
  ASSERT_EQ(shell(folder, train + "--steps 2 --run run").exit, 0);
  const RunLock lock(folder / "run", std::chrono::seconds(0));
  const Outcome outcome = shell(folder, train + "--steps 3 --run run");
  EXPECT_EQ(outcome.exit, 2);
  EXPECT_NE(outcome.err.find("another process trains in this folder"), std::string::npos) << outcome.err;
}

TEST(Checkpointing, TheOneBeingWrittenIsCompletedAfterAnAgreedError) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5");
  const Outcome outcome =
      shell(folder, train + "--ranks 2 --steps 9 --checkpoint-every 4 --run run --inject-fault nan:step=5");
  EXPECT_EQ(outcome.exit, 70) << outcome.err;
  EXPECT_EQ(published_steps(folder / "run"), (std::vector<std::int64_t>{4}));
  EXPECT_FALSE(fs::exists(folder / "run/step-4.tmp"));
  EXPECT_EQ(shell(folder, "@causeway inspect run --verify").exit, 0);
}

TEST(Checkpointing, EveryCommandThatReadsOneNamesTheDamage) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5");
  ASSERT_EQ(shell(folder, train + "--ranks 2 --steps 2 --run run").exit, 0);
  const std::string shard = folder / "run/step-2/shard-00001.h5";
  {
    std::fstream file(shard, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(5000);
    file.put('x');
  }
  for (const std::string& command :
       {train + "--ranks 2 --steps 4 --run run --resume run/step-2", train + "--steps 4 --run other --init-from run",
        std::string("@mpirun -n 2 @causeway score --checkpoint run --data data.h5 --out scores.h5"),
        std::string("@causeway generate --checkpoint run --prompt A --tokens 1"),
        std::string("@causeway inspect run/step-2"), std::string("@causeway inspect run/step-2 --verify"),
        std::string("@causeway inspect run")}) {
    const Outcome outcome = shell(folder, command);
    EXPECT_EQ(outcome.exit, 65) << command << outcome.err;
    EXPECT_NE(outcome.err.find("step-2/shard-00001.h5: is damaged"), std::string::npos) << command << outcome.err;
  }
}

}  // namespace
}  // namespace causeway::test
