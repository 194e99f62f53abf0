#include "io/tensors/pickle.hpp"

#include <gtest/gtest.h>

#include "kernels/core/error.hpp"
#include "tests/support/torch_archive.hpp"

namespace causeway {
namespace {

using namespace testing::pickled;
using Kind = PickleValue::Kind;

constexpr std::string_view known[] = {"collections OrderedDict", "_io BytesIO", "torch Size"};

/// The exit code and the message of reading a pickle; 0 and "" if it is read.
std::pair<int, std::string> refusal(const std::string& bytes) {
  try {
    const Pickle pickle(bytes, "data.pkl", known);
    return {0, ""};
  } catch (const Error& error) {
    return {static_cast<int>(error.code()), error.what()};
  }
}

TEST(Pickle, ReadsNumbersStringsAndContainersOfProtocolTwo) {
  const Pickle pickle(whole(dictionary({{"small", integer(7)},
                                        {"negative", integer(-3)},
                                        {"large", integer(std::int64_t{1} << 40)},
                                        {"list", "](" + integer(1) + integer(2) + "e" + integer(3) + "a"},
                                        {"pair", integer(1) + integer(2) + "\x86"},
                                        {"none", "N"},
                                        {"yes", "\x88"},
                                        {"half", std::string("G\x3f\xe0\0\0\0\0\0\0", 9)}})),
                      "data.pkl", known);
  const PickleValue& root = pickle.root();
  ASSERT_TRUE(root.is(Kind::dictionary));
  const auto value = [&](std::string_view name) -> const PickleValue& {
    for (std::size_t n = 0; n < root.items.size(); n += 2)
      if (root.items[n]->text == name) return *root.items[n + 1];
    throw std::out_of_range(std::string(name));
  };
  EXPECT_EQ(value("small").integer, 7);
  EXPECT_EQ(value("negative").integer, -3);
  EXPECT_EQ(value("large").integer, std::int64_t{1} << 40);
  EXPECT_EQ(value("list").items.size(), 3u);
  EXPECT_TRUE(value("pair").is(Kind::tuple));
  EXPECT_TRUE(value("none").is(Kind::none));
  EXPECT_EQ(value("yes").integer, 1);
  EXPECT_EQ(value("half").real, 0.5);
}

TEST(Pickle, ReadsFramesMemoAndStackGlobalsOfProtocolFour) {
  using namespace std::string_literals;
  const std::string body = "}\x94(\x8c\x01"s + "a\x94\x8c\x0b" +
                           "collections\x94\x8c\x0bOrderedDict\x94\x93\x94)R\x94" + "\x8c\x01" + "bh\x05u.";
  const std::string frame = "\x95"s + testing::little_endian(body.size(), 8);
  const Pickle pickle("\x80\x04" + frame + body, "data.pkl", known);
  ASSERT_EQ(pickle.root().items.size(), 4u);
  EXPECT_TRUE(pickle.root().items[1]->is(Kind::dictionary));
  EXPECT_EQ(pickle.root().items[3], pickle.root().items[1]);
}

TEST(Pickle, ACallIsAValueAndItsStateIsSkipped) {
  const std::string state = integer(1) + "N\x86";
  const Pickle pickle(whole(global("_io", "BytesIO") + ")\x81" + state + "b"), "data.pkl", known);
  EXPECT_TRUE(pickle.root().is_call_of("_io BytesIO"));
}

TEST(Pickle, RefusesAGlobalThatIsNotKnownByItsName) {
  const auto [code, message] = refusal(whole(call(global("os", "system"), tuple({text("touch /tmp/owned")}))));
  EXPECT_EQ(code, 2);
  EXPECT_NE(message.find("data.pkl: byte 2: the pickle refers to 'os.system'"), message.npos) << message;
  EXPECT_EQ(refusal(whole(text("os") + text("system") + "\x93")).first, 2);
  EXPECT_EQ(refusal(whole(global("collections OrderedDict", ""))).first, 2);
}

TEST(Pickle, RefusesEveryOpcodeThatItDoesNotHave) {
  const std::string has =
      std::string("(.}])tae") + "suNKMJGXCBcQRbqrhj" + "\x80\x81\x85\x86\x87\x88\x89\x8a\x8c\x8d\x8e\x93\x94\x95";
  for (int code = 0; code < 256; ++code) {
    if (has.find(static_cast<char>(code)) != has.npos) continue;
    const auto [exit_code, message] = refusal(std::string("\x80\x02") + static_cast<char>(code) + std::string(16, '.'));
    EXPECT_EQ(exit_code, 2) << code;
    EXPECT_NE(message.find(fmt::format("opcode 0x{:02x}", code)), message.npos) << message;
  }
}

TEST(Pickle, IsDamagedWhereverItIsCut) {
  const std::string bytes = whole(dictionary({{"a", "](" + integer(1) + integer(-2) + "e"},
                                              {"b", call(global("torch", "Size"), tuple({tuple({integer(3)})}))}}));
  ASSERT_EQ(refusal(bytes).first, 0);
  for (std::size_t size = 0; size < bytes.size(); ++size) EXPECT_EQ(refusal(bytes.substr(0, size)).first, 65) << size;
  EXPECT_EQ(refusal(bytes + ".").first, 65);
}

TEST(Pickle, RefusesAStackThatDoesNotFit) {
  for (const char* body : {".", "t.", "u.", "}u.", "}(Ku.", "(", "}(K\1u.", "NR.", "Q.", "h\5.", "N(\x85.", "K\1N)b.",
                           "Na.", "]K\1", "N(e.", "q\1."})
    EXPECT_EQ(refusal(std::string("\x80\x02") + body).first, 65) << body;
}

TEST(Pickle, RefusesALengthBeyondTheEndWithoutAllocatingIt) {
  for (const char* length : {"X\xff\xff\xff\xff", "B\xff\xff\xff\xff", "\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
                             "\x8e\xff\xff\xff\xff\xff\xff\xff\xff", "Nr\xff\xff\xff\xff"})
    EXPECT_EQ(refusal(fmt::format("\x80\x04{}abc.", length)).first, 65) << length;
}

TEST(Pickle, RefusesMoreValuesThanItsLimit) {
  EXPECT_EQ(refusal("\x80\x02(" + std::string(Pickle::most_values + 1, 'N') + "t.").first, 2);
}

TEST(Pickle, RefusesOtherProtocols) {
  EXPECT_EQ(refusal("\x80\x01N.").first, 2);
  EXPECT_EQ(refusal("\x80\x06N.").first, 2);
}

}  // namespace
}  // namespace causeway
