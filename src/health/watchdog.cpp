#include "src/health/watchdog.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <limits>

#include "kernels/core/error.hpp"
#include "src/cli/log.hpp"
#include "src/health/stall_report.hpp"
#include "src/run/run_ending.hpp"
#include "src/run/utc_text.hpp"

namespace causeway {
namespace {

constexpr double tick_s = 0.25, line_every_s = 1;
/// Between ticks: longer, and this process itself had been stopped, as Slurm suspends jobs. Nobody is to blame.
constexpr double suspended_s = 5;
/// What the end of the job may take before this process just ends.
constexpr double last_resort_s = 10;

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// To standard error without its lock, which the thread that hangs may hold.
void say(const std::string& text) {
  std::string_view rest = text;
  while (!rest.empty()) {
    const ssize_t count = ::write(STDERR_FILENO, rest.data(), rest.size());
    if (count <= 0) return;
    rest.remove_prefix(static_cast<std::size_t>(count));
  }
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
  if (!spoke_) write_line(line());  // else the others still have to see who did
}

void Watchdog::open(const std::string& board, const std::string& exit_file) {
  {
    const std::lock_guard lock(mutex_);
    files_.emplace(Files{RankBoard(board), exit_file});
  }
  write_line(line());  // a rank that stops at once has been heard of
}

void Watchdog::watch(const std::stop_token& stop) {
  using Clock = std::chrono::steady_clock;
  Clock::time_point tick = Clock::now(), awake_since = tick, written = tick - std::chrono::hours(1);
  std::int64_t step = -1;
  while (wait(stop, tick_s)) {
    if (seconds_since(tick) > suspended_s) awake_since = Clock::now();
    tick = Clock::now();
    const RankLine now = line();
    if (files() && (now.view.place.step != step || seconds_since(written) >= line_every_s)) {
      write_line(now);
      step = now.view.place.step;
      written = tick;
    }
    const auto stands_still = [&] {
      return std::min(still_s(rank_progress_->view()), seconds_since(awake_since)) > options_.limit_s &&
             job_still_s() > options_.limit_s;
    };
    if (options_.limit_s <= 0 || !stands_still()) continue;
    // The first of the ranks that can speaks for all.
    if (!wait(stop, 0.5 * std::min(options_.rank, 20))) return;
    if (stands_still()) return end_job(stop);
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
          .heard = seconds_since_1970(),
          .view = rank_progress_->view()};
}

/// A full disk is not the end of a run that can do without the line.
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

/// All ranks', this one's as it is now.
std::vector<std::optional<RankLine>> Watchdog::lines() const {
  const std::optional<Files> open = files();
  std::vector<std::optional<RankLine>> lines;
  if (open) lines = read_rank_board(open->board.path());
  const auto own = static_cast<std::size_t>(options_.rank);
  if (lines.size() <= own) lines.resize(open ? static_cast<std::size_t>(job_->size()) : own + 1);
  lines[own] = line();
  return lines;
}

/// A rank may wait for another that works, reading a slow disk for one. A checkpoint of its own that is not being
/// written any more is enough: training goes on beside it.
double Watchdog::job_still_s() const {
  const RankProgress::View view = rank_progress_->view();
  if (writes(view)) return still_s(view);
  return still_s(lines(), seconds_since_1970());
}

void Watchdog::end_job(const std::stop_token& stop) {
  const auto all = lines();
  const double now = seconds_since_1970();
  const bool another_speaks = std::ranges::any_of(all, [&](const std::optional<RankLine>& line) {
    return line && line->rank != options_.rank && line->view.place.phase == Phase::watchdog && now - line->heard < 60;
  });
  // In a thread of its own: any of this may hang too.
  std::jthread end;
  spoke_ = !another_speaks;
  if (spoke_)
    end = std::jthread([&] {
      RankLine mine = line();
      mine.view.place.phase = Phase::watchdog;
      write_line(mine);
      const Stall stall = describe_stall(all, now, options_.limit_s);
      std::string text = fmt::format("causeway: watchdog: {}\n", stall.reason);
      for (std::size_t rank = 0; rank < all.size(); ++rank)
        if (all[rank] || files()) text += fmt::format("  {}\n", stall.ranks[rank]);
      say(text);
      if (const auto open = files(); open && !open->exit_file.empty()) {
        try {
          write_ending(std::filesystem::path(open->exit_file).parent_path().string(),
                       {.code = ExitCode::watchdog,
                        .reason = "watchdog: " + stall.reason,
                        .step = rank_progress_->view().place.step,
                        .ranks = stall.ranks});
        } catch (const std::exception& error) {
          say(fmt::format("causeway: {}\n", error.what()));
        }
      }
      job_->abort(static_cast<int>(ExitCode::watchdog));
    });
  if (wait(stop, last_resort_s)) std::_Exit(static_cast<int>(ExitCode::watchdog));
}

}  // namespace causeway
