#include "src/runtime/available_memory.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string_view>

namespace causeway {
namespace {

namespace fs = std::filesystem;

/// The first number after the word `name` in a file whose lines are "name number …".
std::optional<double> named_number(const fs::path& path, std::string_view name) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string word;
    double number = 0;
    if (words >> word && word == name && words >> number) return number;
  }
  return std::nullopt;
}

/// The number that a file consists of; no value for "max", which means no limit.
std::optional<double> number_in(const fs::path& path) {
  std::ifstream file(path);
  double number = 0;
  if (file >> number) return number;
  return std::nullopt;
}

void lower(std::optional<double>& least, const std::optional<double>& value) {
  if (value) least = std::min(least.value_or(*value), std::max(0.0, *value));
}

/// What is left below the limit in one folder of a control group.
std::optional<double> left_in(const fs::path& folder, const char* limit_file, const char* usage_file,
                              std::string_view cache) {
  const std::optional<double> limit = number_in(folder / limit_file), usage = number_in(folder / usage_file);
  if (!limit || !usage) return std::nullopt;
  return *limit - *usage + std::min(*usage, named_number(folder / "memory.stat", cache).value_or(0));
}

/// The folder of this process's group and all folders above it: each of them may have a limit.
std::optional<double> left_in_groups(const fs::path& mount, const std::string& group, const char* limit_file,
                                     const char* usage_file, std::string_view cache) {
  std::optional<double> least;
  fs::path below = fs::path(group).relative_path();
  while (true) {
    lower(least, left_in(mount / below, limit_file, usage_file, cache));
    if (below.empty()) return least;
    below = below.parent_path();
  }
}

std::optional<double> left_in_control_groups(const fs::path& root) {
  std::optional<double> least;
  std::ifstream file(root / "proc/self/cgroup");
  std::string line;
  while (std::getline(file, line)) {  // "0::/path" of version 2, "4:memory:/path" of version 1
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string kinds = "," + line.substr(first + 1, second - first - 1) + ",", group = line.substr(second + 1);
    if (kinds == ",,")
      lower(least, left_in_groups(root / "sys/fs/cgroup", group, "memory.max", "memory.current", "inactive_file"));
    else if (kinds.find(",memory,") != std::string::npos)
      lower(least, left_in_groups(root / "sys/fs/cgroup/memory", group, "memory.limit_in_bytes",
                                  "memory.usage_in_bytes", "total_inactive_file"));
  }
  return least;
}

}  // namespace

std::optional<double> available_host_memory(const std::string& root) {
  constexpr double kib = 1024;
  std::optional<double> least;
  if (const auto available = named_number(fs::path(root) / "proc/meminfo", "MemAvailable:"))
    lower(least, *available * kib);
  lower(least, left_in_control_groups(root));
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
    lower(least, static_cast<double>(limit.rlim_cur));
  return least;
}

double resident_bytes() {
  std::ifstream file("/proc/self/statm");
  double all = 0, resident = 0;
  file >> all >> resident;
  return resident * static_cast<double>(::sysconf(_SC_PAGE_SIZE));
}

}  // namespace causeway
