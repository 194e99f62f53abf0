#pragma once

#include <cstdint>
#include <string>

#include "io/file/descriptor.hpp"
#include "io/file/temporary_file.hpp"

namespace causeway {

/// What happens to a file that has the target's name already.
enum class Existing : std::uint8_t { replaced, refused };

/// A file that appears complete or not at all. It is written as temporary(), in the target's folder, and commit()
/// renames it to the target. Without commit() the destructor removes it, and so do signals
/// (io/file/temporary_file.hpp). An existing target must be a regular file.
class AtomicFile {
 public:
  /// Creates the empty temporary file. Throws Error(io); Error(usage) for a target that is refused.
  explicit AtomicFile(std::string path, Existing existing = Existing::replaced);

  const std::string& path() const { return path_; }
  const std::string& temporary() const { return temporary_.path(); }
  /// Opens the temporary file to write it. Throws Error(io).
  Descriptor open() const;
  /// sync() and publish(). The writer must have closed the file. Throws Error(io).
  void commit();
  /// The two halves of commit(), for several files that appear together: fsync of the temporary file; then rename and
  /// fsync of the folder.
  void sync();
  void publish();

 private:
  std::string path_;
  Existing existing_;
  TemporaryFile temporary_;
};

/// Throws Error(usage) if something is at `path` that is not a regular file, or, with a word on --force, if a file is
/// there that is refused; Error(io) if its folder does not exist. For commands that check outputs before they read.
void check_target(const std::string& path, Existing existing);

/// Whether both paths are the same existing file, also through links and "..". For commands that must not overwrite a
/// file that they read.
bool same_file(const std::string& a, const std::string& b);

/// fsync of a file or folder. Throws Error(io).
void sync_to_disk(const std::string& path);

/// Writes `text` to `path` with an AtomicFile. Throws Error(io).
void write_text(const std::string& path, const std::string& text);

}  // namespace causeway
