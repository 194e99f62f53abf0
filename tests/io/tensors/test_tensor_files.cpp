#include "io/tensors/tensor_files.hpp"

#include <gtest/gtest.h>

#include "kernels/core/error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway {
namespace {

using testing::TemporaryFolder;

class FilesOfTensors : public ::testing::Test {
 protected:
  FilesOfTensors() {
    files_.add_source(ByteSource(
        {folder_.write("w.part0", "abc"), folder_.write("w.part1", ""), folder_.write("w.part2", "defghijkl")}));
  }
  std::string read(FileTensor tensor) {
    tensor.name = fmt::format("t{}", files_.tensors().size());
    files_.add(tensor);
    std::string bytes(static_cast<std::size_t>(tensor.bytes()), '\0');
    files_.read(tensor, std::as_writable_bytes(std::span(bytes)));
    return bytes;
  }
  TemporaryFolder folder_;
  TensorFiles files_;
};

TEST_F(FilesOfTensors, BytesOfPartsThatFollowEachOtherAreOneRange) {
  EXPECT_EQ(read({.type = TensorType::u8, .shape = {6}, .strides = {1}, .begin = 1}), "bcdefg");
  EXPECT_EQ(read({.type = TensorType::u8, .shape = {}, .strides = {}, .begin = 11}), "l");
}

TEST_F(FilesOfTensors, AViewIsReadRowMajor) {
  EXPECT_EQ(read({.type = TensorType::u8, .shape = {4, 3}, .strides = {1, 4}, .begin = 0}), "aeibfjcgkdhl");
  EXPECT_EQ(read({.type = TensorType::f16, .shape = {2, 2}, .strides = {1, 2}, .begin = 0}), "abefcdgh");
  EXPECT_EQ(read({.type = TensorType::u8, .shape = {2, 2}, .strides = {0, 3}, .begin = 2}), "cfcf");
}

TEST_F(FilesOfTensors, ElementsOutsideOfTheFileAreRefused) {
  constexpr std::int64_t huge = std::int64_t{1} << 62;
  const FileTensor refused[] = {{.type = TensorType::u8, .shape = {13}, .strides = {1}},
                                {.type = TensorType::u8, .shape = {12}, .strides = {1}, .begin = 1},
                                {.type = TensorType::u8, .shape = {1}, .strides = {1}, .begin = -1},
                                {.type = TensorType::u8, .shape = {2}, .strides = {12}},
                                {.type = TensorType::f64, .shape = {huge, 4}, .strides = {4, 1}},
                                {.type = TensorType::u8, .shape = {huge, huge}, .strides = {0, 0}},
                                {.type = TensorType::u8, .shape = {2}, .strides = {huge}},
                                {.type = TensorType::u8, .shape = {-1}, .strides = {1}}};
  for (const FileTensor& tensor : refused) {
    try {
      files_.add(tensor);
      ADD_FAILURE() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::corrupt) << error.what();
    }
  }
  EXPECT_TRUE(files_.tensors().empty());
}

TEST_F(FilesOfTensors, ANameIsThereOnce) {
  files_.add({.name = "a", .type = TensorType::u8, .shape = {1}, .strides = {1}});
  EXPECT_THROW(files_.add({.name = "a", .type = TensorType::u8, .shape = {1}, .strides = {1}}), Error);
  EXPECT_NE(files_.find("a"), nullptr);
  EXPECT_EQ(files_.find("b"), nullptr);
}

}  // namespace
}  // namespace causeway
