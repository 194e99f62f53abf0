/// Ranks that fail, as processes: how the job ends, what it prints, which files remain, and that the resumed run gives
/// the results of an undisturbed one. Here are examples of each kind; scripts/fault_table has all kinds at all points.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "io/data/dataset_writer.hpp"
#include "kernels/core/random.hpp"
#include "src/health/rank_board.hpp"
#include "tests/src/run_results.hpp"
#include "tests/src/shell.hpp"

namespace causeway::test {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryFolder;

struct Row {
  const char* name;
  std::string faults;  ///< options
  int exit;
  std::string says;                ///< standard error contains it
  std::vector<std::string> there;  ///< checkpoints that must exist before the run resumes; others may too
  std::string damaged = {};        ///< a damaged file, which the resumed run must name
};

void PrintTo(const Row& row, std::ostream* out) { *out << row.faults; }

// Checkpoints are due after steps 2, 4 and 6. Each is written during the steps that follow, and before the next one.
const Row rows[] = {
    {"KillInBackward", "kill:step=5,rank=1,phase=backward,layer=1", 137, "signal 9", {"step-2"}},
    {"KillBeforeAFileIsNamedACheckpoint", "kill:step=4,phase=publish", 137, "signal 9", {"step-2"}},
    {"KillBeforeLatestNamesIt", "kill:step=4,phase=latest", 137, "signal 9", {"step-2", "step-4"}},
    {"ExitBetweenPacks", "exit:step=5,rank=2,phase=data", 7, "injected fault: exit", {"step-2"}},
    {"ThrowInForward", "throw:step=5,rank=1", 1, "causeway: rank 1 (", {"step-2"}},
    {"ThrowInTheWritingThread", "throw:step=4,rank=1,phase=hash", 1, "injected fault", {"step-2"}},
    {"HangInBackward", "hang:step=5,rank=2,phase=backward", 76, "is furthest behind, at step 5, backward", {"step-2"}},
    {"HangInTheWritingThread", "hang:step=4,rank=1,phase=shard", 76, "rank 1 (", {"step-2"}},
    {"StopInEvaluation", "stop:step=3,phase=evaluate", 76, "has been stopped, or is gone", {}},
    {"StopWhileWriting", "stop:step=4,rank=0,phase=index", 76, "has been stopped, or is gone", {"step-2"}},
    {"DiskFull", "enospc:step=4,rank=1", 74, "shard-00001.h5", {"step-2"}},
    {"FlippedBit",
     "bit_flip:step=4,rank=1 --inject-fault kill:step=6,phase=copy",
     137,
     "signal 9",
     {"step-2", "step-4"},
     "step-4/shard-00001.h5"},
    {"ShortManifest",
     "short_write:step=4,phase=manifest --inject-fault kill:step=6,phase=copy",
     137,
     "signal 9",
     {"step-2", "step-4"},
     "step-4/manifest.json"},
    {"NanInForward",
     "nan:step=5,rank=1,layer=1",
     70,
     "first in the output of layer 1, rank 1 of 3",
     {"step-2", "step-4"}},
    {"NanInBackward",
     "nan:step=5,rank=2,phase=backward",
     70,
     "first in the gradient of the output of layer 0, rank 2 of 3",
     {"step-2", "step-4"}},
    {"SignalInEvaluation", "usr1:step=3,rank=2,phase=evaluate", 75, "injected fault: usr1", {"step-2", "step-4"}},
    {"SignalsOneAfterAnother",
     "term:step=3,rank=1 --inject-fault usr2:step=3,rank=2,phase=checkpoint",
     75,
     "injected fault: usr2",
     {"step-2", "step-3"}},
    {"SignalDuringTheStart", "usr2:step=0,rank=1,phase=start", 75, "injected fault: usr2", {}},
    {"SignalInTheLastStep", "term:step=6,rank=1", 0, "injected fault: term", {"step-2", "step-4", "step-6"}},
};

void write_dataset(const std::string& path) {
  const RandomStream random(3, 1);
  DatasetWriter writer(path, 512, "test");
  for (std::uint64_t d = 0; d < 40; ++d) {
    writer.begin_document(fmt::format("document {}", d));
    std::vector<std::int32_t> tokens(1 + random.below(2 * d, 90));
    for (std::size_t i = 0; i < tokens.size(); ++i)
      tokens[i] = static_cast<std::int32_t>(65 + (i * (d % 3 + 1) + d) % 5);
    writer.append(tokens, {});
  }
  writer.finish();
}

/// name → bytes
std::map<std::string, std::string> files(const std::string& folder) {
  std::map<std::string, std::string> all;
  for (const auto& entry : fs::directory_iterator(folder))
    all[entry.path().filename()] = testing::bytes_of(entry.path());
  return all;
}

std::vector<std::string> checkpoints(const std::string& run) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(run))
    if (entry.path().filename().string().starts_with("step-") && entry.path().extension().empty())
      names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

/// The value of --shard for a row's run, or with `shift` for a later start: rows have different ones.
std::string level_of(const Row& row, std::size_t shift = 0) {
  constexpr const char* levels[] = {"parameters", "gradients", "optimizer"};
  const auto place = std::ranges::find(rows, std::string_view(row.name), &Row::name) - std::begin(rows);
  return levels[(static_cast<std::size_t>(place) + shift) % std::size(levels)];
}

class FaultTable : public ::testing::TestWithParam<Row> {};

TEST_P(FaultTable, TheJobEndsAsExpectedAndResumesAsIfUndisturbed) {
  const Row& row = GetParam();
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5");
  const std::string train =
      "@causeway train --data data.h5 --valid-data data.h5 --eval-every 3 --eval-packs 2 --model mamba-tiny --width 8 "
      "--state 4 "
      "--pack-tokens 64 --steps 6 --checkpoint-every 2 --strategy causal_conv=halo,selective_scan=state_carry --run ";
  ASSERT_EQ(shell(folder, train + "whole --transport local --ranks 3").exit, 0);

  const Outcome outcome =
      shell(folder, fmt::format("@mpirun -n 3 {}{} --shard {} --watchdog {} --inject-fault {}", train, folder / "cut",
                                level_of(row), row.exit == 76 ? 3 : 60, row.faults));
  EXPECT_EQ(outcome.exit, row.exit) << outcome.err;
  EXPECT_NE(outcome.err.find(row.says), std::string::npos) << outcome.err;
  // No process is left. mpirun can end a moment before the ranks that it killed.
  std::string left;
  for (int attempt = 0; attempt < 50; ++attempt) {
    left = shell(folder, fmt::format("pgrep -f 'causeway train.*{}'", folder / "[c]ut")).out;
    if (left.empty()) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  EXPECT_EQ(left, "");
  const std::vector<std::string> found = checkpoints(folder / "cut");
  EXPECT_TRUE(std::ranges::includes(found, row.there)) << ::testing::PrintToString(found);
  for (const std::string& checkpoint : found) {
    const bool damaged = row.damaged.starts_with(checkpoint);
    EXPECT_EQ(shell(folder, fmt::format("@causeway inspect cut/{} --verify", checkpoint)).exit, damaged ? 65 : 0)
        << checkpoint;
  }
  // No rank is left to write exit.json after a rank is killed or exits.
  if (row.exit == 137 || row.exit == 7)
    EXPECT_FALSE(fs::exists(folder / "cut/exit.json"));
  else
    EXPECT_EQ(nlohmann::json::parse(testing::bytes_of(folder / "cut/exit.json"))["exit_code"], row.exit);
  EXPECT_EQ(testing::bytes_of(folder / "cut/config.ini").find(":step="), std::string::npos);

  const Outcome resumed = shell(folder, "@mpirun -n 3 " + train + "cut --resume auto --shard " + level_of(row, 1));
  ASSERT_EQ(resumed.exit, 0) << resumed.err;
  EXPECT_NE(resumed.err.find(row.damaged), std::string::npos) << resumed.err;
  const auto lines = read_rank_board(folder / "cut/ranks.txt");
  EXPECT_EQ(lines.size(), 3u);
  EXPECT_TRUE(std::ranges::all_of(
      lines, [](const auto& line) { return line && line->progress.position.phase == Phase::done; }));
  EXPECT_EQ(results(folder / "cut"), results(folder / "whole"));
  EXPECT_TRUE(files(folder / "cut/latest/") == files(folder / "whole/latest/"));
}

INSTANTIATE_TEST_SUITE_P(Train, FaultTable, ::testing::ValuesIn(rows), [](const auto& row) { return row.param.name; });

}  // namespace
}  // namespace causeway::test
