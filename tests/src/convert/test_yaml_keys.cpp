#include "src/convert/yaml_keys.hpp"

#include <gtest/gtest.h>

#include "kernels/core/error.hpp"
#include "tests/support/yaml.hpp"

namespace causeway {
namespace {

/// The message of the error that `work` throws, which must be Error(usage).
template <class Work>
std::string refusal(Work&& work) {
  try {
    work();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage) << error.what();
    return error.what();
  }
  return "";
}
std::string refusal_of(const std::string& text) {
  return refusal([&] { YamlKeys(text, "model.yml"); });
}

class YamlKeysTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!testing::has_yaml()) GTEST_SKIP() << "this build has no yaml-cpp";
  }
};

TEST_F(YamlKeysTest, ReadsBlockAndFlowStyle) {
  const YamlKeys keys("# a comment\na: 3\nb: [1, 2]\nc:\n- 4\n- 5\nd: true\ne: 1.0e-06\nf: 'gelu'\ng: null\nh:\n", "m");
  EXPECT_EQ(keys.integer("a"), 3);
  EXPECT_EQ(keys.integers("b"), (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(keys.integers("c"), (std::vector<std::int64_t>{4, 5}));
  EXPECT_TRUE(keys.boolean("d"));
  EXPECT_EQ(keys.number("e"), 1e-6);
  EXPECT_EQ(keys.word("f", ""), "gelu");
  EXPECT_FALSE(keys.has("g"));
  EXPECT_EQ(keys.integer("h", 7), 7);
  EXPECT_EQ(YamlKeys("{a: 3, b: [1]}", "m").integer("a"), 3);
}

TEST_F(YamlKeysTest, NamesAKeyWithAWrongValue) {
  const YamlKeys keys("a: x\nb: [1, y]\nc: -1\nd: [1]\ne: yes please\n", "model.yml");
  EXPECT_EQ(refusal([&] { keys.integer("a"); }), "model.yml: a is x, expected a number of 0 to 2147483647");
  EXPECT_EQ(refusal([&] { keys.number("a"); }), "model.yml: a is x, expected a number");
  EXPECT_EQ(refusal([&] { keys.integers("b"); }),
            "model.yml: b is [1, y], expected a list of numbers that are not negative");
  EXPECT_EQ(refusal([&] { keys.integer("c"); }), "model.yml: c is -1, expected a number of 0 to 2147483647");
  EXPECT_EQ(refusal([&] { keys.integer("d"); }), "model.yml: d is [1], expected one value");
  EXPECT_EQ(refusal([&] { keys.boolean("e"); }), "model.yml: e is yes please, expected true or false");
  EXPECT_EQ(refusal([&] { keys.integer("absent"); }), "model.yml: absent is missing");
}

TEST_F(YamlKeysTest, NamesKeysThatNothingAskedFor) {
  const YamlKeys keys("a: 1\nb: 2\nc: [3]\n", "model.yml");
  keys.integer("a");
  EXPECT_EQ(refusal([&] { keys.refuse_others(); }),
            "model.yml: has keys that Causeway does not know, and cannot honour: b (2), c ([3])");
  keys.ignore("b");
  keys.ignore("c");
  EXPECT_EQ(refusal([&] { keys.refuse_others(); }), "");
}

TEST_F(YamlKeysTest, RefusesAliasesAndLevels) {
  EXPECT_NE(refusal_of("a: &x [1, 1]\nb: *x\n").find("line 2 has an alias"), std::string::npos);
  EXPECT_NE(refusal_of("a:\n  b: 1\n").find("a map inside of a map"), std::string::npos);
  EXPECT_NE(refusal_of("a: [[1]]\n").find("a list inside a list"), std::string::npos);
  EXPECT_NE(refusal_of("? [a]\n: 1\n").find("list as key"), std::string::npos);
  EXPECT_NE(refusal_of("a: " + std::string(100'000, '[')).find("m"), std::string::npos);
  EXPECT_NE(refusal_of("- 1\n").find("a list inside a list or a list as key"), std::string::npos);
  for (const char* text : {"", "word", "a: [1", "a: 'x", "\x80\x02}", "a: 1\n b: 2\n"})
    EXPECT_NE(refusal_of(text), "") << text;
}

TEST_F(YamlKeysTest, AKeyThatIsThereTwiceMustHaveOneValue) {
  EXPECT_EQ(YamlKeys("a: 1\na: 1\n", "m").integer("a"), 1);
  EXPECT_EQ(refusal_of("a: 1\na: 2\n"), "model.yml: a is there twice, as 1 and as 2");
}

}  // namespace
}  // namespace causeway
