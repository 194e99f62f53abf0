#pragma once

#include <atomic>
#include <chrono>
#include <exception>
#include <future>
#include <optional>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint_content.hpp"
#include "io/checkpoint/checkpoint_folders.hpp"
#include "io/checkpoint/checkpoint_shard.hpp"
#include "io/checkpoint/host_snapshot.hpp"
#include "io/file/sha256.hpp"
#include "io/file/temporary_file.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

struct CheckpointWriterOptions {
  std::string run;  ///< the folder that step-N/ appears in
  Retention retention;
  CheckpointHook hook;
  /// True: a thread of the writer's own writes while the caller continues. False: finish() or progress() writes.
  bool on_own_thread = hdf5::thread_safe();
};

/// A published checkpoint. Only rank 0 knows bytes, seconds and not_removed.
struct PublishedCheckpoint {
  std::int64_t step = 0, bytes = 0;
  double seconds = 0;                    ///< from start() to publication
  std::vector<std::string> not_removed;  ///< older checkpoints that could not be removed, with the reason
};

/// The progress of the ranks with a checkpoint: of one rank from progress(), or summed over all ranks for advance().
struct CheckpointProgress {
  double done = 0;    ///< ranks that have finished their part of the current phase
  double failed = 0;  ///< ranks that have failed
};

/// Writes checkpoints, one at a time: each rank its shard, then rank 0 index.h5 and manifest.json. The caller sums the
/// progress over the ranks, together with values that it sums anyway, so that this needs no additional message:
///
///     start(step, content)                                    copies the content
///     while busy():  sum progress() over the ranks, pass the sums to advance()
///
/// All functions except progress() and busy() are collective. A failure on any rank, in any thread, throws the same
/// AgreedError on every rank from advance() or finish(). Earlier checkpoints are not changed; all files of the failed
/// one are removed.
class CheckpointWriter {
 public:
  CheckpointWriter(CheckpointWriterOptions options, Communicator& ranks, const Stream& stream);
  /// Abandons a checkpoint that is not published. The thread stops at its next MiB.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  bool busy() const { return state_ != State::idle; }
  std::int64_t host_bytes() const { return snapshot_.bytes(); }  ///< host memory of this rank for the copy
  /// Copies this rank's part to host memory; the caller may change the content afterwards. Must not be
  /// called while busy().
  void start(std::int64_t step, const CheckpointContent& content);
  /// This rank's progress; not collective.
  CheckpointProgress progress();
  /// `sum`: of the progress() of all ranks in the same step. Returns a value when the checkpoint is published.
  std::optional<PublishedCheckpoint> advance(CheckpointProgress sum);
  /// Waits until the current checkpoint is published.
  std::optional<PublishedCheckpoint> finish();

 private:
  enum class State : std::uint8_t { idle, shards, publishing };

  template <class Result>
  void run_on_writer_thread(std::future<Result>& future, Result (CheckpointWriter::*work)());
  void report_stage(CheckpointStage stage, const std::string& path) const;
  void report_stage_or_stop(CheckpointStage stage, const std::string& path) const;
  Fingerprint write_this_ranks_shard();
  void read_from_snapshot(std::size_t tensor, std::int64_t begin, std::span<std::byte> out) const;
  PublishedCheckpoint publish();
  void start_publishing();
  [[noreturn]] void fail_together();
  std::string folder() const;  ///< step-N.tmp

  CheckpointWriterOptions options_;
  Communicator& ranks_;
  HostSnapshot snapshot_;
  State state_ = State::idle;
  std::chrono::steady_clock::time_point started_;
  std::int64_t step_ = 0;
  CheckpointContent content_;          ///< the values are in snapshot_
  std::optional<TemporaryFile> mark_;  ///< on rank 0, in the folder while it is written
  std::optional<Fingerprint> shard_;
  std::optional<PublishedCheckpoint> published_;
  std::exception_ptr failure_;
  std::vector<Fingerprint> files_;  ///< of all shards
  std::vector<Range> owned_;        ///< [rank][tensor]
  std::atomic<bool> cancelled_ = false;
  // The last members, so that the threads end before the members that they use are destroyed.
  std::future<Fingerprint> writing_;
  std::future<PublishedCheckpoint> publishing_;
};

/// Writes one checkpoint and waits for it.
PublishedCheckpoint write_checkpoint(const std::string& run, std::int64_t step, const CheckpointContent& content,
                                     Communicator& ranks, const Stream& stream);

}  // namespace causeway
