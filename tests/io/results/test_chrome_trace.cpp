#include "io/results/chrome_trace.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace causeway::test {
namespace {

nlohmann::json parsed(std::span<const TraceSpan> spans, double shift_s = 0) {
  return nlohmann::json::parse(std::string(chrome_trace_head) + chrome_events(spans, 3, "rank 3 on \"a\\b\"", shift_s) +
                               std::string(chrome_trace_tail));
}

/// The events of one kind, in the order of the file.
std::vector<nlohmann::json> events(const nlohmann::json& file, const std::string& kind) {
  std::vector<nlohmann::json> found;
  for (const auto& event : file.at("traceEvents"))
    if (event.at("ph") == kind) found.push_back(event);
  return found;
}

TEST(ChromeTrace, HasTheTimesInMicrosecondsAndTheBytes) {
  const std::vector<TraceSpan> spans{{"gemm", "operator", TraceLane::device, 0.25, 0.2500015},
                                     {"all_reduce", "exchange", TraceLane::host, 1, 2, 77}};
  const auto found = events(parsed(spans, -0.125), "X");
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0], nlohmann::json::parse(R"({"name": "all_reduce", "cat": "exchange", "ph": "X", "ts": 875000.0,
                                               "dur": 1000000.0, "pid": 3, "tid": 0, "args": {"bytes": 77}})"));
  EXPECT_EQ(found[1], nlohmann::json::parse(R"({"name": "gemm", "cat": "operator", "ph": "X", "ts": 125000.0,
                                               "dur": 1.5, "pid": 3, "tid": 1})"));
}

TEST(ChromeTrace, NamesTheRankAndTheLanesThatItUses) {
  const std::vector<TraceSpan> spans{{"shard", "checkpoint", TraceLane::checkpoint, 0, 1}};
  std::vector<std::string> names;
  for (const auto& event : events(parsed(spans), "M"))
    if (event.at("args").contains("name")) names.push_back(event.at("args").at("name"));
  EXPECT_EQ(names, (std::vector<std::string>{"rank 3 on \"a\\b\"", "checkpoint"}));
}

TEST(ChromeTrace, PutsMessagesInFlightThatOverlapOnThreadsOfTheirOwn) {
  const auto in_flight = [](double begin, double end) {
    return TraceSpan{"exchange", "exchange", TraceLane::in_flight, begin, end, 1};
  };
  const std::vector<TraceSpan> spans{in_flight(0, 2), in_flight(1, 3), in_flight(2, 4), in_flight(3.5, 5)};
  std::vector<std::pair<double, int>> found;
  for (const auto& event : events(parsed(spans), "X")) found.emplace_back(event.at("ts"), event.at("tid"));
  EXPECT_EQ(found, (std::vector<std::pair<double, int>>{{0, 10}, {1e6, 11}, {2e6, 10}, {3.5e6, 11}}));
}

TEST(ChromeTrace, PutsTheEventAroundOthersFirstWhereTheyBeginTogether) {
  const std::vector<TraceSpan> spans{{"fill", "operator", TraceLane::host, 1, 2},
                                     {"head", "range", TraceLane::host, 1, 2},
                                     {"forward", "range", TraceLane::host, 1, 3}};
  std::vector<std::string> names;
  for (const auto& event : events(parsed(spans), "X")) names.push_back(event.at("name"));
  EXPECT_EQ(names, (std::vector<std::string>{"forward", "head", "fill"}));
}

}  // namespace
}  // namespace causeway::test
