#include <gtest/gtest.h>

#include <string>

#include "io/data/complement.hpp"

namespace causeway {
namespace {

std::string complemented(std::string text) {
  for (char& letter : text) letter = static_cast<char>(complement_of(letter));
  return text;
}

TEST(Complement, FollowsIupacInBothCases) {
  EXPECT_EQ(complemented("ACGTRYKMBVDHSWN"), "TGCAYRMKVBHDSWN");
  EXPECT_EQ(complemented("acgtrykmbvdhswn"), "tgcayrmkvbhdswn");
  EXPECT_EQ(complemented("Uu"), "Aa");
}

TEST(Complement, LeavesTokensThatAreNoNucleotide) {
  EXPECT_EQ(complemented("-*.|EXz0\n"), "-*.|EXz0\n");
  for (const std::int32_t token : {-1, 0, 1, 128, 255, 256, 'A' + 256, 50279}) EXPECT_EQ(complement_of(token), token);
}

}  // namespace
}  // namespace causeway
