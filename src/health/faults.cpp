#include "src/health/faults.hpp"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string_view>
#include <thread>

#include "kernels/core/error.hpp"
#include "src/cli/log.hpp"
#include "src/output/standard_streams.hpp"

namespace causeway {
namespace {

constexpr std::int64_t enospc_file_bytes = 16384;  // enough for metrics and output, not for a shard
constexpr int exit_code_of_exit = 7;

constexpr std::array<std::string_view, 12> kind_names = {"kill",        "stop",   "hang",     "exit", "throw", "nan",
                                                         "short_write", "enospc", "bit_flip", "term", "usr1",  "usr2"};
constexpr CheckpointStage stages[] = {CheckpointStage::copy,    CheckpointStage::shard,  CheckpointStage::hash,
                                      CheckpointStage::hashed,  CheckpointStage::index,  CheckpointStage::manifest,
                                      CheckpointStage::publish, CheckpointStage::latest, CheckpointStage::retire};
constexpr Phase phases[] = {Phase::start,     Phase::restore,  Phase::data,       Phase::forward, Phase::backward,
                            Phase::optimizer, Phase::evaluate, Phase::checkpoint, Phase::write};

std::string_view name_of_point(FaultPoint point) {
  return std::visit([](auto any) { return std::string_view(name_of(any)); }, point);
}

std::optional<FaultPoint> point_named(std::string_view name) {
  for (const Phase phase : phases)
    if (name == name_of(phase)) return phase;
  for (const CheckpointStage stage : stages)
    if (name == name_of(stage)) return stage;
  return std::nullopt;
}

bool damages(FaultKind kind) { return kind == FaultKind::short_write || kind == FaultKind::bit_flip; }

/// A file is damaged after it has been hashed.
struct DamageTarget {
  CheckpointStage written;  ///< the stage that writes the file, as the option names it
  CheckpointStage hashed;   ///< the stage at which the hash is known
  const char* name;         ///< of the file, where the path that this stage reports is another file or a folder
};
constexpr DamageTarget targets[] = {{CheckpointStage::shard, CheckpointStage::hashed, ""},
                                    {CheckpointStage::index, CheckpointStage::manifest, "index.h5"},
                                    {CheckpointStage::manifest, CheckpointStage::publish, "manifest.json"}};

const DamageTarget* target_of(const Fault& fault) {
  const auto* const stage = std::get_if<CheckpointStage>(&fault.point);
  if (!damages(fault.kind) || stage == nullptr) return nullptr;
  const auto* const found = std::ranges::find(targets, *stage, &DamageTarget::written);
  return found == std::end(targets) ? nullptr : found;
}

/// The point at which the fault occurs.
FaultPoint due_at(const Fault& fault) {
  const DamageTarget* const target = target_of(fault);
  return target == nullptr ? fault.point : FaultPoint(target->hashed);
}

FaultPoint default_point(FaultKind kind) {
  return damages(kind) || kind == FaultKind::enospc ? FaultPoint(CheckpointStage::shard) : FaultPoint(Phase::forward);
}

void damage(const Fault& fault, const std::string& path) {
  const DamageTarget& target = *target_of(fault);
  std::filesystem::path file = path;
  if (*target.name != '\0') file = (std::filesystem::is_directory(file) ? file : file.parent_path()) / target.name;
  const auto bytes = std::filesystem::file_size(file);
  if (fault.kind == FaultKind::short_write)
    return std::filesystem::resize_file(file, bytes - std::min<std::uintmax_t>(1, bytes));
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  const auto middle = static_cast<std::streamoff>(bytes / 2);
  char byte = 0;
  stream.seekg(middle).get(byte);
  stream.seekp(middle).put(static_cast<char>(byte ^ 1));
}

void limit_file_growth() {
  // main() ignores SIGXFSZ, so that write() fails with EFBIG, as it fails with ENOSPC on a full disk.
  const rlimit limit{.rlim_cur = enospc_file_bytes, .rlim_max = enospc_file_bytes};
  if (::setrlimit(RLIMIT_FSIZE, &limit) != 0)
    fail(ExitCode::internal, "setrlimit(RLIMIT_FSIZE) failed: {}", std::strerror(errno));
}

}  // namespace

Fault parse_fault(const std::string& text) {
  const auto refuse = [&](const std::string& why) {
    fail(ExitCode::usage, "--inject-fault is '{}': {}; expected KIND:step=N[,rank=R][,phase=P][,layer=L]", text, why);
  };
  const std::size_t colon = std::min(text.find(':'), text.size());
  const auto kind = std::ranges::find(kind_names, std::string_view(text).substr(0, colon));
  if (kind == kind_names.end()) refuse("KIND is one of " + fault_kinds_text());
  Fault fault{.kind = static_cast<FaultKind>(kind - kind_names.begin())};
  fault.point = default_point(fault.kind);
  bool step_given = false;
  for (std::size_t begin = colon + 1; begin < text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string_view word = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    const std::size_t equals = std::min(word.find('='), word.size());
    const std::string_view key = word.substr(0, equals), value = word.substr(std::min(equals + 1, word.size()));
    if (key == "phase") {
      const std::optional<FaultPoint> point = point_named(value);
      if (!point) refuse("P is one of " + fault_points_text());
      fault.point = *point;
      continue;
    }
    if (key != "step" && key != "rank" && key != "layer") refuse(fmt::format("unknown part '{}'", word));
    std::int64_t number = 0;
    const auto [stop, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || stop != value.data() + value.size() || number < 0 ||
        (key == "rank" && number > 1 << 30))
      refuse(fmt::format("{} is '{}'", key, value));
    if (key == "step") fault.step = number, step_given = true;
    if (key == "rank") fault.rank = static_cast<int>(number);
    if (key == "layer") fault.layer = number;
  }
  if (!step_given) refuse("step is missing");
  const bool of_layers = fault.point == FaultPoint(Phase::forward) || fault.point == FaultPoint(Phase::backward);
  if (fault.layer && !of_layers) refuse("only forward and backward have layers");
  if (fault.kind == FaultKind::nan && !of_layers) refuse("nan is possible only in forward and backward");
  if (damages(fault.kind) && target_of(fault) == nullptr) refuse("only shard, index and manifest can be damaged");
  return fault;
}

std::string fault_kinds_text() { return fmt::format("{}", fmt::join(kind_names, ", ")); }

std::string fault_points_text() {
  std::string text;
  for (const Phase phase : phases) text += fmt::format("{}{}", text.empty() ? "" : ", ", name_of(phase));
  for (const CheckpointStage stage : stages) text += fmt::format(", {}", name_of(stage));
  return text;
}

std::optional<Fault> Faults::take(const ProgressPoint& point) {
  const std::lock_guard lock(mutex_);
  const auto due = std::ranges::find_if(pending_, [&](const Fault& fault) {
    return fault.kind != FaultKind::nan && fault.step == point.step && due_at(fault) == point.at &&
           (!fault.layer || *fault.layer == point.layer);
  });
  if (due == pending_.end()) return std::nullopt;
  Fault fault = *due;
  pending_.erase(due);
  return fault;
}

void Faults::reach(const ProgressPoint& point) {
  if (const std::optional<Fault> fault = take(point)) set_off(*fault, std::string(point.path));
}

bool Faults::has_nan() const {
  const std::lock_guard lock(mutex_);
  return std::ranges::any_of(pending_, [](const Fault& fault) { return fault.kind == FaultKind::nan; });
}

bool Faults::makes_nan(std::int64_t step, Phase phase, std::int64_t layer) const {
  const std::lock_guard lock(mutex_);
  return std::ranges::any_of(pending_, [&](const Fault& fault) {
    return fault.kind == FaultKind::nan && fault.step == step && fault.point == FaultPoint(phase) &&
           fault.layer.value_or(0) == layer;
  });
}

void Faults::set_off(const Fault& fault, const std::string& path) const {
  write_log(fmt::format("rank {} ({}): injected fault: {}, step {}, {}{}\n", rank_, host_name(),
                        kind_names[static_cast<std::size_t>(fault.kind)], fault.step, name_of_point(fault.point),
                        fault.layer ? fmt::format(" of layer {}", *fault.layer) : ""));
  switch (fault.kind) {
    case FaultKind::kill:
      ::kill(::getpid(), SIGKILL);
      return;
    case FaultKind::stop:
      ::kill(::getpid(), SIGSTOP);
      return;
    case FaultKind::hang:
      for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    case FaultKind::exit:
      std::_Exit(exit_code_of_exit);
    case FaultKind::fail:
      throw std::runtime_error("injected fault");
    case FaultKind::nan:
      return;  // never taken: see makes_nan()
    case FaultKind::short_write:
    case FaultKind::bit_flip:
      return damage(fault, path);
    case FaultKind::enospc:
      return limit_file_growth();
    case FaultKind::term:
      ::kill(::getpid(), SIGTERM);
      return;
    case FaultKind::usr1:
      ::kill(::getpid(), SIGUSR1);
      return;
    case FaultKind::usr2:
      ::kill(::getpid(), SIGUSR2);
      return;
  }
}

}  // namespace causeway
