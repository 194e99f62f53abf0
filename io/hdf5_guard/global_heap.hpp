#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "io/hdf5_guard/bytes.hpp"

namespace causeway::hdf5_guard {

/// The file's global heap: where HDF5 keeps values of variable length (strings) and the mappings of virtual datasets.
/// It consists of collections; a reference names an object by its collection's address and its index in it. HDF5, up to
/// 1.14, does not check the sizes in both. Format: HDF5 File Format Specification 3.0, III.E (heap) and VIII.A
/// (references).
class GlobalHeap {
 public:
  static constexpr std::size_t reference_bytes = 16;  ///< u32 length, u64 address of the collection, u32 index in it

  GlobalHeap(const std::string& path, FileLocation location);

  /// Throws unless the reference names an object of the size that the reference contains: its length counts elements of
  /// `element_bytes` each. Also throws when all references so far together name more bytes than the file has.
  void check_reference(std::span<const std::byte, reference_bytes> reference, std::uint64_t element_bytes);
  /// The string that a reference names, up to its first NUL; "" for a null reference. Not counted.
  std::string read_string(std::span<const std::byte, reference_bytes> reference);
  std::vector<std::byte> read_object(std::uint64_t address, std::uint64_t index);
  /// Bytes of the file that are not on the heap, for references stored there.
  std::vector<std::byte> read_file(std::uint64_t address, std::uint64_t count);

 private:
  struct Collection {
    std::vector<std::byte> bytes;                                 ///< all of it
    std::map<std::uint64_t, std::span<const std::byte>> objects;  ///< by index
  };

  /// The object that a reference names.
  std::span<const std::byte> find_referenced(std::span<const std::byte, reference_bytes> reference,
                                             std::uint64_t element_bytes);
  std::span<const std::byte> find_object(std::uint64_t address, std::uint64_t index);
  const Collection& collection_at(std::uint64_t address);
  Collection load_collection(std::uint64_t address);

  FileLocation location_;
  FileBytes file_;
  std::map<std::uint64_t, Collection> collections_;  ///< those read last, by address: references may alternate
  std::uint64_t collection_bytes_ = 0;               ///< of all in the map
  std::uint64_t referenced_bytes_ = 0;               ///< by all references so far
};

}  // namespace causeway::hdf5_guard
