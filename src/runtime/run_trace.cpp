#include "src/runtime/run_trace.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "io/file/atomic_file.hpp"
#include "io/file/descriptor.hpp"
#include "io/results/chrome_trace.hpp"

namespace causeway {
namespace {

/// A file that is written on the first rank only. The first error ends the writing; commit() returns it.
class TraceFile {
 public:
  explicit TraceFile(const std::string& path) {
    guarded([&] {
      file_.emplace(path);
      out_ = file_->open();
    });
  }
  void write(std::string_view text) {
    guarded([&] {
      if (!write_all(out_.get(), text)) posix_check(-1, file_->path(), "write");
    });
  }
  /// Returns the error, if there was one.
  std::optional<Error> commit() {
    guarded([&] {
      out_ = Descriptor();
      file_->commit();
    });
    return failure_;
  }

 private:
  void guarded(const auto& body) {
    if (failure_) return;
    try {
      body();
    } catch (const Error& error) {
      failure_ = error;
    }
  }
  std::optional<AtomicFile> file_;
  Descriptor out_;
  std::optional<Error> failure_;
};

}  // namespace

RunTrace::RunTrace(const Options& options, Runtime& runtime, const Log& log)
    : options_(options), runtime_(runtime), log_(log) {
  collectively(runtime_.mesh.world, [&] {
    if (runtime_.mesh.world.rank() == 0) AtomicFile(options_.path, Existing::replaced);  // it is removed at once
  });
}

void RunTrace::before_step(std::int64_t step, std::int64_t last) {
  if (done_) return;
  if (first_step_ == 0) first_step_ = std::min(step + 1, last);
  if (step >= first_step_ + options_.steps) return finish();
  last_step_ = step;
  if (trace_) return trace_->wait_for_times();
  if (step < first_step_) return;
  trace_.emplace(runtime_.stream);
  ahead_s_ = seconds_ahead_of_first_rank();
  attach(&*trace_);
}

/// How far this rank's trace is ahead of the first rank's. The first rank sends its time several times; the least
/// difference between this rank's time of arrival and the time that was sent is too large only by the shortest latency.
/// So the hosts need no common clock.
double RunTrace::seconds_ahead_of_first_rank() {
  constexpr int rounds = 16;
  Communicator& world = runtime_.mesh.world;
  double least = std::numeric_limits<double>::infinity();
  for (int round = 0; round < rounds; ++round) {
    double first = trace_->seconds();
    world.broadcast(std::as_writable_bytes(std::span(&first, 1)), 0, host_);
    least = std::min(least, trace_->seconds() - first);
    world.barrier();
  }
  return world.rank() == 0 ? 0 : least;
}

void RunTrace::attach(Trace* trace) {
  runtime_.stream.trace_in(trace);
  runtime_.mesh.world.trace_in(trace);
  runtime_.mesh.context.trace_in(trace);
  const std::lock_guard lock(mutex_);
  if (attached_ != nullptr && stage_)
    attached_->add(name_of(stage_->stage), "checkpoint", TraceLane::checkpoint, stage_->begin, Event(host_, true));
  if (trace != nullptr && stage_) stage_->begin = Event(host_, true);  // the part before belongs to no traced step
  attached_ = trace;
}

void RunTrace::record_stage(CheckpointStage stage) {
  const std::lock_guard lock(mutex_);
  if (stage_ && stage_->stage == stage) return;
  const Event now(host_, true);
  if (stage_ && attached_ != nullptr)
    attached_->add(name_of(stage_->stage), "checkpoint", TraceLane::checkpoint, stage_->begin, now);
  stage_.reset();
  if (stage != CheckpointStage::idle && stage != CheckpointStage::hashed) stage_.emplace(Stage{stage, now});
}

void RunTrace::finish() {
  if (done_ || !trace_) return;
  done_ = true;
  detach();
  trace_->wait_for_times();
  if (trace_->dropped() > 0)
    log_.warn("{}: {} events after the first {} are left out", options_.path, trace_->dropped(), Trace::most_spans);
  const int rank = runtime_.mesh.world.rank();
  write(chrome_events(trace_->spans(), rank, fmt::format("rank {} on {}", rank, host_name()), -ahead_s_));
  trace_.reset();
}

/// The first rank receives the other ranks' events one after the other, so that it never holds more than one of them.
void RunTrace::write(const std::string& mine) {
  Communicator& world = runtime_.mesh.world;
  const SystemCalls writing(*runtime_.rank_progress);
  const bool first = world.rank() == 0;
  const std::int64_t bytes = std::ssize(mine);
  std::vector<std::int64_t> sizes(static_cast<std::size_t>(world.size()));
  world.all_gather(std::as_bytes(std::span(&bytes, 1)), std::as_writable_bytes(std::span(sizes)), host_);
  std::optional<TraceFile> file;
  if (first) {
    file.emplace(options_.path);
    file->write(chrome_trace_head);
    file->write(mine);
  }
  for (int rank = 1; rank < world.size(); ++rank) {
    std::string received(first ? static_cast<std::size_t>(sizes[static_cast<std::size_t>(rank)]) : 0, '\0');
    std::vector<Transfer> transfers;
    if (first) transfers.push_back({rank, {}, std::as_writable_bytes(std::span(received))});
    if (rank == world.rank()) transfers.push_back({0, std::as_bytes(std::span(mine)), {}});
    world.exchange(transfers, host_);
    if (!first) continue;
    file->write(",\n");
    file->write(received);
  }
  if (!first) return;
  file->write(chrome_trace_tail);
  if (const std::optional<Error> error = file->commit())
    log_.warn("{}; the run continues without a trace", error->what());
  else
    log_.info("traced steps {} to {} in {}", first_step_, last_step_, options_.path);
}

}  // namespace causeway
