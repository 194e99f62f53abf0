#include "io/checkpoint/checkpoint_folders.hpp"

#include <fcntl.h>
#include <stdio.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>

#include "io/file/atomic_file.hpp"
#include "io/file/descriptor.hpp"
#include "io/file/look_up.hpp"
#include "io/file/temporary_file.hpp"
#include "kernels/core/error.hpp"

namespace causeway {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view prefix = "step-";

/// Calls `work`; throws Error(io) for an exception of std::filesystem.
template <class Work>
auto with_io_errors(Work&& work) {
  try {
    return work();
  } catch (const fs::filesystem_error& error) {
    throw Error(ExitCode::io, error.what());
  }
}

/// Whether the process that writes step-N.tmp is known to be gone.
bool is_writer_gone(const fs::path& folder) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    if (entry.path().filename().string().starts_with(fmt::format("{}.tmp-", writer_mark)))
      return is_abandoned(entry.path());
  return false;
}

}  // namespace

std::string step_folder(std::int64_t step) { return fmt::format("{}{}", prefix, step); }

std::optional<std::int64_t> step_of_folder(std::string_view name) {
  if (!name.starts_with(prefix)) return std::nullopt;
  std::int64_t step = 0;
  std::from_chars(name.data() + prefix.size(), name.data() + name.size(), step);
  if (step < 0 || step_folder(step) != name) return std::nullopt;
  return step;
}

std::vector<std::int64_t> published_steps(const std::string& run) {
  return with_io_errors([&] {
    std::vector<std::int64_t> steps;
    if (kind_of(run) != fs::file_type::directory) return steps;
    for (const auto& entry : fs::directory_iterator(run))
      if (const auto step = step_of_folder(entry.path().filename().string())) steps.push_back(*step);
    std::ranges::sort(steps, std::greater());
    return steps;
  });
}

std::optional<std::string> latest_checkpoint(const std::string& run) {
  const fs::path link = fs::path(run) / "latest";
  if (!is_there(link)) return std::nullopt;
  std::error_code error;
  const fs::path target = fs::canonical(link, error);
  if (error && !means_missing(error.value()) && error.value() != ELOOP)
    fail(ExitCode::io, "{}: cannot follow it: {}", link.string(), error.message());
  if (error || kind_of(target) != fs::file_type::directory)
    fail(ExitCode::corrupt, "{}: points to a checkpoint that does not exist", link.string());
  return target.string();
}

void point_latest_at(const std::string& run, std::int64_t step) {
  with_io_errors([&] {
    const fs::path latest = fs::path(run) / "latest", link = fs::path(run) / "latest.tmp";
    if (fs::is_symlink(latest) && fs::read_symlink(latest) == step_folder(step)) return;
    fs::remove(link);
    fs::create_symlink(step_folder(step), link);
    fs::rename(link, latest);
    sync_to_disk(run);
  });
}

void prepare_checkpoint(const std::string& run, std::int64_t step) {
  with_io_errors([&] {
    const fs::path folder = fs::path(run) / (step_folder(step) + ".tmp");
    fs::remove_all(folder);
    fs::create_directories(folder);
  });
}

void publish_checkpoint(const std::string& run, std::int64_t step, const CheckpointHook& hook) {
  with_io_errors([&] {
    const std::string name = step_folder(step);
    const fs::path target = fs::path(run) / name, fresh = fs::path(run) / (name + ".tmp");
    const bool replaces = is_there(target);  // an earlier run wrote it, and this run resumed from an earlier step
    if (replaces) {
      fs::remove_all(target.string() + ".old");
      exchange_folders(fresh.string(), target.string());
    } else {
      fs::rename(fresh, target);
    }
    sync_to_disk(run);
    if (hook) hook(CheckpointStage::latest, target.string());
    point_latest_at(run, step);
    if (replaces) fs::remove_all(fresh);
  });
}

void discard_checkpoint(const std::string& run, std::int64_t step) noexcept {
  std::error_code ignored;  // an earlier error is being reported
  fs::remove_all(fs::path(run) / (step_folder(step) + ".tmp"), ignored);
}

std::vector<std::string> retire_checkpoints(const std::string& run, std::int64_t step, const Retention& retention,
                                            const CheckpointHook& hook) {
  std::vector<std::string> left;
  if (retention.last == 0) return left;
  std::int64_t newer = 0;
  for (const std::int64_t other : published_steps(run)) {
    if (other != step && std::ranges::find(retention.damaged, other) != retention.damaged.end()) continue;
    if (other > step || newer++ < retention.last) continue;
    if (retention.every > 0 && other % retention.every == 0) continue;
    const fs::path folder = fs::path(run) / step_folder(other), gone = folder.string() + ".gone";
    if (hook) hook(CheckpointStage::retire, folder.string());
    try {
      fs::remove_all(gone);
      fs::rename(folder, gone);  // renamed first: a partly removed step-N must not look like a checkpoint
      fs::remove_all(gone);
    } catch (const fs::filesystem_error& error) {
      left.emplace_back(error.what());
    }
  }
  return left;
}

void recover_checkpoints(const std::string& run, bool alone) {
  with_io_errors([&] {
    if (kind_of(run) != fs::file_type::directory) return;
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(run)) found.push_back(entry.path());
    std::error_code ignored;  // a folder that cannot be removed does no harm
    for (const fs::path& path : found) {
      const std::string ending = path.extension().string();
      const fs::path whole = path.parent_path() / path.stem();
      if (!step_of_folder(whole.filename().string())) continue;
      if (ending == ".old" && !is_there(whole))
        fs::rename(path, whole);
      else if (ending == ".tmp" && !alone && !is_writer_gone(path))
        continue;
      else if (ending == ".tmp" || ending == ".old" || ending == ".gone")
        fs::remove_all(path, ignored);
    }
    fs::remove(fs::path(run) / "latest.tmp", ignored);
    sync_to_disk(run);
  });
}

}  // namespace causeway
