#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/checkpoint/checkpoint_stage.hpp"

/// The checkpoints of a run as folders: how they come to be there, and go, so that a crash at any moment leaves each
/// whole or not there at all. What throws is Error(io), unless it says otherwise.
namespace causeway {

/// "step-12"
std::string step_folder(std::int64_t step);
/// 12 for "step-12", nothing for any other form.
std::optional<std::int64_t> step_of_folder(std::string_view name);

/// The steps N of a run whose step-N is there, the last first. Whether they are whole is not looked at.
std::vector<std::int64_t> published_steps(const std::string& run);
/// The folder that `run`/latest names; nothing where there is no such link. Error(corrupt) where it leads nowhere.
std::optional<std::string> latest_checkpoint(const std::string& run);

/// Lets `latest` name step-N, which is there, where it names another or is not there itself.
void point_latest_at(const std::string& run, std::int64_t step);

/// Makes `run`/step-N.tmp, empty.
void prepare_checkpoint(const std::string& run, std::int64_t step);
/// Makes the finished `run`/step-N.tmp step-N and `latest`: rename → fsync → `latest` replaced by rename → fsync. Where
/// step-N is there already the two are exchanged, so that there is one at every moment; on a file system that cannot do
/// that it is called step-N.old in between, and recover_checkpoints() puts it back after a crash.
void publish_checkpoint(const std::string& run, std::int64_t step, const CheckpointHook& hook = {});
/// Removes a checkpoint that is not announced yet, as far as that can be done.
void discard_checkpoint(const std::string& run, std::int64_t step) noexcept;

/// Which checkpoints of a run stay once a newer one is there.
struct Retention {
  std::int64_t last = 0;              ///< the newest so many, with the one just published; 0: all
  std::int64_t every = 0;             ///< and those of the steps that this divides; 0: no others
  std::vector<std::int64_t> damaged;  ///< steps that count for nothing, and stay as they are
};
/// Removes what is not kept now that step N is published. Checkpoints of later steps are not looked at: they were there
/// before this run came by. Returns what could not be removed and why, a line each; that is no reason to end a run.
std::vector<std::string> retire_checkpoints(const std::string& run, std::int64_t step, const Retention& retention,
                                            const CheckpointHook& hook = {});

/// Removes what a crash left: unfinished checkpoints and half-removed ones.
void recover_checkpoints(const std::string& run);

}  // namespace causeway
