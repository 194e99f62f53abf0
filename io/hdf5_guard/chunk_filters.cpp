#include <zlib.h>

#include "io/hdf5_guard/bytes.hpp"
#include "io/hdf5_guard/checksum.hpp"
#include "io/hdf5_guard/hdf5_guard.hpp"

namespace causeway::hdf5_guard {
namespace {

constexpr std::size_t fletcher32_bytes = 4;

std::vector<std::byte> inflated(std::span<const std::byte> deflated, std::size_t limit, const FileLocation& location) {
  std::vector<std::byte> plain(limit);
  uLongf size = plain.size();
  const int outcome = uncompress(reinterpret_cast<Bytef*>(plain.data()), &size,
                                 reinterpret_cast<const Bytef*>(deflated.data()), deflated.size());
  location.require(outcome == Z_OK, "a chunk of {} bytes cannot be inflated to at most {} bytes", deflated.size(),
                   limit);
  plain.resize(size);
  return plain;
}

/// Shuffled bytes are the first byte of every element, then the second byte of every element, and so on.
template <std::size_t element_bytes>
void unshuffle_into(std::span<const std::byte> shuffled, std::span<std::byte> plain) {
  const std::size_t count = shuffled.size() / element_bytes;
  for (std::size_t element = 0; element < count; ++element)
    for (std::size_t byte = 0; byte < element_bytes; ++byte)
      plain[element * element_bytes + byte] = shuffled[byte * count + element];
}

std::vector<std::byte> unshuffled(std::span<const std::byte> shuffled, std::size_t element_bytes) {
  std::vector<std::byte> plain(shuffled.begin(), shuffled.end());  // bytes after the last whole element stay in place
  switch (element_bytes) {
    case 1:
      break;
    case 2:
      unshuffle_into<2>(shuffled, plain);
      break;
    case 4:
      unshuffle_into<4>(shuffled, plain);
      break;
    case 8:
      unshuffle_into<8>(shuffled, plain);
      break;
    default:
      const std::size_t count = shuffled.size() / element_bytes;
      for (std::size_t byte = 0; byte < element_bytes; ++byte)
        for (std::size_t element = 0; element < count; ++element)
          plain[element * element_bytes + byte] = shuffled[byte * count + element];
  }
  return plain;
}

/// Removes the checksum at the end, which must fit the bytes before it.
void check_fletcher32(std::vector<std::byte>& bytes, const FileLocation& location) {
  location.require(bytes.size() >= fletcher32_bytes, "a chunk has {} bytes, expected a checksum of {} and values",
                   bytes.size(), fletcher32_bytes);
  FieldReader stored(std::span<const std::byte>(bytes).last(fletcher32_bytes), location);
  const auto found = static_cast<std::uint32_t>(stored.number(fletcher32_bytes));
  bytes.resize(bytes.size() - fletcher32_bytes);
  const std::uint32_t computed = fletcher32(bytes);
  // HDF5 up to 1.6.2 wrote the bytes of each half in the other order on little-endian machines.
  const std::uint32_t swapped = (computed & 0x00ff00ff) << 8 | (computed >> 8 & 0x00ff00ff);
  location.require(found == computed || found == swapped, "a chunk has fletcher32 checksum {:08x}, expected {:08x}",
                   computed, found);
}

}  // namespace

std::vector<std::byte> unfiltered_chunk(std::vector<std::byte> stored, std::span<const ChunkFilter> filters,
                                        std::uint32_t skipped, std::size_t chunk_bytes, const std::string& where,
                                        ExitCode damaged) {
  const FileLocation location{where, damaged};
  std::vector<std::byte> bytes = std::move(stored);
  for (std::size_t f = filters.size(); f-- > 0;) {
    if (skipped >> f & 1) continue;
    switch (filters[f].kind) {
      case ChunkFilter::Kind::deflate:
        bytes = inflated(bytes, chunk_bytes + fletcher32_bytes * filters.size(), location);
        break;
      case ChunkFilter::Kind::shuffle:
        location.require(filters[f].element_bytes > 0, "is shuffled by elements of 0 bytes");
        bytes = unshuffled(bytes, filters[f].element_bytes);
        break;
      case ChunkFilter::Kind::fletcher32:
        check_fletcher32(bytes, location);
        break;
    }
  }
  location.require(bytes.size() == chunk_bytes, "a chunk has {} bytes, expected {}", bytes.size(), chunk_bytes);
  return bytes;
}

}  // namespace causeway::hdf5_guard
