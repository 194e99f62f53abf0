#include "src/train/progress_report.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "src/output/safe_text.hpp"
#include "src/watch/text.hpp"

namespace causeway::test {
namespace {

/// The steps after which a line is due, of steps that take `seconds` each.
std::vector<std::int64_t> lines(std::int64_t every, std::int64_t steps, double seconds, std::int64_t from = 0) {
  ProgressSchedule schedule(every, steps);
  std::vector<std::int64_t> due;
  for (std::int64_t step = from + 1; step <= steps; ++step)
    if (schedule.due(step, static_cast<double>(step - from) * seconds)) due.push_back(step);
  return due;
}

using Steps = std::vector<std::int64_t>;

TEST(ProgressReport, FastStepsHaveALineEverySoManySteps) {
  EXPECT_EQ(lines(10, 25, 0.01), (Steps{1, 10, 20, 25}));
  EXPECT_EQ(lines(1, 4, 0.01), (Steps{1, 2, 3, 4}));
}

TEST(ProgressReport, SlowStepsHaveALineAboutEveryTenSeconds) {
  EXPECT_EQ(lines(1000, 20, 3), (Steps{1, 5, 9, 13, 17, 20}));
  EXPECT_EQ(lines(1000, 4, 60), (Steps{1, 2, 3, 4}));
  // A line after so many steps counts: the next ten seconds begin with it.
  EXPECT_EQ(lines(6, 12, 4), (Steps{1, 4, 6, 9, 12}));
}

TEST(ProgressReport, AResumedRunHasALineAfterItsFirstStep) {
  EXPECT_EQ(lines(100, 220, 0.1, 130), (Steps{131, 200, 220}));
}

TEST(ProgressReport, TheTimeLeftFollowsTheStepsAfterTheFirst) {
  TimeLeft left(10);
  EXPECT_EQ(left.after(11, 21, 30), 300);  // nothing else is known yet
  EXPECT_EQ(left.after(12, 21, 32), 18);   // the first step was slow: each takes 2 s
  EXPECT_EQ(left.after(13, 21, 36), 24);   // an evaluation came between: 3 s on average
  EXPECT_EQ(left.after(21, 21, 60), 0);
}

constexpr StepProgress twentieth{.step = 20,
                                 .steps = 1000,
                                 .epoch = 0.2437,
                                 .loss = 1.3862943611,
                                 .tokens_per_s = 12345,
                                 .elapsed_s = 12,
                                 .left_s = 500};

TEST(ProgressReport, ALineOfALogSaysEverything) {
  EXPECT_EQ(progress_line(twentieth, 0),
            "step    20 of 1,000  epoch 0.24  loss 1.3863  2.000 bits a token  12.3k tokens/s  12 s  8 min 20 s left");
  StepProgress last = twentieth;
  last.step = 1000;
  last.loss.reset();  // no label in the step
  EXPECT_EQ(progress_line(last, 0), "step 1,000 of 1,000  epoch 0.24  loss –  12.3k tokens/s  12 s");
  EXPECT_EQ(loss_text("held-out", 1.3862943611), "held-out 1.3863  2.000 bits a token");
  EXPECT_EQ(loss_text("held-out", std::nullopt), "held-out –");
}

TEST(ProgressReport, ALineOfATerminalFitsIntoIt) {
  const std::string whole = progress_line(twentieth, 0);
  EXPECT_EQ(progress_line(twentieth, columns_of(whole)), whole);
  EXPECT_EQ(progress_line(twentieth, columns_of(whole) - 1),
            "step    20 of 1,000  epoch 0.24  loss 1.3863  2.000 bits a token  12.3k tokens/s  8 min 20 s left");
  EXPECT_EQ(progress_line(twentieth, 80),
            "step    20 of 1,000  epoch 0.24  loss 1.3863  12.3k tokens/s  8 min 20 s left");
  const std::string least = "step    20 of 1,000  loss 1.3863  12.3k tokens/s  8 min 20 s left";
  EXPECT_EQ(progress_line(twentieth, 70), least);
  EXPECT_EQ(progress_line(twentieth, 10), least);  // the terminal breaks it
}

}  // namespace
}  // namespace causeway::test
