#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "io/file/sha256.hpp"

namespace causeway {

/// manifest.json, which makes a folder a valid checkpoint. It is written last, and has the name, size and SHA-256 of
/// every other file.
struct Manifest {
  std::int64_t step = 0;
  std::vector<Fingerprint> files;  ///< index.h5, then shard-00000.h5 … of each rank

  std::int64_t ranks() const { return static_cast<std::int64_t>(files.size()) - 1; }
  std::int64_t bytes() const;  ///< of all files in it

  std::string to_json() const;
  /// Parses untrusted text. Throws Error(corrupt), starting with `where`, for any text that to_json() does not write.
  static Manifest parse(const std::string& text, const std::string& where);
};

inline constexpr const char* manifest_name = "manifest.json";
/// File `number` of a manifest: "index.h5", "shard-00000.h5", "shard-00001.h5" …
std::string checkpoint_file(std::int64_t number);
/// The file name of a rank's shard.
inline std::string shard_file(std::int64_t rank) { return checkpoint_file(rank + 1); }

/// Reads the manifest of a checkpoint's folder. Throws Error(corrupt) if it is missing, damaged, or of another step
/// than the folder's name step-N.
Manifest read_manifest(const std::string& folder);

/// Throws Error(corrupt) unless file `number` of the folder has the size and SHA-256 in the manifest. `between`: see
/// fingerprint_of().
void check_file(const std::string& folder, const Manifest& manifest, std::int64_t number,
                const std::function<void()>& between = {});

}  // namespace causeway
