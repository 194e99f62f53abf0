#include "io/tensors/file_parts.hpp"

#include <charconv>
#include <filesystem>
#include <map>
#include <optional>
#include <string_view>

#include "io/file/look_up.hpp"
#include "kernels/core/error.hpp"

namespace causeway {
namespace {

namespace fs = std::filesystem;

struct PartName {
  std::string whole;  ///< NAME of NAME.part7
  int number;
};

std::optional<PartName> part_name(const std::string& name) {
  constexpr std::string_view word = ".part";
  const std::size_t at = name.rfind(word);
  if (at == std::string::npos || at == 0) return std::nullopt;
  const char *const first = name.data() + at + word.size(), *const last = name.data() + name.size();
  int number = 0;
  const auto [stop, error] = std::from_chars(first, last, number);
  if (error != std::errc() || stop != last || number < 0) return std::nullopt;
  return PartName{name.substr(0, at), number};
}

}  // namespace

std::vector<std::string> parts_of_file(const std::string& path) {
  const auto named = part_name(path);
  if (!named && is_there(path)) return {path};
  if (named) require_file(path);
  const fs::path whole = named ? named->whole : path;
  std::map<int, std::string> found;
  std::error_code error;
  const fs::path folder = whole.parent_path().empty() ? "." : whole.parent_path();
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const auto part = part_name(entry.path().filename().string());
    if (!part || part->whole != whole.filename()) continue;
    const std::string part_path = (whole.parent_path() / entry.path().filename()).string();
    const auto [other, is_new] = found.emplace(part->number, part_path);
    require(is_new, "{}: has the same number as {}", part_path, other->second);
  }
  std::vector<std::string> paths;
  for (const auto& [number, part_path] : found) {
    require(number == static_cast<int>(paths.size()), "{}: is there without {}.part{}, expected all parts from 0 on",
            part_path, whole.string(), paths.size());
    paths.push_back(part_path);
  }
  return paths.empty() ? std::vector{path} : paths;
}

}  // namespace causeway
