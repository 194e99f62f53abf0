#include "io/tensors/zip_directory.hpp"

#include <gtest/gtest.h>

#include "kernels/core/error.hpp"
#include "tests/support/temporary_folder.hpp"
#include "tests/support/torch_archive.hpp"

namespace causeway {
namespace {

using testing::ZipForm;
using testing::ZipMember;

const std::vector<ZipMember> two_members = {{"a/x", "hello"}, {"a/empty", ""}, {"a/y", std::string(100, 'y')}};

class ZipDirectory : public ::testing::Test {
 protected:
  std::vector<ZipEntry> read(const std::string& bytes) {
    return read_zip_directory(ByteSource(folder_.write("archive.zip", bytes)));
  }
  int refusal(const std::string& bytes) {
    try {
      read(bytes);
      return 0;
    } catch (const Error& error) {
      return static_cast<int>(error.code());
    }
  }
  testing::TemporaryFolder folder_;
};

TEST_F(ZipDirectory, FindsMembersBehindTheirLocalHeaders) {
  for (const bool zip64 : {false, true}) {
    const std::string bytes = testing::zip_archive(two_members, {.zip64 = zip64});
    const std::vector<ZipEntry> entries = read(bytes);
    ASSERT_EQ(entries.size(), two_members.size());
    for (std::size_t n = 0; n < entries.size(); ++n) {
      EXPECT_EQ(entries[n].name, two_members[n].name);
      EXPECT_EQ(bytes.substr(static_cast<std::size_t>(entries[n].offset), static_cast<std::size_t>(entries[n].bytes)),
                two_members[n].bytes);
    }
  }
}

TEST_F(ZipDirectory, IsDamagedWhereverItIsCut) {
  for (const bool zip64 : {false, true}) {
    const std::string bytes = testing::zip_archive(two_members, {.zip64 = zip64});
    for (std::size_t size = 0; size < bytes.size(); ++size) EXPECT_EQ(refusal(bytes.substr(0, size)), 65) << size;
  }
}

TEST_F(ZipDirectory, ReadsTheSameOrRefusesWhereverAByteOfItsStructuresChanges) {
  const std::string bytes = testing::zip_archive(two_members, {.zip64 = true});
  for (std::size_t at = 0; at < bytes.size(); ++at)
    for (const char change : {'\x01', '\x80', '\xff'}) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(damaged[at] ^ change);
      try {
        for (const ZipEntry& entry : read(damaged)) EXPECT_LE(entry.offset + entry.bytes, std::ssize(bytes)) << at;
      } catch (const Error& error) {
        EXPECT_TRUE(error.code() == ExitCode::corrupt || error.code() == ExitCode::usage) << error.what();
      }
    }
}

TEST_F(ZipDirectory, RefusesCompressedAndEncryptedMembers) {
  EXPECT_EQ(refusal(testing::zip_archive(two_members, {.method = 8})), 2);
  EXPECT_EQ(refusal(testing::zip_archive(two_members, {.flags = 1})), 2);
}

TEST_F(ZipDirectory, RefusesANameThatOccursTwice) {
  EXPECT_EQ(refusal(testing::zip_archive(std::vector<ZipMember>{{"a", "1"}, {"a", "2"}})), 65);
}

TEST_F(ZipDirectory, RefusesMembersThatOverlap) {
  std::string bytes = testing::zip_archive(std::vector<ZipMember>{{"a", "12345678"}, {"b", "12345678"}});
  const std::size_t second = bytes.rfind("PK\x01\x02");
  bytes.replace(second + 42, 4, std::string(4, '\0'));  // the local header of the first
  EXPECT_EQ(refusal(bytes), 65);
}

TEST_F(ZipDirectory, KnowsAnArchiveByItsStart) {
  EXPECT_TRUE(looks_like_zip(ByteSource(folder_.write("a", testing::zip_archive(two_members)))));
  EXPECT_FALSE(looks_like_zip(ByteSource(folder_.write("b", std::string(100, 'x')))));
  EXPECT_FALSE(looks_like_zip(ByteSource(folder_.write("c", ""))));
}

}  // namespace
}  // namespace causeway
