#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "io/file/sha256.hpp"

namespace causeway {

/// manifest.json: what makes a folder a checkpoint. Written last, it names every other file with size and SHA-256.
struct Manifest {
  std::int64_t step = 0;
  std::vector<Fingerprint> files;  ///< index.h5, then shard-00000.h5 … of the ranks that wrote it

  std::int64_t ranks() const { return static_cast<std::int64_t>(files.size()) - 1; }
  std::int64_t bytes() const;  ///< of all files it names

  std::string to_json() const;
  /// Of untrusted text: Error(corrupt), `where` first, for anything that to_json() does not write.
  static Manifest parse(const std::string& text, const std::string& where);
};

inline constexpr const char* manifest_name = "manifest.json";
/// File `number` of a manifest: "index.h5", "shard-00000.h5", "shard-00001.h5" …
std::string checkpoint_file(std::int64_t number);
/// The shard of a rank.
inline std::string shard_file(std::int64_t rank) { return checkpoint_file(rank + 1); }

/// The manifest in a checkpoint's folder. Error(corrupt) where it is missing, damaged, or of another step than a folder
/// called step-N says.
Manifest read_manifest(const std::string& folder);

/// Throws Error(corrupt) unless file `number` of the folder is the one the manifest names.
void check_file(const std::string& folder, const Manifest& manifest, std::int64_t number,
                const std::function<void()>& between = {});

}  // namespace causeway
