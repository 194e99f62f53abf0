#include "src/op/batch.hpp"

#include <gtest/gtest.h>

#include "kernels/core/error.hpp"

namespace causeway::test {
namespace {

using Words = std::vector<std::string>;

TEST(Batch, WordsSplitAsAShellSplitsThem) {
  EXPECT_EQ(split_words("a  b\tc\r"), (Words{"a", "b", "c"}));
  EXPECT_EQ(split_words("'a b' \"c d\" e\\ f"), (Words{"a b", "c d", "e f"}));
  EXPECT_EQ(split_words("a'b'\"c\"d"), (Words{"abcd"}));
  EXPECT_EQ(split_words("'' \"\""), (Words{"", ""}));
  EXPECT_EQ(split_words("'a\\b' \"a\\\"b\" \"a\\b\""), (Words{"a\\b", "a\"b", "a\\b"}));
  EXPECT_EQ(split_words(" \t "), Words{});
}

TEST(Batch, AQuoteThatDoesNotEndIsAnError) {
  for (const char* line : {"'a", "\"a", "a\\", "'a\"", "\"a\\\""}) EXPECT_THROW(split_words(line), Error) << line;
}

TEST(Batch, ALineEndAtTheEndStartsNoLine) {
  EXPECT_EQ(split_lines("").size(), 0u);
  EXPECT_EQ(split_lines("a\nb").size(), 2u);
  EXPECT_EQ(split_lines("a\nb\n").size(), 2u);
  EXPECT_EQ(split_lines("a\n\nb\n").size(), 3u);
}

}  // namespace
}  // namespace causeway::test
