#include "io/results/table_file.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <limits>
#include <random>

#include "kernels/core/error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::bytes_of;
using testing::TemporaryFolder;

const std::vector<std::string> names = {"name", "tokens", "log_likelihood"};

template <class Number>
void expect_round_trip(Number value) {
  for (const TableFormat format : {TableFormat::tsv, TableFormat::csv}) {
    const std::string text = table_text(value, format);
    Number back{};
    std::from_chars(text.data(), text.data() + text.size(), back);
    EXPECT_EQ(back, value) << text;
  }
}

TEST(TableFile, ATsvIsALineForEachRowWhateverItsTextsContain) {
  const TemporaryFolder folder;
  TableFile table(folder / "t.tsv", TableFormat::tsv, Existing::refused);
  table.columns(names);
  table.row({"a\tb\nc\rd\\e \"q\", z", 3, -1.5});
  table.row({"", std::int64_t{1} << 62, TableCell()});
  table.finish();
  EXPECT_EQ(bytes_of(folder / "t.tsv"),
            "name\ttokens\tlog_likelihood\n"
            "a\\tb\\nc\\rd\\\\e \"q\", z\t3\t-1.5\n"
            "\t4611686018427387904\t\n");
}

TEST(TableFile, ACsvQuotesWhatRfc4180SaysAndTellsAnEmptyTextFromNoValue) {
  const TemporaryFolder folder;
  TableFile table(folder / "t.csv", TableFormat::csv, Existing::refused);
  table.columns(names);
  table.row({"a,b", 1, 0.1});
  table.row({"say \"x\"", 2, 0.1F});
  table.row({"two\nlines\r", 3, TableCell()});
  table.row({"", 4, optional_cell(std::optional<double>())});
  table.row({"tab\t\\", 5, optional_cell(std::optional<double>(2))});
  table.finish();
  EXPECT_EQ(bytes_of(folder / "t.csv"),
            "name,tokens,log_likelihood\n"
            "\"a,b\",1,0.1\n"
            "\"say \"\"x\"\"\",2,0.1\n"
            "\"two\nlines\r\",3,\n"
            "\"\",4,\n"
            "tab\t\\,5,2\n");
}

TEST(TableFile, NumbersAreReadBackWithTheSameBits) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 2000; ++i) {
    const std::uint64_t bits = random();
    if (const auto value = std::bit_cast<double>(bits); std::isfinite(value)) expect_round_trip(value);
    if (const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(bits)); std::isfinite(value))
      expect_round_trip(value);
  }
  expect_round_trip(std::numeric_limits<double>::denorm_min());
  expect_round_trip(std::numeric_limits<double>::max());
  expect_round_trip(std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(table_text(0.1F, TableFormat::tsv), "0.1");
  EXPECT_EQ(table_text(100000.0, TableFormat::tsv), "100000");
  EXPECT_EQ(table_text(-std::numeric_limits<float>::quiet_NaN(), TableFormat::tsv), "nan");
  EXPECT_EQ(table_text(-std::numeric_limits<double>::infinity(), TableFormat::csv), "-inf");
}

TEST(TableFile, AppearsOnlyWhenItIsFinishedAndReplacesNothingUnlessAllowed) {
  const TemporaryFolder folder;
  const std::string path = folder / "t.tsv";
  {
    TableFile table(path, TableFormat::tsv, Existing::refused);
    table.columns(names);
    for (int i = 0; i < 10000; ++i) table.row({"some name", i, 0.5});
  }
  EXPECT_EQ(folder.count(), std::size_t{0});
  folder.write("t.tsv", "mine");
  EXPECT_THROW(TableFile(path, TableFormat::tsv, Existing::refused), Error);
  EXPECT_EQ(bytes_of(path), "mine");
  TableFile table(path, TableFormat::tsv, Existing::replaced);
  table.columns(names);
  table.finish();
  EXPECT_EQ(bytes_of(path), "name\ttokens\tlog_likelihood\n");
}

TEST(TableFile, ALargeTableIsWrittenInBlocks) {
  std::string all;
  std::size_t most = 0;
  TableFile table(
      [&](std::string_view text) {
        most = std::max(most, text.size());
        all += text;
      },
      TableFormat::tsv);
  table.columns(names);
  std::string expected = "name\ttokens\tlog_likelihood\n";
  for (int i = 0; i < 100'000; ++i) {
    table.row({"read", i, 0.25});
    expected += "read\t" + std::to_string(i) + "\t0.25\n";
  }
  table.finish();
  EXPECT_TRUE(all == expected);
  EXPECT_LT(most, std::size_t{70'000});
}

TEST(TableFile, TheFormatFollowsTheEndingOfTheName) {
  EXPECT_EQ(table_format_of("a.b/x.tsv", "out"), TableFormat::tsv);
  EXPECT_EQ(table_format_of("x.csv", "out"), TableFormat::csv);
  EXPECT_EQ(table_format_of("-", "out"), TableFormat::tsv);
  for (const char* wrong : {"x", "x.txt", "x.csv.gz", "csv", ""}) {
    try {
      table_format_of(wrong, "out");
      ADD_FAILURE() << wrong << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::usage);
      EXPECT_NE(std::string(error.what()).find("--out"), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace causeway::test
