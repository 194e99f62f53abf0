#include "src/convert/convert.hpp"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <filesystem>
#include <limits>

#include "io/checkpoint/checkpoint.hpp"
#include "io/file/temporary_file.hpp"
#include "io/file/untrusted_json.hpp"
#include "kernels/core/error.hpp"
#include "tests/src/convert/mamba_folder.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

constexpr int cannot_forbid = 99;  // exit code of a child

class Convert : public ::testing::Test {
 protected:
  void run(const std::string& source, const std::string& to, const std::string& out,
           const std::string& dtype = "source") {
    convert({.source = folder_ / source, .to = to, .out = folder_ / out, .dtype = dtype, .most_shard_bytes = most_});
  }
  /// The error of converting the model to a checkpoint, which must have this code.
  std::string refusal(const MambaFolder& model, ExitCode code = ExitCode::usage) {
    std::filesystem::remove_all(folder_ / "source");
    model.write(folder_ / "source");
    try {
      run("source", "causeway", "refused");
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      EXPECT_EQ(folder_.count(), 1u) << "a part of the result is left";
      return error.what();
    }
    return "accepted";
  }
  void expect_refusal(const MambaFolder& model, const std::string& says, ExitCode code = ExitCode::usage) {
    const std::string text = refusal(model, code);
    EXPECT_NE(text.find(says), std::string::npos) << text;
  }
  TemporaryFolder folder_;
  std::int64_t most_ = std::int64_t{1} << 40;
};

/// A tied head is written also where the source had none.
std::map<std::string, std::string> with_head(std::map<std::string, std::string> tensors) {
  tensors.try_emplace("lm_head.weight", tensors.at("backbone.embeddings.weight"));
  return tensors;
}

std::vector<MambaFolder> variants() {
  std::vector<MambaFolder> all = {MambaFolder(TensorType::f32), MambaFolder(TensorType::bf16),
                                  MambaFolder(TensorType::f16), MambaFolder(TensorType::f64)};
  MambaFolder tied_copy;
  tied_copy.tensors.push_back({"lm_head.weight", TensorType::f32, {24, 8}});
  tied_copy.value = [](const std::string&, std::int64_t i) { return static_cast<double>(i % 50); };
  all.push_back(tied_copy);
  MambaFolder untied(TensorType::bf16);
  untied.config["tie_word_embeddings"] = false;
  untied.config["time_step_rank"] = 1;
  untied.tensors.push_back({"lm_head.weight", TensorType::f16, {24, 8}});
  all.push_back(untied);
  MambaFolder mixed;
  mixed.tensor("backbone.norm_f.weight").type = TensorType::bf16;
  mixed.tensor("backbone.layers.1.mixer.A_log").type = TensorType::f64;
  mixed.tensor("backbone.layers.0.mixer.in_proj.weight").type = TensorType::f16;
  mixed.most_shard_bytes = 700;
  all.push_back(mixed);
  MambaFolder no_conv_bias;
  no_conv_bias.config["use_conv_bias"] = false;
  for (const char* layer : {"0", "1"}) no_conv_bias.remove(fmt::format("backbone.layers.{}.mixer.conv1d.bias", layer));
  all.push_back(no_conv_bias);
  MambaFolder zero_biases;
  zero_biases.config["use_bias"] = true;
  for (const char* layer : {"0", "1"}) {
    const std::string mixer = fmt::format("backbone.layers.{}.mixer.", layer);
    zero_biases.tensors.push_back({mixer + "in_proj.bias", TensorType::bf16, {32}});
    zero_biases.tensors.push_back({mixer + "out_proj.bias", TensorType::f32, {8}});
  }
  zero_biases.value = [usual = zero_biases.value](const std::string& name, std::int64_t i) {
    return name.ends_with("t_proj.bias") && name.find("dt_proj") == name.npos ? 0
           : name.ends_with("in_proj.bias")                                   ? 0
                                                                              : usual(name, i);
  };
  all.push_back(zero_biases);
  return all;
}

TEST_F(Convert, ThereAndBackGivesTheSameBytesOfEveryTensor) {
  const std::vector<MambaFolder> models = variants();
  for (std::size_t m = 0; m < models.size(); ++m) {
    const auto name = [&](const char* what) { return fmt::format("{}{}", what, m); };
    models[m].write(folder_ / name("source"));
    most_ = m % 2 == 0 ? 1000 : std::int64_t{1} << 40;
    run(name("source"), "causeway", name("checkpoint"));
    run(name("checkpoint"), "huggingface", name("back"));
    EXPECT_EQ(tensors_in(folder_ / name("back")), with_head(tensors_in(folder_ / name("source")))) << models[m].config;
    const auto config = read_json_file(folder_ / (name("back") + "/config.json"), 1 << 20);
    for (const auto& [key, value] : models[m].config.items())
      EXPECT_EQ(config[key], key == "time_step_rank" ? nlohmann::json(1) : value) << key;
  }
}

TEST_F(Convert, ACheckpointHasTheValuesOfTheTensors) {
  const MambaFolder model(TensorType::bf16);
  model.write(folder_ / "source");
  run("source", "causeway", "checkpoint");
  const Checkpoint checkpoint(folder_ / "checkpoint");
  EXPECT_EQ(checkpoint.text("dtype"), "bf16");
  EXPECT_EQ(checkpoint.number("norm_eps"), 1e-5);
  EXPECT_EQ(checkpoint.tensors().size(), model.tensors.size());
  for (TensorPlan tensor : model.tensors) {
    const std::string source = tensor.name;
    if (tensor.name == "backbone.embeddings.weight") tensor.name = "backbone.embedding.weight";
    const auto info = checkpoint.tensor("parameters/" + tensor.name);
    EXPECT_EQ(info.shape, tensor.shape);
    EXPECT_EQ(info.type, hdf5::bf16);
    std::vector<double> values(static_cast<std::size_t>(info.size()));
    checkpoint.read(info.name, 0, values);
    for (std::int64_t i = 0; i < info.size(); ++i)
      ASSERT_EQ(values[static_cast<std::size_t>(i)], model.value(source, i)) << source;
  }
}

TEST_F(Convert, AWiderTypeRemembersTheOneOfTheSource) {
  const MambaFolder model(TensorType::bf16);
  model.write(folder_ / "source");
  run("source", "causeway", "wide", "f32");
  EXPECT_EQ(Checkpoint(folder_ / "wide").tensor("parameters/backbone.norm_f.weight").type, hdf5::f32);
  run("wide", "causeway", "wider", "f64");
  run("wider", "huggingface", "back");
  EXPECT_EQ(tensors_in(folder_ / "back"), with_head(tensors_in(folder_ / "source")));
  EXPECT_EQ(read_json_file(folder_ / "back/config.json", 1 << 20)["dtype"], "bfloat16");
  run("wider", "huggingface", "other", "f16");
  EXPECT_EQ(read_json_file(folder_ / "other/config.json", 1 << 20)["dtype"], "float16");
  MambaFolder(TensorType::f16).write(folder_ / "half");
  EXPECT_EQ(tensors_in(folder_ / "other"), with_head(tensors_in(folder_ / "half")));
}

TEST_F(Convert, TheOldNameOfTheEmbeddingIsTaken) {
  MambaFolder model;
  model.write(folder_ / "source");
  const auto expected = with_head(tensors_in(folder_ / "source"));
  model.value = [old = model.value](const std::string& name, std::int64_t i) {
    return old(name == "backbone.embedding.weight" ? "backbone.embeddings.weight" : name, i);
  };
  model.tensor("backbone.embeddings.weight").name = "backbone.embedding.weight";
  model.write(folder_ / "old");
  run("old", "causeway", "checkpoint");
  run("checkpoint", "huggingface", "back");
  EXPECT_EQ(tensors_in(folder_ / "back"), expected);
}

TEST_F(Convert, WhatTheModelHasNoUseForIsRefusedByName) {
  MambaFolder model;
  model.tensors.push_back({"backbone.layers.2.norm.weight", TensorType::f32, {8}});
  expect_refusal(model, "has backbone.layers.2.norm.weight, for which the model");
  model = MambaFolder();
  model.remove("backbone.layers.1.mixer.D");
  expect_refusal(model, "has no backbone.layers.1.mixer.D, expected all tensors");
  model = MambaFolder();
  model.tensor("backbone.layers.1.mixer.D").shape = {1, 16};
  expect_refusal(model, "tensor 'backbone.layers.1.mixer.D' has shape [1, 16], expected [16]");
  model = MambaFolder();
  model.tensor("backbone.layers.1.mixer.D").type = TensorType::i64;
  expect_refusal(model, "tensor 'backbone.layers.1.mixer.D' holds i64");
  model = MambaFolder();
  model.tensors.push_back({"backbone.layers.0.mixer.in_proj.bias", TensorType::f32, {32}});
  expect_refusal(model, "expected zeros: the model has no place for this bias");
  model = MambaFolder();
  model.tensors.push_back({"lm_head.weight", TensorType::f32, {24, 8}});
  expect_refusal(model, "'lm_head.weight' differs from 'backbone.embeddings.weight'");
}

TEST_F(Convert, AModelConfigThatTheFormatDoesNotReadIsRefused) {
  MambaFolder().write(folder_ / "source");
  try {
    convert({.source = folder_ / "source", .to = "causeway", .out = folder_ / "out", .model_config = "m.yml"});
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("--model-config is 'm.yml'"), std::string::npos) << error.what();
  }
}

TEST_F(Convert, AConfigurationThatCannotBeHonouredIsRefusedByName) {
  const std::pair<const char*, nlohmann::json> table[] = {
      {"hidden_act", "gelu"},          {"intermediate_size", 24},
      {"num_hidden_layers", 0},        {"hidden_size", -8},
      {"layer_norm_epsilon", "small"}, {"layer_norm_epsilon", 0},
      {"tie_word_embeddings", 1},      {"quantization_config", {{"bits", 4}}},
      {"model_type", "mamba2"},        {"time_step_rank", 1.5}};
  for (const auto& [key, value] : table) {
    MambaFolder model;
    model.config[key] = value;
    expect_refusal(model, std::string("config.json: ") + key);
  }
  MambaFolder model;
  model.config["state_size"] = 4096;
  expect_refusal(model, "config.json: describes a model that Causeway does not have: --state is 4096");
}

TEST_F(Convert, ValuesThatAreNotFiniteAreRefused) {
  MambaFolder model;
  model.value = [](const std::string& name, std::int64_t i) {
    return name.ends_with("A_log") && i == 9 ? std::numeric_limits<double>::quiet_NaN() : 0.5;
  };
  expect_refusal(model, "A_log: value 9 of 64 is not finite", ExitCode::non_finite);
  model.value = [](const std::string&, std::int64_t) { return 1e6; };
  model.write(folder_ / "large");
  EXPECT_THROW(run("large", "causeway", "half", "f16"), Error);  // 1e6 is too large for it
}

TEST_F(Convert, AModelThatTheFormatCannotExpressIsRefusedWithTheNamesOfBoth) {
  MambaFolder().write(folder_ / "source");
  try {
    run("source", "vortex", "result");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()), (folder_ / "source") +
                                             ": cannot be written as vortex: the model has a layer 'mamba', expected "
                                             "se, mr, li and attention");
  }
}

TEST_F(Convert, ATruncatedFileIsDamaged) {
  MambaFolder().write(folder_ / "source");
  const std::string weights = folder_ / "source/model.safetensors";
  std::filesystem::resize_file(weights, std::filesystem::file_size(weights) - 1);
  try {
    run("source", "causeway", "result");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::corrupt) << error.what();
  }
}

TEST_F(Convert, AnExistingFolderIsReplacedOnlyIfAskedAndOnlyIfAConversionWroteIt) {
  MambaFolder().write(folder_ / "source");
  run("source", "causeway", "result");
  EXPECT_THROW(run("source", "causeway", "result"), Error);
  const auto replace = [&] {
    convert({.source = folder_ / "source", .to = "huggingface", .out = folder_ / "result", .force = true});
  };
  replace();
  EXPECT_EQ(tensors_in(folder_ / "result"), with_head(tensors_in(folder_ / "source")));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "result/index.h5"));
  for (const char* name : {"result/tokenizer.json", "result/thesis.tex"}) {
    folder_.write(name, "years of work");
    EXPECT_THROW(replace(), Error) << name;
    EXPECT_EQ(testing::bytes_of(folder_ / name), "years of work");
    std::filesystem::remove(folder_ / name);
  }
  EXPECT_EQ(folder_.count(), 2u) << "temporary folders are left";
}

/// From here on renameat2() fails with flags, as on file systems that cannot exchange two folders.
void forbid_exchanges() {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_renameat2, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[4])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{static_cast<unsigned short>(std::size(filter)), filter};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
    ::_exit(cannot_forbid);
}

/// Converts in a child process that calls `at` when a part of the result is written; returns how it ended.
int status_of_child(const ConvertOptions& asked, const std::function<void()>& before, const std::function<void()>& at) {
  const pid_t child = ::fork();
  if (child == 0) {
    before();
    ConvertOptions options = asked;
    options.progress = [&, calls = 0](const ConvertProgress&) mutable {
      if (++calls == 5) at();
    };
    int code = 0;
    try {
      convert(options);
    } catch (const Error& error) {
      code = static_cast<int>(error.code());
    }
    ::_exit(code);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

TEST_F(Convert, AKilledConversionLeavesNoResultAndTheNextOneRemovesItsFiles) {
  MambaFolder().write(folder_ / "source");
  for (const char* to : {"causeway", "huggingface"}) {
    const ConvertOptions options{.source = folder_ / "source", .to = to, .out = folder_ / to, .most_shard_bytes = 1};
    EXPECT_EQ(status_of_child(
                  options, [] {}, [] { ::raise(SIGKILL); }),
              SIGKILL);
    EXPECT_FALSE(std::filesystem::exists(options.out));
    const std::size_t with_parts = folder_.count();
    EXPECT_EQ(status_of_child(options, remove_temporary_files_at_signals, [] { ::raise(SIGTERM); }), SIGTERM);
    EXPECT_EQ(folder_.count(), with_parts - 1) << "the files of the killed one, and of the ended one";
    EXPECT_EQ(status_of_child(
                  options, [] {}, [] {}),
              0);
    EXPECT_EQ(folder_.count(), with_parts);
  }
}

TEST_F(Convert, WithoutAnExchangeTheReplacedFolderIsRemovedAndNoOtherOne) {
  MambaFolder().write(folder_ / "source");
  const ConvertOptions options{
      .source = folder_ / "source", .to = "huggingface", .out = folder_ / "result", .force = true};
  run("source", "causeway", "result");
  const int status = status_of_child(options, forbid_exchanges, [] {});
  if (WEXITSTATUS(status) == cannot_forbid) GTEST_SKIP() << "this system has no seccomp";
  EXPECT_EQ(status, 0);
  EXPECT_EQ(tensors_in(folder_ / "result"), with_head(tensors_in(folder_ / "source")));
  EXPECT_EQ(folder_.count(), 2u) << "the replaced folder is left";
  std::filesystem::create_directory(folder_ / "result.old");
  folder_.write("result.old/thesis.tex", "years of work");
  EXPECT_EQ(WEXITSTATUS(status_of_child(options, forbid_exchanges, [] {})), static_cast<int>(ExitCode::io));
  EXPECT_EQ(testing::bytes_of(folder_ / "result.old/thesis.tex"), "years of work");
  EXPECT_EQ(tensors_in(folder_ / "result"), with_head(tensors_in(folder_ / "source")));
}

TEST_F(Convert, AFullDiskLeavesNothing) {
  MambaFolder().write(folder_ / "source");
  for (const char* to : {"causeway", "huggingface"}) {
    const auto full = [] {  // files cannot grow beyond 1,000 bytes
      ::signal(SIGXFSZ, SIG_IGN);
      const rlimit limit{1000, 1000};
      ::setrlimit(RLIMIT_FSIZE, &limit);
    };
    const int status = status_of_child({.source = folder_ / "source", .to = to, .out = folder_ / to}, full, [] {});
    EXPECT_EQ(WEXITSTATUS(status), static_cast<int>(ExitCode::io));
    EXPECT_EQ(folder_.count(), 1u);
  }
}

}  // namespace
}  // namespace causeway::test
