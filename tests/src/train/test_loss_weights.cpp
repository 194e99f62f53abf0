/// Loss weights, through the program: the same loss for every cut, and the one that a loop over the scores gives.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "io/data/dataset_writer.hpp"
#include "io/hdf5/hdf5.hpp"
#include "tests/src/run_results.hpp"
#include "tests/src/shell.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

constexpr std::int64_t documents = 12, length = 16;

/// The weight of token i of document d.
using Weight = std::function<float(std::int64_t d, std::int64_t i)>;
float of_token(std::int64_t d, std::int64_t i) { return static_cast<float>((3 * d + 7 * i) % 11) / 10; }
float of_document(std::int64_t d, std::int64_t) { return static_cast<float>(d % 4) / 3; }
Weight constant(float weight) {
  return [=](std::int64_t, std::int64_t) { return weight; };
}

/// 12 documents of 16 tokens. Without `weight`: no loss weights. `masked`: a loss mask, 0 in every third document.
void write_dataset(const std::string& path, const Weight& weight, bool masked = false) {
  DatasetWriter writer(path, 512, "test", {.loss_mask = masked, .loss_weights = weight != nullptr});
  for (std::int64_t d = 0; d < documents; ++d) {
    writer.begin_document(fmt::format("document {}", d));
    std::vector<std::int32_t> tokens;
    std::vector<float> weights;
    for (std::int64_t i = 0; i < length; ++i) {
      tokens.push_back(static_cast<std::int32_t>(65 + (i * (d % 3 + 1) + d) % 5));
      if (weight) weights.push_back(weight(d, i));
    }
    writer.append(tokens, std::vector<std::uint8_t>(masked ? length : 0, d % 3 == 0 ? 0 : 1), weights);
  }
  writer.finish();
}

/// With strategies, so that two runs have the same bits, and no time passes with measurements.
std::string train(const std::string& options, const std::string& learning_rate = "1e-2") {
  return "@causeway train --layers 'mamba attention' --width 8 --state 4 --heads 2 --pack-tokens 64 --policy in_order "
         "--strategy causal_conv=halo,selective_scan=state_carry,attention=ring --schedule chain --transport local "
         "--steps 4 --learning-rate " +
         learning_rate + " " + options;
}

/// Losses and gradient norms of all steps.
std::vector<double> course(const std::string& run) {
  std::vector<double> values;
  for (const auto& line : metrics(run))
    for (const char* member : {"loss", "grad_norm", "eval_loss"})
      if (line.contains(member)) values.push_back(line[member].get<double>());
  return values;
}

TEST(LossWeights, GiveTheSameLossesOnEveryMeshAndLayout) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5", of_token);
  for (const std::string normalisation : {"step", "pack"}) {
    const std::string common =
        "--data data.h5 --valid-data data.h5 --eval-every 2 --dtype f64 --loss-normalisation " + normalisation + " ";
    const auto run = [&](const std::string& name, const std::string& options) {
      const Outcome outcome = shell(folder, train(common + "--run " + name + normalisation + " " + options));
      EXPECT_EQ(outcome.exit, 0) << outcome.err;
      return course(folder / (name + normalisation));
    };
    const std::vector<double> expected = run("one", "--ranks 1 --accumulate 4");
    ASSERT_EQ(expected.size(), 2u * 4 + 3);
    int number = 0;
    for (const std::string options :
         {"--ranks 3 --accumulate 4", "--ranks 5 --accumulate 4 --layout zigzag",
          "--ranks 3 --layout zigzag --accumulate 4", "--ranks 2 --data-parallel 2 --accumulate 2",
          "--ranks 4 --data-parallel 2 --accumulate 2 --recompute", "--ranks 4 --data-parallel 4"}) {
      const std::vector<double> found = run(fmt::format("mesh{}", number++), options);
      ASSERT_EQ(found.size(), expected.size()) << options;
      for (std::size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-11) << options << " " << i;
    }
  }
  EXPECT_GT(std::abs(course(folder / "onestep")[1] - course(folder / "onepack")[1]), 1e-6) << "the two differ";
}

TEST(LossWeights, AllEqualGiveTheBitsOfNone) {
  const TemporaryFolder folder;
  write_dataset(folder / "none.h5", nullptr);
  write_dataset(folder / "ones.h5", constant(1));
  write_dataset(folder / "halves.h5", constant(0.5F));
  for (const std::string mesh :
       {"--ranks 1 --dtype f32", "--ranks 3 --dtype bf16", "--ranks 3 --loss-normalisation pack"}) {
    std::vector<std::vector<double>> courses, states;
    for (const std::string data : {"none", "ones", "halves"}) {
      const std::string run = fmt::format("'{} {}'", data, mesh);
      const Outcome outcome = shell(folder, train(fmt::format("--data {}.h5 --run {} {}", data, run, mesh)));
      ASSERT_EQ(outcome.exit, 0) << outcome.err;
      courses.push_back(course(folder / (data + " " + mesh)));
      states.push_back(weights_and_moments(folder / (data + " " + mesh)));
    }
    for (const std::size_t weighted : {1, 2}) {
      EXPECT_EQ(courses[weighted], courses[0]) << mesh << weighted;
      EXPECT_TRUE(states[weighted] == states[0]) << mesh << weighted;
    }
  }
}

TEST(LossWeights, Of0AreALossMask) {
  const TemporaryFolder folder;
  write_dataset(folder / "masked.h5", nullptr, true);
  write_dataset(folder / "weights.h5", [](std::int64_t d, std::int64_t) { return d % 3 == 0 ? 0.0F : 1.0F; });
  write_dataset(folder / "both.h5", constant(1), true);
  for (const std::string data : {"masked", "weights", "both"}) {
    const Outcome outcome = shell(folder, train(fmt::format("--ranks 3 --data {0}.h5 --run {0}", data)));
    ASSERT_EQ(outcome.exit, 0) << outcome.err;
  }
  for (const char* data : {"weights", "both"}) {
    EXPECT_EQ(course(folder / data), course(folder / "masked"));
    EXPECT_TRUE(weights_and_moments(folder / data) == weights_and_moments(folder / "masked"));
  }
}

/// Σ weight · loss / Σ weight over the labels of a model's scores, with the weights of each pack of `in_pack` documents
/// normalised to the number of its labels with a weight.
double recomputed(const std::string& scores, const Weight& weight, std::int64_t in_pack) {
  const auto values =
      hdf5::File::open(scores, hdf5::Access::read).dataset("token/log_likelihood").read_all<double>(4096);
  double loss = 0, labels = 0;
  for (std::int64_t first = 0; first < documents; first += in_pack) {
    double pack_loss = 0, weights = 0, count = 0;
    for (std::int64_t d = first; d < first + in_pack; ++d)
      for (std::int64_t i = 1; i < length; ++i) {
        const auto w = static_cast<double>(weight(d, i));
        if (w > 0) pack_loss -= w * values[static_cast<std::size_t>(d * length + i)];
        weights += w;
        count += w > 0 ? 1 : 0;
      }
    if (count > 0) loss += pack_loss * count / weights;
    labels += count;
  }
  return loss / labels;
}

TEST(LossWeights, AreTheLossOfALoopOverTheScores) {
  const TemporaryFolder folder;
  for (const Weight& weight : {Weight(of_token), Weight(of_document)}) {
    write_dataset(folder / "data.h5", weight);
    for (const auto& [normalisation, in_pack] : {std::pair("step", documents), {"pack", std::int64_t{4}}}) {
      // A rate of 0: the scores are of the weights that the losses were of. A pack has 4 documents, a step all 12.
      const Outcome outcome = shell(
          folder, "rm -rf run scores.h5; " +
                      train(fmt::format("--run run --data data.h5 --valid-data data.h5 --dtype f64 --accumulate 3 "
                                        "--ranks 3 --loss-normalisation {}",
                                        normalisation),
                            "0") +
                      " && @causeway score --checkpoint run --data data.h5 --out scores.h5");
      ASSERT_EQ(outcome.exit, 0) << outcome.err;
      const double expected = recomputed(folder / "scores.h5", weight, in_pack);
      const double held_out = metrics(folder / "run").front()["eval_loss"].get<double>();
      EXPECT_NEAR(held_out, expected, 3e-7) << normalisation;  // scores of tokens are stored as f32
      if (in_pack < documents) continue;  // which documents are in a pack of the step is not known here
      EXPECT_NEAR(metrics(folder / "run")[1]["loss"].get<double>(), held_out, 1e-12);
      const auto scores = hdf5::File::open(folder / "scores.h5", hdf5::Access::read);
      EXPECT_NEAR(scores.number_attribute("weighted_loss"), held_out, 1e-12);
      EXPECT_NE(outcome.err.find(fmt::format("{:.4f} by loss mask and weights", held_out)), std::string::npos);
    }
  }
}

TEST(LossWeights, ThatAreNotAWeightOrAllZeroEndTheRunByName) {
  const TemporaryFolder folder;
  write_dataset(folder / "zeros.h5", constant(0));
  write_dataset(folder / "nan.h5", constant(0.5F));
  {
    auto file = hdf5::File::open(folder / "nan.h5", hdf5::Access::update);
    file.dataset("loss_weight").write_rows<float>(100, std::vector{std::nanf("")});
  }
  for (const auto& [data, text] :
       {std::pair("zeros.h5", "zeros.h5: no token is a label"), {"nan.h5", "nan.h5:/loss_weight: value 100 is nan"}}) {
    const Outcome outcome = shell(folder, train(fmt::format("--ranks 3 --run run --data {}", data)));
    EXPECT_EQ(outcome.exit, 2) << outcome.err;
    EXPECT_NE(outcome.err.find(text), std::string::npos) << outcome.err;
  }
}

TEST(LossWeights, AChangedNormalisationIsNamedWhenARunResumes) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5", of_token);
  ASSERT_EQ(shell(folder, train("--run run --data data.h5")).exit, 0);
  const Outcome outcome =
      shell(folder, "@causeway train --config run/config.ini --resume auto --steps 5 --loss-normalisation pack");
  EXPECT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("--loss-normalisation pack, before step"), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace causeway::test
