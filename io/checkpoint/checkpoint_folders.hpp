#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/checkpoint/checkpoint_stage.hpp"

/// The folders of a run's checkpoints: how they are created, published and removed. After a crash at any moment each
/// step-N is complete or missing. Errors are Error(io), unless said otherwise.
namespace causeway {

/// "step-12"
std::string step_folder(std::int64_t step);
/// 12 for "step-12"; nothing for other names.
std::optional<std::int64_t> step_of_folder(std::string_view name);

/// The steps N for which the run has a step-N, the last step first. Does not verify the checkpoints.
std::vector<std::int64_t> published_steps(const std::string& run);
/// The folder that `run`/latest points to; nothing without such a link. Throws Error(corrupt) for a broken link.
std::optional<std::string> latest_checkpoint(const std::string& run);

/// Makes `latest` point to step-N, which must exist.
void point_latest_at(const std::string& run, std::int64_t step);

/// Creates `run`/step-N.tmp, empty.
void prepare_checkpoint(const std::string& run, std::int64_t step);
/// Renames the finished `run`/step-N.tmp to step-N and makes `latest` point to it: rename, fsync, replace `latest` by
/// rename, fsync. An existing step-N is exchanged with the new one in one system call, so that step-N exists at every
/// moment. On a file system without that call the old one is renamed to step-N.old for a moment; after a crash then,
/// recover_checkpoints() renames it back.
void publish_checkpoint(const std::string& run, std::int64_t step, const CheckpointHook& hook = {});
/// Removes step-N.tmp. Ignores errors.
void discard_checkpoint(const std::string& run, std::int64_t step) noexcept;

/// Which checkpoints of a run are kept after a newer one is published.
struct Retention {
  std::int64_t last = 0;              ///< the newest `last` ones, including the one just published; 0: all
  std::int64_t every = 0;             ///< also the steps that are multiples of this; 0: no others
  std::vector<std::int64_t> damaged;  ///< damaged steps: neither counted nor removed
};
/// Removes the checkpoints that are not kept after step N is published. Checkpoints of later steps stay: an earlier run
/// wrote them. Returns a line for each checkpoint that could not be removed, with the reason; this must not end a run.
std::vector<std::string> retire_checkpoints(const std::string& run, std::int64_t step, const Retention& retention,
                                            const CheckpointHook& hook = {});

/// A file in step-N.tmp while it is written, whose name says which process writes it (io/file/temporary_file.hpp).
inline constexpr std::string_view writer_mark = "writer";

/// Removes the checkpoints that a crash left unfinished or partly removed. Renames step-N.old back if step-N is
/// missing. `alone`: the run's folder is locked, so that no other process writes there. Otherwise an unfinished one is
/// removed only if its writer is known to be gone: never that of a live process, on this or another host.
void recover_checkpoints(const std::string& run, bool alone = true);

}  // namespace causeway
