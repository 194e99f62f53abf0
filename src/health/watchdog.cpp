#include "src/health/watchdog.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <limits>

#include "io/file/temporary_file.hpp"
#include "kernels/core/error.hpp"
#include "src/cli/log.hpp"
#include "src/health/stall_report.hpp"
#include "src/output/safe_text.hpp"
#include "src/output/standard_streams.hpp"
#include "src/run/run_ending.hpp"
#include "src/run/utc_text.hpp"

namespace causeway {
namespace {

constexpr double tick_s = 0.25, line_every_s = 1;
/// A longer time between two ticks means that this process was stopped itself, as Slurm suspends jobs. That time does
/// not count as idle.
constexpr double suspended_s = 5;
/// If the job has not ended after this time, this process exits by itself.
constexpr double abort_timeout_s = 10;
/// Another rank's line in Phase::watchdog is that rank's report for this job if it is not older than this.
constexpr double report_age_s = 60;

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

Watchdog::Watchdog(const Options& options, std::shared_ptr<const RankProgress> rank_progress,
                   std::unique_ptr<Transport> job)
    : options_(options),
      rank_progress_(std::move(rank_progress)),
      job_(std::move(job)),
      host_(host_name()),
      thread_([this](const std::stop_token& stop) { watch(stop); }) {}

Watchdog::~Watchdog() {
  thread_.request_stop();
  thread_.join();
  if (!reported_) write_line(line());  // the line of a rank that has reported must stay for the others to see
}

void Watchdog::open(const std::string& board, const std::string& exit_file) {
  {
    const std::lock_guard lock(mutex_);
    files_.emplace(Files{RankBoard(board), exit_file});
  }
  write_line(line());  // at once, so that even a rank that stops right away has a line
}

void Watchdog::watch(const std::stop_token& stop) {
  using Clock = std::chrono::steady_clock;
  Clock::time_point tick = Clock::now(), awake_since = tick, written = tick - std::chrono::hours(1);
  std::int64_t step = -1;
  while (wait(stop, tick_s)) {
    if (seconds_since(tick) > suspended_s) awake_since = Clock::now();
    tick = Clock::now();
    const RankLine now = line();
    if (files() && (now.progress.position.step != step || seconds_since(written) >= line_every_s)) {
      write_line(now);
      step = now.progress.position.step;
      written = tick;
    }
    const auto is_stalled = [&] {
      const auto own = [&] { return rank_progress_->snapshot(); };
      if (std::min(idle_s(own()), seconds_since(awake_since)) <= options_.limit_s) return false;
      const auto all = lines();
      const double extra = extra_s(all);
      return idle_s(own(), extra) > options_.limit_s && job_idle_s(all, extra) > options_.limit_s;
    };
    if (options_.limit_s <= 0 || !is_stalled()) continue;
    // Ranks wait for different times, so that the first one that still runs reports for all.
    if (!wait(stop, 0.5 * std::min(options_.rank, 20))) return;
    if (is_stalled()) return end_job(stop);
  }
}

bool Watchdog::wait(const std::stop_token& stop, double seconds) {
  std::unique_lock lock(mutex_);
  stopped_.wait_for(lock, stop, std::chrono::duration<double>(seconds), [] { return false; });
  return !stop.stop_requested();
}

RankLine Watchdog::line() const {
  return {.rank = options_.rank,
          .host = host_,
          .pid = ::getpid(),
          .written_at = seconds_since_1970(),
          .progress = rank_progress_->snapshot()};
}

/// A line that cannot be written is a warning only, given once: a run with a full disk may still complete.
void Watchdog::write_line(const RankLine& line) {
  const std::optional<Files> open = files();
  if (!open) return;
  try {
    open->board.write(line);
  } catch (const Error& error) {
    if (!warned_.exchange(true)) Log(options_.rank).warn("{}", error.what());
  }
}

std::optional<Watchdog::Files> Watchdog::files() const {
  const std::lock_guard lock(mutex_);
  return files_;
}

/// The lines of all ranks; this rank's own as it is now.
std::vector<std::optional<RankLine>> Watchdog::lines() const {
  const std::optional<Files> open = files();
  std::vector<std::optional<RankLine>> lines;
  if (open) lines = read_rank_board(open->board.path());
  const auto own = static_cast<std::size_t>(options_.rank);
  if (lines.size() <= own) lines.resize(open ? static_cast<std::size_t>(job_->size()) : own + 1);
  lines[own] = line();
  return lines;
}

/// The idle time of the whole job: a rank may wait for another one that makes progress, for example one that reads a
/// slow disk. While this rank's writing thread writes a checkpoint, only that thread counts: training continues in the
/// meantime, so the other ranks' progress does not show whether it hangs.
double Watchdog::job_idle_s(const std::vector<std::optional<RankLine>>& all, double extra_s) const {
  const RankProgress::Snapshot own = rank_progress_->snapshot();
  if (is_writing(own)) return idle_s(own, extra_s);
  return idle_s(all, seconds_since_1970(), extra_s);
}

/// How much longer than anything else a system call may take.
double Watchdog::extra_s(const std::vector<std::optional<RankLine>>& all) const {
  if (has_lost_rank(all, seconds_since_1970(), options_.limit_s)) return 0;
  if (options_.system_s <= 0) return std::numeric_limits<double>::infinity();
  return std::max(0.0, options_.system_s - options_.limit_s);
}

void Watchdog::end_job(const std::stop_token& stop) {
  const auto all = lines();
  const double now = seconds_since_1970();
  const bool another_reports = std::ranges::any_of(all, [&](const std::optional<RankLine>& line) {
    return line && line->rank != options_.rank && line->progress.position.phase == Phase::watchdog &&
           now - line->written_at < report_age_s;
  });
  // In a separate thread, because any of this may hang too.
  std::jthread end;
  reported_ = !another_reports;
  if (reported_)
    end = std::jthread([&] {
      RankLine own = line();
      own.progress.position.phase = Phase::watchdog;
      write_line(own);
      const StallReport stall = describe_stall(all, now, options_.limit_s, extra_s(all));
      std::string text = fmt::format("causeway: watchdog: {}\n", stall.reason);
      for (std::size_t rank = 0; rank < all.size(); ++rank)
        if (all[rank] || files()) text += fmt::format("  {}\n", stall.ranks[rank]);
      write_log(safe_lines(text));
      if (const auto open = files(); open && !open->exit_file.empty()) {
        try {
          write_ending(std::filesystem::path(open->exit_file).parent_path().string(),
                       {.code = ExitCode::watchdog,
                        .reason = "watchdog: " + stall.reason,
                        .step = rank_progress_->snapshot().position.step,
                        .ranks = stall.ranks});
        } catch (const std::exception& error) {
          write_error(error.what());
        }
      }
      remove_temporary_files();
      job_->abort(static_cast<int>(ExitCode::watchdog));
    });
  if (!wait(stop, abort_timeout_s)) return;
  remove_temporary_files();
  std::_Exit(static_cast<int>(ExitCode::watchdog));
}

}  // namespace causeway
