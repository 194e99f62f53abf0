#include "src/train/settings/train_settings.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "io/data/dataset_writer.hpp"
#include "tests/src/shell.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

TEST(TrainSettings, TheOptionsOfAShapeGiveIt) {
  for (const Preset& preset : presets()) {
    ModelOptions shape = preset_options(preset.name);
    const ModelOptions other = preset_options(preset.name == "sh2-1b" ? "mamba-130m" : "sh2-1b");
    for (const bool changed : {false, true}) {
      if (changed) {
        shape.rope_base = 7;
        shape.ffn = 0;
        shape.tied_head = false;
        shape.norm_eps = 1e-3;
        shape.norm_form = "outside";
        shape.rope_scaling = 4;
        shape.rope_stored = shape.out_bias = true;
        shape.se_skip = false;
        shape.dt_rank = 3;
        shape.layers.push_back("attention");
      }
      EXPECT_EQ(resolve(settings_of(shape, std::string(preset.name)), other), shape) << preset.name;
      EXPECT_EQ(resolve(settings_of(shape, ""), shape), shape) << preset.name;
    }
  }
}

/// 20 documents of 30 tokens; packs of 64 tokens have two of them each.
void write_documents(const std::string& path) {
  DatasetWriter writer(path, 512, "test");
  for (int document = 0; document < 20; ++document) {
    writer.begin_document("d");
    const std::vector<std::int32_t> tokens(30, 65 + document % 4);
    writer.append(tokens);
  }
  writer.finish();
}

class Epochs : public ::testing::Test {
 protected:
  Epochs() { write_documents(folder_ / "data.h5"); }
  Outcome train(const std::string& options, const std::string& before = "") {
    return shell(folder_, before + "@causeway train --run run --width 8 --state 2 --pack-tokens 64 " + options);
  }
  /// The lines of config.ini that set an option.
  std::string config() {
    std::string lines, line;
    std::ifstream file(folder_ / "run/config.ini");
    while (std::getline(file, line))
      if (!line.empty() && line[0] != '#') lines += line + "\n";
    return lines;
  }
  std::int64_t steps() {
    std::ifstream file(folder_ / "run/metrics.jsonl");
    std::int64_t lines = 0;
    for (std::string line; std::getline(file, line);) ++lines;
    return lines;
  }
  const TemporaryFolder folder_;
};

TEST_F(Epochs, GiveTheStepsOfEveryMesh) {
  ASSERT_EQ(train("--data data.h5 --epochs 2").exit, 0);  // 10 packs an epoch
  EXPECT_EQ(steps(), 20);
  EXPECT_NE(config().find("\nepochs = 2\n"), std::string::npos) << config();
  const Outcome resumed = shell(folder_, "@causeway train --config run/config.ini --resume auto --epochs 2.55");
  ASSERT_EQ(resumed.exit, 0) << resumed.err;
  EXPECT_EQ(steps(), 26);
  std::filesystem::remove_all(folder_ / "run");
  ASSERT_EQ(train("--data data.h5 --epochs 2 --accumulate 3 --data-parallel 2 --ranks 2").exit, 0);
  EXPECT_EQ(steps(), 4);  // of 6 packs
}

TEST_F(Epochs, ThatAreNotAPositiveNumberAreRefused) {
  for (const char* epochs : {"0", "-1", "nan", "inf", "1e7", "two"}) {
    const Outcome refused = train(fmt::format("--data data.h5 --epochs {}", epochs));
    EXPECT_EQ(refused.exit, 2) << epochs;
    EXPECT_NE(refused.err.find("--epochs"), std::string::npos) << refused.err;
  }
  EXPECT_EQ(train("--data data.h5 --epochs 1 --steps 1").exit, 2);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "run"));
}

TEST_F(Epochs, ConfigShowsTheSizesOfThePreset) {
  ASSERT_EQ(train("--data data.h5 --steps 1 --model sh2-tiny --heads 2").exit, 0);
  for (const char* line : {"model = sh2-tiny", "layers = se mr li attention", "width = 8", "heads = 2", "ffn = 176",
                           "filter-groups = 8", "mr-taps = 32", "modes = 16", "vocabulary = 512"})
    EXPECT_NE(config().find(fmt::format("\n{}\n", line)), std::string::npos) << line << " in\n" << config();
  const std::string first = config();
  const Outcome again = shell(folder_, "@causeway train --config run/config.ini --resume auto --steps 2");
  ASSERT_EQ(again.exit, 0) << again.err;
  EXPECT_NE(config().find("\nffn = 176\n"), std::string::npos);
}

}  // namespace
}  // namespace causeway::test
