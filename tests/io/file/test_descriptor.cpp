#include "io/file/descriptor.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>
#include <thread>

#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::bytes_of;
using testing::TemporaryFolder;

TEST(WriteAll, WritesTheRestAfterAShortWrite) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_NONBLOCK), 0);  // a pipe takes at most its 64 KiB at once
  const Descriptor out(ends[1]);
  const std::string text(300000, 'x');
  std::string got;
  std::thread reader([&, in = ends[0]] {
    std::array<char, 4096> block{};
    while (got.size() < text.size()) {
      const ssize_t count = ::read(in, block.data(), block.size());
      if (count > 0) got.append(block.data(), static_cast<std::size_t>(count));
    }
    ::close(in);
  });
  EXPECT_TRUE(write_all(out.get(), text));
  reader.join();
  EXPECT_EQ(got, text);
}

TEST(WriteAll, GivesTheReasonOfWhatStoppedAShortWrite) {
  const Descriptor full(::open("/dev/full", O_WRONLY));
  if (!full) GTEST_SKIP() << "no /dev/full";
  errno = 0;
  EXPECT_FALSE(write_all(full.get(), "text"));
  EXPECT_EQ(errno, ENOSPC);
}

TEST(WriteAll, WritesAtAnOffset) {
  const TemporaryFolder folder;
  const std::string path = folder.write("f", "0123456789");
  const Descriptor file(::open(path.c_str(), O_WRONLY));
  EXPECT_TRUE(write_all_at(file.get(), "abc", 4));
  EXPECT_EQ(bytes_of(path), "0123abc789");
}

}  // namespace
}  // namespace causeway::test
