#include "src/health/rank_board.hpp"
#include "src/run/utc_text.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <limits>

#include "kernels/core/error.hpp"
#include "kernels/core/random.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

RankLine some_line(int rank) {
  return {
      .rank = rank,
      .host = "node-17.cluster",
      .pid = 4711,
      .written_at = 1795332011.25,
      .progress = {
          .position = {.step = 120, .phase = Phase::backward, .layer = 3, .heartbeats = 9},
          .idle_s = 1.5,
          .writing = CheckpointStage::hash,
          .writing_idle_s = 0.5,
          .figures = {
              .step_s = 0.125, .compute_s = 0.1, .comm_exposed_s = 0.025, .tokens = 4096, .memory_bytes = 1 << 30}}};
}

TEST(RankBoard, ALineIsReadAsItWasWrittenAndHasAFixedLength) {
  EXPECT_EQ(utc_text(0), "1970-01-01T00:00:00.000Z");
  const RankLine line = some_line(7);
  const std::string text = rank_line_text(line);
  EXPECT_EQ(std::ssize(text), rank_line_bytes);
  EXPECT_NE(text.find(" 120 backward       3      9      1.5 2026-11-22T"), std::string::npos) << text;
  const std::optional<RankLine> read = parse_rank_line(text);
  ASSERT_TRUE(read);
  EXPECT_EQ(rank_line_text(*read), text);
  EXPECT_EQ(read->host, line.host);
  EXPECT_EQ(read->written_at, line.written_at);
  EXPECT_EQ(read->progress.writing, CheckpointStage::hash);
  EXPECT_EQ(read->progress.figures.memory_bytes, 1 << 30);

  RankLine odd = line;
  odd.host = "a host\nwith more than twenty-four characters";
  odd.pid = -1;
  odd.progress.position = {.step = 123'456'789'012, .phase = Phase::start};
  odd.progress.idle_s = std::numeric_limits<double>::quiet_NaN();
  odd.progress.writing = CheckpointStage::idle;
  odd.progress.figures.memory_bytes = std::int64_t{1} << 50;
  const std::string odd_text = rank_line_text(odd);
  EXPECT_EQ(std::ssize(odd_text), rank_line_bytes);
  ASSERT_TRUE(parse_rank_line(odd_text)) << odd_text;
  EXPECT_EQ(parse_rank_line(odd_text)->host, "a?host?with?more?than?tw");
  EXPECT_EQ(parse_rank_line(odd_text)->progress.position.step, 123'456'789'012);
  EXPECT_EQ(parse_rank_line(odd_text)->progress.position.layer, -1);
  EXPECT_EQ(std::ssize(rank_board_header()), rank_line_bytes);
}

TEST(RankBoard, EveryPhaseAndStageIsReadAsItWasWritten) {
  RankLine line = some_line(0);
  for (int phase = 0; phase <= static_cast<int>(Phase::watchdog); ++phase)
    for (int stage = 0; stage <= static_cast<int>(CheckpointStage::idle); ++stage) {
      line.progress.position.phase = static_cast<Phase>(phase);
      line.progress.writing = static_cast<CheckpointStage>(stage);
      const auto read = parse_rank_line(rank_line_text(line));
      ASSERT_TRUE(read);
      EXPECT_EQ(read->progress.position.phase, line.progress.position.phase);
      EXPECT_EQ(read->progress.writing, line.progress.writing);
    }
  for (const bool training : {false, true})
    for (const bool writing : {false, true}) {
      line.progress.in_system = training;
      line.progress.writing_in_system = writing;
      const auto read = parse_rank_line(rank_line_text(line));
      ASSERT_TRUE(read);
      EXPECT_EQ(read->progress.in_system, training);
      EXPECT_EQ(read->progress.writing_in_system, writing);
    }
}

TEST(RankBoard, EachRankWritesOnlyItsOwnLine) {
  const testing::TemporaryFolder folder;
  const std::string path = folder / "ranks.txt";
  RankBoard::create(path, 3);
  const RankBoard board(path);
  auto lines = read_rank_board(path);
  ASSERT_EQ(lines.size(), 3u);
  for (const auto& line : lines) EXPECT_FALSE(line);
  board.write(some_line(2));
  board.write(some_line(0));
  lines = read_rank_board(path);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_TRUE(lines[0] && lines[2]);
  EXPECT_FALSE(lines[1]);
  EXPECT_EQ(std::ssize(testing::bytes_of(path)), 4 * rank_line_bytes);
  RankBoard::create(path, 2);  // as the next run does
  EXPECT_EQ(read_rank_board(path).size(), 2u);
}

TEST(RankBoard, FailedWritesAreIoErrorsAndARemovedFileIsNotCreatedAgain) {
  const testing::TemporaryFolder folder;
  RankBoard(folder / "ranks.txt").write(some_line(0));
  EXPECT_EQ(folder.count(), 0u);
  for (const std::string& path : {folder / "", std::string("/dev/full")}) {
    try {
      RankBoard(path).write(some_line(0));
      ADD_FAILURE() << path;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::io);
    }
  }
}

TEST(RankBoard, FilesOfAnotherFormatAndIncompleteOnesAreReadSafely) {
  const testing::TemporaryFolder folder;
  EXPECT_TRUE(read_rank_board(folder / "absent").empty());
  EXPECT_TRUE(read_rank_board(folder / "").empty());
  EXPECT_TRUE(read_rank_board("/dev/zero").empty());
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_TRUE(read_rank_board(folder / "pipe").empty());
  EXPECT_TRUE(read_rank_board(folder.write("other", "hello\n")).empty());

  const std::string whole = rank_board_header() + rank_line_text(some_line(0)) + rank_line_text(some_line(1));
  EXPECT_EQ(parse_rank_board(whole.substr(0, whole.size() - 20)).size(), 2u);  // the last line is half written
  EXPECT_FALSE(parse_rank_board(whole.substr(0, whole.size() - 20))[1]);
  EXPECT_FALSE(parse_rank_board(rank_board_header() + rank_line_text(some_line(5)))[0]);  // another rank's line
  EXPECT_EQ(parse_rank_board(rank_board_header() + std::string(std::size_t{70'000} * rank_line_bytes, ' ')).size(),
            65536u);
  const RandomStream random(1, 2);
  for (std::uint64_t i = 0; i < 3000; ++i) {
    std::string damaged = whole;
    for (std::uint64_t k = 0; k <= i % 4; ++k)
      damaged[random.below(8 * i + 2 * k, damaged.size())] = static_cast<char>(random.below(8 * i + 2 * k + 1, 256));
    for (const auto& line : parse_rank_board(damaged))
      if (line) {
        EXPECT_EQ(std::ssize(rank_line_text(*line)), rank_line_bytes);
      }
  }
}

TEST(RankBoard, ABoardThatWasCutShortGetsNoHoleOfZeros) {
  const testing::TemporaryFolder folder;
  RankBoard::create(folder / "ranks.txt", 2);
  std::filesystem::resize_file(folder / "ranks.txt", 0);
  RankBoard(folder / "ranks.txt").write(some_line(1));
  EXPECT_EQ(std::filesystem::file_size(folder / "ranks.txt"), 0u);
}

}  // namespace
}  // namespace causeway::test
