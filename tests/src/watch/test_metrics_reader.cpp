#include "src/watch/metrics_reader.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "io/file/metrics_log.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

std::string line_of(std::int64_t step, const std::string& more = "") {
  return fmt::format("{{\"step\":{},\"loss\":{},\"tokens\":10,\"step_s\":0.5{}}}\n", step, 100 - step, more);
}

History poll(MetricsReader& reader) {
  constexpr double long_enough = 60;
  reader.poll(long_enough);
  return reader.history();
}

TEST(MetricsReader, EachLineCountsOnceHoweverOftenItIsRead) {
  const TemporaryFolder folder;
  MetricsReader reader(folder / "metrics.jsonl");
  EXPECT_EQ(poll(reader).lines, 0);
  for (std::int64_t step = 1; step <= 20; ++step) {
    std::ofstream(folder / "metrics.jsonl", std::ios::app) << line_of(step);
    for (int again = 0; again < 2; ++again) {
      const History history = poll(reader);
      EXPECT_EQ(history.lines, step);
      EXPECT_EQ(history.tokens, 10.0 * static_cast<double>(step));
      EXPECT_EQ(history.last->step, step);
    }
  }
}

TEST(MetricsReader, ReadsAnAmendedLastLineAndWaitsForTheEndOfALine) {
  const TemporaryFolder folder;
  MetricsLog log(folder / "metrics.jsonl", 0);
  MetricsReader reader(folder / "metrics.jsonl");
  for (int step = 1; step <= 3; ++step) log.append({{"step", step}, {"loss", 1.0}});
  EXPECT_FALSE(poll(reader).last->checkpoint_s);
  log.amend({{"step", 3}, {"loss", 1.0}, {"checkpoint_s", 0.25}});
  EXPECT_EQ(poll(reader).last->checkpoint_s, 0.25);
  log.append({{"step", 4}, {"loss", 1.0}});
  EXPECT_EQ(poll(reader).lines, 4);
  EXPECT_EQ(poll(reader).last_checkpoint_s, 0.25);
  std::ofstream(folder / "metrics.jsonl", std::ios::app) << "{\"step\":5,\"lo";
  EXPECT_EQ(poll(reader).last->step, 4);
  std::ofstream(folder / "metrics.jsonl", std::ios::app) << "ss\":7}\n";
  EXPECT_EQ(poll(reader).last->loss, 7);
  EXPECT_EQ(poll(reader).lines, 5);
}

TEST(MetricsReader, AResumedRunsFileIsReadFromTheStart) {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl";
  MetricsReader reader(path);
  {
    MetricsLog log(path, 0);
    for (int step = 1; step <= 30; ++step) log.append({{"step", step}, {"loss", 1.0}});
    EXPECT_EQ(poll(reader).lines, 30);
  }
  MetricsLog log(path, 10);
  EXPECT_EQ(poll(reader).lines, 10);
  log.append({{"step", 11}, {"loss", 2.0}});
  EXPECT_EQ(poll(reader).last->step, 11);
  // Changed in place: shorter, or with another step where the last line was.
  std::ofstream(path) << line_of(1);
  EXPECT_EQ(poll(reader).lines, 1);
  std::ofstream(path) << line_of(5) << line_of(6);
  EXPECT_EQ(poll(reader).lines, 2);
  EXPECT_EQ(poll(reader).first_step, 5);
  std::filesystem::remove(path);
  EXPECT_EQ(poll(reader).lines, 0);
}

TEST(MetricsReader, InvalidLinesAreSkipped) {
  const TemporaryFolder folder;
  const std::string nested(50'000, '['), giant = "{\"step\":9,\"x\":\"" + std::string(3'000'000, 'x') + "\"}\n";
  const std::string wrong = "\n[]\n7\n{\"step\":\"2\"}\n{\"step\":-1}\n{\"step\":1e300}\n{\"step\":2.5}\n";
  folder.write("metrics.jsonl", line_of(1) + wrong + nested + "\n" + giant + line_of(2) + std::string("\0\xff\n", 3) +
                                    "{\"step\":3,\"loss\":\"low\",\"tokens\":-5,\"step_s\":1e200,\"mfu\":[1]}\n" +
                                    giant);
  MetricsReader reader(folder / "metrics.jsonl");
  for (int again = 0; again < 2; ++again) {
    const History history = poll(reader);
    EXPECT_EQ(history.lines, 3);
    EXPECT_EQ(history.last->step, 3);
    EXPECT_FALSE(history.last->loss || history.last->tokens || history.last->step_s || history.last->mfu);
  }
  std::ofstream(folder / "metrics.jsonl", std::ios::app) << line_of(4);
  EXPECT_EQ(poll(reader).last->step, 4);
}

TEST(MetricsReader, ReadsOnlyTheEndOfAHugeFileAndNoPipe) {
  const TemporaryFolder folder;
  const std::string path = folder.write("metrics.jsonl", line_of(1));
  std::filesystem::resize_file(path, static_cast<std::uintmax_t>(MetricsReader::most_read) + 100'000);  // a hole
  std::ofstream(path, std::ios::app) << '\n' << line_of(2);
  MetricsReader reader(path);
  EXPECT_EQ(poll(reader).lines, 1);
  EXPECT_EQ(poll(reader).last->step, 2);
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  MetricsReader piped(folder / "pipe");
  EXPECT_EQ(poll(piped).lines, 0);
}

TEST(MetricsReader, AShortPollReadsAPartAndTheNextOneContinues) {
  const TemporaryFolder folder;
  std::string text;
  for (std::int64_t step = 1; step <= 40'000; ++step) text += line_of(step);
  folder.write("metrics.jsonl", text);
  MetricsReader reader(folder / "metrics.jsonl");
  int polls = 0;
  do {
    reader.poll(0);  // one block at a time
    ASSERT_LT(++polls, 100);
  } while (reader.unread_bytes() > 0);
  EXPECT_GT(polls, 1);
  EXPECT_EQ(reader.history().lines, 40'000);
}

}  // namespace
}  // namespace causeway::test
