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
#include "io/checkpoint/host_slabs.hpp"
#include "io/file/sha256.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

struct CheckpointWriterOptions {
  std::string run;  ///< the folder that step-N/ appears in
  Retention retention;
  CheckpointHook hook;
  /// Writes on a thread of its own while the caller goes on; else when finish() is called.
  bool beside = hdf5::thread_safe();
};

/// A checkpoint that is there now. Bytes and seconds are known to rank 0.
struct PublishedCheckpoint {
  std::int64_t step = 0, bytes = 0;
  double seconds = 0;                    ///< from start() until it was published
  std::vector<std::string> not_removed;  ///< why older ones are still there that should not be
};

/// Progress in writing a checkpoint: one rank's, or the sum over the ranks.
struct CheckpointProgress {
  double done = 0;    ///< 1 if the rank has completed its current part of the work
  double failed = 0;  ///< 1 if the rank has failed
};

/// Writes checkpoints, one at a time: every rank its shard, and rank 0 then index.h5 and manifest.json. Between start()
/// and the end the ranks learn how far all are by a sum which the caller makes, so that asking costs no message of its
/// own:
///
///     start(step, content)                           copies the content
///     while busy():  sum progress() over the ranks, give it to advance()
///
/// All but progress() and busy() is collective. What goes wrong on any rank, in whichever thread, throws the same
/// AgreedError on every rank from advance() or finish(), and leaves the checkpoints before as they are and nothing of
/// this one.
class CheckpointWriter {
 public:
  CheckpointWriter(CheckpointWriterOptions options, Communicator& ranks, const Stream& stream);
  /// Gives up what is not published; waits for the thread only as long as it takes to do so.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  bool busy() const { return state_ != State::idle; }
  std::int64_t host_bytes() const { return copy_.bytes(); }  ///< memory this rank keeps for its copy
  /// Returns when this rank's part is in host memory: the content may change then. Not while busy().
  void start(std::int64_t step, const CheckpointContent& content);
  /// Of this rank.
  CheckpointProgress progress();
  /// `sum`: of progress() over all ranks, called at the same moment. A value once the checkpoint is published.
  std::optional<PublishedCheckpoint> advance(CheckpointProgress sum);
  /// Waits for what is being written.
  std::optional<PublishedCheckpoint> finish();

 private:
  enum class State : std::uint8_t { idle, shards, publishing };

  template <class Result>
  void run_aside(std::future<Result>& future, Result (CheckpointWriter::*work)());
  void tell(CheckpointStage stage, const std::string& path) const;
  void live(CheckpointStage stage, const std::string& path) const;
  Fingerprint write_own_shard();
  PublishedCheckpoint publish();
  void publish_once_all_are_there();
  [[noreturn]] void fail_together();
  std::string folder() const;  ///< step-N.tmp

  CheckpointWriterOptions options_;
  Communicator& ranks_;
  HostSlabs copy_;
  State state_ = State::idle;
  std::chrono::steady_clock::time_point started_;
  std::int64_t step_ = 0;
  CheckpointContent content_;  // its data is in copy_
  std::optional<Fingerprint> shard_;
  std::optional<PublishedCheckpoint> published_;
  std::exception_ptr failure_;
  std::vector<Fingerprint> files_;  // of all shards
  std::vector<Range> owned_;        // [rank][tensor]
  std::atomic<bool> abandoned_ = false;
  // The last members: they end before what they work on.
  std::future<Fingerprint> writing_;
  std::future<PublishedCheckpoint> publishing_;
};

/// Writes one checkpoint and waits for it.
PublishedCheckpoint write_checkpoint(const std::string& run, std::int64_t step, const CheckpointContent& content,
                                     Communicator& ranks, const Stream& stream);

}  // namespace causeway
