// import --skip-bad: wrong records are passed over, counted and named; the others are kept.
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

struct Case {
  std::string name, file, text;
  Documents kept;
  std::vector<std::string> reasons;  ///< the start of each, after the folder
};

const std::vector<Case>& cases() {
  static const std::vector<Case> table = {
      {"Fasta",
       "a.fa",
       "AC\nGT\n>a\nAC\n>b\nAC\nG\x07\nTT\n>c\nG@\n>" + std::string(5000, 'x') + "\nA\n>d\nT\n",
       {"a=AC", "d=T"},
       {"a.fa:1: found 'A', expected '>'", "a.fa:7: found byte 0x07", "a.fa:10: found '@'", "a.fa:11: found a name"}},
      {"FastqInStep",
       "a.fq",
       "@a\nAC\n+\nII\n@b\nA*C!\n+\nIIII\n@c\nACG\n+\nII\n@d\nACG\n+\nIIIII\n@e\nAC\n+\nI \n@f\nT\n+\nI\n",
       {"a=AC", "f=T"},
       {"a.fq:6: found '!'", "a.fq:12: found 2 qualities", "a.fq:16: found 5 qualities", "a.fq:20: found ' '"}},
      {"FastqCutOff",
       "a.fq",
       "@a\nACGT\n@b\nAC\n+\nII\n@c\nACGT\n+\n@d\nA\n+\nI\nrubbish\nmore\n@e\nC\n+\n@\n@f\nAC\n",
       {"b=AC", "d=A", "e=C"},
       {"a.fq:3: found '@' within record 'a'", "a.fq:10: found 2 qualities of record 'c'", "a.fq:14: found 'r'",
        "a.fq:21: found the end of the file within record 'f'"}},
      {"FastqQualitiesThatLookLikeAName",
       "a.fq",
       "@a\nACGT\n+\n@III\n@b\nACGT\n+\n@II\n@c\nA\n+\nI\n",
       {"a=ACGT", "c=A"},
       {"a.fq:8: found 3 qualities of record 'b'"}},
      {"FastqWrapped",
       "a.fq",
       "@a\nAC\nGT\n+\nIII\nII\n@b\nAC\nG1\n+\nII\nII\n@c\nA\nC\n+\nII\n",
       {"c=AC"},
       {"a.fq:6: found 5 qualities", "a.fq:9: found '1'"}},
      {"Jsonl",
       "a.jsonl",
       "{\"text\": \"a\"}\n{\"text\": 3}\n[\n{\"text\": \"b\"} x\n\n{\"text\": \"c\", \"id\": \"c\"}\n{}\n",
       {"a.jsonl:1=a", "c=c"},
       {"a.jsonl:2: found a number", "a.jsonl:3: found a list", "a.jsonl:4: found broken JSON", "a.jsonl:7: found no"}},
      {"Json",
       "a.json",
       "[\"a\", 3, {\"text\": null}, {\"text\": \"b\"}, [[\"text\"]]]",
       {"a.json:1=a", "a.json:4=b"},
       {"a.json: record 2: found a number", "a.json: record 3: found null", "a.json: record 5: found a list"}},
      {"Tokens",
       "a.tokens",
       "65 66\n67 x 68\n512\n-1\n 69 \n",
       {"a.tokens:1=AB", "a.tokens:5=E"},
       {"a.tokens:2: found 'x'", "a.tokens:3: found token 512", "a.tokens:4: found '-'"}},
  };
  return table;
}

class SkipBad : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Import, SkipBad, ::testing::ValuesIn(cases()), [](const auto& row) { return row.param.name; });

TEST_P(SkipBad, KeepsTheGoodRecordsAndNamesTheOthers) {
  const TemporaryFolder folder;
  const std::string path = folder.write(GetParam().file, GetParam().text), out = folder / "data.h5";
  const ImportReport report = import_files({.files = {path}, .out = out, .skip_bad = true});
  EXPECT_EQ(documents_in(out), GetParam().kept);
  EXPECT_EQ(report.documents, static_cast<std::int64_t>(GetParam().kept.size()));
  EXPECT_EQ(report.passed_over.records, static_cast<std::int64_t>(GetParam().reasons.size()));
  ASSERT_EQ(report.passed_over.reasons.size(), GetParam().reasons.size());
  for (std::size_t i = 0; i < GetParam().reasons.size(); ++i)
    EXPECT_TRUE(report.passed_over.reasons[i].starts_with(folder / GetParam().reasons[i]))
        << report.passed_over.reasons[i];
  Dataset(out).verify();
  EXPECT_THROW(import_files({.files = {path}, .out = out, .force = true}), Error);
}

TEST(SkipBad, CountsAllAndShowsTheFirst) {
  const TemporaryFolder folder;
  std::string text = "{\"text\": \"a\"}\n";
  for (int i = 0; i < 1000; ++i) text += "{}\n";
  const ImportReport report =
      import_files({.files = {folder.write("a.jsonl", text)}, .out = folder / "data.h5", .skip_bad = true});
  EXPECT_EQ(report.documents, 1);
  EXPECT_EQ(report.passed_over.records, 1000);
  EXPECT_EQ(report.passed_over.reasons.size(), PassedOver::shown);
}

TEST(SkipBad, DamagedCompressionAndAFileWithoutAGoodRecordAreErrors) {
  const TemporaryFolder folder;
  const auto imported = [&](const std::string& name, const std::string& bytes) {
    import_files({.files = {folder.write(name, bytes)}, .out = folder / "data.h5", .force = true, .skip_bad = true});
  };
  const std::string bytes = testing::gzip(">a\nACGT\n>b\nAC\n");
  EXPECT_NO_THROW(imported("a.fa.gz", bytes));
  for (std::size_t size = 0; size < bytes.size(); ++size)
    EXPECT_THROW(imported("a.fa.gz", bytes.substr(0, size)), Error) << size;
  EXPECT_THROW(imported("a.fa", "ACGT\n"), Error);
  EXPECT_THROW(imported("a.jsonl", "{}\n{\n"), Error);
  EXPECT_THROW(imported("a.json", "[\"a\", {}"), Error);
}

TEST(SkipBad, AWrongRecordAfterManyTokensLeavesNoTrace) {
  const TemporaryFolder folder;
  const std::string bases(300'000, 'A');
  import_files({.files = {folder.write("a.fa", ">a\nC\n>b\n" + bases + "\n" + bases + "\n!\n>c\nG\n")},
                .out = folder / "data.h5",
                .skip_bad = true});
  EXPECT_EQ(documents_in(folder / "data.h5"), (Documents{"a=C", "c=G"}));
}

}  // namespace
}  // namespace causeway
