#include <gtest/gtest.h>

#include "tests/src/shell.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

TEST(Inspect, ListsLayersByTheirNumber) {
  const TemporaryFolder folder;
  folder.write("a.txt", "abcabcabcabcabc");
  ASSERT_EQ(shell(folder, "@causeway import a.txt --out data.h5").exit, 0);
  ASSERT_EQ(shell(folder,
                  "@causeway train --data data.h5 --run run --layers mamba*11 --width 4 --state 2 --pack-tokens 16 "
                  "--steps 1")
                .exit,
            0);
  const Outcome outcome = shell(folder, "@causeway inspect run");
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  const std::size_t one = outcome.out.find("backbone.layers.1.norm"), two = outcome.out.find("backbone.layers.2.norm"),
                    nine = outcome.out.find("backbone.layers.9.norm"),
                    ten = outcome.out.find("backbone.layers.10.norm");
  EXPECT_LT(one, two) << outcome.out;
  EXPECT_LT(two, nine) << outcome.out;
  EXPECT_LT(nine, ten) << outcome.out;
  EXPECT_NE(ten, std::string::npos) << outcome.out;
}

}  // namespace
}  // namespace causeway::test
