#include "src/output/safe_text.hpp"

#include <gtest/gtest.h>

namespace causeway::test {
namespace {

TEST(SafeText, ShowsWhatControlsATerminalAsEscapes) {
  EXPECT_EQ(one_line("step \033[2J\a\r\n\t\x7f 7"), "step \\x1b[2J\\x07\\x0d\\x0a\\x09\\x7f 7");
  EXPECT_EQ(one_line(std::string("a\0b", 3)), "a\\x00b");
  EXPECT_EQ(one_line("\xc2\x9b"
                     "2J"),
            "\\u009b2J");  // the control sequence introducer as U+009B
  EXPECT_EQ(one_line("\x9b"
                     "2J"),
            "\\x9b2J");                                      // and as a byte of Latin-1
  EXPECT_EQ(one_line("a\xe2\x80\xaeh5.x"), "a\\u202eh5.x");  // writes from right to left
  EXPECT_EQ(one_line("a\xe2\x81\xa6\xe2\x80\x8b"), "a\\u2066\\u200b");
  EXPECT_EQ(one_line("\xf3\xa0\x80\xa0|\xef\xbb\xbf"), "\\ue0020|\\ufeff");
}

TEST(SafeText, ShowsBytesThatAreNotUtf8AsEscapes) {
  EXPECT_EQ(one_line("caf\xe9 1"), "caf\\xe9 1");
  EXPECT_EQ(one_line("\xc1\x9b|\xe0\x80\x9b|\xed\xa0\x80"), "\\xc1\\x9b|\\xe0\\x80\\x9b|\\xed\\xa0\\x80");
  EXPECT_EQ(one_line("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");  // above U+10FFFF
  EXPECT_EQ(one_line("\xe2\x96"), "\\xe2\\x96");                    // cut short
}

TEST(SafeText, LeavesTextInAnyScript) {
  const std::string text = "München 漢字 файл ε × ⣿ 😀";
  EXPECT_EQ(one_line(text), text);
  EXPECT_EQ(safe_lines("a\tb\nc\r\n"), "a\tb\nc\\x0d\n");
}

TEST(SafeText, CutsALongTextInTheMiddleBetweenCharacters) {
  const std::string line = one_line("begin" + std::string(1 << 20, 'x') + "end", 90);
  EXPECT_LE(line.size(), 100u);
  EXPECT_TRUE(line.starts_with("begin"));
  EXPECT_TRUE(line.ends_with("end"));
  std::string wide;
  for (int i = 0; i < 1000; ++i) wide += "漢";
  for (std::size_t longest = 90; longest < 99; ++longest)
    EXPECT_EQ(one_line(wide, longest).find('\\'), std::string::npos) << longest;
}

TEST(SafeText, KnowsAnUnfinishedCharacter) {
  EXPECT_EQ(incomplete_bytes(""), 0u);
  EXPECT_EQ(incomplete_bytes("abc"), 0u);
  EXPECT_EQ(incomplete_bytes("a\xc3"), 1u);
  EXPECT_EQ(incomplete_bytes("a\xe6\xbc"), 2u);
  EXPECT_EQ(incomplete_bytes("\xf0\x9f\x98"), 3u);
  EXPECT_EQ(incomplete_bytes("\xe6\xbc\xa2"), 0u);
  EXPECT_EQ(incomplete_bytes("\x80\x80"), 0u);
}

}  // namespace
}  // namespace causeway::test
