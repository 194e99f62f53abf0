#include "src/cli/cores.hpp"

#include <gtest/gtest.h>

#include "kernels/core/threads.hpp"
#include "tests/src/shell.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

TEST(Threads, OnlyAnAbsurdNumberIsBounded) {
  for (const char* sensible : {"", "1", "4,2", " 8", "0", "-1", "abc", "-99999999999999999999", "256"})
    EXPECT_FALSE(bounded_threads(sensible)) << sensible;
  for (const char* absurd : {"100000", "99999999999999999999", "100000,2", " 1000000"}) {
    ASSERT_TRUE(bounded_threads(absurd)) << absurd;
    EXPECT_GE(*bounded_threads(absurd), 256);
    EXPECT_LT(*bounded_threads(absurd), 100000);
  }
}

TEST(Threads, AnAbsurdOmpNumThreadsIsBoundedWithAWarning) {
  const TemporaryFolder folder;
  folder.write("a.fa", ">a\nACGTACGTACGTAGCTAGCTAGCATCGATCGATCGAC\n");
  ASSERT_EQ(shell(folder, "@causeway import a.fa --out d.h5").exit, 0);
  const std::string train =
      "@causeway train --data d.h5 --model mamba-tiny --width 16 --layers-count 1 --pack-tokens 64 --steps 1 --run ";
  const Outcome many = shell(folder, "sh -c 'OMP_NUM_THREADS=100000 " + train + "r1'");
  EXPECT_EQ(many.exit, 0) << many.err;
  EXPECT_NE(many.err.find("warning: OMP_NUM_THREADS is 100000"), std::string::npos) << many.err;
  EXPECT_EQ(shell(folder, "sh -c 'OMP_NUM_THREADS=4,2 " + train + "r2'").exit, 0);
  EXPECT_EQ(shell(folder, "sh -c 'OMP_NUM_THREADS=abc " + train + "r3'").exit, 0);
  // Threads that the system does not let start: an error with the reason, before anything is written.
  const Outcome large =
      shell(folder, "sh -c 'ulimit -v 8000000; OMP_NUM_THREADS=2 OMP_STACKSIZE=100G " + train + "r4'");
  EXPECT_EQ(large.exit, 1);
  EXPECT_NE(large.err.find("more threads, but it needs"), std::string::npos) << large.err;
  EXPECT_FALSE(std::filesystem::exists(folder / "r4"));
}

}  // namespace
}  // namespace causeway::test
