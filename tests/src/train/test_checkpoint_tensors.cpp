/// Checkpoints whose tensors are not those of their model, or not finite: what each command that reads them does.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint.hpp"
#include "io/checkpoint/checkpoint_writer.hpp"
#include "io/data/dataset.hpp"
#include "tests/src/shell.hpp"
#include "tests/src/small_dataset.hpp"
#include "tests/support/ranks.hpp"

namespace causeway::test {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryFolder;

const std::string train = "@causeway train --data data.h5 --pack-tokens 64 --transport local --ranks 2 ";

struct Values {
  std::vector<std::int64_t> shape;
  std::vector<float> values;
};
using Tensors = std::map<std::string, Values>;

/// Writes a checkpoint again with other tensors, as another program would write it: every file fits the manifest.
void rewrite(const std::string& run, std::int64_t step, const std::function<void(Tensors&)>& edit) {
  Tensors tensors;
  CheckpointContent content;
  {
    const Checkpoint checkpoint(run + "/" + step_folder(step));
    for (const Checkpoint::TensorInfo& info : checkpoint.tensors()) {
      std::vector<double> values(static_cast<std::size_t>(info.size()));
      checkpoint.read(info.name, 0, values);
      tensors[info.name] = {info.shape, std::vector<float>(values.begin(), values.end())};
    }
    for (const std::string& name : checkpoint.attributes().attribute_names())
      if (name != "format" && name != "version") content.attributes[name] = checkpoint.attributes().attribute(name);
    for (const std::string& name : checkpoint.state().attribute_names())
      content.state[name] = checkpoint.state().attribute(name);
  }
  edit(tensors);
  for (const auto& [name, tensor] : tensors) {
    Shape shape;
    for (const std::int64_t extent : tensor.shape) shape = shape.rank() == 0 ? Shape{extent} : Shape{shape[0], extent};
    content.tensors.push_back(
        {name,
         tensor.shape.size() > 2 ? Shape{tensor.shape[0], tensor.shape[1], tensor.shape[2]} : shape,
         DType::f32,
         {0, std::ssize(tensor.values)},
         tensor.values.data()});
  }
  on_ranks(1, [&](Communicator& world) { write_checkpoint(run, step, content, world, Stream()); });
}

/// The commands that use a checkpoint, of run/.
const std::vector<std::string> weight_readers{
    train + "--steps 6 --run other --init-from run",
    "@causeway score --transport local --ranks 2 --checkpoint run --data data.h5 --out scores.h5",
    "@causeway generate --checkpoint run --prompt A --tokens 1"};
const std::vector<std::string> resumers{train + "--steps 6 --run run --resume run/step-2"};
const std::vector<std::string> inspectors{"@causeway inspect run/step-2", "@causeway inspect run --verify"};

void expect_refusal(const TemporaryFolder& folder, const std::vector<std::string>& commands, int exit,
                    const std::string& says) {
  for (const std::string& command : commands) {
    const Outcome outcome = shell(folder, command);
    EXPECT_EQ(outcome.exit, exit) << command << "\n" << outcome.err;
    EXPECT_NE((outcome.out + outcome.err).find(says), std::string::npos) << command << "\n"
                                                                         << outcome.out << outcome.err;
    EXPECT_FALSE(fs::exists(folder / "scores.h5") || fs::exists(folder / "other/latest")) << command;
    if (command.find("generate") != command.npos) {
      EXPECT_EQ(outcome.out, "");
    }
  }
}

std::string first_with(const Tensors& tensors, const std::string& prefix, const std::string& part) {
  for (const auto& [name, tensor] : tensors)
    if (name.starts_with(prefix) && name.find(part) != name.npos) return name;
  ADD_FAILURE() << "no " << prefix << "…" << part;
  return "";
}

class CheckpointTensors : public ::testing::Test {
 protected:
  void SetUp() override {
    write_small_dataset(folder_ / "data.h5");
    const Outcome made = shell(folder_, train + "--steps 2 --run good --model mamba-tiny --width 8 --state 4");
    ASSERT_EQ(made.exit, 0) << made.err;
  }
  /// run/ as good/, with other tensors.
  void forge(const std::function<void(Tensors&)>& edit) {
    for (const char* made : {"run", "other"}) fs::remove_all(folder_ / made);
    fs::copy(folder_ / "good", folder_ / "run", fs::copy_options::recursive | fs::copy_options::copy_symlinks);
    rewrite(folder_ / "run", 2, edit);
  }
  TemporaryFolder folder_;
};

TEST_F(CheckpointTensors, TheModelsOwnAreAccepted) {
  forge([](Tensors&) {});
  EXPECT_EQ(shell(folder_, "@causeway inspect run --verify").exit, 0);
  EXPECT_EQ(shell(folder_, train + "--steps 3 --run run --resume auto").exit, 0);
}

TEST_F(CheckpointTensors, WithoutOptimizerStateAreEnoughForEverythingButResuming) {
  forge([](Tensors& tensors) { std::erase_if(tensors, [](const auto& row) { return row.first.starts_with("opt"); }); });
  for (const std::string& command : weight_readers) EXPECT_EQ(shell(folder_, command).exit, 0) << command;
  EXPECT_EQ(shell(folder_, "@causeway inspect run --verify").exit, 0);
  fs::remove_all(folder_ / "other");
  fs::remove(folder_ / "scores.h5");
  expect_refusal(folder_, resumers, 2, "has no optimizer state");
  expect_refusal(folder_, {train + "--steps 6 --run run --resume auto"}, 2, "has no optimizer state");
}

TEST_F(CheckpointTensors, ThatTheModelHasNoUseForAreRefusedByName) {
  for (const std::string name : {"parameters/lm_head.weight", "parameters/backbone.layers.0.mixer.in_proj.bias",
                                 "optimizer/exp_avg/lm_head.weight", "optimizer/max_exp_avg_sq/x"}) {
    forge([&](Tensors& tensors) { tensors[name] = {{4}, {1, 2, 3, 4}}; });
    for (const auto* commands : {&weight_readers, &resumers, &inspectors}) expect_refusal(folder_, *commands, 2, name);
    expect_refusal(folder_, {train + "--steps 6 --run run --resume auto"}, 2, name);
  }
  forge([](Tensors& tensors) { tensors["buffers/x"] = {{1}, {1}}; });
  expect_refusal(folder_, weight_readers, 2, "has buffers, for which its model");
}

TEST_F(CheckpointTensors, ThatAreMissingAreDamageAndNamed) {
  for (const std::string prefix : {"parameters/", "optimizer/exp_avg/", "optimizer/master/"}) {
    std::string name;
    forge([&](Tensors& tensors) {
      name = first_with(tensors, prefix, "in_proj");
      tensors.erase(name);
    });
    for (const auto* commands : {&weight_readers, &resumers, &inspectors}) expect_refusal(folder_, *commands, 65, name);
  }
}

TEST_F(CheckpointTensors, OfAnotherShapeAreNamedWithBothShapes) {
  for (const std::string prefix : {"parameters/", "optimizer/exp_avg_sq/"}) {
    std::string says;
    forge([&](Tensors& tensors) {
      const std::string name = first_with(tensors, prefix, "in_proj");
      Values& tensor = tensors[name];
      says = fmt::format("/{}: is f32 [{}, {}], expected f32 [{}, {}]", name, tensor.shape[1], tensor.shape[0],
                         tensor.shape[0], tensor.shape[1]);
      std::swap(tensor.shape[0], tensor.shape[1]);
    });
    for (const auto* commands : {&weight_readers, &resumers, &inspectors}) expect_refusal(folder_, *commands, 65, says);
  }
}

TEST_F(CheckpointTensors, ResumeAutoStepsBackFromAnIncompleteOne) {
  ASSERT_EQ(shell(folder_, train + "--steps 3 --run good --resume auto").exit, 0);
  for (const char* made : {"run", "other"}) fs::remove_all(folder_ / made);
  fs::copy(folder_ / "good", folder_ / "run", fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  rewrite(folder_ / "run", 3,
          [](Tensors& tensors) { tensors.erase(first_with(tensors, "optimizer/exp_avg/", "in_")); });
  const Outcome outcome = shell(folder_, train + "--steps 4 --run run --resume auto");
  EXPECT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("resumed from run/step-2"), std::string::npos) << outcome.err;
}

TEST_F(CheckpointTensors, ThatAreNotFiniteEndEveryCommandWithTheirName) {
  for (const float value : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    std::string says;
    forge([&](Tensors& tensors) {
      const std::string name = first_with(tensors, "parameters/", "in_proj");
      tensors[name].values.back() = value;
      const std::size_t count = tensors[name].values.size();
      says = fmt::format("{}: value {} of {} is {}", name, count - 1, count, value);
    });
    expect_refusal(folder_, weight_readers, 70, says);
    expect_refusal(folder_, resumers, 70, says);
    expect_refusal(folder_, {train + "--steps 6 --run run --resume auto"}, 70, says);
    EXPECT_EQ(shell(folder_, "@causeway inspect run --verify").exit, 65);
  }
  expect_refusal(folder_, {"@mpirun -n 2 @causeway score --checkpoint run --data data.h5 --out scores.h5"}, 70,
                 "in_proj");
  // Resuming reads each rank's part of the optimizer state.
  std::string name;
  forge([&](Tensors& tensors) {
    name = first_with(tensors, "optimizer/exp_avg_sq/", "in_proj");
    tensors[name].values.back() = std::numeric_limits<float>::infinity();
  });
  expect_refusal(folder_, resumers, 70, name);
}

TEST_F(CheckpointTensors, OfAnUntiedHeadAreNeededThere) {
  const std::string untied = "--model mamba-tiny --width 8 --state 4 --untied-head ";
  ASSERT_EQ(shell(folder_, train + untied + "--steps 2 --run untied").exit, 0);
  fs::remove_all(folder_ / "good");
  fs::rename(folder_ / "untied", folder_ / "good");
  forge([](Tensors& tensors) { tensors.erase(first_with(tensors, "parameters/", "lm_head")); });
  expect_refusal(folder_, weight_readers, 65, "lm_head");
}

}  // namespace
}  // namespace causeway::test
