#include "kernels/core/trace.hpp"

#include <gtest/gtest.h>

#include "kernels/activation.hpp"
#include "tests/support/gpu.hpp"

namespace causeway::test {
namespace {

TEST(Trace, RecordsKernelsAndRangesOfItsStreamAndOfCopies) {
  const Stream stream, copy = stream, other;
  const Tensor x(stream, DType::f32, {8});
  Trace trace(stream);
  stream.trace_in(&trace);
  {
    const ProfileRange range(stream, "layer 1");
    fill(stream, {.value = 1, .y = x});
    scale(copy, {.x = x, .alpha = 2, .y = x});
    fill(other, {.value = 0, .y = x});
  }
  EXPECT_TRUE(trace.spans().empty());  // before wait_for_times() there are no times
  trace.wait_for_times();
  ASSERT_EQ(trace.spans().size(), 3u);
  const std::vector<TraceSpan>& spans = trace.spans();  // in the order of their ends
  EXPECT_EQ(spans[0].name, "fill");
  EXPECT_EQ(spans[1].name, "scale");
  EXPECT_EQ(spans[2].name, "layer 1");
  EXPECT_EQ(spans[0].category, "operator");
  EXPECT_EQ(spans[2].category, "range");
  EXPECT_EQ(spans[0].lane, TraceLane::host);
  EXPECT_LE(0, spans[2].begin_s);
  EXPECT_LE(spans[2].begin_s, spans[0].begin_s);
  EXPECT_LE(spans[0].begin_s, spans[0].end_s);
  EXPECT_LE(spans[0].end_s, spans[1].begin_s);
  EXPECT_LE(spans[1].end_s, spans[2].end_s);
  EXPECT_LE(spans[2].end_s, trace.seconds());
}

TEST(Trace, RecordsNothingBeforeItIsGivenToAStreamOrAfterItIsTakenAway) {
  const Stream stream;
  const Tensor x(stream, DType::f32, {8});
  Trace trace(stream);
  fill(stream, {.value = 1, .y = x});
  stream.trace_in(&trace);
  {
    const ProfileRange range(stream, "layer 1");
    stream.trace_in(nullptr);
  }
  fill(stream, {.value = 1, .y = x});
  trace.wait_for_times();
  EXPECT_TRUE(trace.spans().empty());
}

TEST(Trace, TimesOfLaterStepsAreOnTheSameClock) {
  const Stream stream;
  const Tensor x(stream, DType::f32, {8});
  Trace trace(stream);
  stream.trace_in(&trace);
  for (int step = 0; step < 3; ++step) {
    fill(stream, {.value = 1, .y = x});
    trace.wait_for_times();
  }
  ASSERT_EQ(trace.spans().size(), 3u);
  for (std::size_t i = 1; i < 3; ++i) EXPECT_LE(trace.spans()[i - 1].end_s, trace.spans()[i].begin_s);
}

TEST(Trace, OfAGpuIsOnTheGpusClock) {
  const std::optional<Stream> gpu = gpu_stream();
  if (!gpu) GTEST_SKIP() << "no usable GPU";
  const Tensor x(*gpu, DType::f32, {std::int64_t{1} << 26});
  Trace trace(*gpu);
  gpu->trace_in(&trace);
  for (int step = 0; step < 2; ++step) {
    const ProfileRange range(*gpu, "step");
    fill(*gpu, {.value = 1, .y = x});
    scale(*gpu, {.x = x, .alpha = 2, .y = x});
  }
  trace.wait_for_times();
  gpu->trace_in(nullptr);
  const std::vector<TraceSpan>& spans = trace.spans();  // fill, scale, step; the same again
  ASSERT_EQ(spans.size(), 6u);
  for (const TraceSpan& span : spans) EXPECT_EQ(span.lane, TraceLane::device);
  for (const std::size_t i : {0, 3}) {
    EXPECT_LE(spans[i + 2].begin_s, spans[i].begin_s);
    EXPECT_LE(spans[i].end_s, spans[i + 1].begin_s);
    EXPECT_LE(spans[i + 1].end_s, spans[i + 2].end_s);
    EXPECT_GT(spans[i + 1].end_s - spans[i + 1].begin_s, 20e-6);  // 512 MiB are read or written
  }
  EXPECT_LE(spans[2].end_s, spans[3].end_s);
  EXPECT_LE(0, spans[2].begin_s);
  EXPECT_LE(spans[5].end_s, trace.seconds());
}

}  // namespace
}  // namespace causeway::test
