#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "parallel/transport/transport.hpp"
#include "src/health/rank_board.hpp"

namespace causeway {

/// A thread of a rank that keeps the rank's line in ranks.txt up to date, and ends the job with ExitCode::watchdog once
/// no rank has made progress for too long. It depends on no other thread, does not use HDF5, and of MPI it uses only
/// the call that ends the job.
class Watchdog {
 public:
  struct Options {
    double limit_s = 0;   ///< 0: never ends the job
    double system_s = 0;  ///< the limit for a thread inside the system, if it is above limit_s; 0: no limit
    int rank = 0;
  };
  /// `job`: a group of all ranks that no other code uses.
  Watchdog(const Options& options, std::shared_ptr<const RankProgress> rank_progress, std::unique_ptr<Transport> job);
  /// Writes the rank's last line.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// From now on writes the rank's line to `board`, which the first rank has created before. A stall is then reported
  /// with the lines of all ranks, and in `exit_file` (JSON) where that is not "". Before this call a stall is reported
  /// with this rank's line only.
  void open(const std::string& board, const std::string& exit_file);

 private:
  struct Files {
    RankBoard board;
    std::string exit_file;
  };

  void watch(const std::stop_token& stop);
  bool wait(const std::stop_token& stop, double seconds);  // false: asked to stop
  RankLine line() const;
  void write_line(const RankLine& line);
  std::optional<Files> files() const;
  std::vector<std::optional<RankLine>> lines() const;
  double extra_s(const std::vector<std::optional<RankLine>>& all) const;
  double job_idle_s(const std::vector<std::optional<RankLine>>& all, double extra_s) const;
  void end_job(const std::stop_token& stop);

  Options options_;
  std::shared_ptr<const RankProgress> rank_progress_;
  std::unique_ptr<Transport> job_;
  std::string host_;
  mutable std::mutex mutex_;  // of files_
  std::condition_variable_any stopped_;
  std::optional<Files> files_;
  std::atomic<bool> warned_ = false;
  bool reported_ = false;  // written by the thread; read after it has been joined
  std::jthread thread_;    // last: it uses all of the above
};

}  // namespace causeway
