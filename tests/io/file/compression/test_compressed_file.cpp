#include "io/file/compression/compressed_file.hpp"

#include <gtest/gtest.h>

#include "kernels/core/error.hpp"
#include "tests/io/compressed.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway {
namespace {

using testing::Compressor;
using testing::TemporaryFolder;

std::string read_all(const std::string& path, std::size_t buffer_bytes) {
  CompressedFile file(path, buffer_bytes);
  std::string text, part(buffer_bytes, '\0');
  while (const std::size_t count = file.read(part)) text.append(part, 0, count);
  EXPECT_EQ(file.offset(), static_cast<std::int64_t>(std::filesystem::file_size(path)));
  return text;
}

std::string message_of(const std::string& path) {
  try {
    read_all(path, 64);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    return error.what();
  }
  return "no error";
}

const std::string text = "ACGTACGTACGTAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAACC";

class EveryCompression : public ::testing::TestWithParam<Compressor> {
 protected:
  std::string compressed(std::string_view bytes) const { return GetParam().compress(bytes); }
};
INSTANTIATE_TEST_SUITE_P(CompressedFile, EveryCompression, ::testing::ValuesIn(testing::compressors()),
                         [](const auto& row) { return row.param.name; });

TEST_P(EveryCompression, GivesTheSameTextForAnyBufferSizeAndAnyName) {
  const TemporaryFolder folder;
  const std::string bytes = compressed(text) + compressed("") + compressed(text);
  for (const std::string& name : {"a" + GetParam().ending, std::string("a"), std::string("a.txt")})
    for (std::size_t size = 1; size < 200; ++size) EXPECT_EQ(read_all(folder.write(name, bytes), size), text + text);
}

TEST_P(EveryCompression, GivesALongTextInBoundedParts) {
  const TemporaryFolder folder;
  std::string all;
  for (std::int64_t i = 0; i < 50'000; ++i) all += std::to_string(i * 7919);
  const std::string path = folder.write("a", compressed(all) + compressed(all));
  EXPECT_TRUE(read_all(path, 100) == all + all);
  EXPECT_TRUE(read_all(path, 1 << 18) == all + all);
}

// zlib's gzread() reports no error if the truncated text ends exactly at the end of its buffer.
TEST_P(EveryCompression, DetectsATruncatedFileForAnyReadSize) {
  const TemporaryFolder folder;
  const std::string bytes = compressed(text), name = "cut" + GetParam().ending;
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const std::string path = folder.write(name, std::string_view(bytes).substr(0, size));
    for (std::size_t buffer = 1; buffer < 100; buffer += buffer < 20 ? 1 : 7)
      EXPECT_THROW(read_all(path, buffer), Error) << size << " of " << bytes.size() << " by " << buffer;
  }
}

TEST_P(EveryCompression, OnlyItsPaddingMayFollowTheLastMember) {
  const TemporaryFolder folder;
  const std::string member = compressed(text), zeros(40, '\0');
  const auto refusal = [&](const std::string& after) { return message_of(folder.write("a", member + after)); };
  const bool padded = GetParam().name == "gzip" || GetParam().name == "xz";
  if (padded)
    EXPECT_EQ(read_all(folder.write("a", member + std::string(700, '\0')), 16), text);
  else
    EXPECT_NE(refusal(zeros).find("other bytes follow"), std::string::npos) << refusal(zeros);
  std::string damaged = member;
  damaged.front() = static_cast<char>(damaged.front() ^ 1);
  for (const std::string& after : {damaged, std::string("x"), zeros + "x", member.substr(0, 1), std::string("\x1f")})
    EXPECT_NE(refusal(after).find("other bytes follow its compressed data"), std::string::npos) << refusal(after);
}

TEST_P(EveryCompression, FindsAFlippedBitOrGivesTheSameText) {
  const TemporaryFolder folder;
  const std::string bytes = compressed(text);
  int found = 0;
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 8);
    try {
      // Without its magic a file is not compressed; zstd without a checksum cannot know its text.
      const std::string read = read_all(folder.write("a" + GetParam().ending, damaged), 64);
      EXPECT_TRUE(read == text || GetParam().name == "zstdWithoutChecksum") << at;
    } catch (const Error& error) {
      ++found;
      EXPECT_EQ(error.code(), ExitCode::usage) << error.what();
      EXPECT_NE(std::string(error.what()).find(folder / "a"), std::string::npos) << error.what();
    }
  }
  EXPECT_GT(found, static_cast<int>(bytes.size() / 4));
}

TEST_P(EveryCompression, IsExpectedByAName) {
  const TemporaryFolder folder;
  const std::string name = "a" + GetParam().ending;
  EXPECT_NE(message_of(folder.write(name, text)).find("but its name ends with " + GetParam().ending), std::string::npos)
      << message_of(folder.write(name, text));
  EXPECT_NE(message_of(folder.write(name, "")).find("is empty, but its name"), std::string::npos);
}

TEST(CompressedFile, GivesAnUncompressedFileUnchanged) {
  const TemporaryFolder folder;
  for (const std::string& plain :
       {std::string(), std::string("\x1f"), text, "\x1f\x8c" + text, "BZh9" + text, "(\xb5/" + text})
    for (const std::size_t bytes : {1, 2, 7, 1000}) EXPECT_EQ(read_all(folder.write("a", plain), bytes), plain);
}

TEST(CompressedFile, ABuildWithoutALibraryNamesItAndTheFile) {
  const TemporaryFolder folder;
  const std::pair<const char*, std::string> first_bytes[] = {
      {"zstd", "\x28\xb5\x2f\xfd ............."},
      {"xz", std::string("\xfd"
                         "7zXZ\0 .............",
                         19)},
      {"bzip2", "BZh91AY&SY............."},
  };
  int missing = 0;
  for (const auto& [name, bytes] : first_bytes) {
    const std::string path = folder.write("a", bytes), found = message_of(path);
    const Compression* const compression = compression_of_bytes(bytes);
    ASSERT_NE(compression, nullptr) << name;
    EXPECT_EQ(compression->name, name);
    if (compression->open != nullptr) continue;
    ++missing;
    EXPECT_NE(found.find(path + ": is compressed with " + name), std::string::npos) << found;
    EXPECT_NE(found.find(std::string(compression->library)), std::string::npos) << found;
  }
  if (missing == 0) GTEST_SKIP() << "this build has all libraries";
}

#if CAUSEWAY_ZSTD
TEST(CompressedFile, AZstdWindowThatNeedsTooMuchMemoryIsRefused) {
  const TemporaryFolder folder;
  const std::string message = message_of(folder.write("a", testing::zstd(text, 28)));
  EXPECT_NE(message.find("needs a window of more than 128 MiB"), std::string::npos) << message;
  EXPECT_EQ(read_all(folder.write("a", testing::zstd(text, 27)), 64), text);
}

TEST(CompressedFile, FramesOfZstdToSkipHoldNoText) {
  const TemporaryFolder folder;
  const std::string skipped("\x5a\x2a\x4d\x18\3\0\0\0abc", 11);
  EXPECT_EQ(read_all(folder.write("a", skipped + testing::zstd(text) + skipped + testing::zstd(text)), 16),
            text + text);
  EXPECT_EQ(read_all(folder.write("a", skipped), 16), "");
}
#endif

#if CAUSEWAY_LZMA
TEST(CompressedFile, AnXzDictionaryThatNeedsTooMuchMemoryIsRefused) {
  const TemporaryFolder folder;
  const std::string message = message_of(folder.write("a", testing::xz(text, 512u << 20)));
  EXPECT_NE(message.find("MiB of memory to be decompressed, expected at most 256 MiB"), std::string::npos) << message;
}

TEST(CompressedFile, PaddingOfXzIsInMultiplesOfFourAndMayStandBetweenStreams) {
  const TemporaryFolder folder;
  const std::string member = testing::xz(text);
  EXPECT_EQ(read_all(folder.write("a", member + std::string(8, '\0') + member), 16), text + text);
  EXPECT_NE(message_of(folder.write("a", member + std::string(3, '\0'))).find("other bytes follow"), std::string::npos);
}
#endif

}  // namespace
}  // namespace causeway
