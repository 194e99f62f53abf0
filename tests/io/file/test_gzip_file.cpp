#include "io/file/gzip_file.hpp"

#include <gtest/gtest.h>
#include <zlib.h>

#include "kernels/core/error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway {
namespace {

using testing::TemporaryFolder;

std::string compressed(const TemporaryFolder& folder, const std::string& text) {
  const gzFile file = gzopen((folder / "made.gz").c_str(), "wb");
  gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  gzclose(file);
  return testing::bytes_of(folder / "made.gz");
}

std::string read_all(const std::string& path, std::size_t buffer_bytes) {
  GzipFile file(path, buffer_bytes);
  std::string text, part(buffer_bytes, '\0');
  while (const std::size_t count = file.read(part)) text.append(part, 0, count);
  return text;
}

const std::string text = "ACGTACGTACGTAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAACC";

TEST(GzipFile, GivesTheSameTextForAnyBufferSize) {
  const TemporaryFolder folder;
  const std::string path =
      folder.write("a.gz", compressed(folder, text) + compressed(folder, "") + compressed(folder, text));
  for (std::size_t bytes = 1; bytes < 200; ++bytes) EXPECT_EQ(read_all(path, bytes), text + text) << bytes;
}

TEST(GzipFile, GivesAnUncompressedFileUnchanged) {
  const TemporaryFolder folder;
  for (const std::string& plain : {std::string(), std::string("\x1f"), text, "\x1f\x8c" + text})
    for (const std::size_t bytes : {1, 2, 7, 1000}) EXPECT_EQ(read_all(folder.write("a", plain), bytes), plain);
}

// zlib's gzread() reports no error if the truncated text ends exactly at the end of its buffer.
TEST(GzipFile, DetectsATruncatedFileForAnyReadSize) {
  const TemporaryFolder folder;
  const std::string bytes = compressed(folder, text);
  for (std::size_t size = 2; size < bytes.size(); ++size) {
    const std::string path = folder.write("cut.gz", std::string_view(bytes).substr(0, size));
    for (std::size_t buffer = 1; buffer < 100; ++buffer)
      EXPECT_THROW(read_all(path, buffer), Error) << size << " of " << bytes.size() << " by " << buffer;
  }
}

TEST(GzipFile, OnlyZerosMayFollowTheLastMember) {
  const TemporaryFolder folder;
  const std::string member = compressed(folder, text);
  EXPECT_EQ(read_all(folder.write("a.gz", member + std::string(700, '\0')), 16), text);
  std::string damaged = member;
  damaged.front() = '\x1e';
  for (const std::string& after : {damaged, std::string("x"), std::string(40, '\0') + "x", std::string("\x1f")})
    EXPECT_THROW(read_all(folder.write("a.gz", member + after), 16), Error);
}

}  // namespace
}  // namespace causeway
