#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace causeway {

/// Where a rank stands in writing a checkpoint, in the order in which it gets there.
enum class CheckpointStage : std::uint8_t {
  copy,    ///< its part is copied to host memory, by the training thread; the rest is the writing thread's
  shard,   ///< its shard is written
  hash,    ///< its shard is on the disk and is hashed
  hashed,  ///< its shard's hash is taken: what becomes of the file now is damage. Other ranks than the first stay here
  index,   ///< rank 0, once every rank is at `hashed`: index.h5 is written
  manifest,  ///< rank 0: index.h5 is on the disk and hashed, manifest.json is written
  publish,   ///< rank 0: step-N.tmp is whole and on the disk, and is renamed to step-N
  latest,    ///< rank 0: step-N is there, and `latest` is pointed at it
  retire,    ///< rank 0: an older checkpoint that is not kept is removed
  idle,      ///< every rank, told by the training thread: the checkpoint is published, or given up
};

constexpr const char* name_of(CheckpointStage stage) {
  constexpr const char* names[] = {"copy",     "shard",   "hash",   "hashed", "index",
                                   "manifest", "publish", "latest", "retire", "idle"};
  return names[static_cast<std::size_t>(stage)];
}

/// Told as a rank comes to a stage, before anything of it is done, and in long ones again about every MiB as a sign of
/// life; with the file or folder it is about, as that is called at the time ("run/step-10.tmp/shard-00003.h5"; copy,
/// publish, latest, retire and idle: a checkpoint's folder). An exception from it fails the checkpoint as a failing
/// disk would. Called by the training thread for `copy` and `idle`, by the writing thread for the rest, never by both
/// at once.
using CheckpointHook = std::function<void(CheckpointStage stage, const std::string& path)>;

}  // namespace causeway
