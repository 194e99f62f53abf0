#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/core/error.hpp"

/// Checks an HDF5 file before libHDF5 reads it. libHDF5 1.10 does not check most sizes, counts and addresses in a file,
/// nor that its lists end. With a damaged or malicious file it accesses and frees memory out of bounds, or never
/// returns. This library reads the same bytes first, with a bound on everything, and throws Error for a file that
/// libHDF5 could not read safely. It uses neither libHDF5 nor the rest of io/. This is its only public header.
/// Format: HDF5 File Format Specification 3.0.
namespace causeway {

/// A file that is well-formed, but uses a feature of HDF5 that Causeway does not read. It is not damaged.
class UnsupportedFile : public Error {
 public:
  explicit UnsupportedFile(const std::string& what) : Error(ExitCode::usage, what) {}
};

}  // namespace causeway

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

/// Reads strings of variable length, and checks them. The dataset holds 16-byte references; the strings are on the
/// file's global heap.
class StringReader {
 public:
  static constexpr std::size_t reference_bytes = 16;

  StringReader(const std::string& path, const std::string& where, ExitCode damaged);
  ~StringReader();

  /// Throws unless each reference names an object on the heap with the length it says. All references checked so far
  /// may name no more bytes than the file has: many references to one long string would take unbounded memory.
  void check(std::span<const std::byte> references);
  /// The same for `count` references at byte `address` of the file.
  void check_in_file(std::uint64_t address, std::uint64_t count);
  /// The string that one reference names, up to its first NUL; "" for a null reference. Throws as check().
  std::string read(std::span<const std::byte, reference_bytes> reference);

 private:
  std::unique_ptr<GlobalHeap> heap_;
};

/// A filter that was applied to a chunk before it was stored.
struct ChunkFilter {
  enum class Kind : std::uint8_t { deflate, shuffle, fletcher32 };
  Kind kind = Kind::deflate;
  std::size_t element_bytes = 0;  ///< of shuffle
};

/// The values of a chunk from its bytes in the file: reverts `filters`, the last one first. `skipped` has a bit for
/// each filter that was not applied to this chunk. Throws unless exactly `chunk_bytes` bytes come out and every
/// checksum fits: HDF5 1.10 would read past the end of a chunk that inflates to fewer bytes.
std::vector<std::byte> unfiltered_chunk(std::vector<std::byte> stored, std::span<const ChunkFilter> filters,
                                        std::uint32_t skipped, std::size_t chunk_bytes, const std::string& where,
                                        ExitCode damaged);

}  // namespace causeway::hdf5_guard
