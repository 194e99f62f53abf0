#include "io/hdf5/chunks.hpp"

#include <hdf5.h>
#include <zlib.h>

#include <algorithm>
#include <span>

#include "io/hdf5/check.hpp"
#include "io/hdf5/hdf5.hpp"

namespace causeway::hdf5 {
namespace {

constexpr std::size_t checksum_bytes = 4, heap_reference_bytes = 16;

/// How a dataset's chunks are stored, asked once.
struct Storage {
  std::vector<hsize_t> extents, chunk;
  std::size_t chunk_bytes = 0;
  struct Filter {
    H5Z_filter_t id;
    std::size_t shuffled = 0;  ///< bytes of what is shuffled
  };
  std::vector<Filter> filters;

  Storage(hid_t dataset, const std::string& where, ExitCode damaged) {
    const Id creation(hdf5::check(H5Dget_create_plist(dataset), where, "read how it is stored", damaged)),
        type(hdf5::check(H5Dget_type(dataset), where, "read its type", damaged)),
        space(hdf5::check(H5Dget_space(dataset), where, "read its shape", damaged));
    if (H5Pget_layout(creation.get()) != H5D_CHUNKED) return;
    extents.resize(static_cast<std::size_t>(
        hdf5::check(H5Sget_simple_extent_ndims(space.get()), where, "read its shape", damaged)));
    hdf5::check(H5Sget_simple_extent_dims(space.get(), extents.data(), nullptr), where, "read its shape", damaged);
    chunk.resize(extents.size());
    hdf5::check(H5Pget_chunk(creation.get(), static_cast<int>(chunk.size()), chunk.data()), where,
                "read its chunk shape", damaged);
    // HDF5 gives a string's size in memory.
    chunk_bytes = H5Tis_variable_str(type.get()) > 0 ? heap_reference_bytes : H5Tget_size(type.get());
    for (const hsize_t extent : chunk) chunk_bytes *= extent;
    for (int f = 0; f < H5Pget_nfilters(creation.get()); ++f) {
      unsigned flags = 0, config = 0;
      std::size_t values = 1;
      unsigned value = 0;
      const H5Z_filter_t id =
          H5Pget_filter2(creation.get(), static_cast<unsigned>(f), &flags, &values, &value, 0, nullptr, &config);
      filters.push_back({id, values == 1 ? value : 0});
    }
  }

  bool deflates(unsigned skipped) const {
    for (std::size_t f = 0; f < filters.size(); ++f)
      if (filters[f].id == H5Z_FILTER_DEFLATE && !(skipped >> f & 1)) return true;
    return false;
  }
};

std::vector<std::byte> inflated(const std::vector<std::byte>& packed, std::size_t most, const std::string& where,
                                ExitCode damaged) {
  std::vector<std::byte> plain(most);
  uLongf size = plain.size();
  const int outcome = uncompress(reinterpret_cast<Bytef*>(plain.data()), &size,
                                 reinterpret_cast<const Bytef*>(packed.data()), packed.size());
  if (outcome != Z_OK) fail(damaged, "{}: a chunk cannot be decompressed", where);
  plain.resize(size);
  return plain;
}

void unshuffle(std::vector<std::byte>& bytes, std::size_t element_bytes) {
  const std::vector<std::byte> shuffled = bytes;
  const std::size_t count = bytes.size() / element_bytes;
  for (std::size_t i = 0; i < count * element_bytes; ++i) bytes[i % count * element_bytes + i / count] = shuffled[i];
}

struct StoredChunk {
  haddr_t address = HADDR_UNDEF;
  hsize_t bytes = 0;
  unsigned skipped = 0;  ///< a bit for each filter that was not applied to it
};

StoredChunk find_chunk(hid_t dataset, const Storage& storage, const std::vector<std::uint64_t>& begin,
                       const std::string& where, ExitCode damaged) {
  StoredChunk found;
  const std::vector<hsize_t> offset(begin.begin(), begin.end());
  check(H5Dget_chunk_info_by_coord(dataset, offset.data(), &found.skipped, &found.address, &found.bytes), where,
        "find a chunk", damaged);
  // A filter that makes a chunk larger is left out by HDF5, but for the checksum.
  const std::size_t most = storage.chunk_bytes + checksum_bytes * storage.filters.size() + 64;
  if (found.address != HADDR_UNDEF && found.bytes > most)
    fail(damaged, "{}: a chunk has {} bytes, expected at most {}", where, found.bytes, most);
  return found;
}

std::vector<std::byte> read_stored(hid_t dataset, const StoredChunk& found, const std::vector<std::uint64_t>& begin,
                                   const std::string& where, ExitCode damaged) {
  std::vector<std::byte> bytes(found.bytes);
  const std::vector<hsize_t> offset(begin.begin(), begin.end());
  std::uint32_t skipped = 0;
  check(H5Dread_chunk(dataset, H5P_DEFAULT, offset.data(), &skipped, bytes.data()), where, "read a chunk", damaged);
  return bytes;
}

[[noreturn]] void refuse_size(std::size_t found, const Storage& storage, const std::string& where, ExitCode damaged) {
  fail(damaged, "{}: a chunk has {} bytes, expected {}", where, found, storage.chunk_bytes);
}

/// Its bytes, filters taken back, last first.
std::vector<std::byte> unfiltered(hid_t dataset, const Storage& storage, const StoredChunk& found,
                                  const std::vector<std::uint64_t>& begin, const std::string& where, ExitCode damaged) {
  std::vector<std::byte> bytes = read_stored(dataset, found, begin, where, damaged);
  for (std::size_t f = storage.filters.size(); f-- > 0;) {
    if (found.skipped >> f & 1) continue;
    switch (storage.filters[f].id) {
      case H5Z_FILTER_DEFLATE:
        bytes = inflated(bytes, storage.chunk_bytes + checksum_bytes * storage.filters.size(), where, damaged);
        break;
      case H5Z_FILTER_SHUFFLE:
        if (storage.filters[f].shuffled == 0) fail(damaged, "{}: is shuffled by no number of bytes", where);
        unshuffle(bytes, storage.filters[f].shuffled);
        break;
      case H5Z_FILTER_FLETCHER32:
        if (bytes.size() < checksum_bytes) refuse_size(bytes.size(), storage, where, damaged);
        bytes.resize(bytes.size() - checksum_bytes);
        break;
      default:
        fail(ExitCode::usage, "{}: is compressed by filter {}, expected deflate", where,
             static_cast<int>(storage.filters[f].id));
    }
  }
  if (bytes.size() != storage.chunk_bytes) refuse_size(bytes.size(), storage, where, damaged);
  return bytes;
}

}  // namespace

std::vector<std::byte> read_chunk(std::int64_t dataset, const std::vector<std::uint64_t>& begin,
                                  const std::string& where, ExitCode damaged) {
  const Storage storage(dataset, where, damaged);
  const StoredChunk found = find_chunk(dataset, storage, begin, where, damaged);
  if (found.address == HADDR_UNDEF) return {};
  return unfiltered(dataset, storage, found, begin, where, damaged);
}

void ChunkChecks::check(std::int64_t dataset, std::int64_t begin, std::int64_t rows, const std::string& where,
                        ExitCode damaged) {
  const Storage storage(dataset, where, damaged);
  if (storage.chunk.empty() || rows == 0) return;
  const std::lock_guard lock(one_at_a_time_);
  const std::uint64_t chunk_rows = storage.chunk.front(),
                      first = static_cast<std::uint64_t>(begin) / chunk_rows * chunk_rows;
  std::vector<std::uint64_t> at(storage.chunk.size(), 0);
  for (at.front() = first; at.front() < static_cast<std::uint64_t>(begin + rows);) {
    if (checked_.insert(at).second) {
      const StoredChunk found = find_chunk(dataset, storage, at, where, damaged);
      if (found.address != HADDR_UNDEF) {
        // Only deflate's outcome cannot be told without doing it.
        if (storage.deflates(found.skipped)) {
          unfiltered(dataset, storage, found, at, where, damaged);
        } else {
          std::size_t expected = storage.chunk_bytes;
          for (std::size_t f = 0; f < storage.filters.size(); ++f)
            if (storage.filters[f].id == H5Z_FILTER_FLETCHER32 && !(found.skipped >> f & 1)) expected += checksum_bytes;
          if (found.bytes != expected)
            fail(damaged, "{}: a chunk has {} bytes, expected {}", where, found.bytes, expected);
        }
      }
    }
    std::size_t d = at.size();
    while (--d > 0 && (at[d] += storage.chunk[d]) >= storage.extents[d]) at[d] = 0;
    if (d == 0) at.front() += chunk_rows;
  }
}

}  // namespace causeway::hdf5
