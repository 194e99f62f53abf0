#include "src/watch/text.hpp"

#include <gtest/gtest.h>

#include "src/output/safe_text.hpp"

namespace causeway::test {
namespace {

TEST(WatchText, ReplacesEverythingThatControlsATerminal) {
  EXPECT_EQ(printable("step \033[2J\a\r\n\t\x7f 7", true), "step ?[2J????? 7");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m",
                      true),
            "?31m");  // CSI as one C1 character
  EXPECT_EQ(printable("\x9b"
                      "31m",
                      true),
            "?31m");  // and as a bare byte
  EXPECT_EQ(printable("a\xe2\x80\xae"
                      "b",
                      true),
            "a?b");                                                                // right to left from here on
  EXPECT_EQ(printable("\xc1\x9b|\xe0\x80\x9b|\xe0\x81\x81", true), "??|???|???");  // overlong
  EXPECT_EQ(printable("\xf0\x9f\x98\x80|\xe6\xbc\xa2", true), "?|?");              // two columns each
  EXPECT_EQ(printable("\xe2\x96", true), "??");                                    // cut short
  EXPECT_EQ(printable(std::string("a\0b", 3), true), "a?b");
}

TEST(WatchText, LettersBlocksAndBrailleTakeOneColumnEach) {
  EXPECT_EQ(printable("München 2 × 3 ⣿█", true), "München 2 × 3 ⣿█");
  EXPECT_EQ(columns_of("München 2 × 3 ⣿█"), 16);
  EXPECT_EQ(printable("2 × 3", false), "2 ? 3");
}

TEST(WatchText, ALineIsCutAtTheWidth) {
  const Line line{{"abc", Style::bold}, {"×××"}, {"end  "}, {"   "}};
  EXPECT_EQ(render(line, {.width = 80}), "abc×××end");
  EXPECT_EQ(render(line, {.width = 5}), "abc××");
  EXPECT_EQ(render(line, {.width = 5, .colour = true}), "\033[1mabc\033[0m××");
  EXPECT_EQ(render({{std::string(1 << 20, 'x')}}, {.width = 3}), "xxx");
  EXPECT_EQ(render({}, {.width = 3}), "");
}

}  // namespace
}  // namespace causeway::test
