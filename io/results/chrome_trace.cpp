#include "io/results/chrome_trace.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <tuple>
#include <vector>

namespace causeway {
namespace {

/// A span in whole nanoseconds, so that begin + duration is exact in the file, and events that nest in time nest there
/// too.
struct Interval {
  const TraceSpan* span;
  std::int64_t begin, end;
};

constexpr int first_thread_in_flight = 10;

/// Names of the threads of a rank by their number; those in flight follow.
struct Thread {
  TraceLane lane;
  const char* name;
};
constexpr Thread threads[] = {
    {TraceLane::host, "host"}, {TraceLane::device, "GPU"}, {TraceLane::checkpoint, "checkpoint"}};

std::string json_text(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string microseconds(std::int64_t ns) {
  return fmt::format("{}{}.{:03}", ns < 0 ? "-" : "", std::abs(ns) / 1000, std::abs(ns) % 1000);
}

/// Sorted by begin; of events that begin together, the one around the others first.
std::vector<Interval> events_of(std::span<const TraceSpan> spans, TraceLane lane, double shift_s) {
  const auto ns = [&](double seconds) { return std::llround((seconds + shift_s) * 1e9); };
  std::vector<Interval> events;
  for (std::size_t i = spans.size(); i-- > 0;)  // the span around others was closed, and so added, after them
    if (spans[i].lane == lane) events.push_back({&spans[i], ns(spans[i].begin_s), ns(spans[i].end_s)});
  std::ranges::stable_sort(events, [](const Interval& a, const Interval& b) {
    return std::tuple(a.begin, -a.end) < std::tuple(b.begin, -b.end);
  });
  return events;
}

class Lines {
 public:
  Lines(int rank) : rank_(rank) {}

  void name(std::string_view what, int thread, std::string_view name) {
    add(fmt::format(R"({{"name": "{}", "ph": "M", "pid": {}, "tid": {}, "args": {{"name": {}}}}})", what, rank_, thread,
                    json_text(name)));
  }
  void order(std::string_view what, int thread, int index) {
    add(fmt::format(R"({{"name": "{}", "ph": "M", "pid": {}, "tid": {}, "args": {{"sort_index": {}}}}})", what, rank_,
                    thread, index));
  }
  void event(int thread, const Interval& event) {
    const TraceSpan& span = *event.span;
    add(fmt::format(R"({{"name": {}, "cat": "{}", "ph": "X", "ts": {}, "dur": {}, "pid": {}, "tid": {}{}}})",
                    json_text(span.name), span.category, microseconds(event.begin),
                    microseconds(event.end - event.begin), rank_, thread,
                    span.bytes < 0 ? "" : fmt::format(R"(, "args": {{"bytes": {}}})", span.bytes)));
  }
  std::string take() { return std::move(text_); }

 private:
  void add(std::string_view line) {
    if (!text_.empty()) text_ += ",\n";
    text_ += line;
  }
  int rank_;
  std::string text_;
};

}  // namespace

std::string chrome_events(std::span<const TraceSpan> spans, int rank, std::string_view process, double shift_s) {
  Lines lines(rank);
  lines.name("process_name", 0, process);
  lines.order("process_sort_index", 0, rank);
  for (int number = 0; const auto& [lane, name] : threads) {
    const std::vector<Interval> events = events_of(spans, lane, shift_s);
    if (!events.empty()) {
      lines.name("thread_name", number, name);
      lines.order("thread_sort_index", number, number);
    }
    for (const Interval& event : events) lines.event(number, event);
    ++number;
  }
  std::vector<std::int64_t> free_from;  // of each thread in flight, the end of its last event
  for (const Interval& event : events_of(spans, TraceLane::in_flight, shift_s)) {
    const auto free = std::ranges::find_if(free_from, [&](std::int64_t end) { return end <= event.begin; });
    const int number = first_thread_in_flight + static_cast<int>(free - free_from.begin());
    if (free == free_from.end()) {
      free_from.push_back(event.end);
      lines.name("thread_name", number, "messages in flight");
      lines.order("thread_sort_index", number, number);
    } else {
      *free = event.end;
    }
    lines.event(number, event);
  }
  return lines.take();
}

}  // namespace causeway
