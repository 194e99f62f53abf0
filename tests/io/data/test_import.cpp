#include "io/data/import.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <numeric>

#include "io/data/dataset.hpp"
#include "kernels/core/error.hpp"
#include "tests/io/compressed.hpp"
#include "tests/io/data/imported.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway {
namespace {

using testing::Documents;
using testing::documents_in;
using testing::gzip;
using testing::TemporaryFolder;

/// `text` with other line ends: those of `ends`, one after the other.
std::string with_ends(const std::string& text, const std::vector<std::string>& ends) {
  std::string out;
  std::size_t line = 0;
  for (const char byte : text) out += byte == '\n' ? ends[line++ % ends.size()] : std::string(1, byte);
  return out;
}

struct Case {
  std::string name, file, text;
  Documents expected;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> table = {
      {"Fasta", "a.fa", ">one first record\nACGT\nacg\n>two\nTTT\n", {"one=ACGTacg", "two=TTT"}},
      {"FastaLongLine", "a.fna", ">long\n" + std::string(700'000, 'A') + "\n", {"long=" + std::string(700'000, 'A')}},
      {"FastaEmptyRecord", "a.fasta", ">none\n>two\tx\nAC\n\n  \nG T\n>last\n", {"none=", "two=ACGT", "last="}},
      {"FastaProtein", "a.faa", "\n>p\nMKV*-X.\n", {"p=MKV*-X."}},
      {"FastaNoName", "a.fa", ">\nAC\n", {"=AC"}},
      {"Fastq", "a.fq", "@r1 x\nACGN\n+\n!~I@\n@r2\nA\n+r2\nI\n", {"r1=ACGN", "r2=A"}},
      {"FastaComments", "a.fa", ";first\n>a x\nAC\n; no letters\nGT\n;\n>b\n;x\nT\n", {"a=ACGT", "b=T"}},
      {"FastqWrapped",
       "a.fq",
       "@r1\nACGT\nACG\n+r1\n@III\n+II\n@r2\nAC\nG\n+\n@\n@I\n\n@r3\nA\n+\n@\n",
       {"r1=ACGTACG", "r2=ACG", "r3=A"}},
      {"FastqWrappedOtherwise", "a.fq", "@r1\nAC\nGT\n+\nIIII\n@r2\nA\nC\n+\nI\nI\n", {"r1=ACGT", "r2=AC"}},
      {"FastqNoSequence", "a.fq", "@r1\n+\n@r2\nA\n+\nI\n", {"r1=", "r2=A"}},
      {"FastqEmptyRead", "a.fastq", "@r1\nA\n+\nI\n\n@r2\n\n+\n\n", {"r1=A", "r2="}},
      {"Lines", "a.lines", "one line\n\n  two\n", {"a.lines:1=one line", "a.lines:3=  two"}},
      {"Jsonl",
       "a.jsonl",
       R"({"text": "one\n", "id": 7, "more": [{"text": 3}]})"
       "\n\n"
       R"({"name": "n", "text": "zwei \u00fc"})"
       "\n"
       R"({"text": ""})"
       "\n",
       {"7=one\n", "n=zwei \xc3\xbc", "a.jsonl:4="}},
      {"Tokens",
       "a.tokens",
       "65 66\t67\n\n0511 0\n",
       {"a.tokens:1=ABC", std::string("a.tokens:3=") + static_cast<char>(511) + '\0'}},
  };
  return table;
}

class EveryFormat : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Import, EveryFormat, ::testing::ValuesIn(cases()),
                         [](const auto& row) { return row.param.name; });

TEST_P(EveryFormat, GivesItsDocuments) {
  const TemporaryFolder folder;
  const ImportReport report = import_files(
      {.files = {folder.write(GetParam().file, GetParam().text)}, .out = folder / "data.h5", .force = true});
  EXPECT_EQ(documents_in(folder / "data.h5"), GetParam().expected);
  EXPECT_EQ(report.documents, static_cast<std::int64_t>(GetParam().expected.size()));
  EXPECT_EQ(report.tokens, Dataset(folder / "data.h5").tokens());
}

TEST_P(EveryFormat, MayEndItsLinesInAnyWay) {
  const TemporaryFolder folder;
  for (const std::vector<std::string>& ends :
       {std::vector<std::string>{"\r\n"}, {"\r"}, {"\n", "\r", "\r\n"}, {"\r\n", "\n", "\r"}}) {
    const std::string text = with_ends(GetParam().text, ends);
    for (const std::string& bytes : {text, text.substr(0, text.find_last_not_of("\r\n") + 1) + "\r"}) {
      import_files({.files = {folder.write(GetParam().file, bytes)}, .out = folder / "data.h5", .force = true});
      EXPECT_EQ(documents_in(folder / "data.h5"), GetParam().expected) << ends.size() << " ends, first " << ends[0];
    }
  }
}

TEST_P(EveryFormat, MayLackItsLastLineEnd) {
  const TemporaryFolder folder;
  const std::string text = GetParam().text.substr(0, GetParam().text.size() - 1);
  import_files({.files = {folder.write(GetParam().file, text)}, .out = folder / "data.h5", .force = true});
  EXPECT_EQ(documents_in(folder / "data.h5"), GetParam().expected);
}

TEST_P(EveryFormat, MayBeCompressed) {
  const TemporaryFolder folder;
  const std::size_t half = GetParam().text.size() / 2;
  for (const testing::Compressor& compressor : testing::compressors()) {
    // Two members, as block-wise compressors write.
    const std::string bytes =
        compressor.compress(GetParam().text.substr(0, half)) + compressor.compress(GetParam().text.substr(half));
    import_files({.files = {folder.write(GetParam().file + compressor.ending, bytes)},
                  .out = folder / "data.h5",
                  .force = true});
    Documents expected = GetParam().expected;
    const std::string in_name = GetParam().file + ":";
    for (std::string& document : expected)
      if (document.starts_with(in_name)) document.insert(in_name.size() - 1, compressor.ending);
    EXPECT_EQ(documents_in(folder / "data.h5"), expected) << compressor.name;
  }
}

TEST_P(EveryFormat, IsAnErrorWithTruncatedCompression) {
  const TemporaryFolder folder;
  const std::string bytes = gzip(GetParam().text);
  for (std::size_t size = 0; size < bytes.size(); size += std::max<std::size_t>(1, bytes.size() / 40)) {
    const std::string path = folder.write(GetParam().file + ".gz", std::string_view(bytes).substr(0, size));
    EXPECT_THROW(import_files({.files = {path}, .out = folder / "data.h5", .force = true}), Error)
        << size << " of " << bytes.size();
    EXPECT_EQ(folder.count(), 1u);
  }
}

TEST(Import, TextIsOneDocumentByteForByte) {
  const TemporaryFolder folder;
  std::string bytes(600'000, '\0');
  std::iota(bytes.begin(), bytes.end(), '\0');
  import_files({.files = {folder.write("a.txt", bytes), folder.write("empty.txt", ""), folder.write("b", "two\r\n")},
                .out = folder / "data.h5",
                .force = true,
                .format = "text"});
  EXPECT_EQ(documents_in(folder / "data.h5"), (Documents{"a.txt=" + bytes, "empty.txt=", "b=two\r\n"}));
}

TEST(Import, AByteOrderMarkOfUtf8IsSkippedAndOtherEncodingsAreRefusedByName) {
  using namespace std::string_view_literals;
  const TemporaryFolder folder;
  const auto imported = [&](const std::string& name, std::string_view bytes) {
    import_files({.files = {folder.write(name, bytes)}, .out = folder / "data.h5", .force = true});
    return documents_in(folder / "data.h5");
  };
  for (const Case& row : cases()) EXPECT_EQ(imported(row.file, "\xef\xbb\xbf" + row.text), row.expected) << row.name;
  EXPECT_EQ(imported("a.txt", "\xef\xbb\xbfone"), (Documents{"a.txt=one"}));
  for (const std::string_view bytes : {"\xff\xfe>\0a\0"sv, "\xfe\xff\0>\0a"sv, "\0\0\xfe\xff\0\0\0>"sv, "\xff\xfe"sv}) {
    for (const char* name : {"a.fa", "a.fq", "a.txt", "a.lines", "a.jsonl", "a.tokens"}) {
      try {
        imported(name, bytes);
        ADD_FAILURE() << name;
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("is UTF-16 or UTF-32 text"), std::string::npos) << error.what();
      }
    }
  }
}

TEST(Import, UppercaseConvertsLetters) {
  const TemporaryFolder folder;
  import_files({.files = {folder.write("a.fa", ">one\nACgtn-\n")},
                .out = folder / "data.h5",
                .force = true,
                .transform = {.uppercase = true}});
  EXPECT_EQ(documents_in(folder / "data.h5"), (Documents{"one=ACGTN-"}));
}

TEST(Import, ARecordIsNeverLostToItsLineEnds) {
  const TemporaryFolder folder;
  const auto imported = [&](const std::string& name, const std::string& bytes) {
    import_files({.files = {folder.write(name, bytes)}, .out = folder / "data.h5", .force = true});
    return documents_in(folder / "data.h5");
  };
  EXPECT_EQ(imported("m.fa", ">a x\rACGT\r>b\rTT\r>c y\nGG\n"), (Documents{"a=ACGT", "b=TT", "c=GG"}));
  EXPECT_EQ(imported("m.fa", ">a\r\r\nAC\r\r\nGT\r\r\n>b\r\r\n"), (Documents{"a=ACGT", "b="}));
  EXPECT_EQ(imported("m.fq", "@a\rAC\r+\rII\r@b\r\r+\r\r"), (Documents{"a=AC", "b="}));
  EXPECT_EQ(imported("m.lines", "a\rb\n\rc\r\n\nd\r"),
            (Documents{"m.lines:1=a", "m.lines:2=b", "m.lines:4=c", "m.lines:6=d"}));
  EXPECT_EQ(imported("m.tokens", "65\r66\n67 68"), (Documents{"m.tokens:1=A", "m.tokens:2=B", "m.tokens:3=CD"}));
  EXPECT_EQ(imported("m.jsonl", "{\"text\": \"a\"}\r{\"text\": \"b\\r\"}\r"),
            (Documents{"m.jsonl:1=a", "m.jsonl:2=b\r"}));
}

TEST(Import, LinesMayCrossTheBuffersEndAnywhere) {
  const TemporaryFolder folder;
  for (std::size_t length = (256 << 10) - 4; length < (256 << 10) + 3; ++length) {
    for (const std::string end : {"\n", "\r\n", "\r"}) {
      const std::string first(length, 'a'), second(length, 'b');
      import_files({.files = {folder.write("a.lines", first + end + second + end + end + "c")},
                    .out = folder / "data.h5",
                    .force = true});
      EXPECT_EQ(documents_in(folder / "data.h5"),
                (Documents{"a.lines:1=" + first, "a.lines:2=" + second, "a.lines:4=c"}))
          << length;
    }
  }
}

TEST(Import, ReadsStandardInput) {
  const TemporaryFolder folder;
  const int kept = ::dup(STDIN_FILENO);
  for (const bool compressed : {false, true}) {
    const std::string text = ">a\rACGT\r\n>b\nT\n";
    const int input = ::open(folder.write("in", compressed ? gzip(text) : text).c_str(), O_RDONLY);
    ASSERT_EQ(::dup2(input, STDIN_FILENO), STDIN_FILENO);
    ::close(input);
    import_files(
        {.files = {"-", folder.write("c.fa", ">c\nG\n")}, .out = folder / "data.h5", .force = true, .format = "fasta"});
    EXPECT_EQ(documents_in(folder / "data.h5"), (Documents{"a=ACGT", "b=T", "c=G"}));
  }
  const int input = ::open(folder.write("in", "ab\rc\n").c_str(), O_RDONLY);
  ::dup2(input, STDIN_FILENO);
  ::close(input);
  import_files({.files = {"-"}, .out = folder / "data.h5", .force = true, .format = "lines"});
  EXPECT_EQ(documents_in(folder / "data.h5"), (Documents{"stdin:1=ab", "stdin:2=c"}));
  ::dup2(kept, STDIN_FILENO);
  ::close(kept);
  EXPECT_THROW(import_files({.files = {"-"}, .out = folder / "data.h5", .force = true}), Error);
  EXPECT_THROW(import_files({.files = {"-", "-"}, .out = folder / "data.h5", .force = true, .format = "fasta"}), Error);
}

/// A wrong input, and a part of the expected error.
struct Fault {
  std::string name, file, text, expected;
};

const std::vector<Fault>& faults() {
  static const std::vector<Fault> table = {
      {"Empty", "a.fa", "", "found 0 documents and no token"},
      {"OnlyEmptyRecords", "a.fa", ">a\n>b\n", "found 2 documents and no token"},
      {"NoHeader", "a.fa", "ACGT\n", "a.fa:1: found 'A', expected '>'"},
      {"FastqAsFasta", "a.fa", ">x\nAC\n@r\n", "a.fa:3: found '@' in a sequence"},
      {"ByteInSequence", "a.fa", ">x\nAC\x07T\n", "a.fa:2: found byte 0x07 in a sequence"},
      {"EndlessName", "a.fa", ">" + std::string(1'000'000, 'x'), "a.fa:1: found a name of more than 4096 bytes"},
      {"NoAt", "a.fq", "r1\nA\n+\nI\n", "a.fq:1: found 'r', expected '@'"},
      {"TwoLineEnds", "a.fq", "@r1\r\r\nAC\r\r\n+\r\r\nII\r\r\n", "a.fq:6: found 0 qualities of record 'r1'"},
      {"NoPlus", "a.fq", "@r1\nAC\nGT\n@r2\nA\n+\nI\n", "a.fq:4: found '@' within record 'r1'"},
      {"ManyWrappedQualities", "a.fq", "@r1\nAC\nGT\n+\nIII\nII\n", "a.fq:6: found 5 qualities of record 'r1'"},
      {"CutWrappedQualities", "a.fq", "@r1\nAC\nGT\n+\nIII\n", "a.fq:5: found the end of the file within record"},
      {"FewQualities", "a.fq", "@r1\nACGT\n+\nII\n", "a.fq:4: found 2 qualities of record 'r1', expected 4"},
      {"ManyQualities", "a.fq", "@r1\nA\n+\nII\n", "a.fq:4: found 2 qualities"},
      {"BadQuality", "a.fq", "@r1\nA\n+\n \n", "a.fq:4: found ' ' among the qualities"},
      {"CutRecord", "a.fq", "@r1\nA\n+\nI\n@r2\nACGT\n", "a.fq:6: found the end of the file within record 'r2'"},
      {"NoText", "a.jsonl", "{\"id\": 1}\n", "a.jsonl:1: found no \"text\""},
      {"TextIsANumber", "a.jsonl", "{\"text\": \"a\"}\n{\"text\": 1}\n", "a.jsonl:2: found a number as \"text\""},
      {"TextIsAList", "a.jsonl", "{\"text\": [\"a\"]}\n", "found a list as \"text\""},
      {"TextIsNull", "a.jsonl", "{\"text\": null}\n", "found null as \"text\""},
      {"NoObject", "a.jsonl", "[1]\n", "found a list, expected an object"},
      {"BareString", "a.jsonl", "\"text\"\n", "found a string, expected an object"},
      {"BrokenJson", "a.jsonl", "{\"text\": \"a\n", "a.jsonl:1: found broken JSON"},
      {"LineEndInJson", "a.jsonl", "{\"text\": \"a\"}\r{\"text\":\r\"b\"}\n", "a.jsonl:2: found broken JSON"},
      {"TwoObjects", "a.jsonl", "{\"text\": \"a\"} {}\n", "found broken JSON"},
      {"DeepJson", "a.jsonl", std::string(3'000'000, '['), "a.jsonl:1: found a list"},
      {"DeepJsonInside", "a.jsonl", "{\"a\":" + std::string(3'000'000, '['), "a.jsonl:1: found broken JSON"},
      {"NotUtf8", "a.jsonl", "{\"text\": \"\xff\"}\n", "a.jsonl:1: found bytes that are not UTF-8 in \"text\""},
      {"TokenTooLarge", "a.tokens", "1 2\n3 512\n", "a.tokens:2: found token 512"},
      {"TokenImmense", "a.tokens", std::string(500, '9') + "\n", "a.tokens:1: found token 999"},
      {"TokenNegative", "a.tokens", "-1\n", "a.tokens:1: found '-'"},
      {"NotCompressed", "a.fa.gz", ">a\nACGT\n", "is not gzip"},
      {"CompressedNothing", "a.fa.gz", "", "a.fa.gz: is empty, but its name ends with .gz"},
      {"UnknownEnding", "a.xyz", ">a\nACGT\n", "the format is not clear from its name"},
  };
  return table;
}

class EveryFault : public ::testing::TestWithParam<Fault> {};
INSTANTIATE_TEST_SUITE_P(Import, EveryFault, ::testing::ValuesIn(faults()),
                         [](const auto& row) { return row.param.name; });

TEST_P(EveryFault, IsAUsageErrorWithFileAndLineAndLeavesNoFile) {
  const TemporaryFolder folder;
  const std::string path = folder.write(GetParam().file, GetParam().text);
  try {
    import_files({.files = {path}, .out = folder / "data.h5", .force = true});
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    EXPECT_NE(std::string(error.what()).find(GetParam().expected), std::string::npos) << error.what();
    EXPECT_LT(std::string(error.what()).size(), 1000u);
  }
  EXPECT_EQ(folder.count(), 1u);
}

TEST(Import, RefusesOptionsThatDoNotFit) {
  const TemporaryFolder folder;
  const std::string path = folder.write("a.fa", ">a\nACGT\n"), out = folder / "data.h5";
  const std::vector<ImportOptions> wrong = {
      {.out = out},
      {.files = {path}},
      {.files = {folder / "absent.fa"}, .out = out},
      {.files = {folder / ""}, .out = out},
      {.files = {path}, .out = path},
      {.files = {path}, .out = out, .format = "bam"},
      {.files = {path}, .out = out, .vocabulary_size = 255},
  };
  for (std::size_t row = 0; row < wrong.size(); ++row) {
    try {
      import_files(wrong[row]);
      ADD_FAILURE() << "row " << row << ": no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::usage) << error.what();
    }
  }
  EXPECT_EQ(folder.count(), 1u);
  EXPECT_EQ(testing::bytes_of(path), ">a\nACGT\n");
}

TEST(Import, ReportsProgressUpToTheEnd) {
  const TemporaryFolder folder;
  const std::string path = folder.write("a.fa", ">a\n" + std::string(2'000'000, 'A') + "\n");
  std::int64_t last = 0, total = 0;
  import_files({.files = {path, path},
                .out = folder / "data.h5",
                .force = true,
                .progress = [&](const ImportProgress& progress) {
                  EXPECT_GE(progress.bytes_done, last);
                  last = progress.bytes_done;
                  total = progress.bytes_total;
                }});
  EXPECT_EQ(last, total);
  EXPECT_EQ(total, 2 * 2'000'005 - 2);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST(Import, MemoryStaysBoundedOverARecordOfAHundredMegabytes) {
  const TemporaryFolder folder;
  const std::string line(1 << 20, 'A');
  {
    std::ofstream file(folder / "a.fa");
    file << ">endless\n";
    for (int i = 0; i < 100; ++i) file << line;
  }
  const auto peak = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;  // KiB
  };
  const auto before = peak();
  EXPECT_EQ(import_files({.files = {folder / "a.fa"}, .out = folder / "data.h5", .force = true}).tokens, 100 << 20);
  EXPECT_LT(peak() - before, 16 << 10);
}
#endif

}  // namespace
}  // namespace causeway
