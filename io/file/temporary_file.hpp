#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace causeway {

/// A file beside `target` that exists until it is renamed or destroyed. Its name says which process writes it:
/// TARGET.tmp-HOST-PID-… . A process that ends by a signal removes its own, if remove_temporary_files_at_signals() was
/// called; those of processes that were killed are removed by the next one that writes the same target.
class TemporaryFile {
 public:
  /// Removes what processes that are gone have left of this target, and creates the empty file. Throws Error(io).
  explicit TemporaryFile(const std::string& target);
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  const std::string& path() const { return path_; }
  /// Renames the file to `target`, in the same folder. `replace` false: throws Error(usage) if `target` exists.
  void rename_to(const std::string& target, bool replace);

 private:
  std::string path_;
  int slot_ = -1;  ///< in the list of this process's temporary files
};

/// A folder beside `target`, as TemporaryFile is a file. It is removed with its contents.
class AtomicFolder {
 public:
  explicit AtomicFolder(const std::string& target);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  const std::string& path() const { return path_; }
  /// The path of a file in the folder. A signal that ends the process removes it too: files that the folder has besides
  /// are left to the next writer.
  std::string file(const std::string& name);
  /// Renames the folder to `target`. If `replace` and `target` exists: exchanges both, and removes the old one.
  void rename_to(const std::string& target, bool replace);

 private:
  std::string path_;
  std::vector<int> slots_;  ///< of the folder and of its files, in the list of this process's temporary files
};

/// Exchanges two folders in one system call. On a file system without that call `target` becomes target.old for a
/// moment; a folder of that name that is not empty is Error(io), as other failures are.
void exchange_folders(const std::string& fresh, const std::string& target);

/// `path` with `suffix` at the end of its name. Where the file system does not take a name of that length, the name is
/// shortened, and a checksum of the whole one follows. The part that is kept is the same for all suffixes of at most
/// `room` bytes.
std::string name_beside(const std::string& path, std::string_view suffix, std::size_t room = 0);

/// Whether a process that left this temporary file is gone: it ran on this host, and no process has its number and its
/// start time; or this host was restarted since the last change of the file. False where that is not known: of
/// processes on other hosts and in other containers.
bool is_abandoned(const std::string& temporary);

/// Removes the temporary files of this process. For a signal handler, and for a process that ends without destructors.
void remove_temporary_files() noexcept;

/// From now on, a signal that would end this process first removes its temporary files. Signals that are ignored or
/// have a handler keep it, and so do those of a crash (SEGV, ABRT, …), which MPI handles. For main().
void remove_temporary_files_at_signals();

}  // namespace causeway
