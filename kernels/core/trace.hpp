#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/event.hpp"

/// Names for work: in a trace that Causeway makes of itself, and in profilers.
namespace causeway {

/// The row of a rank's trace that a span is shown in.
enum class TraceLane : std::uint8_t {
  host,        ///< a CPU stream's work, and calls that wait for other ranks; on the host's clock
  device,      ///< a GPU stream's work, on the GPU's clock
  in_flight,   ///< messages from their start to the end of the wait for them; they may overlap
  checkpoint,  ///< the stages of a checkpoint, also those of the thread that writes it
};

/// A named interval of one rank, in seconds since its trace was made.
struct TraceSpan {
  std::string name;
  std::string_view category;  ///< "operator", "exchange", "range" or "checkpoint"
  TraceLane lane = TraceLane::host;
  double begin_s = 0, end_s = 0;
  std::int64_t bytes = -1;  ///< sent; negative: does not apply
};

/// What one rank did, as spans. A stream records the work of kernels in the trace that it is given (Stream::trace_in),
/// a communicator its calls (Communicator::trace_in). add() may be called from any thread.
class Trace {
 public:
  /// Spans that are kept; later ones are only counted, so that a long trace does not fill the memory.
  static constexpr std::size_t most_spans = 4'000'000;

  /// For the work of `stream` and of the host.
  explicit Trace(const Stream& stream);
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  /// Both events are timed.
  void add(std::string_view name, std::string_view category, TraceLane lane, const Event& begin, const Event& end,
           std::int64_t bytes = -1);
  /// Waits for the stream and takes the times of the events. Call it once a step: a GPU measures the time since a
  /// recent event more finely, and each event that waits for this is an object of the driver.
  void wait_for_times();
  /// From now on `call` runs before each range begins. By the thread that enqueues.
  void before_ranges(std::function<void()> call) { before_range_ = std::move(call); }
  double seconds() const;                                         ///< of the host, since the trace was made
  const std::vector<TraceSpan>& spans() const { return spans_; }  ///< those whose times are known
  std::int64_t dropped() const { return dropped_; }               ///< spans beyond most_spans

 private:
  friend class TracedScope;
  struct Measured {
    Event begin, end;
  };
  std::function<void()> before_range_;
  const Stream stream_, host_;
  Event origin_, base_;  // of the host; of the stream, when the host had waited for it
  std::mutex mutex_;
  std::vector<TraceSpan> spans_, open_;  // open_: without their times, which are those of events_
  std::vector<Measured> events_;
  std::int64_t dropped_ = 0;
};

/// The lane of a stream's work.
inline TraceLane lane_of(const Stream& stream) {
  return stream.device() == Device::cpu ? TraceLane::host : TraceLane::device;
}

/// A span of the stream's trace from here to the end of the scope. Without a trace it costs one comparison.
class TracedScope {
 public:
  TracedScope(const Stream& stream, std::string_view name, std::string_view category) {
    if (stream.trace() != nullptr) open(stream, name, category);
  }
  ~TracedScope() noexcept(false) {
    if (opened_) close();
  }
  TracedScope(const TracedScope&) = delete;
  TracedScope& operator=(const TracedScope&) = delete;

 private:
  struct Opened {
    const Stream* stream;
    std::string name;
    std::string_view category;
    Event begin;
  };
  void open(const Stream& stream, std::string_view name, std::string_view category);
  void close();
  std::optional<Opened> opened_;
};

/// Gives a name to the work that the host enqueues during this object's lifetime: for profilers an NVTX range, which
/// Nsight Systems shows above the kernels, and a span of the stream's trace. Ranges can be nested. It costs almost
/// nothing without a profiler and a trace; in a build without CUDA there is no NVTX.
class ProfileRange {
 public:
  explicit ProfileRange(const std::string& name);  ///< for profilers only
  ProfileRange(const Stream& stream, const std::string& name);
  ~ProfileRange();
  ProfileRange(const ProfileRange&) = delete;
  ProfileRange& operator=(const ProfileRange&) = delete;

 private:
  std::optional<TracedScope> traced_;
};

}  // namespace causeway
