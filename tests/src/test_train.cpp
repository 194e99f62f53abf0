/// Training, resuming and scoring through the program, as processes.

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "io/checkpoint/checkpoint.hpp"
#include "io/data/dataset_writer.hpp"
#include "io/hdf5/hdf5.hpp"
#include "kernels/core/random.hpp"
#include "tests/src/model_support.hpp"
#include "tests/src/run_results.hpp"
#include "tests/src/shell.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

/// Documents of 1 to `longest` tokens that repeat a short pattern each, so that there is something to learn.
void write_dataset(const std::string& path, int documents, std::int64_t longest, bool masked = false) {
  const RandomStream random(3, 1);
  DatasetWriter writer(path, 512, "test", {.loss_mask = masked});
  for (int d = 0; d < documents; ++d) {
    writer.begin_document(fmt::format("document {}", d));
    std::vector<std::int32_t> tokens(1 + random.below(2 * d, static_cast<std::uint64_t>(longest)));
    std::vector<std::uint8_t> mask(masked ? tokens.size() : 0);
    for (std::size_t i = 0; i < tokens.size(); ++i)
      tokens[i] = static_cast<std::int32_t>(65 + (i * (d % 3 + 1) + d) % 5);
    for (std::size_t i = 0; i < mask.size(); ++i) mask[i] = i % 2;
    writer.append(tokens, mask);
  }
  writer.finish();
}

std::vector<double> values(const std::string& file, const std::string& dataset) {
  return hdf5::File::open(file, hdf5::Access::read).dataset(dataset).read_all<double>(1 << 20);
}

/// A tensor of a run's latest checkpoint.
std::vector<double> tensor(const std::string& run, const std::string& name) {
  const Checkpoint checkpoint(run);
  for (const Checkpoint::TensorInfo& info : checkpoint.tensors())
    if (info.name == name) {
      std::vector<double> values(static_cast<std::size_t>(info.size()));
      checkpoint.read(name, 0, values);
      return values;
    }
  ADD_FAILURE() << run << " has no " << name;
  return {};
}

/// `causeway train` of a small model, with some options changed or added: {"steps", "50"}. With strategies, so that two
/// runs have the same bits whatever is measured, and no time passes with measurements.
std::string train(const std::map<std::string, std::string>& changes) {
  std::map<std::string, std::string> options{{"data", "data.h5"},
                                             {"model", "mamba-tiny"},
                                             {"width", "8"},
                                             {"state", "4"},
                                             {"pack-tokens", "64"},
                                             {"steps", "30"},
                                             {"checkpoint-every", "10"},
                                             {"learning-rate", "3e-3"},
                                             {"strategy", "causal_conv=halo,selective_scan=state_carry"}};
  for (const auto& [name, value] : changes) options[name] = value;
  std::string command = "@causeway train";
  for (const auto& [name, value] : options)
    command += value.empty() ? " --" + name : fmt::format(" --{} {}", name, value);
  return command;
}

/// A script that starts `command` in the background, waits until `run` has completed `step` steps, and then executes
/// `what`, where $pid is the process of the command.
std::string after_step(const TemporaryFolder& folder, const std::string& command, const std::string& run, int step,
                       const std::string& what) {
  return "sh " +
         folder.write("script",
                      expanded(fmt::format(
                          "{} & pid=$!\n"
                          "until grep -qs '.step.:{},' {}/metrics.jsonl; do kill -0 $pid || break; sleep 0.02; done\n"
                          "{}\n"
                          "wait $pid\n",
                          command, step, run, what)));
}

TEST(Train, AKilledRunResumesBitForBit) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5", 40, 90);
  std::map<std::string, std::string> options{
      {"valid-data", "data.h5"},
      {"eval-every", "12"},
      {"eval-packs", "3"},
      {"run", "whole"},
      {"accumulate", "16"}};  // so that enough steps are left when step 14 is seen, on a busy machine too
  ASSERT_EQ(shell(folder, "@mpirun -n 3 " + train(options)).exit, 0);
  // The middle rank is killed at any point after step 14 is recorded.
  options["run"] = "cut";
  shell(folder,
        after_step(folder, "@mpirun -n 3 " + train(options), "cut", 14, "kill -9 $(pgrep -P $pid | sed -n 2p)"));
  ASSERT_FALSE(std::filesystem::exists(folder / "cut/step-30"));
  ASSERT_TRUE(std::filesystem::exists(folder / "cut/step-10/index.h5"));
  options["resume"] = "auto";
  const Outcome resumed = shell(folder, "@mpirun -n 3 " + train(options));
  ASSERT_EQ(resumed.exit, 0) << resumed.err;
  EXPECT_NE(resumed.err.find("resumed from"), std::string::npos);
  EXPECT_EQ(results(folder / "cut"), results(folder / "whole"));
  // The manifest has the hash of every file.
  EXPECT_EQ(testing::bytes_of(folder / "cut/latest/manifest.json"),
            testing::bytes_of(folder / "whole/latest/manifest.json"));
}

TEST(Train, ASignalWritesACheckpointAndExitsWithRequeue) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5", 40, 90);
  for (const std::string signal : {"USR1", "USR2", "TERM"}) {
    const std::map<std::string, std::string> options{{"run", signal}, {"steps", "100000"}, {"checkpoint-every", "0"}};
    const std::string start =
        signal == "TERM" ? train(options) : "@mpirun -n 2 " + train(options);  // mpirun gives a TERM one second
    const Outcome outcome = shell(folder, after_step(folder, start, signal, 3, fmt::format("kill -{} $pid", signal)));
    ASSERT_EQ(outcome.exit, 75) << outcome.err;
    const auto exit = nlohmann::json::parse(testing::bytes_of(folder / (signal + "/exit.json")));
    EXPECT_EQ(exit["exit_code"], 75);
    EXPECT_TRUE(std::filesystem::exists(folder / fmt::format("{}/step-{}/index.h5", signal, exit["step"].get<int>())));
    EXPECT_TRUE(metrics(folder / signal).back().contains("checkpoint_s"));
  }
}

TEST(Train, ASignalBeforeTheFirstStepIsHeardWhilePacksArePlanned) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5", 40, 90);
  // The packs of the first step: a million, of hundreds of documents each.
  const std::string command = train({{"pack-tokens", "60000"}, {"accumulate", "1048576"}});
  for (const std::string ranks : {"1", "3"}) {
    const std::string script =
        "sh " + folder.write("script", expanded(command + " --transport local --run " + ranks + " --ranks " + ranks +
                                                " & pid=$!\n"
                                                "until test -s " +
                                                ranks + "/metrics.jsonl -o -s " + ranks +
                                                "/attempts.jsonl; do sleep 0.02; done\n"
                                                "kill -TERM $pid\nwait $pid\n"));
    const Outcome outcome = shell(folder, script);
    EXPECT_EQ(outcome.exit, 75) << outcome.err;
    EXPECT_NE(outcome.err.find("stopped by a signal"), std::string::npos) << outcome.err;
    EXPECT_EQ(nlohmann::json::parse(testing::bytes_of(folder / (ranks + "/exit.json")))["exit_code"], 75);
    EXPECT_FALSE(std::filesystem::exists(folder / (ranks + "/step-1")));
  }
}

TEST(Train, FiftyStepsAgreeOnEveryMeshAndLayout) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5", 60, 90);
  const std::string common = train({{"dtype", "f64"}, {"steps", "50"}, {"checkpoint-every", "0"}});
  ASSERT_EQ(shell(folder, common + " --accumulate 2 --run one").exit, 0);
  const auto expected = metrics(folder / "one");
  const auto weights = tensor(folder / "one", "parameters/backbone.layers.1.mixer.in_proj.weight");
  int number = 0;
  for (const std::string cut :
       {"--ranks 2 --context-parallel 2 --accumulate 2 --schedule chain", "--ranks 2 --data-parallel 2",
        "--ranks 3 --accumulate 2 --schedule gather --layout zigzag", "--ranks 4 --accumulate 2 --schedule gather",
        "--ranks 4 --accumulate 2 --schedule chain --layout zigzag --recompute", "--ranks 4 --data-parallel 2",
        "--ranks 3 --accumulate 2 --schedule relay --recompute", "--ranks 4 --data-parallel 2 --schedule relay"}) {
    const std::string run = fmt::format("cut{}", number++);
    const Outcome outcome = shell(folder, fmt::format("{} --transport local {} --run {}", common, cut, run));
    ASSERT_EQ(outcome.exit, 0) << outcome.err;
    const auto found = metrics(folder / run);
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < found.size(); ++i)
      EXPECT_NEAR(found[i]["loss"].get<double>() / expected[i]["loss"].get<double>(), 1, 1e-8)
          << cut << ", step " << i + 1;
    EXPECT_LT(relative_error(tensor(folder / run, "parameters/backbone.layers.1.mixer.in_proj.weight"), weights), 1e-8)
        << cut;
  }
}

TEST(Train, FiftyStepsAgreeWithEveryStrategy) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5", 60, 90);
  struct Row {
    std::string model, parameter;
  };
  const Row models[] = {
      {"--model sh2-tiny --width 16 --heads 2 --filter-groups 4 --mr-taps 9 --modes 3 --ffn 12",
       "backbone.layers.1.mixer.filter.h"},
      {"--layers 'se mr li attention mamba' --width 12 --heads 3 --filter-groups 3 --mr-taps 9 --modes 3 --ffn 10",
       "backbone.layers.2.mixer.filter.gamma"}};
  for (const Row& model : models) {
    const std::string common =
        "@causeway train --data data.h5 --pack-tokens 64 --dtype f64 --steps 50 "
        "--learning-rate 3e-3 --transport local " +
        model.model;
    const auto weights = [&](const std::string& run) { return tensor(folder / run, "parameters/" + model.parameter); };
    ASSERT_EQ(shell(folder, common + " --run one").exit, 0);
    const auto expected = metrics(folder / "one");
    for (int turn = 0; turn < strategy_turns(); ++turn) {
      for (const Layout layout : {Layout::contiguous, Layout::zigzag}) {
        const int ranks = 2 + (turn + static_cast<int>(layout)) % 3;
        std::string strategies;
        for (const auto& [op, name] : strategies_in_turn(turn, layout))
          strategies += fmt::format("{}{}={}", strategies.empty() ? "" : ",", op, name);
        const std::string cut =
            fmt::format("--ranks {} --layout {} --schedule {} --strategy {}", ranks, name_of(layout),
                        name_of(every_schedule[static_cast<std::size_t>(turn) % 3]), strategies);
        const Outcome outcome = shell(folder, common + " --run cut " + cut);
        ASSERT_EQ(outcome.exit, 0) << cut << "\n" << outcome.err;
        const auto found = metrics(folder / "cut");
        ASSERT_EQ(found.size(), expected.size());
        for (std::size_t i = 0; i < found.size(); ++i)
          EXPECT_NEAR(found[i]["loss"].get<double>() / expected[i]["loss"].get<double>(), 1, 1e-8)
              << cut << ", step " << i + 1;
        EXPECT_LT(relative_error(weights("cut"), weights("one")), 1e-8) << cut;
        std::filesystem::remove_all(folder / "cut");
      }
    }
    std::filesystem::remove_all(folder / "one");
  }
}

TEST(Train, ACheckpointResumesOnAnotherNumberOfRanks) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5", 60, 90);
  const std::string common = train({{"dtype", "f64"}, {"transport", "local"}});
  ASSERT_EQ(shell(folder, common + " --ranks 2 --context-parallel 2 --run whole").exit, 0);
  ASSERT_EQ(shell(folder, common + " --ranks 3 --context-parallel 3 --run other --resume whole/step-10").exit, 0);
  const auto whole = metrics(folder / "whole"), other = metrics(folder / "other");
  ASSERT_EQ(other.size(), 20u);
  EXPECT_EQ(other.front()["step"], 11);
  EXPECT_NEAR(other.back()["loss"].get<double>() / whole.back()["loss"].get<double>(), 1, 1e-8);
}

TEST(Train, InitFromTakesOnlyWeightsAndModel) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5", 60, 90);
  ASSERT_EQ(shell(folder, train({{"run", "first"}})).exit, 0);
  const Outcome outcome = shell(
      folder,
      "@causeway train --data data.h5 --init-from first --run second --steps 2 --pack-tokens 64 --learning-rate 0");
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_EQ(metrics(folder / "second").front()["step"], 1);
  const std::string name = "parameters/backbone.embedding.weight";
  EXPECT_EQ(tensor(folder / "first", name), tensor(folder / "second", name));
}

TEST(Train, WrongOptionsAndDamagedCheckpointsHaveTheirExitCodes) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5", 30, 90);
  ASSERT_EQ(shell(folder, train({{"run", "good"}, {"seed", "1"}})).exit, 0);
  std::filesystem::copy(folder / "good", folder / "flipped",
                        std::filesystem::copy_options::recursive | std::filesystem::copy_options::copy_symlinks);
  for (const char* step : {"step-10", "step-20", "step-30"}) {
    const std::string shard = folder / fmt::format("flipped/{}/shard-00000.h5", step), bytes = testing::bytes_of(shard);
    std::fstream file(shard, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(bytes.size() / 2));
    file.put(static_cast<char>(bytes[bytes.size() / 2] ^ 1));
  }
  std::filesystem::copy(folder / "good", folder / "cut",
                        std::filesystem::copy_options::recursive | std::filesystem::copy_options::copy_symlinks);
  std::filesystem::resize_file(folder / "cut/latest/index.h5", 5000);
  ASSERT_EQ(shell(folder, train({{"run", "mixed"}, {"layers", "'se mr'"}, {"width", "16"}, {"steps", "1"}})).exit, 0);
  struct Row {
    std::string arguments;
    int exit;
    std::string error;
  };
  const std::map<std::string, std::string> flipped{
      {"run", "flipped"}, {"seed", "1"}, {"resume", "auto"}, {"steps", "40"}};
  const Row table[] = {
      {train({}), 2, "--run is missing"},
      {"@causeway train --run x", 2, "--data is missing"},
      {"@mpirun -n 2 @causeway train --run x --dry-run", 2, "--data is missing"},
      {train({{"run", "good"}, {"seed", "1"}}), 2, "contains a run already"},
      {train({{"run", "good"}, {"resume", "auto"}}), 2, "--seed is 0"},
      {train({{"run", "good"}, {"seed", "1"}, {"resume", "auto"}, {"width", "64"}}), 2,
       "width is 8, the options say 64"},
      {train({{"run", "x"}, {"init-from", "good"}, {"width", "64"}}), 2, "width is 8, the options say 64"},
      {"@causeway train --data data.h5 --run x --init-from mixed --width 50", 2, "width is 16, the options say 50"},
      {train({{"run", "x"}, {"init-from", "good"}, {"layers", "'se mamba'"}}), 2,
       "layers is mamba*2, the options say se mamba"},
      {train({{"run", "good"}, {"seed", "1"}, {"resume", "auto"}, {"steps", "20"}}), 2, "--steps is 20"},
      {"@causeway train --data data.h5 --run good --seed 1 --resume auto --ffn 8", 2, "ffn is 0, the options say 8"},
      {train({{"run", "x"}, {"model", "mamba-huge"}}), 2, "mamba-huge"},
      {train({{"run", "x"}, {"layers", "'se attention'"}, {"heads", "3"}}), 2, "--heads is 3"},
      {train({{"run", "x"}, {"mlp-activation", "relu"}}), 2, "--mlp-activation is 'relu'"},
      {train({{"run", "x"}, {"layers", "'mamba hyena'"}}), 2, "hyena"},
      {train({{"run", "x"}, {"steps", "0"}}), 2, "--steps is 0"},
      {train({{"run", "x"}, {"data-parallel", "3"}}), 2, "3"},
      {train({{"run", "x"}, {"vocabulary", "100"}}), 2, "vocabulary_size is 512"},
      {train({{"run", "x"}, {"data", "nowhere.h5"}}), 2, "nowhere.h5"},
      {train({{"run", "x"}, {"data", "data.h5:-1"}}), 2, "weight"},
      {train({{"run", "x"}, {"strategy", "selective_scan=magic"}}), 2, "magic"},
      {train({{"run", "x"}, {"init-from", "nowhere"}}), 2, "nowhere"},
      {train({{"run", "x"}, {"long-documents", "refuse"}}), 2, "64"},
      {train(flipped), 65, "all of its 3 checkpoints are damaged; the newest: flipped/step-30/shard-00000.h5"},
      {"@mpirun -n 2 " + train(flipped), 65, "flipped/step-10/shard-00000.h5: is damaged"},
      {train({{"run", "x"}, {"init-from", "cut"}}), 65, "cut/step-30/index.h5: has 5000 bytes"},
      {train({{"run", "cut"}, {"seed", "1"}, {"resume", "cut/step-20"}}), 2, "contains step-30 already"},
      {train({{"run", "cut"}, {"seed", "1"}, {"resume", "auto"}}), 0, "warning: cut/step-30/index.h5: has 5000 bytes"},
      {train({{"run", "good"}, {"seed", "1"}, {"resume", "auto"}, {"keep-every", "10"}}), 2, "--keep-every is 10"},
      {train({{"run", "/proc/nowhere/x"}}), 74, "/proc/nowhere"},
      {train({{"run", "hot"}, {"learning-rate", "1000"}, {"clip", "0"}}), 70, "step"},
  };
  for (const Row& row : table) {
    const Outcome outcome = shell(folder, row.arguments);
    EXPECT_EQ(outcome.exit, row.exit) << row.arguments << "\n" << outcome.err;
    EXPECT_NE(outcome.err.find(row.error), std::string::npos) << row.arguments << "\n" << outcome.err;
  }
  EXPECT_EQ(nlohmann::json::parse(testing::bytes_of(folder / "hot/exit.json"))["exit_code"], 70);
}

bool gpu_answers() {
  try {
    const Stream stream(Device::cuda);
    return true;
  } catch (const Error&) {
    return false;
  }
}

TEST(Train, AnErrorOfAllRanksIsReportedOnce) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5", 30, 90);
  folder.write("long.txt", std::string(200, 'A'));
  ASSERT_EQ(shell(folder, "@causeway import long.txt --out long.h5").exit, 0);
  ASSERT_EQ(shell(folder, train({{"run", "run"}, {"steps", "1"}})).exit, 0);
  struct Row {
    std::string arguments, error;
  };
  const std::string train_x = train({{"run", "x"}}), score = "@causeway score --checkpoint run --data data.h5 --out x",
                    generate = "@causeway generate --checkpoint run --prompt A";
  std::vector<Row> table = {
      {train_x + " --layers 'mamba hyena'", "--layers has 'hyena'"},
      {train_x + " --data-parallel 2", "is not the 3 ranks"},
      {train({{"run", "x"}, {"strategy", "magic"}}), "--strategy has 'magic'"},
      {train({{"run", "x"}, {"strategy", "selective_scan=magic"}}), "--strategy of selective_scan is 'magic'"},
      {train({{"run", "x"}, {"strategy", "causal_conv=halo,causal_conv=halo"}}), "'causal_conv' twice"},
      {train_x + " --long-documents refuse", "data.h5: document "},
      {train({{"run", "x"}, {"pack-tokens", "128"}, {"long-documents", "refuse"}, {"valid-data", "long.h5"}}),
       "long.h5: document 0 has 200 tokens"},
      {score + " --context-parallel 2", "is not the 3 ranks"},
      {score + " --strategy selective_scan=magic", "--strategy of selective_scan is 'magic'"},
      {generate, "found 3 ranks"},
  };
  if (!gpu_answers())
    for (const std::string& command : {train_x, score}) table.push_back({command + " --device cuda", "device is cuda"});
  for (const Row& row : table) {
    const Outcome outcome = shell(folder, "@mpirun -n 3 " + row.arguments);
    EXPECT_EQ(outcome.exit, 2) << row.arguments << "\n" << outcome.err;
    EXPECT_NE(outcome.err.find(row.error), std::string::npos) << row.arguments << "\n" << outcome.err;
    EXPECT_EQ(outcome.err.find("causeway: "), outcome.err.rfind("causeway: ")) << row.arguments << "\n" << outcome.err;
    EXPECT_EQ(outcome.err.find("MPI_ABORT"), std::string::npos) << row.arguments << "\n" << outcome.err;
  }
}

TEST(Train, ALossMaskRemovesLabels) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5", 30, 90, true);
  const Outcome outcome = shell(folder, train({{"run", "masked"}}));
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_LT(metrics(folder / "masked").back()["loss"].get<double>(),
            metrics(folder / "masked").front()["loss"].get<double>());
}

TEST(Score, IsTheSameOnAnyNumberOfRanksAndEqualsTheTrainingLoss) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5", 25, 200);  // most documents longer than a pack
  ASSERT_EQ(shell(folder,
                  "@causeway train --data data.h5 --valid-data data.h5 --layers 'se mr li attention mamba' --width 8 "
                  "--heads 2 --mr-taps 9 --ffn 6 --state 4 --dtype f64 --pack-tokens 256 --steps 5 --run run")
                .exit,
            0);
  const std::string common = "@causeway score --checkpoint run --data data.h5 --transport local --pack-tokens 64";
  ASSERT_EQ(shell(folder, common + " --out one.h5 --embeddings 1:tokens").exit, 0);
  const auto documents = values(folder / "one.h5", "document/log_likelihood"),
             tokens = values(folder / "one.h5", "token/log_likelihood");
  const auto starts = values(folder / "one.h5", "cu_seqlens"), rows = values(folder / "one.h5", "embeddings/layer_1");
  double total = 0, scored = 0;
  std::vector<double> means;
  for (std::size_t d = 0; d + 1 < starts.size(); ++d) {
    double sum = 0;
    const auto begin = static_cast<std::size_t>(starts[d]), end = static_cast<std::size_t>(starts[d + 1]);
    EXPECT_TRUE(std::isnan(tokens[begin]));
    for (std::size_t t = begin + 1; t < end; ++t) sum += tokens[t];
    EXPECT_NEAR(sum, documents[d], 1e-4);
    total += documents[d];
    scored += static_cast<double>(end - begin) - 1;
    for (std::size_t c = 0; c < 8; ++c) {
      double mean = 0;
      for (std::size_t t = begin; t < end; ++t) mean += rows[t * 8 + c] / static_cast<double>(end - begin);
      means.push_back(mean);
    }
  }
  EXPECT_NEAR(-total / scored, metrics(folder / "run").back()["eval_loss"].get<double>(), 1e-9);
  for (const std::string cut : {"--ranks 2", "--ranks 3 --layout zigzag --schedule gather",
                                "--ranks 4 --data-parallel 2", "--ranks 5 --data-parallel 5"}) {
    const Outcome outcome = shell(folder, common + " --out cut.h5 --embeddings 1 " + cut);
    ASSERT_EQ(outcome.exit, 0) << outcome.err;
    EXPECT_LT(relative_error(values(folder / "cut.h5", "document/log_likelihood"), documents), 1e-12) << cut;
    EXPECT_LT(relative_error(values(folder / "cut.h5", "embeddings/layer_1"), means), 1e-6) << cut;
  }
  EXPECT_EQ(shell(folder, common + " --out x.h5 --embeddings 6").exit, 2);
  EXPECT_EQ(shell(folder, common + " --out /proc/nowhere/x.h5").exit, 74);
  EXPECT_FALSE(std::filesystem::exists(folder / "x.h5"));
}

TEST(Score, NeverOverwritesItsInputs) {
  namespace fs = std::filesystem;
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5", 5, 90);
  ASSERT_EQ(shell(folder, train({{"run", "run"}, {"steps", "1"}})).exit, 0);
  const std::string index = folder / "run/step-1/index.h5";
  fs::create_symlink("data.h5", folder / "soft.h5");
  fs::create_hard_link(folder / "data.h5", folder / "hard.h5");
  fs::create_symlink(index, folder / "soft index");
  fs::create_hard_link(index, folder / "hard index");
  const std::string data_before = testing::bytes_of(folder / "data.h5"), index_before = testing::bytes_of(index);
  for (const char* out : {"data.h5", "./run/../data.h5", "soft.h5", "hard.h5", "run/step-1/index.h5",
                          "run/latest/index.h5", "run/latest/../step-1/index.h5", "'soft index'", "'hard index'"}) {
    const Outcome outcome = shell(folder, fmt::format("@causeway score --checkpoint run --data data.h5 --out {}", out));
    EXPECT_EQ(outcome.exit, 2) << out;
    EXPECT_NE(outcome.err.find("--out is "), std::string::npos) << outcome.err;
  }
  EXPECT_TRUE(testing::bytes_of(folder / "data.h5") == data_before);
  EXPECT_TRUE(testing::bytes_of(index) == index_before);
  EXPECT_TRUE(fs::is_symlink(folder / "soft.h5"));
  EXPECT_TRUE(fs::is_symlink(folder / "soft index"));
  for (int again = 0; again < 2; ++again)
    EXPECT_EQ(shell(folder, "@causeway score --checkpoint run --data data.h5 --out run/scores.h5").exit, 0);
}

}  // namespace
}  // namespace causeway::test
