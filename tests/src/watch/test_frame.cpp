#include "src/watch/frame.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/core/random.hpp"
#include "src/output/safe_text.hpp"

namespace causeway::test {
namespace {

constexpr double now = 1'800'000'000;

std::string joined(const std::vector<std::string>& lines) {
  std::string text = "\n";
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

RunState running() {
  RunState run{
      .path = "runs/first",
      .setup = {.model = "mamba-tiny", .dtype = "f32", .device = "cpu", .layout = "zigzag", .transport = "MPI"}};
  run.setup.parameters = 1'234'567;
  run.setup.steps = 400;
  run.setup.ranks = 4;
  run.setup.data = 2;
  run.setup.context = 2;
  run.setup.hosts = {"a", "a", "b", "b"};
  for (std::int64_t step = 1; step <= 200; ++step) {
    StepRecord record{.step = step};
    record.loss = 2 + 4 * std::exp(-static_cast<double>(step) / 40);
    record.learning_rate = 1e-3;
    record.grad_norm = 0.5;
    record.tokens = 8192;
    record.step_s = 0.5;
    record.compute_s = 0.4;
    record.comm_exposed_s = 0.1;
    record.comm_hidden_s = 0.05;
    record.bytes_sent = 1 << 20;
    record.memory_bytes = 3e9;
    record.balance = 0.93;
    record.slowest_rank = 3;
    if (step % 50 == 0) record.eval_loss = *record.loss + 0.1;
    if (step == 150) record.checkpoint_s = 0.012;
    if (step == 153) {
      record.checkpoint_step = 150;
      record.checkpoint_write_s = 1.5;
      record.checkpoint_bytes = 5e7;
    }
    run.history.add(record);
  }
  run.metrics_modified = now - 1;
  run.latest_checkpoint = 150;
  return run;
}

RankLine rank_line(int rank, double compute_s, double written_at) {
  RankLine line{.rank = rank, .host = rank < 2 ? "a" : "b", .pid = 100, .written_at = written_at};
  line.progress.position = {.step = 201, .phase = Phase::backward, .layer = 3};
  line.progress.figures = {.step_s = 0.5,
                           .compute_s = compute_s,
                           .comm_exposed_s = 0.5 - compute_s,
                           .tokens = 4096,
                           .memory_bytes = 1 << 30};
  return line;
}

TEST(WatchFrame, AtEightyColumns) {
  RunState run = running();
  for (int rank = 0; rank < 4; ++rank) run.ranks.push_back(rank_line(rank, 0.3 + 0.05 * rank, now - 0.5));
  EXPECT_EQ(joined(build_frame(run, now, {.width = 80, .height = 24, .unicode = false})), R"(
causeway runs/first  running
model    mamba-tiny  1.23M parameters  f32  cpu
ranks    4 = 2 data x 2 context  zigzag  on a (2), b (2)  by MPI
step     200 of 400  ############............  50.0 %  1 min 40 s left
loss     2.0270  smoothed 2.0518  first 5.9012  held-out 2.1270 at 200  the best
  4.7726 |^^^^^**
         |       ***
         |          *****
         |               **o**
         |                    *********
  2.0270 |                             *****o*****************o****************o
          step 1   ^ above the axis, up to 5.9012                            200
rate     learning rate 1.00e-03  gradient norm 0.5
speed    16.4k tokens/s  16.4k on average  500 ms a step  1.64M tokens in all
time     ################....  computing 80 %  communicating 20 %
         hidden behind computing 10 %
memory   2.79 GiB on the largest rank  sent 1.00 MiB in the step  200 MiB in all
saved    step 150, 50 steps ago  cost the step 12 ms  written in 1.5 s  47.7 MiB
balance  0.93  mean computing time / that of rank 3, the slowest
 rank host             step at             computing, waiting   a step
    0 a                 201 backward 3     ###########-------   500 ms
    1 a                 201 backward 3     #############-----   500 ms
    2 b                 201 backward 3     ##############----   500 ms
    3 b                 201 backward 3     ################--   500 ms
)");
}

TEST(WatchFrame, AtFortyColumnsItHasACurveAndNoBars) {
  EXPECT_EQ(joined(build_frame(running(), now, {.width = 40, .height = 24, .unicode = false})), R"(
causeway runs/first  running
step     200 of 400  50.0 %
         1 min 40 s left
loss     2.0270  smoothed 2.0518
         first 5.9012
         held-out 2.1270 at 200
         the best
  4.7726 |^^*
         |   *
         |    *
         |     **o
         |       **
         |         **** o
  2.0270 |             *********o******o
          step 1                     200
speed    16.4k tokens/s
         16.4k on average  500 ms a step
         1.64M tokens in all
time     computing 80 %
         communicating 20 %
         hidden behind computing 10 %
saved    step 150, 50 steps ago
         cost the step 12 ms
         written in 1.5 s  47.7 MiB
)");
}

TEST(WatchFrame, ASmallWindowKeepsTheCurveBeforeMemoryAndNorms) {
  EXPECT_EQ(joined(build_frame(running(), now, {.width = 40, .height = 10, .unicode = false})), R"(
causeway runs/first  running
step     200 of 400  50.0 %
         1 min 40 s left
loss     2.0270  smoothed 2.0518
  4.7726 |^^**
         |    **
         |      *o**
  2.0270 |          ****o*******o******o
          step 1                     200
speed    16.4k tokens/s
)");
  RunState many = running();
  for (int rank = 0; rank < 200; ++rank) many.ranks.push_back(rank_line(rank, 0.3, now));
  for (const RunState& run : {running(), many})
    for (const auto& [width, height] : {std::pair(80, 24), {60, 15}, {40, 10}, {80, 10}, {60, 12}, {132, 9}, {30, 9}}) {
      const auto lines = build_frame(run, now, {.width = width, .height = height, .unicode = false});
      const auto has = [&](std::string_view text) {
        return std::ranges::any_of(lines, [&](const std::string& line) { return line.find(text) != line.npos; });
      };
      EXPECT_LE(std::ssize(lines), height);
      EXPECT_TRUE(has("2.0270 |") && has("4.7726 |")) << width << " x " << height << joined(lines);
      if (height < 13) {
        EXPECT_FALSE(has("memory ") || has("gradient norm")) << width << " x " << height << joined(lines);
      }
    }
}

TEST(WatchFrame, ALowTerminalShowsTheMostImportantSections) {
  EXPECT_EQ(joined(build_frame(running(), now, {.width = 80, .height = 4, .unicode = false})), R"(
causeway runs/first  running
step     200 of 400  ############............  50.0 %  1 min 40 s left
loss     2.0270  smoothed 2.0518  first 5.9012  held-out 2.1270 at 200  the best
speed    16.4k tokens/s  16.4k on average  500 ms a step  1.64M tokens in all
)");
}

TEST(WatchFrame, NeverWiderNorHigherThanAsked) {
  RunState run = running();
  for (int rank = 0; rank < 700; ++rank) run.ranks.push_back(rank_line(rank, 0.1 + 0.0005 * rank, now - rank % 50));
  run.end = RunEnd{.code = 76, .step = 200, .reason = "no progress for 1800 s; " + std::string(300, 'x')};
  for (const bool ended : {true, false}) {
    if (!ended) run.end.reset();
    for (int width = 1; width < 140; width += 3)
      for (const int height : {1, 2, 3, 5, 8, 13, 24, 60}) {
        const auto lines = build_frame(run, now, {.width = width, .height = height});
        EXPECT_LE(std::ssize(lines), height);
        for (const std::string& line : lines) EXPECT_LE(columns_of(line), width);
      }
  }
}

TEST(WatchFrame, SaysWhetherTheRunIsActiveAndHowItEnded) {
  const auto first_line = [](const RunState& run) { return build_frame(run, now, {.unicode = false}).at(0); };
  RunState run = running();
  EXPECT_EQ(first_line(run), "causeway runs/first  running");
  run.metrics_modified = now - 95;
  EXPECT_EQ(first_line(run), "causeway runs/first  no step for 1 min 35 s (usually 500 ms each)");
  EXPECT_EQ(first_line({.path = "x"}), "causeway x  no step yet");
  run.end = RunEnd{.code = 0, .reason = "done"};
  EXPECT_EQ(first_line(run), "causeway runs/first  done");
  run.end = RunEnd{.code = 75};
  EXPECT_NE(first_line(run).find("ended with 75: stopped by a signal: start it again"), std::string::npos);
  run.end = RunEnd{.code = 70, .reason = "step 3: the loss is nan; first in the output of layer 1"};
  EXPECT_NE(
      joined(build_frame(run, now, {})).find("reason   step 3: the loss is nan; first in the output of layer 1\n"),
      std::string::npos);
  run.end = RunEnd{.code = 12345};
  EXPECT_NE(first_line(run).find("not an exit code of Causeway"), std::string::npos);
  run.end = RunEnd{};
  EXPECT_NE(first_line(run).find("has no exit code"), std::string::npos);
}

TEST(WatchFrame, NamesRanksThatAreSilent) {
  RunState run = running();
  for (int rank = 0; rank < 4; ++rank) run.ranks.push_back(rank_line(rank, 0.3, now - (rank == 2 ? 45 : 1)));
  const std::string silent = "silent   rank 2 on b for 45 s, was at backward 3 of step 201\n";
  EXPECT_NE(joined(build_frame(run, now, {})).find(silent), std::string::npos);
  run.ranks[2].progress.position.phase = Phase::done;
  EXPECT_EQ(joined(build_frame(run, now, {})).find("silent"), std::string::npos);
}

TEST(WatchFrame, ManyRanksAreOneLineAndTheSlowestHaveTheirOwn) {
  RunState run = running();
  for (int rank = 0; rank < 1000; ++rank) run.ranks.push_back(rank_line(rank, rank == 777 ? 0.4 : 0.2, now));
  const auto lines = build_frame(run, now, {.width = 109, .height = 40, .unicode = false});
  const std::string strip = "ranks    " + std::string(77, '5') + "9" + std::string(22, '5');
  const auto found = std::ranges::find(lines, strip);
  ASSERT_NE(found, lines.end()) << joined(lines);
  EXPECT_TRUE(found[2].starts_with("  777 b ")) << found[2];
}

TEST(WatchFrame, HostileTextAndNumbersAreMadePrintable) {
  RunState run = running();
  const std::string nasty = "\033]0;owned\a\033[2J\r\n\xc2\x9b\x80\xff\xe2\x80\xae" + std::string(100'000, '\b');
  run.path = run.setup.model = run.setup.dtype = run.setup.device = run.setup.layout = run.setup.transport = nasty;
  run.setup.hosts = {nasty, "b"};
  run.end = RunEnd{.code = 1, .reason = nasty};
  const RandomStream random(5, 1);
  std::uint64_t draw = 0;
  const double odd[] = {0, -1, 1e18, -1e308, 1e308, 1e-300, 5e-324, 9007199254740992.0};
  for (int i = 0; i < 300; ++i) {
    const auto any = [&] { return odd[random.below(draw++, std::size(odd))]; };
    StepRecord record{.step = static_cast<std::int64_t>(random.below(draw++, 3)) << 52};
    for (auto field : {&StepRecord::loss, &StepRecord::learning_rate, &StepRecord::grad_norm, &StepRecord::tokens,
                       &StepRecord::step_s, &StepRecord::compute_s, &StepRecord::comm_exposed_s,
                       &StepRecord::bytes_sent, &StepRecord::memory_bytes, &StepRecord::balance, &StepRecord::mfu,
                       &StepRecord::eval_loss, &StepRecord::checkpoint_s})
      record.*field = any();
    run.history.add(record);
    run.setup.steps = static_cast<std::int64_t>(random.below(draw++, 3)) << 52;
    run.ranks = {rank_line(0, any(), any()), rank_line(1, any(), now)};
    run.ranks[0].host = nasty;
    for (const bool unicode : {false, true})
      for (const int width : {20, 80, 200}) {
        const Look look{.width = width, .height = 50, .unicode = unicode};
        for (const std::string& line : build_frame(run, now, look)) {
          EXPECT_EQ(printable(line, unicode), line);
          EXPECT_LE(columns_of(line), width);
        }
        EXPECT_EQ(printable(status_line(run, now, look), unicode), status_line(run, now, look));
      }
  }
}

TEST(WatchFrame, HasColoursOnlyIfAsked) {
  const auto has_escape = [](const std::vector<std::string>& lines) {
    return joined(lines).find('\033') != std::string::npos;
  };
  EXPECT_FALSE(has_escape(build_frame(running(), now, {.colour = false})));
  EXPECT_TRUE(has_escape(build_frame(running(), now, {.colour = true})));
}

TEST(WatchFrame, OneLineForATerminalThatCannotRedraw) {
  EXPECT_EQ(status_line(running(), now, {.width = 100}),
            "step 200 of 400  loss 2.0270  16.4k tokens/s  1 min 40 s left  running");
}

}  // namespace
}  // namespace causeway::test
