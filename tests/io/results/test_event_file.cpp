#include "io/results/event_file.hpp"

#include <gtest/gtest.h>

#include <filesystem>

#include "kernels/core/error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::bytes_of;
using testing::TemporaryFolder;
using namespace std::string_literals;

TEST(EventFile, TheChecksumIsThatOfTheStandard) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283U);
  EXPECT_EQ(crc32c(""), 0U);
  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aaU);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43U);
}

TEST(EventFile, ARecordIsThatOfTensorFlow) {
  // Written by tensorboard.summary.writer.record_writer.RecordWriter of tensorboard 2.21.
  EXPECT_EQ(tf_record("hello"), "\x05\0\0\0\0\0\0\0\xea\xb2\x04\x3ehello\xbb\x1f\x1c\x19"s);
}

TEST(EventFile, AFileHasTheBytesOfItsEvents) {
  const TemporaryFolder folder;
  EventFile file(folder / "", "host", 1.5);
  EXPECT_EQ(std::filesystem::path(file.path()).filename().string().find("events.out.tfevents.0000000001.host."), 0u);
  file.restart_at(3, 2.5);
  const std::vector<Scalar> scalars = {{.tag = "train/loss", .value = 0.5F}, {.tag = "a", .value = -2}};
  file.add(300, 2.5, scalars);
  file.add(301, 2.5, {});
  const std::string time = "\x09\0\0\0\0\0\0\xf8\x3f"s, later = "\x09\0\0\0\0\0\0\x04\x40"s;
  EXPECT_EQ(bytes_of(file.path()),
            tf_record(time + "\x1a\x0d"
                             "brain.Event:2") +
                tf_record(later + "\x10\x03\x3a\x02\x08\x01"s) +
                tf_record(later + "\x10\xac\x02\x2a\x1d"s + "\x0a\x11\x0a\x0atrain/loss\x15\0\0\0\x3f"s +
                          "\x0a\x08\x0a\x01"
                          "a\x15\0\0\0\xc0"s));
}

TEST(EventFile, TheNextFileOfAFolderHasALaterName) {
  const TemporaryFolder folder;
  folder.write("events.out.tfevents.2000000000.other.1", "");
  folder.write("events.out.tfevents.nonsense", "");
  const EventFile first(folder / "", "host", 1e9), second(folder / "", "host", 1e9);
  EXPECT_NE(first.path().find("tfevents.2000000001.host"), std::string::npos) << first.path();
  EXPECT_NE(second.path().find("tfevents.2000000002.host"), std::string::npos) << second.path();
  EXPECT_THROW(EventFile(folder / "missing", "host", 1), Error);
}

}  // namespace
}  // namespace causeway::test
