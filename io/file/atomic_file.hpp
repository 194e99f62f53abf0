#pragma once

#include <string>

namespace causeway {

/// A file that appears complete or not at all. It is written as temporary(), in the target's folder, and commit()
/// renames it to the target. Without commit() the destructor removes it. An existing target must be a regular file; it
/// is replaced.
class AtomicFile {
 public:
  /// Creates the empty temporary file. Throws Error(io).
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  const std::string& path() const { return path_; }
  const std::string& temporary() const { return temporary_; }
  /// fsync of the temporary file, rename, fsync of the folder. The writer must have closed the file. Throws Error(io).
  void commit();

 private:
  std::string path_, temporary_;
};

/// Whether both paths are the same existing file, also through links and "..". For commands that must not overwrite a
/// file that they read.
bool same_file(const std::string& a, const std::string& b);

/// fsync of a file or folder. Throws Error(io).
void sync_to_disk(const std::string& path);

/// Writes `text` to `path` with an AtomicFile. Throws Error(io).
void write_text(const std::string& path, const std::string& text);

}  // namespace causeway
