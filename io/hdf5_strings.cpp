#include "io/hdf5_strings.hpp"

#include <hdf5.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>

#include "io/hdf5.hpp"
#include "io/hdf5_check.hpp"

// Format: HDF5 File Format Specification 3.0, III.E (global heap) and VIII.A (references into it).
namespace causeway::hdf5 {
namespace {

constexpr std::int64_t reference_bytes = 16;  // u32 length, u64 address of the collection, u32 index in it
constexpr std::int64_t header_bytes = 16;     // of a collection and of each object in it
constexpr std::int64_t smallest_collection = 4096, largest_collection = std::int64_t{256} << 20;
constexpr std::int64_t stretch = std::int64_t{16} << 20;  // of either end of a file, where files have what belongs to attributes
constexpr std::string_view signature("GCOL\1\0\0\0", 8);  // and version and reserved bytes, so that data is not taken for a heap by chance

std::uint64_t little_endian(const std::byte* bytes, int count) {
  std::uint64_t value = 0;
  for (int i = count - 1; i >= 0; --i) value = (value << 8) | static_cast<std::uint64_t>(bytes[i]);
  return value;
}

/// The heap's collections, one at a time: the objects' sizes by index. Objects fill a collection without gaps.
class Heap {
 public:
  Heap(const std::string& path, const std::string& where, ExitCode damaged) : file_(path, std::ios::binary | std::ios::ate), where_(where), damaged_(damaged) {
    size_ = static_cast<std::int64_t>(file_.tellg());
    if (!file_) fail(ExitCode::io, "{}: cannot read", path);
  }

  std::int64_t size() const { return size_; }

  std::vector<std::byte> bytes(std::int64_t address, std::int64_t count) {
    if (address < 0 || count < 0 || address > size_ || count > size_ - address) refuse("lies past the end of the file", address);
    std::vector<std::byte> result(static_cast<std::size_t>(count));
    file_.seekg(address);
    file_.read(reinterpret_cast<char*>(result.data()), count);
    if (!file_) fail(ExitCode::io, "{}: cannot read {} bytes at {}", where_, count, address);
    return result;
  }

  /// All collections that begin in [begin, end).
  void check_all(std::int64_t begin, std::int64_t end) {
    const auto span = bytes(begin, end - begin);
    const std::string_view text(reinterpret_cast<const char*>(span.data()), span.size());
    for (std::size_t at = text.find(signature); at != text.npos; at = text.find(signature, at + 1)) load(begin + static_cast<std::int64_t>(at));
  }

  /// The string of every attribute called `name` whose message (format specification, IV.A.2.m) lies in [begin, end).
  void check_attributes(std::int64_t begin, std::int64_t end, const std::string& name) {
    const auto span = bytes(begin, end - begin);
    const std::string_view text(reinterpret_cast<const char*>(span.data()), span.size());
    const std::string_view named(name.c_str(), name.size() + 1);
    for (std::size_t at = text.find(named); at != text.npos; at = text.find(named, at + 1))
      for (const int version : {1, 2, 3}) {
        const std::size_t head = version == 3 ? 9 : 8;
        if (at < head) continue;
        const std::byte* message = &span[at - head];
        const auto size = [&](std::size_t field) { return static_cast<std::size_t>(little_endian(message + field, 2)); };
        if (message[0] != static_cast<std::byte>(version) || size(2) != named.size()) continue;
        const auto padded = [&](std::size_t bytes) { return version == 1 ? (bytes + 7) / 8 * 8 : bytes; };
        const std::size_t type = at + padded(named.size()), data = type + padded(size(4)) + padded(size(6));
        constexpr auto class_of_variable_length = std::byte{9};
        if (data + reference_bytes > span.size() || (span[type] & std::byte{15}) != class_of_variable_length) continue;
        check(&span[data]);
      }
  }

  void check(const std::byte* reference) {
    const std::uint64_t length = little_endian(reference, 4), address = little_endian(reference + 4, 8), index = little_endian(reference + 12, 4);
    if (address == 0) return;  // no string
    if (address != address_) load(static_cast<std::int64_t>(address));
    const auto object = sizes_.find(index);
    if (object == sizes_.end() || object->second != length) refuse("does not hold the string looked for", static_cast<std::int64_t>(address));
  }

 private:
  void load(std::int64_t address) {
    sizes_.clear();
    const auto header = bytes(address, header_bytes);
    if (std::memcmp(header.data(), signature.data(), 5) != 0) refuse("has no heap signature", address);
    const auto size = static_cast<std::int64_t>(little_endian(header.data() + 8, 8));
    if (size < smallest_collection || size > largest_collection) refuse("has an impossible size", address);
    const auto all = bytes(address, size);
    for (std::int64_t at = header_bytes; size - at >= header_bytes;) {
      const std::uint64_t index = little_endian(&all[static_cast<std::size_t>(at)], 2), length = little_endian(&all[static_cast<std::size_t>(at) + 8], 8);
      if (length > static_cast<std::uint64_t>(size - at)) refuse("holds an object larger than itself", address);
      // Index 0 is the free rest, whose length counts its header.
      const std::int64_t need = index == 0 ? static_cast<std::int64_t>(length) : header_bytes + (static_cast<std::int64_t>(length) + 7) / 8 * 8;
      if (need < header_bytes || need > size - at) refuse("holds an object of impossible size", address);
      if (index != 0 && !sizes_.emplace(index, length).second) refuse("holds one object twice", address);
      at += need;
    }
    address_ = static_cast<std::uint64_t>(address);
  }
  [[noreturn]] void refuse(const char* how, std::int64_t address) const { fail(damaged_, "{}: the heap of its strings at byte {} {}", where_, address, how); }

  std::ifstream file_;
  std::string where_;
  ExitCode damaged_;
  std::int64_t size_ = 0;
  std::uint64_t address_ = 0;
  std::map<std::uint64_t, std::uint64_t> sizes_;
};

/// Takes back what the filters did to a chunk, last first.
std::vector<std::byte> unfilter(std::vector<std::byte> chunk, hid_t creation, unsigned skipped, std::size_t bytes, const std::string& where, ExitCode damaged) {
  for (int f = H5Pget_nfilters(creation) - 1; f >= 0; --f) {
    if (skipped >> f & 1) continue;
    unsigned flags = 0, config = 0;
    std::size_t values = 0;
    const H5Z_filter_t filter = H5Pget_filter2(creation, static_cast<unsigned>(f), &flags, &values, nullptr, 0, nullptr, &config);
    std::vector<std::byte> plain(bytes);
    if (filter == H5Z_FILTER_DEFLATE) {
      uLongf size = bytes;
      const int outcome = uncompress(reinterpret_cast<Bytef*>(plain.data()), &size, reinterpret_cast<const Bytef*>(chunk.data()), chunk.size());
      if (outcome != Z_OK || size != bytes) fail(damaged, "{}: a chunk cannot be decompressed", where);
    } else if (filter == H5Z_FILTER_SHUFFLE) {
      if (chunk.size() != bytes) fail(damaged, "{}: a chunk has {} bytes, expected {}", where, chunk.size(), bytes);
      const std::size_t count = bytes / reference_bytes;
      for (std::size_t i = 0; i < bytes; ++i) plain[i % count * reference_bytes + i / count] = chunk[i];
    } else {
      fail(ExitCode::usage, "{}: strings compressed by filter {}, expected deflate", where, static_cast<int>(filter));
    }
    chunk = std::move(plain);
  }
  if (chunk.size() != bytes) fail(damaged, "{}: a chunk has {} bytes, expected {}", where, chunk.size(), bytes);
  return chunk;
}

}  // namespace

void check_string_heaps(const std::string& path, ExitCode damaged) {
  Heap heap(path, path, damaged);
  heap.check_all(0, std::min(stretch, heap.size()));
  if (heap.size() > stretch) heap.check_all(std::max(stretch, heap.size() - stretch), heap.size());
}

void check_attribute_string(const std::string& path, const std::string& name, const std::string& where, ExitCode damaged) {
  Heap heap(path, where, damaged);
  heap.check_attributes(0, std::min(stretch, heap.size()), name);
  if (heap.size() > stretch) heap.check_attributes(std::max(stretch, heap.size() - stretch), heap.size(), name);
}

void Dataset::check_strings(const std::string& path) const {
  const Quiet quiet;
  const ElementType found = type();
  require(found.kind == ElementType::Kind::string && shape().size() == 1, "{}: holds {} of rank {}, expected a list of strings", where_, found.to_string(), shape().size());
  if (found.bytes > 0 || rows() == 0) return;  // strings of fixed length are on no heap
  const Id creation(check(H5Dget_create_plist(id()), where_, "read how it is stored", damaged_));
  Heap heap(path, where_, damaged_);
  if (H5Pget_layout(creation.get()) != H5D_CHUNKED) {
    const auto offset = file_offset();
    if (!offset) return;  // never written, or in the object's own header, which only small lists are
    const auto references = heap.bytes(*offset, rows() * reference_bytes);
    for (std::int64_t row = 0; row < rows(); ++row) heap.check(&references[static_cast<std::size_t>(row * reference_bytes)]);
    return;
  }
  hsize_t chunk_rows = 0;
  check(H5Pget_chunk(creation.get(), 1, &chunk_rows), where_, "read its chunk shape", damaged_);
  for (hsize_t begin = 0; begin < static_cast<hsize_t>(rows()); begin += chunk_rows) {
    hsize_t stored = 0;
    check(H5Dget_chunk_storage_size(id(), &begin, &stored), where_, "find a chunk", damaged_);
    if (stored == 0) continue;
    if (stored > static_cast<hsize_t>(largest_collection)) fail(damaged_, "{}: a chunk has {} bytes", where_, stored);
    std::vector<std::byte> chunk(stored);
    std::uint32_t skipped = 0;
    check(H5Dread_chunk(id(), H5P_DEFAULT, &begin, &skipped, chunk.data()), where_, "read a chunk", damaged_);
    chunk = unfilter(std::move(chunk), creation.get(), skipped, chunk_rows * reference_bytes, where_, damaged_);
    const hsize_t count = std::min(chunk_rows, static_cast<hsize_t>(rows()) - begin);
    for (hsize_t row = 0; row < count; ++row) heap.check(&chunk[row * reference_bytes]);
  }
}

}  // namespace causeway::hdf5
