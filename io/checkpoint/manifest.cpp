#include "io/checkpoint/manifest.hpp"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "io/checkpoint/checkpoint_content.hpp"
#include "io/checkpoint/checkpoint_folders.hpp"
#include "io/file/untrusted_file.hpp"
#include "kernels/core/error.hpp"

namespace causeway {
namespace {

constexpr std::int64_t format_version = 2;
/// Enough for more than 60,000 ranks.
constexpr std::int64_t largest_manifest = std::int64_t{8} << 20;
/// A bound with which the sum of all sizes fits in 64 bits.
constexpr std::int64_t largest_file = std::int64_t{1} << 46;

/// A member of an untrusted object. Throws exceptions of nlohmann, which have one base class. Returns -1, which is
/// never valid, for a number that is not an integer.
template <class T>
T member(const nlohmann::ordered_json& object, const char* name) {
  const auto& value = object.at(name);
  // nlohmann would convert floats to integers, infinite ones too.
  if constexpr (std::is_integral_v<T>)
    if (!value.is_number_integer()) return T{-1};
  return value.template get<T>();
}

nlohmann::ordered_json as_json(const Manifest& manifest) {
  nlohmann::ordered_json json{
      {"format", checkpoint_format}, {"version", format_version}, {"step", manifest.step}, {"ranks", manifest.ranks()}};
  for (std::int64_t number = 0; const Fingerprint& file : manifest.files)
    json["files"].push_back({{"name", checkpoint_file(number++)}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  return json;
}

}  // namespace

std::string checkpoint_file(std::int64_t number) {
  return number == 0 ? "index.h5" : fmt::format("shard-{:05}.h5", number - 1);
}

std::int64_t Manifest::bytes() const {
  std::int64_t sum = 0;
  for (const Fingerprint& file : files) sum += file.bytes;
  return sum;
}

std::string Manifest::to_json() const { return as_json(*this).dump(1) + "\n"; }

Manifest Manifest::parse(const std::string& text, const std::string& where) {
  constexpr int deepest = 3;
  bool too_deep = false;
  const auto watch_depth = [&](int depth, nlohmann::ordered_json::parse_event_t, nlohmann::ordered_json&) {
    too_deep = too_deep || depth > deepest;
    return !too_deep;
  };
  Manifest manifest;
  try {
    const auto json = nlohmann::ordered_json::parse(text, watch_depth);
    if (too_deep) fail(ExitCode::corrupt, "{}: is damaged: it is nested more than {} deep", where, deepest);
    if (const auto version = member<std::int64_t>(json, "version"); version != format_version)
      fail(ExitCode::corrupt, "{}: version is {}, expected {}", where, version, format_version);
    manifest.step = member<std::int64_t>(json, "step");
    for (const auto& file : json.at("files")) {
      manifest.files.push_back({member<std::int64_t>(file, "bytes"), member<std::string>(file, "sha256")});
      const std::int64_t bytes = manifest.files.back().bytes;
      if (bytes < 0 || bytes > largest_file)
        fail(ExitCode::corrupt, "{}: has a file of {} bytes, expected 0 to {}", where, bytes, largest_file);
    }
    // The comparison also finds additional and missing members, and any other form.
    if (manifest.step >= 0 && manifest.files.size() > 1 && text == manifest.to_json()) return manifest;
  } catch (const nlohmann::json::exception& error) {
    fail(ExitCode::corrupt, "{}: is damaged: {}", where, error.what());
  }
  fail(ExitCode::corrupt, "{}: is damaged: it does not have the form that Causeway writes", where);
}

Manifest read_manifest(const std::string& folder) {
  const std::string path = (std::filesystem::path(folder) / manifest_name).string();
  Manifest manifest = Manifest::parse(read_untrusted(path, largest_manifest), path);
  const auto step = step_of_folder(std::filesystem::path(folder).filename().string());
  if (step && *step != manifest.step)
    fail(ExitCode::corrupt, "{}: has step {}, expected the step of its folder's name", path, manifest.step);
  return manifest;
}

void check_file(const std::string& folder, const Manifest& manifest, std::int64_t number,
                const std::function<void()>& between) {
  const std::string path = (std::filesystem::path(folder) / checkpoint_file(number)).string();
  const Fingerprint& expected = manifest.files[static_cast<std::size_t>(number)];
  if (const std::int64_t bytes = size_of_file(path); bytes != expected.bytes)
    fail(ExitCode::corrupt, "{}: has {} bytes, expected {} as in {}", path, bytes, expected.bytes, manifest_name);
  const Fingerprint found = fingerprint_of(path, between);
  if (found != expected)
    fail(ExitCode::corrupt, "{}: is damaged: its SHA-256 is {}, expected {} as in {}", path, found.sha256,
         expected.sha256, manifest_name);
}

}  // namespace causeway
