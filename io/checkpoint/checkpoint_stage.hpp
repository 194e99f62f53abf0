#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace causeway {

/// The stages of writing a checkpoint, in order.
enum class CheckpointStage : std::uint8_t {
  copy,      ///< the training thread copies the rank's part to host memory; the writing thread does the other stages
  shard,     ///< the rank's shard is written
  hash,      ///< the shard is on the disk and is hashed
  hashed,    ///< the hash is known, the file must not change any more; the last stage of ranks other than 0
  index,     ///< rank 0, after every rank reached `hashed`: index.h5 is written
  manifest,  ///< rank 0: index.h5 is on the disk and hashed, manifest.json is written
  publish,   ///< rank 0: step-N.tmp is complete and on the disk, and is renamed to step-N
  latest,    ///< rank 0: step-N exists, and `latest` is made to point to it
  retire,    ///< rank 0: an older checkpoint that is not kept is removed
  idle,      ///< every rank, on the training thread: the checkpoint is published, or was abandoned
};

constexpr const char* name_of(CheckpointStage stage) {
  constexpr const char* names[] = {"copy",     "shard",   "hash",   "hashed", "index",
                                   "manifest", "publish", "latest", "retire", "idle"};
  return names[static_cast<std::size_t>(stage)];
}

/// Called at the start of each stage, and in long stages again for about every MiB, so that the watchdog sees progress.
/// `path`: the file or folder of the stage, with its current name ("run/step-10.tmp/shard-00003.h5"; for copy, publish,
/// latest, retire and idle a checkpoint's folder). An exception from the hook makes the checkpoint fail, as an I/O
/// error does. The training thread calls it for `copy` and `idle`, the writing thread for the other stages, never both
/// at once.
using CheckpointHook = std::function<void(CheckpointStage stage, const std::string& path)>;

}  // namespace causeway
