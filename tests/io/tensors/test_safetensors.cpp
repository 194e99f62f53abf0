#include "io/tensors/safetensors.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "io/tensors/safetensors_writer.hpp"
#include "kernels/core/error.hpp"
#include "tests/support/safetensors_text.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway {
namespace {

using testing::safetensors;
using testing::TemporaryFolder;

std::string bytes_of(const TensorFiles& files, const std::string& name) {
  const FileTensor& tensor = *files.find(name);
  std::string bytes(static_cast<std::size_t>(tensor.bytes()), '\0');
  files.read(tensor, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

std::string error_of(const std::string& path, ExitCode expected) {
  try {
    read_safetensors(path);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), expected) << error.what();
    return error.what();
  }
  return "accepted";
}

TEST(Safetensors, TensorsAreReadWithTypesAndShapes) {
  const TemporaryFolder folder;
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,1],"data_offsets":[4,8]},)"
      R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
      R"("none":{"dtype":"F16","shape":[0,3],"data_offsets":[4,4]},)"
      R"("i":{"dtype":"I64","shape":[1],"data_offsets":[8,16]}}   )";
  const TensorFiles files = read_safetensors(folder.write("x.safetensors", safetensors(header, "abcdefghijklmnop")));
  ASSERT_EQ(files.tensors().size(), 4u);
  EXPECT_EQ(bytes_of(files, "a"), "abcd");
  EXPECT_EQ(bytes_of(files, "b"), "efgh");
  EXPECT_EQ(bytes_of(files, "none"), "");
  EXPECT_EQ(bytes_of(files, "i"), "ijklmnop");
  EXPECT_EQ(files.find("b")->type, TensorType::bf16);
  EXPECT_EQ(files.find("b")->shape, (std::vector<std::int64_t>{2, 1}));
  EXPECT_TRUE(files.find("a")->shape.empty());
}

struct Damage {
  const char* header;
  const char* says;
  ExitCode code = ExitCode::corrupt;
};

TEST(Safetensors, EveryDamageOfAHeaderIsNamed) {
  const TemporaryFolder folder;
  const Damage table[] = {
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", "expected 8 for f32 [2]"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", "there is a gap"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       "there is an overlap"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "4 bytes after the last tensor's end"},
      {R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})", "ends at byte 16 of the data, expected 0 to 8"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", "there is a gap"},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})", "beyond the file's"},
      {R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", "not a list of numbers that are not negative"},
      {R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", "not a list of numbers that are not negative"},
      {R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8]}})", "has 9 axes"},
      {R"({"a":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}})", "'F8_E4M3'", ExitCode::usage},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       "the name 'a' twice"},
      {R"({"a":{"dtype":"F32","shape":[2]}})", "its members are not exactly"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}})", "its members are not exactly"},
      {R"({"a":[[[[[[1]]]]]]})", "nested more than"},
      {R"({"__metadata__":{"format":1}})", "__metadata__ is not an object of texts"},
      {R"([])", "is not a JSON object"},
      {R"({"a")", "is not JSON"},
  };
  for (const Damage& damage : table) {
    const std::string path = folder.write("x.safetensors", safetensors(damage.header, "12345678"));
    EXPECT_NE(error_of(path, damage.code).find(damage.says), std::string::npos) << damage.header << "\n"
                                                                                << error_of(path, damage.code);
  }
}

TEST(Safetensors, AHeaderSizeBeyondTheFileOrTheLimitIsRefused) {
  const TemporaryFolder folder;
  for (const std::uint64_t size : {std::uint64_t{3}, std::uint64_t{100'000'001}, ~std::uint64_t{0}}) {
    const std::string text = std::string(reinterpret_cast<const char*>(&size), 8) + "{}";
    EXPECT_NE(error_of(folder.write("x.safetensors", text), ExitCode::corrupt).find("its header has"),
              std::string::npos);
  }
  EXPECT_NE(error_of(folder.write("x.safetensors", "1234567"), ExitCode::corrupt).find("too few"), std::string::npos);
}

TEST(Safetensors, AnIndexNamesExactlyTheTensorsOfFilesBesideIt) {
  const TemporaryFolder folder;
  const std::string one = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                    other = R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  folder.write("1.safetensors", safetensors(one, "A"));
  folder.write("2.safetensors", safetensors(other, "B"));
  const auto with_map = [&](const std::string& map) {
    folder.write(safetensors_index_file, R"({"metadata":{"total_size":2},"weight_map":)" + map + "}");
    return folder / "";
  };
  const TensorFiles files = read_safetensors(with_map(R"({"a":"1.safetensors","b":"2.safetensors"})"));
  EXPECT_EQ(bytes_of(files, "b"), "B");
  const std::pair<const char*, const char*> refused[] = {
      {R"({"a":"1.safetensors","b":"1.safetensors"})", "tensor 'b' is missing in 1.safetensors"},
      {R"({"a":"1.safetensors","b":"3.safetensors"})", "names 3.safetensors, which is missing"},
      {R"({"a":"../1.safetensors"})", "expected the name of a file beside the index"},
      {R"({"a":".."})", "expected the name of a file beside the index"},
      {R"({"c":"1.safetensors"})", "is not what model.safetensors.index.json says about it"},
      {R"({"a":7})", "is not a text"},
      {"[]", "has no object weight_map"},
  };
  for (const auto& [map, says] : refused) {
    const std::string text = error_of(with_map(map), ExitCode::corrupt);
    EXPECT_NE(text.find(says), std::string::npos) << map << "\n" << text;
  }
}

TEST(Safetensors, WhatTheWriterWritesIsReadBackFromAnyNumberOfShards) {
  const std::vector<TensorPlan> plans = {{"half", TensorType::f16, {3}},
                                         {"wide", TensorType::f64, {2}},
                                         {"single", TensorType::f32, {1, 2}},
                                         {"last", TensorType::bf16, {}}};
  for (const std::int64_t most : {1, 20, 1000}) {
    const TemporaryFolder folder;
    SafetensorsWriter writer([&](const std::string& name) { return folder / name; }, plans, most);
    char next = 'a';
    std::map<std::string, std::string> written;
    for (const TensorPlan& tensor : writer.order()) {
      written[tensor.name] = std::string(static_cast<std::size_t>(tensor.bytes()), next++);
      writer.write(std::as_bytes(std::span(written[tensor.name])));
    }
    writer.finish();
    EXPECT_EQ(folder.count(), most == 1 ? 5u : most == 20 ? 4u : 1u);
    const TensorFiles files = read_safetensors(folder / "");
    ASSERT_EQ(files.tensors().size(), plans.size());
    for (const TensorPlan& plan : plans) {
      const FileTensor& tensor = *files.find(plan.name);
      EXPECT_EQ(tensor.type, plan.type);
      EXPECT_EQ(tensor.shape, plan.shape);
      EXPECT_EQ(tensor.begin % size_of(tensor.type), 0) << "every tensor is aligned";
      EXPECT_EQ(bytes_of(files, plan.name), written[plan.name]);
    }
  }
}

TEST(Safetensors, AFolderWithBothFormsOrNoneIsRefused) {
  const TemporaryFolder folder;
  EXPECT_NE(error_of(folder / "", ExitCode::usage).find("has neither"), std::string::npos);
  folder.write(safetensors_file, safetensors("{}", ""));
  folder.write(safetensors_index_file, R"({"weight_map":{}})");
  EXPECT_NE(error_of(folder / "", ExitCode::usage).find("has both"), std::string::npos);
}

}  // namespace
}  // namespace causeway
