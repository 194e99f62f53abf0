#pragma once

#include <string>

namespace causeway {

/// A file that appears whole or not at all: it is written under temporary() beside its target and moved there by
/// commit(); without commit() the destructor removes it. A target that exists must be a regular file, and is replaced.
class AtomicFile {
 public:
  /// Creates the empty temporary file; Error(io) where that cannot be done.
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  const std::string& path() const { return path_; }
  const std::string& temporary() const { return temporary_; }
  /// Brings the temporary file's bytes to the disk, renames it, and brings the rename to the disk. The writer has
  /// closed it before.
  void commit();

 private:
  std::string path_, temporary_;
};

/// Whether both names lead to one file, through links and ".." too; false where either leads nowhere. What is read must
/// not be written over.
bool same_file(const std::string& a, const std::string& b);

/// fsync of a file or a folder by name.
void sync_to_disk(const std::string& path);

/// Writes `text` to `path`, whole or not at all. Throws Error(io).
void write_text(const std::string& path, const std::string& text);

}  // namespace causeway
