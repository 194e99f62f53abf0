/// `causeway train --trace`.

#include "src/runtime/run_trace.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "io/checkpoint/checkpoint.hpp"
#include "tests/src/shell.hpp"
#include "tests/src/small_dataset.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

const std::string train =
    "@causeway train --data data.h5 --layers \"se mr li attention mamba\" --width 8 --heads 2 --state 2 --ffn 12 "
    "--mr-taps 16 --pack-tokens 32 ";

struct Event {
  std::string name, category;
  double begin = 0, end = 0;
  int thread = 0;
};

/// The events of each rank, in the order of the file, after checks of their form.
std::map<int, std::vector<Event>> read_trace(const std::string& path) {
  std::map<int, std::vector<Event>> ranks;
  const nlohmann::json file = nlohmann::json::parse(std::ifstream(path));
  for (const auto& event : file.at("traceEvents")) {
    const int rank = event.at("pid");
    if (event.at("ph") != "X") {
      EXPECT_EQ(event.at("ph"), "M");
      continue;
    }
    const double begin = event.at("ts"), duration = event.at("dur");
    EXPECT_GE(duration, 0);
    ranks[rank].push_back({event.at("name"), event.at("cat"), begin, begin + duration, event.at("tid")});
  }
  return ranks;
}

std::set<std::string> names_of(const std::vector<Event>& events) {
  std::set<std::string> names;
  for (const Event& event : events) names.insert(event.name);
  return names;
}

/// In each thread of a rank every event lies within an earlier one, or begins after its end.
void expect_nested(const std::vector<Event>& events) {
  std::map<int, std::vector<Event>> open;
  for (const Event& event : events) {
    std::vector<Event>& around = open[event.thread];
    while (!around.empty() && around.back().end <= event.begin + 1e-6) around.pop_back();
    if (!around.empty()) {
      EXPECT_GE(event.begin + 1e-6, around.back().begin) << event.name << " in " << around.back().name;
      EXPECT_LE(event.end, around.back().end + 1e-6) << event.name << " in " << around.back().name;
    }
    around.push_back(event);
  }
}

/// Whether each event of this name lies within one of the other name.
bool lies_within(const std::vector<Event>& events, const std::string& inner, const std::string& outer) {
  for (const Event& event : events) {
    if (event.name != inner) continue;
    bool found = false;
    for (const Event& around : events)
      found = found || (around.name == outer && around.begin <= event.begin && event.end <= around.end + 1e-6);
    if (!found) return false;
  }
  return true;
}

TEST(RunTrace, HasOperatorsExchangesOptimizerAndCheckpointOfEveryRank) {
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  const Outcome run = shell(folder, train +
                                        "--run run --steps 6 --transport local --ranks 4 --data-parallel 2 "
                                        "--recompute --checkpoint-every 1 --trace trace.json --trace-steps 2");
  ASSERT_EQ(run.exit, 0) << run.err;
  EXPECT_NE(run.err.find("traced steps 2 to 3 in trace.json"), std::string::npos) << run.err;
  const auto ranks = read_trace(folder / "trace.json");
  ASSERT_EQ(ranks.size(), 4u);
  for (const auto& [rank, events] : ranks) {
    const std::set<std::string> names = names_of(events);
    for (const char* name : {"step 2",
                             "step 3",
                             "forward",
                             "backward",
                             "head",
                             "layer 0 se",
                             "layer 3 mlp",
                             "layer 4 mamba",
                             "optimizer",
                             "embedding_forward",
                             "embedding_backward",
                             "rms_norm_forward",
                             "rms_norm_backward",
                             "gemm",
                             "blocked_conv_forward",
                             "blocked_conv_backward",
                             "attention_forward",
                             "attention_backward",
                             "selective_scan_forward",
                             "selective_scan_backward",
                             "cross_entropy",
                             "adamw",
                             "start exchange",
                             "exchange",
                             "wait for exchange",
                             "all_gather",
                             "all_reduce",
                             "checkpoint",
                             "checkpoint copy",
                             "shard"})
      EXPECT_TRUE(names.contains(name)) << "rank " << rank << ": " << name;
    for (const char* name : {"step 1", "step 4"}) EXPECT_FALSE(names.contains(name)) << name;
    expect_nested(events);
    EXPECT_TRUE(lies_within(events, "attention_backward", "layer 3 attention"));
    EXPECT_TRUE(lies_within(events, "adamw", "optimizer"));
    EXPECT_TRUE(lies_within(events, "embedding_backward", "backward"));
  }
}

TEST(RunTrace, ChangesNoBitOfTheWeightsAndIsNotInConfigIni) {
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  const std::string ranks = "--transport local --ranks 3 --steps 3 ";
  ASSERT_EQ(shell(folder, train + ranks + "--run without").exit, 0);
  ASSERT_EQ(shell(folder, train + ranks + "--run with --config without/config.ini --trace trace.json").exit, 0);
  EXPECT_EQ(read_trace(folder / "trace.json").size(), 3u);
  const Checkpoint without(folder / "without"), with(folder / "with");
  ASSERT_EQ(with.names(), without.names());
  for (const Checkpoint::TensorInfo& tensor : without.tensors()) {
    std::vector<double> expected(static_cast<std::size_t>(tensor.size())), found(expected.size());
    without.read(tensor.name, 0, expected);
    with.read(tensor.name, 0, found);
    EXPECT_EQ(found, expected) << tensor.name;
  }
  std::ifstream config(folder / "with/config.ini");
  for (std::string line; std::getline(config, line);) EXPECT_EQ(line.find("trace.json"), std::string::npos) << line;
}

TEST(RunTrace, OfAResumedRunBeginsWithItsSecondStepAndReplacesTheFile) {
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  ASSERT_EQ(shell(folder, train + "--run run --steps 1 --trace trace.json").exit, 0);
  EXPECT_TRUE(names_of(read_trace(folder / "trace.json").at(0)).contains("step 1"));  // the only one
  ASSERT_EQ(shell(folder, "@causeway train --config run/config.ini --resume auto --steps 9 --trace trace.json").exit,
            0);
  const std::vector<Event> events = read_trace(folder / "trace.json").at(0);
  std::set<std::string> steps;
  for (const std::string& name : names_of(events))
    if (name.starts_with("step ")) steps.insert(name);
  EXPECT_EQ(steps, (std::set<std::string>{"step 3", "step 4", "step 5"}));
  expect_nested(events);
}

TEST(RunTrace, CanBeInTheDirectoryOfANewRun) {
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  const Outcome run = shell(folder, train + "--run run/ --steps 2 --trace ./run/trace.json");
  EXPECT_EQ(run.exit, 0) << run.err;
  EXPECT_TRUE(names_of(read_trace(folder / "run/trace.json").at(0)).contains("step 2"));
}

TEST(RunTrace, ThatCannotBeWrittenIsRefusedBeforeTheRunBegins) {
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  const Outcome refused = shell(folder, train + "--run run --steps 2 --trace missing/trace.json");
  EXPECT_EQ(refused.exit, 74) << refused.err;
  EXPECT_NE(refused.err.find("missing/trace.json"), std::string::npos) << refused.err;
  EXPECT_FALSE(std::filesystem::exists(folder / "run"));
  EXPECT_EQ(shell(folder, train + "--run run --steps 2 --trace-steps 5").exit, 2);
  EXPECT_EQ(shell(folder, train + "--run run --steps 2 --trace t.json --trace-steps 0").exit, 2);
}

}  // namespace
}  // namespace causeway::test
