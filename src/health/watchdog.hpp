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

/// A thread of a rank that keeps the rank's line in ranks.txt, and ends the job with ExitCode::watchdog once no rank
/// has moved for too long. It needs nothing of the thread it watches, nor HDF5, nor of MPI more than an end to the job.
class Watchdog {
 public:
  struct Options {
    double limit_s = 0;  ///< 0: never ends the job
    int rank = 0;
  };
  /// `job`: a group of all ranks that nothing else uses.
  Watchdog(const Options& options, std::shared_ptr<const RankProgress> rank_progress, std::unique_ptr<Transport> job);
  /// Writes the line as it is at the end.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// From now on the rank's line stands in the board, made before by the first rank; what the ranks stand still at will
  /// be told of all of them, and in `exit_file`, JSON, where that is not "". Until then it is told of this rank alone.
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
  double job_still_s() const;
  void end_job(const std::stop_token& stop);

  Options options_;
  std::shared_ptr<const RankProgress> rank_progress_;
  std::unique_ptr<Transport> job_;
  std::string host_;
  mutable std::mutex mutex_;  // of files_
  std::condition_variable_any stopped_;
  std::optional<Files> files_;
  std::atomic<bool> warned_ = false;
  bool spoke_ = false;   // the thread's, until it has been joined
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace causeway
