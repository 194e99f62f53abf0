#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "kernels/core/error.hpp"

/// Checks an HDF5 file before libHDF5 reads it. HDF5 1.10 trusts most of what a file says about itself: sizes, counts,
/// addresses, and that lists end. A damaged or malicious file makes it read and free memory that is not its own, or
/// never return. This library reads the same bytes first, with a bound on everything, and throws Error for a file that
/// libHDF5 could not read safely. It uses neither libHDF5 nor the rest of io/. This is its only public header.
/// Format: HDF5 File Format Specification 3.0.
namespace causeway::hdf5_guard {

class ObjectChecker;
class GlobalHeap;

/// Checks the groups and datasets of one file, each once. Safe to use from several threads.
class FileGuard {
 public:
  /// Checks the superblock and the root group. `damaged` is the exit code of the errors thrown.
  FileGuard(const std::string& path, ExitCode damaged);
  ~FileGuard();

  /// Checks the object whose header is at byte `address`: the header's messages, the links or attributes outside the
  /// header, the index of its chunks. `where` names the object in errors.
  void check_object(std::uint64_t address, const std::string& where);

 private:
  std::unique_ptr<ObjectChecker> objects_;
};

/// Checks a dataset's strings of variable length. The dataset holds 16-byte references; the strings are on the file's
/// global heap. All references together may name no more bytes than the file has, since libHDF5 makes a copy for each.
class StringReferences {
 public:
  static constexpr std::size_t reference_bytes = 16;

  StringReferences(const std::string& path, const std::string& where, ExitCode damaged);
  ~StringReferences();

  /// Throws unless each reference names an object on the heap with the length it says.
  void check(std::span<const std::byte> references);
  /// The same for `count` references at byte `address` of the file.
  void check_in_file(std::uint64_t address, std::uint64_t count);

 private:
  std::unique_ptr<GlobalHeap> heap_;
};

}  // namespace causeway::hdf5_guard
