/// Conversions of Evo 2's forms, run as a program. vortex_tiny/ was written by torch.save; its log-likelihoods are
/// those of vortex's formulas, evaluated in float64 by PyTorch.
#include <gtest/gtest.h>

#include <fstream>

#include "io/hdf5/hdf5.hpp"
#include "io/tensors/safetensors.hpp"
#include "io/tensors/torch_file.hpp"
#include "tests/src/shell.hpp"
#include "tests/support/torch_archive.hpp"
#include "tests/support/yaml.hpp"

namespace causeway::test {
namespace {

using testing::TorchTensor;

const std::string tiny = CAUSEWAY_TEST_SOURCE "/tests/src/convert/striped_hyena/vortex_tiny/";

std::string bytes_of(const TensorFiles& files, const FileTensor& tensor) {
  std::string bytes(static_cast<std::size_t>(tensor.bytes()), '\0');
  files.read(tensor, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

std::vector<TorchTensor> tensors_of(const TensorFiles& files) {
  std::vector<TorchTensor> tensors;
  for (const FileTensor& tensor : files.tensors())
    tensors.push_back({tensor.name, tensor.type, tensor.shape, bytes_of(files, tensor)});
  return tensors;
}

class Vortex : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!testing::has_yaml()) GTEST_SKIP() << "this build has no yaml-cpp";
  }
  Outcome convert(const std::string& source, const std::string& options, const std::string& config = "") const {
    const std::string path = config.empty() ? tiny + "config.yml" : config;
    return shell(folder_, "@causeway convert " + source + " --model-config " + path + " " + options);
  }
  void succeed(const Outcome& outcome) const { ASSERT_EQ(outcome.exit, 0) << outcome.err; }
  /// Exit code and message of converting these tensors.
  void expect_refusal(const std::vector<TorchTensor>& tensors, const std::string& expected) const {
    folder_.write("changed.pt", testing::torch_archive(tensors));
    const Outcome outcome = convert("changed.pt", "--to causeway --out refused");
    EXPECT_EQ(outcome.exit, 2) << outcome.err;
    EXPECT_NE(outcome.err.find(expected), std::string::npos) << outcome.err << "\nexpected " << expected;
    EXPECT_FALSE(std::filesystem::exists(folder_ / "refused"));
  }
  std::vector<double> log_likelihoods(const std::string& checkpoint, const std::string& options) const {
    shell(folder_, "@causeway import " + tiny + "documents.tokens --vocabulary 24 --out data.h5");
    const Outcome outcome = shell(folder_, "@causeway score --transport local --pack-tokens 128 --checkpoint " +
                                               checkpoint + " --data data.h5 --out scores.h5 " + options);
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    return hdf5::File::open(folder_ / "scores.h5", hdf5::Access::read)
        .dataset("document/log_likelihood")
        .read_all<double>(100);
  }
  void expect_log_likelihoods(const std::string& checkpoint, const std::string& options, double tolerance) const {
    const std::vector<double> found = log_likelihoods(checkpoint, options);
    std::ifstream file(tiny + "log_likelihoods.txt");
    std::vector<double> expected(found.size());
    for (double& value : expected) ASSERT_TRUE(file >> value);
    for (std::size_t d = 0; d < found.size(); ++d)
      EXPECT_NEAR(found[d], expected[d], tolerance * std::max(1.0, std::abs(expected[d]))) << options;
  }
  /// Every tensor of the source is in the folder with its type, its shape and its bytes.
  void expect_same_tensors(const TensorFiles& source, const std::string& folder) const {
    const TensorFiles written = read_safetensors(folder_ / folder);
    EXPECT_EQ(written.tensors().size(), source.tensors().size());
    for (const FileTensor& tensor : source.tensors()) {
      const FileTensor* found = written.find(tensor.name);
      ASSERT_NE(found, nullptr) << tensor.name;
      EXPECT_EQ(found->type, tensor.type) << tensor.name;
      EXPECT_EQ(found->shape, tensor.shape) << tensor.name;
      EXPECT_TRUE(bytes_of(written, *found) == bytes_of(source, tensor)) << tensor.name;
    }
  }
  const testing::TemporaryFolder folder_;
};

TEST_F(Vortex, AModelHasTheLogLikelihoodsOfItsFormulasOnAnyNumberOfRanks) {
  ASSERT_NO_FATAL_FAILURE(succeed(convert(tiny + "model.pt", "--to causeway --out f64 --dtype f64")));
  ASSERT_NO_FATAL_FAILURE(succeed(convert(tiny + "model.pt", "--to causeway --out f32 --dtype f32")));
  for (const char* cut : {"--ranks 1", "--ranks 3", "--ranks 3 --layout zigzag"}) {
    ASSERT_NO_FATAL_FAILURE(expect_log_likelihoods("f64", cut, 1e-12));
    ASSERT_NO_FATAL_FAILURE(expect_log_likelihoods("f32", cut, 1e-5));
  }
}

TEST_F(Vortex, EveryTensorComesBackBitForBit) {
  const TensorFiles source = read_torch_file(tiny + "model.pt");
  for (const std::string options : {"", "--dtype f64", "--dtype f32"}) {
    ASSERT_NO_FATAL_FAILURE(succeed(convert(tiny + "model.pt", "--to causeway --out there --force " + options)));
    ASSERT_NO_FATAL_FAILURE(succeed(shell(folder_, "@causeway convert there --to vortex --out back --force")));
    ASSERT_NO_FATAL_FAILURE(expect_same_tensors(source, "back"));
    EXPECT_EQ(testing::bytes_of(folder_ / "back/config.yml"), testing::bytes_of(tiny + "config.yml"));
  }
  ASSERT_NO_FATAL_FAILURE(succeed(shell(folder_, "@causeway convert back --to causeway --out again --dtype f64")));
  ASSERT_NO_FATAL_FAILURE(expect_log_likelihoods("again", "", 1e-12));
}

/// Decays of mr and both parts of li's rates are multiplied into the tensors that vortex has.
TEST_F(Vortex, AModelThatWasTrainedHereGoesThereAndBack) {
  const auto train = [&](const std::string& layers) {
    return shell(folder_, "@causeway train --data data.h5 --layers '" + layers +
                              "' --width 8 --heads 2 --ffn 6 --vocabulary 24 --untied-head --dtype f64 "
                              "--pack-tokens 128 --steps 3 --run " +
                              layers.substr(0, 2));
  };
  shell(folder_, "@causeway import " + tiny + "documents.tokens --vocabulary 24 --out data.h5");
  ASSERT_NO_FATAL_FAILURE(succeed(train("mr li")));
  ASSERT_NO_FATAL_FAILURE(succeed(shell(folder_, "@causeway convert mr --to vortex --out there")));
  ASSERT_NO_FATAL_FAILURE(succeed(shell(folder_, "@causeway convert there --to causeway --out back")));
  const std::vector<double> first = log_likelihoods("mr", ""), again = log_likelihoods("back", "");
  ASSERT_EQ(first.size(), again.size());
  for (std::size_t d = 0; d < first.size(); ++d) EXPECT_NEAR(first[d], again[d], 1e-10);

  ASSERT_NO_FATAL_FAILURE(succeed(train("attention")));
  ASSERT_NO_FATAL_FAILURE(succeed(shell(folder_, "@causeway convert at --to vortex --out attention")));
  EXPECT_NE(read_safetensors(folder_ / "attention").find("blocks.0.inner_mha_cls.rotary_emb.inv_freq"), nullptr);

  ASSERT_NO_FATAL_FAILURE(succeed(train("se")));  // its skip is not in the format
  const Outcome refused = shell(folder_, "@causeway convert se --to vortex --out refused");
  EXPECT_EQ(refused.exit, 2);
  EXPECT_NE(refused.err.find("backbone.layers.0.mixer.filter.skip is "), std::string::npos) << refused.err;
}

TEST_F(Vortex, AFineTunedModelGoesBack) {
  shell(folder_, "@causeway import " + tiny + "documents.tokens --vocabulary 24 --out data.h5");
  ASSERT_NO_FATAL_FAILURE(succeed(convert(tiny + "model.pt", "--to causeway --out start --dtype f64")));
  ASSERT_NO_FATAL_FAILURE(succeed(
      shell(folder_,
            "@causeway train --data data.h5 --init-from start --dtype f64 --pack-tokens 128 --steps 3 --run tuned")));
  ASSERT_NO_FATAL_FAILURE(succeed(shell(folder_, "@causeway convert tuned --to vortex --out there")));
  ASSERT_NO_FATAL_FAILURE(succeed(shell(folder_, "@causeway convert there --to causeway --out back")));
  const std::vector<double> first = log_likelihoods("tuned", ""), again = log_likelihoods("back", "");
  ASSERT_EQ(first.size(), again.size());
  for (std::size_t d = 0; d < first.size(); ++d) EXPECT_NEAR(first[d], again[d], 1e-10);
}

TEST_F(Vortex, NamesATensorThatIsMissingLeftOverOrDoesNotFit) {
  std::vector<TorchTensor> tensors = tensors_of(read_torch_file(tiny + "model.pt"));
  std::vector<TorchTensor> changed(tensors.begin() + 1, tensors.end());
  expect_refusal(changed, "embedding_layer.weight");
  changed = tensors;
  changed.push_back({"blocks.0.filter.D", TensorType::f32, {8}, std::string(32, '\1')});
  expect_refusal(changed, "blocks.0.filter.D");
  changed = tensors;
  changed.back().shape = {2, 4};
  expect_refusal(changed, "norm.scale' has shape [2, 4], expected [8]");
  changed = tensors;
  changed.push_back({"blocks.0.projections.bias", TensorType::f32, {24}, std::string(96, '\1')});
  expect_refusal(changed, "blocks.0.projections.bias");
  changed = tensors;
  changed.push_back({"unembed.weight", TensorType::bf16, {24, 8}, std::string(384, '\1')});
  expect_refusal(changed, "unembed.weight");
  changed = tensors;
  for (TorchTensor& tensor : changed)
    if (tensor.name == "blocks.2.filter.log_poles") tensor.bytes[3] ^= '\x80';  // the sign
  expect_refusal(changed, "tensor 'blocks.2.filter.log_poles' has a pole with logarithm");
}

TEST_F(Vortex, NeedsItsYamlFileAndHonoursIt) {
  const Outcome outcome = shell(folder_, "@causeway convert " + tiny + "model.pt --to causeway --out refused");
  EXPECT_EQ(outcome.exit, 2);
  EXPECT_NE(outcome.err.find("--model-config"), std::string::npos) << outcome.err;
  const std::string yaml = testing::bytes_of(tiny + "config.yml");
  folder_.write("flipped.yml", yaml + "sliding_window: 128\n");
  const Outcome unknown = convert(tiny + "model.pt", "--to causeway --out refused", folder_ / "flipped.yml");
  EXPECT_EQ(unknown.exit, 2);
  EXPECT_NE(unknown.err.find("sliding_window"), std::string::npos) << unknown.err;
}

TEST_F(Vortex, AFolderWithOneFileOfWeightsIsRead) {
  const std::string weights = testing::bytes_of(tiny + "model.pt");
  const std::size_t half = weights.size() / 2;
  for (const bool cut : {false, true}) {
    const std::string name = cut ? "parts" : "whole";
    std::filesystem::create_directory(folder_ / name);
    if (cut) folder_.write(name + "/evo.pt.part0", weights.substr(0, half));
    if (cut) folder_.write(name + "/evo.pt.part1", weights.substr(half));
    if (!cut) folder_.write(name + "/evo.pt", weights);
    folder_.write(name + "/config.yml", testing::bytes_of(tiny + "config.yml"));
    const Outcome outcome =
        shell(folder_, fmt::format("@causeway convert {0} --to causeway --out {0}.checkpoint", name));
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
  }
  folder_.write("whole/other.pt", weights);
  EXPECT_EQ(shell(folder_, "@causeway convert whole --to causeway --out two").exit, 2);
}

TEST_F(Vortex, WarnsOfModelsThatWereTrainedWithFp8) {
  std::string yaml = testing::bytes_of(tiny + "config.yml");
  const std::string off = "use_fp8_input_projections: false";
  ASSERT_NE(yaml.find(off), std::string::npos);
  folder_.write("fp8.yml", yaml.replace(yaml.find(off), off.size(), "use_fp8_input_projections: true"));
  const Outcome outcome = convert(tiny + "model.pt", "--to causeway --out fp8", folder_ / "fp8.yml");
  EXPECT_EQ(outcome.exit, 0);
  EXPECT_NE(outcome.err.find("--fp8 projections"), std::string::npos) << outcome.err;
  // What was converted warns only where it is used without the option, and goes back as it was.
  shell(folder_, "@causeway import " + tiny + "documents.tokens --vocabulary 24 --out data.h5");
  const std::string score = "@causeway score --transport local --checkpoint fp8 --data data.h5 --out scores.h5";
  EXPECT_NE(shell(folder_, score).err.find("--fp8 is off"), std::string::npos);
  EXPECT_EQ(shell(folder_, score + " --fp8 projections").err.find("--fp8 is"), std::string::npos);
  ASSERT_EQ(shell(folder_, "@causeway convert fp8 --to vortex --out back").exit, 0);
  EXPECT_NE(testing::bytes_of(folder_ / "back/config.yml").find("use_fp8_input_projections: true"), std::string::npos);
}

/// The tensors of a vortex model under savanna's names, with filters of `columns` taps.
std::vector<TorchTensor> as_savanna(const std::vector<TorchTensor>& tensors) {
  const std::pair<const char*, const char*> names[] = {
      {"pre_norm.scale", "input_layernorm.weight"},
      {"post_norm.scale", "pre_mlp_layernorm.weight"},
      {"mlp.l1", "mlp.w1"},
      {"mlp.l2", "mlp.w2"},
      {"mlp.l3", "mlp.w3"},
      {"projections.weight", "mixer.dense_projection.weight"},
      {"inner_mha_cls.Wqkv", "mixer.dense_projection"},
      {"out_filter_dense", "mixer.dense"},
      {"inner_mha_cls.out_proj", "mixer.dense"},
      {"inner_mha_cls.rotary_emb", "mixer.rotary_emb"},
      {"filter.short_filter_weight", "mixer.hyena_proj_conv.short_conv_weight"},
      {"filter.residues", "mixer.mixer.filter.R"},
      {"filter.D", "mixer.mixer.conv_bias"},
      {"filter.log_poles", "mixer.mixer.filter.gamma"},
      {"embedding_layer", "sequential.0.word_embeddings"},
      {"norm.scale", "sequential.7.norm.weight"},
      {"blocks.0.filter.h", "blocks.0.mixer.mixer.short_conv.short_conv_weight"},
      {"blocks.1.filter.h", "blocks.1.mixer.mixer.filter.h"}};
  std::vector<TorchTensor> renamed;
  for (TorchTensor tensor : tensors) {
    for (const auto& [from, to] : names) {
      const std::size_t at = tensor.name.find(from);
      const bool whole_word = at == 0 || (at != tensor.name.npos && tensor.name[at - 1] == '.');
      if (!whole_word || tensor.name.starts_with("sequential.")) continue;
      tensor.name.replace(at, std::string_view(from).size(), to);
      break;
    }
    if (tensor.name.starts_with("blocks."))
      tensor.name = fmt::format("sequential.{}{}", tensor.name[7] - '0' + 2, tensor.name.substr(8));
    if (tensor.shape.size() == 3) tensor.shape.erase(tensor.shape.begin() + (tensor.shape[2] == 1 ? 2 : 1));
    renamed.push_back(tensor);
  }
  return renamed;
}

TEST_F(Vortex, SavannasNamesGiveTheSameModel) {
  std::vector<TorchTensor> tensors = as_savanna(tensors_of(read_torch_file(tiny + "model.pt")));
  std::vector<TorchTensor> added;
  for (TorchTensor& tensor : tensors) {
    if (tensor.name.ends_with("filter.h")) {  // twice as large, and a decay of 1/2
      std::string half;
      for (std::size_t at = 0; at < tensor.bytes.size(); at += 2) half += std::string("\0\x3f", 2);  // bf16 0.5
      added.push_back({tensor.name.substr(0, tensor.name.size() - 1) + "decay", tensor.type, tensor.shape, half});
      for (std::size_t at = 0; at < tensor.bytes.size(); at += 2) {
        auto bits = static_cast<std::uint16_t>(static_cast<std::uint8_t>(tensor.bytes[at]) |
                                               static_cast<std::uint8_t>(tensor.bytes[at + 1]) << 8);
        bits = static_cast<std::uint16_t>(bits + 0x80);  // the exponent
        tensor.bytes.replace(at, 2, testing::little_endian(bits, 2));
      }
    }
    if (tensor.name.ends_with("filter.gamma")) {  // -exp(p + gamma), p = 0
      added.push_back({tensor.name.substr(0, tensor.name.size() - 5) + "p", TensorType::f32, tensor.shape,
                       std::string(tensor.bytes.size(), '\0')});
      std::string logs;
      for (std::size_t at = 0; at < tensor.bytes.size(); at += 4) {
        float pole = 0;
        std::memcpy(&pole, tensor.bytes.data() + at, 4);
        logs += testing::little_endian(std::bit_cast<std::uint64_t>(std::log(-static_cast<double>(pole))), 8);
      }
      tensor.type = TensorType::f64;
      tensor.bytes = logs;
    }
  }
  tensors.insert(tensors.end(), added.begin(), added.end());
  folder_.write("savanna.pt", testing::torch_archive(tensors));
  const Outcome outcome = convert("savanna.pt", "--to causeway --out savanna --dtype f64");
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("savanna"), std::string::npos) << outcome.out;
  ASSERT_NO_FATAL_FAILURE(expect_log_likelihoods("savanna", "--ranks 2", 1e-12));
  ASSERT_NO_FATAL_FAILURE(succeed(shell(folder_, "@causeway convert savanna --to vortex --out published")));
  const TensorFiles written = read_safetensors(folder_ / "published"), source = read_torch_file(tiny + "model.pt");
  const FileTensor* h = written.find("blocks.1.filter.h");
  ASSERT_NE(h, nullptr);
  EXPECT_TRUE(bytes_of(written, *h) == bytes_of(source, *source.find("blocks.1.filter.h")));
}

}  // namespace
}  // namespace causeway::test
