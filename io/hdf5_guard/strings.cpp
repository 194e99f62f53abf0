#include "io/hdf5_guard/strings.hpp"

#include <hdf5.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>

#include "io/hdf5/check.hpp"
#include "io/hdf5/chunks.hpp"
#include "io/hdf5/hdf5.hpp"

// Format: HDF5 File Format Specification 3.0, III.E (global heap) and VIII.A (references into it).
namespace causeway::hdf5 {
namespace {

constexpr std::int64_t reference_bytes = 16;  // u32 length, u64 address of the collection, u32 index in it
constexpr std::int64_t header_bytes = 16;     // of a collection and of each object in it
constexpr std::int64_t smallest_collection = 4096, largest_collection = std::int64_t{256} << 20;
constexpr std::string_view signature("GCOL\1", 5);

std::uint64_t little_endian(const std::byte* bytes, int count) {
  std::uint64_t value = 0;
  for (int i = count - 1; i >= 0; --i) value = (value << 8) | static_cast<std::uint64_t>(bytes[i]);
  return value;
}

/// The heap's collections, one at a time: the objects by index. Objects fill a collection without gaps.
class Heap {
 public:
  Heap(const std::string& path, const std::string& where, ExitCode damaged)
      : file_(path, std::ios::binary | std::ios::ate), where_(where), damaged_(damaged) {
    size_ = static_cast<std::int64_t>(file_.tellg());
    if (!file_) fail(ExitCode::io, "{}: cannot read", path);
  }

  std::vector<std::byte> bytes(std::int64_t address, std::int64_t count) {
    if (address < 0 || count < 0 || address > size_ || count > size_ - address)
      refuse("lies past the end of the file", address);
    std::vector<std::byte> result(static_cast<std::size_t>(count));
    file_.seekg(address);
    file_.read(reinterpret_cast<char*>(result.data()), count);
    if (!file_) fail(ExitCode::io, "{}: cannot read {} bytes at {}", where_, count, address);
    return result;
  }

  /// A reference to `length` elements, of element_bytes each: a string's are its bytes.
  void check(const std::byte* reference, std::uint64_t element_bytes = 1) {
    const std::uint64_t length = little_endian(reference, 4), address = little_endian(reference + 4, 8),
                        index = little_endian(reference + 12, 4);
    if (address == 0) return;  // no string
    if (address != address_) load(static_cast<std::int64_t>(address));
    const auto object = objects_.find(index);
    if (object == objects_.end() || object->second.bytes != length * element_bytes)
      refuse("does not hold the string looked for", static_cast<std::int64_t>(address));
    // Each string is written for itself: no more is read than the file holds, though many references may name one.
    referenced_ += object->second.bytes;
    if (referenced_ > static_cast<std::uint64_t>(size_))
      refuse("is referred to for more bytes than the file has", static_cast<std::int64_t>(address));
  }

  std::vector<std::byte> object(std::uint64_t address, std::uint64_t index) {
    load(static_cast<std::int64_t>(address));
    const auto found = objects_.find(index);
    if (found == objects_.end()) refuse("does not hold what is looked for", static_cast<std::int64_t>(address));
    return bytes(found->second.address, static_cast<std::int64_t>(found->second.bytes));
  }

 private:
  struct Held {
    std::int64_t address;
    std::uint64_t bytes;
  };
  void load(std::int64_t address) {
    objects_.clear();
    const auto header = bytes(address, header_bytes);
    if (std::memcmp(header.data(), signature.data(), signature.size()) != 0) refuse("has no heap signature", address);
    const auto size = static_cast<std::int64_t>(little_endian(header.data() + 8, 8));
    if (size < smallest_collection || size > largest_collection) refuse("has an impossible size", address);
    const auto all = bytes(address, size);
    for (std::int64_t at = header_bytes; size - at >= header_bytes;) {
      const std::uint64_t index = little_endian(&all[static_cast<std::size_t>(at)], 2),
                          length = little_endian(&all[static_cast<std::size_t>(at) + 8], 8);
      if (length > static_cast<std::uint64_t>(size - at)) refuse("holds an object larger than itself", address);
      // Index 0 is the free rest, whose length counts its header.
      const std::int64_t need = index == 0 ? static_cast<std::int64_t>(length)
                                           : header_bytes + (static_cast<std::int64_t>(length) + 7) / 8 * 8;
      if (need < header_bytes || need > size - at) refuse("holds an object of impossible size", address);
      if (index != 0 && !objects_.emplace(index, Held{address + at + header_bytes, length}).second)
        refuse("holds one object twice", address);
      at += need;
    }
    address_ = static_cast<std::uint64_t>(address);
  }
  [[noreturn]] void refuse(const char* how, std::int64_t address) const {
    fail(damaged_, "{}: the heap of its strings at byte {} {}", where_, address, how);
  }

  std::ifstream file_;
  std::string where_;
  ExitCode damaged_;
  std::int64_t size_ = 0;
  std::uint64_t address_ = 0;
  std::map<std::uint64_t, Held> objects_;
  std::uint64_t referenced_ = 0;  // bytes, by all references so far
};

}  // namespace

void check_heap_references(const std::string& path, std::span<const std::byte> references, std::uint64_t count,
                           std::uint64_t element_bytes, const Place& place) {
  Heap heap(path, place.where, place.damaged);
  for (std::uint64_t r = 0; r < count; ++r)
    heap.check(&references[r * static_cast<std::uint64_t>(reference_bytes)], element_bytes);
}

std::vector<std::byte> read_heap_object(const std::string& path, std::uint64_t address, std::uint64_t index,
                                        const Place& place) {
  return Heap(path, place.where, place.damaged).object(address, index);
}

void Dataset::check_strings(const std::string& path) const {
  const Quiet quiet;
  const ElementType found = type();
  require(found.kind == ElementType::Kind::string && shape().size() == 1,
          "{}: holds {} of rank {}, expected a list of strings", where_, found.to_string(), shape().size());
  if (found.bytes > 0 || rows() == 0) return;  // strings of fixed length are on no heap
  const Id creation(check(H5Dget_create_plist(id()), where_, "read how it is stored", damaged_));
  Heap heap(path, where_, damaged_);
  if (H5Pget_layout(creation.get()) != H5D_CHUNKED) {
    const auto offset = file_offset();
    if (!offset) return;  // never written, or in the object's own header, which has been looked at
    const auto references = heap.bytes(*offset, rows() * reference_bytes);
    for (std::int64_t row = 0; row < rows(); ++row)
      heap.check(&references[static_cast<std::size_t>(row * reference_bytes)]);
    return;
  }
  hsize_t chunk_rows = 0;
  check(H5Pget_chunk(creation.get(), 1, &chunk_rows), where_, "read its chunk shape", damaged_);
  for (hsize_t begin = 0; begin < static_cast<hsize_t>(rows()); begin += chunk_rows) {
    const auto chunk = read_chunk(id(), {begin}, where_, damaged_);
    if (chunk.empty()) continue;
    const hsize_t count = std::min(chunk_rows, static_cast<hsize_t>(rows()) - begin);
    for (hsize_t row = 0; row < count; ++row) heap.check(&chunk[row * reference_bytes]);
  }
}

}  // namespace causeway::hdf5
