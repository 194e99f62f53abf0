// JSON as input of import: keys, lists, limits.
#include <gtest/gtest.h>

#include "io/data/import.hpp"
#include "kernels/core/error.hpp"
#include "tests/io/compressed.hpp"
#include "tests/io/data/imported.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway {
namespace {

using testing::Documents;
using testing::documents_in;
using testing::TemporaryFolder;

Documents imported(const std::string& file, const std::string& text, const ReaderOptions& options = {}) {
  const TemporaryFolder folder;
  ImportOptions import;
  import.files = {folder.write(file, text)};
  import.out = folder / "data.h5";
  import.reader = options;
  import_files(import);
  return documents_in(folder / "data.h5");
}

std::string refusal(const std::string& file, const std::string& text, const ReaderOptions& options = {}) {
  try {
    imported(file, text, options);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    return error.what();
  }
  return "no error";
}

TEST(ImportJson, KeysNameTheDocumentAndItsName) {
  const std::string text = R"({"content": "one", "text": "x", "meta": {"url": "u1", "id": {"n": 7}}})"
                           "\n"
                           R"({"meta": {"text": "y", "url": "u2", "deep": {"url": "no"}}, "content": "two"})"
                           "\n"
                           R"({"list": [{"content": "no"}], "content": "three", "id": 3})"
                           "\n";
  EXPECT_EQ(imported("a.jsonl", text, {.text_key = "content", .name_keys = {"meta.url"}}),
            (Documents{"u1=one", "u2=two", "a.jsonl:3=three"}));
  EXPECT_EQ(imported("a.jsonl", text, {.text_key = "content", .name_keys = {"meta.id.n", "id"}}),
            (Documents{"7=one", "a.jsonl:2=two", "3=three"}));
  EXPECT_EQ(
      imported("a.jsonl", R"({"a": {"b": {"c": "deep"}}, "b": {"c": "no"}, "a.b.c.d": 1})", {.text_key = "a.b.c"}),
      (Documents{"a.jsonl:1=deep"}));
  EXPECT_EQ(imported("a.jsonl", R"({"a.b": "literal", "id": null, "name": "n"})", {.text_key = "a.b"}),
            (Documents{"n=literal"}));
  EXPECT_EQ(imported("a.jsonl", R"({"a.b": ["no"], "text": "t"})", {.name_keys = {"a.b"}}), (Documents{"a.jsonl:1=t"}));
}

TEST(ImportJson, AKeyThatIsMissingOrOfAnotherTypeIsNamed) {
  const ReaderOptions nested{.text_key = "a.b"};
  EXPECT_NE(refusal("a.jsonl", R"({"a": {"c": "x"}, "b": "y", "text": "z"})", nested).find("found no \"a.b\""),
            std::string::npos);
  EXPECT_NE(refusal("a.jsonl", R"({"a": {"b": {"b": "x"}}})", nested).find("found an object as \"a.b\""),
            std::string::npos);
  EXPECT_NE(refusal("a.jsonl", R"({"a": [{"b": "x"}]})", nested).find("found no \"a.b\""), std::string::npos);
  EXPECT_NE(refusal("a.jsonl", R"({"a": "x"})", nested).find("found no \"a.b\""), std::string::npos);
}

TEST(ImportJson, AListOfObjectsAndStringsGivesADocumentEach) {
  EXPECT_EQ(
      imported("a.json", "[{\"text\": \"one\",\n\"id\": 4},\r\n \"two \\u00fc\", {\"name\": \"n\", \"text\": \"\"}]"),
      (Documents{"4=one", "a.json:2=two \xc3\xbc", "n="}));
  EXPECT_EQ(imported("a.json", R"( {"meta": {"id": [1, {"text": 2}]}, "text": "one"} )"), (Documents{"a.json:1=one"}));
  EXPECT_EQ(imported("a.json", "\xef\xbb\xbf[\"x\"]"), (Documents{"a.json:1=x"}));
  EXPECT_EQ(imported("a.json.gz", testing::gzip(R"(["x", {"t": {"u": "y"}}, {"t": {"u": "z"}}])"), {.text_key = "t.u"}),
            (Documents{"a.json.gz:1=x", "a.json.gz:2=y", "a.json.gz:3=z"}));
}

TEST(ImportJson, WhatIsWrongInAJsonFileIsNamed) {
  const std::pair<const char*, const char*> wrong[] = {
      {"[{\"text\": \"a\"}, {\"txt\": \"b\"}]", "a.json: record 2: found no \"text\""},
      {"[{\"text\": 1}]", "a.json: record 1: found a number as \"text\""},
      {"[\"a\", 3]", "a.json: record 2: found a number in the list"},
      {"[\"a\", [\"b\"]]", "a.json: record 2: found a list in the list"},
      {"[null]", "found null in the list"},
      {"\"a\"", "a.json: found a string, expected a list of objects or strings, or an object"},
      {"12", "a.json: found a number, expected a list"},
      {"[\"a\"", "a.json: found broken JSON at its byte"},
      {"[\"a\"] [\"b\"]", "found broken JSON"},
      {"{\"text\": \"a\"}\n{\"text\": \"b\"}\n", "one object a line is --format jsonl"},
      {"[\"\xff\"]", "found broken JSON"},
      {"", "found broken JSON"},
      {"[]", "found 0 documents and no token"},
      {"[\"a\", \"\xef\"]", "found broken JSON"},
  };
  for (const auto& [text, expected] : wrong)
    EXPECT_NE(refusal("a.json", text).find(expected), std::string::npos) << text << ": " << refusal("a.json", text);
  EXPECT_NE(refusal("a.json", std::string(3'000'000, '[')).find("found broken JSON"), std::string::npos);
  EXPECT_NE(refusal("a.json", "[{\"text\": \"a\", \"id\": \"" + std::string(5000, 'x') + "\"}]").find("a name of 5000"),
            std::string::npos);
}

TEST(ImportJson, EveryTruncationOfAJsonFileIsAnError) {
  const std::string text = R"([{"text": "one", "id": 4}, "two", {"text": "three", "x": [1, -2.5, null, {"y": true}]}])";
  EXPECT_EQ(imported("a.json", text).size(), 3u);
  for (std::size_t size = 0; size < text.size(); ++size)
    EXPECT_NE(refusal("a.json", text.substr(0, size)), "no error") << size;
}

TEST(ImportJson, TheLimitIsOneOfALineOrAString) {
  const std::string long_text(5000, 'x'), object = "{\"text\": \"" + long_text + "\"}";
  const ReaderOptions small{.longest_json = 4000}, large{.longest_json = 6000};
  EXPECT_NE(
      refusal("a.jsonl", "{\"text\": \"a\"}\n" + object + "\n", small)
          .find("a.jsonl:2: found a line of more than 4000 bytes, expected a shorter one, or a larger --max-line"),
      std::string::npos);
  EXPECT_NE(refusal("a.json", "[" + object + "]", small).find("found more than 4000 bytes in one string"),
            std::string::npos);
  EXPECT_EQ(imported("a.jsonl", object, large), (Documents{"a.jsonl:1=" + long_text}));
  std::string list = "[";
  for (int i = 0; i < 3; ++i) list += object + ", ";
  list += "{\"text\": \"b\", \"x\": [";
  for (int i = 0; i < 3000; ++i) list += "1, null, -1, true, 2.5, [], ";
  EXPECT_EQ(imported("a.json", list + "0]}]", large).size(), 4u);
}

}  // namespace
}  // namespace causeway
