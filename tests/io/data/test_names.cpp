// Names of documents: how they are stored, and that damage to them is found.
#include <gtest/gtest.h>

#include "io/data/dataset_writer.hpp"
#include "io/data/import.hpp"
#include "io/data/name_reader.hpp"
#include "io/file/utf8.hpp"
#include "io/hdf5/hdf5.hpp"
#include "kernels/core/error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway {
namespace {

using testing::TemporaryFolder;

struct Imported {
  std::vector<std::string> names, warnings;
};

Imported imported(const TemporaryFolder& folder, const std::vector<std::string>& files) {
  const ImportReport report = import_files({.files = files, .out = folder / "data.h5", .force = true});
  const Dataset data(folder / "data.h5");
  EXPECT_EQ(data.verify(), std::vector<std::string>());
  std::vector<std::string> names = data.names(0, data.documents());
  for (const std::string& name : names) EXPECT_TRUE(is_utf8(name)) << name;
  EXPECT_TRUE(is_utf8(hdf5::File::open(folder / "data.h5", hdf5::Access::read).string_attribute("source")));
  return {names, report.warnings};
}

TEST(Utf8, KnowsItsCharacters) {
  for (const char* good :
       {"", "a", "caf\xc3\xa9", "\xe4\xb8\xad", "\xf0\x9f\x98\x80", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"})
    EXPECT_TRUE(is_utf8(good)) << good;
  for (const char* bad : {"\xe9", "\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xed\xa0\x80",
                          "\xed\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "a\xc3", "\xe4\xb8", "\xc3("})
    EXPECT_FALSE(is_utf8(bad)) << bad;
  for (int byte = 0; byte < 256; ++byte) EXPECT_TRUE(is_utf8(utf8_of_latin1(std::string(1, static_cast<char>(byte)))));
  EXPECT_EQ(utf8_of_latin1("caf\xe9 \xff"), "caf\xc3\xa9 \xc3\xbf");
}

TEST(Names, BytesThatAreNotUtf8AreLatin1WithOneWarningAFile) {
  const TemporaryFolder folder;
  const auto one = [&](const std::string& file, const std::string& text) {
    return imported(folder, {folder.write(file, text)});
  };
  const Imported fasta = one("a.fa", ">caf\xe9 x\nAC\n>na\xefve\nG\n>\xc3\xbc\nT\n>\xed\xa0\x80\nA\n");
  EXPECT_EQ(fasta.names,
            (std::vector<std::string>{"caf\xc3\xa9", "na\xc3\xafve", "\xc3\xbc", "\xc3\xad\xc2\xa0\xc2\x80"}));
  ASSERT_EQ(fasta.warnings.size(), 1u);
  EXPECT_NE(fasta.warnings[0].find("a.fa: names that are not UTF-8, taken as Latin-1: 3; the first is 'caf\xc3\xa9'"),
            std::string::npos)
      << fasta.warnings[0];
  EXPECT_EQ(one("a.fq", "@\xe9\nA\n+\nI\n").names, std::vector<std::string>{"\xc3\xa9"});
  for (const char* file : {"caf\xe9.lines", "caf\xe9.tokens"})
    EXPECT_EQ(one(file, "1\n2\n").names, (std::vector<std::string>{"caf\xc3\xa9" + std::string(file + 4) + ":1",
                                                                   "caf\xc3\xa9" + std::string(file + 4) + ":2"}));
  EXPECT_EQ(one("caf\xe9.txt", "text").names, std::vector<std::string>{"caf\xc3\xa9.txt"});
  EXPECT_EQ(one("b.fa", ">\xc3\xa9\nA\n").warnings.size(), 0u);
  EXPECT_EQ(imported(folder, {folder / "a.fa", folder / "b.fa", folder / "a.fq"}).warnings.size(), 2u);
}

TEST(Names, StringsOfJsonThatAreNotUtf8AreLatin1Too) {
  const TemporaryFolder folder;
  const auto one = [&](const std::string& text) { return imported(folder, {folder.write("a.jsonl", text)}); };
  const Imported json =
      one("{\"text\": \"a\", \"id\": \"caf\xe9 \\u4e2d \\\"\"}\n{\"name\": \"\xc0\x80\", \"text\": \"\xc3\xbc\"}\n"
          "{\"note\": \"\xff\", \"text\": \"c\", \"id\": \"\xc3\xbc\"}\n{\"\xe9\": [\"\xe9\"], \"text\": \"d\"}\n");
  EXPECT_EQ(json.names,
            (std::vector<std::string>{"caf\xc3\xa9 \xe4\xb8\xad \"", "\xc3\x80\xc2\x80", "\xc3\xbc", "a.jsonl:4"}));
  EXPECT_EQ(json.warnings.size(), 1u);
  EXPECT_NE(json.warnings.at(0).find("not UTF-8, taken as Latin-1: 2"), std::string::npos) << json.warnings[0];
  for (const char* wrong : {"{\"text\": \"\xe9\"}", "{\"text\": \"a\", \"id\": \"\\ud800\"}", "{\"text\": \"a\" \xe9}",
                            "{\"text\": \"a\", \"id\": \"\xe9"})
    EXPECT_THROW(one(wrong), Error) << wrong;
}

TEST(Names, ANulIsReplacedWithAWarning) {
  const TemporaryFolder folder;
  const Imported json = imported(folder, {folder.write("a.jsonl", R"({"text": "a", "id": "x\u0000y"})")});
  EXPECT_EQ(json.names, std::vector<std::string>{"x?y"});
  EXPECT_EQ(json.warnings.size(), 1u);
  EXPECT_EQ(imported(folder, {folder.write("a.fa", std::string(">x\0y\nA\n", 7))}).names,
            std::vector<std::string>{"x?y"});
}

TEST(Names, AreReadInOrderAndCheckedAtTheLast) {
  const TemporaryFolder folder;
  {
    DatasetWriter writer(folder / "data.h5", 8, "test");
    for (int d = 0; d < 10'000; ++d) writer.begin_document("name " + std::to_string(d));
    writer.append(std::vector<std::int32_t>{1});
    writer.finish();
  }
  {
    const Dataset data(folder / "data.h5");
    NameReader names(data);
    for (int d = 0; d < 10'000; ++d) ASSERT_EQ(names.next(), "name " + std::to_string(d));
  }
  std::string bytes = testing::bytes_of(folder / "data.h5");
  bytes.replace(bytes.find("name 5000"), 4, "nave");
  folder.write("data.h5", bytes);
  const Dataset data(folder / "data.h5");
  NameReader names(data);
  for (int d = 0; d < 9'999; ++d) names.next();
  try {
    names.next();
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::corrupt);
    EXPECT_NE(std::string(error.what()).find("data.h5:/names"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace causeway
