#include "io/checkpoint/streamed_checkpoint.hpp"

#include <gtest/gtest.h>

#include <cstring>

#include "io/checkpoint/checkpoint.hpp"
#include "io/tensors/float16.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway {
namespace {

using testing::TemporaryFolder;

constexpr TensorType types[] = {TensorType::f64, TensorType::f32, TensorType::f16, TensorType::bf16};

/// A tensor of each type: element i of tensor t is (i % 32 - 8) / 4 + t, which all types hold.
double value_of(std::size_t tensor, std::int64_t i) {
  return static_cast<double>(i % 32 - 8) / 4 + static_cast<double>(tensor);
}

StreamedCheckpoint four_types(const TemporaryFolder& folder) {
  StreamedCheckpoint checkpoint{.path_of = [&](const std::string& name) { return folder / name; }};
  checkpoint.content.attributes = {{"width", std::int64_t{7}}};
  checkpoint.content.state = {{"step", std::int64_t{0}}};
  checkpoint.content.source = CheckpointSource{
      .format = "huggingface", .config = "{}", .extras = {"lm_head.weight f32"}, .types = {"f64 f32", "f32 bf16 f16"}};
  for (const TensorType type : types)
    checkpoint.content.tensors.push_back(
        {.name = fmt::format("parameters/{}", name_of(type)), .shape = {3, 1000, 200}, .stored = stored_as(type)});
  checkpoint.read = [](std::size_t tensor, std::int64_t begin, std::span<std::byte> out) {
    const std::int64_t each = size_of(types[tensor]);
    std::vector<double> values;
    for (std::int64_t i = begin / each; i < (begin + std::ssize(out)) / each; ++i)
      values.push_back(value_of(tensor, i));
    convert_elements(TensorType::f64, std::as_bytes(std::span(values)), types[tensor], out);
  };
  return checkpoint;
}

TEST(StreamedCheckpoint, TensorsOfEveryTypeAreReadInEveryType) {
  for (const std::int64_t most : {std::int64_t{1}, std::int64_t{1} << 40}) {
    const TemporaryFolder folder;
    StreamedCheckpoint written = four_types(folder);
    written.most_shard_bytes = most;
    write_streamed_checkpoint(written);
    EXPECT_EQ(folder.count(), most == 1 ? 6u : 3u);
    const Checkpoint checkpoint(folder / "");
    ASSERT_EQ(checkpoint.tensors().size(), 4u);
    for (std::size_t t = 0; t < 4; ++t) {
      const std::string name = fmt::format("parameters/{}", name_of(types[t]));
      EXPECT_EQ(tensor_type_of(checkpoint.tensor(name).type), types[t]);
      for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
        const Range range{1234, 500'001};
        dispatch(dtype, [&]<class T>() {
          std::vector<T> values(static_cast<std::size_t>(range.size()));
          checkpoint.read(name, {3, 1000, 200}, dtype, range, values.data());
          for (std::int64_t i = 0; i < range.size(); ++i)
            ASSERT_EQ(static_cast<double>(static_cast<Accumulator<T>>(values[static_cast<std::size_t>(i)])),
                      value_of(t, range.begin + i));
        });
      }
      std::vector<std::byte> stored(static_cast<std::size_t>(100 * size_of(types[t]))), wanted(stored.size());
      checkpoint.read_stored(name, 70, stored);
      written.read(t, 70 * size_of(types[t]), wanted);
      EXPECT_EQ(stored, wanted);
    }
  }
}

TEST(StreamedCheckpoint, WhatItWasMadeFromIsKept) {
  const TemporaryFolder folder;
  write_streamed_checkpoint(four_types(folder));
  const auto source = Checkpoint(folder / "").source();
  ASSERT_TRUE(source.has_value());
  EXPECT_EQ(source->format, "huggingface");
  EXPECT_EQ(source->config, "{}");
  EXPECT_EQ(source->extras, (std::vector<std::string>{"lm_head.weight f32"}));
  EXPECT_EQ(source->types, (std::vector<std::string>{"f64 f32", "f32 bf16 f16"}));
}

}  // namespace
}  // namespace causeway
