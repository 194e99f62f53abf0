#include "io/hdf5/chunk_reader.hpp"

#include <hdf5.h>

#include <algorithm>
#include <cstring>

#include "io/hdf5/check.hpp"
#include "io/hdf5/hdf5.hpp"

namespace causeway::hdf5 {
namespace {

using Coordinates = std::vector<std::uint64_t>;

/// The size of H5Dread's chunk cache of a dataset by default.
constexpr std::size_t most_recent_bytes = std::size_t{1} << 20, most_recent_chunks = 64;
constexpr std::size_t most_converted_bytes = std::size_t{1} << 18;

std::size_t element_bytes_of(hid_t type) {
  // For strings of variable length H5Tget_size() returns the size of a pointer in memory.
  return H5Tis_variable_str(type) > 0 ? hdf5_guard::StringReader::reference_bytes : H5Tget_size(type);
}

std::vector<hdf5_guard::ChunkFilter> filters_of(hid_t creation, const std::string& where) {
  using Kind = hdf5_guard::ChunkFilter::Kind;
  std::vector<hdf5_guard::ChunkFilter> filters;
  for (int f = 0; f < H5Pget_nfilters(creation); ++f) {
    unsigned flags = 0, config = 0, value = 0;
    std::size_t values = 1;
    const H5Z_filter_t id =
        H5Pget_filter2(creation, static_cast<unsigned>(f), &flags, &values, &value, 0, nullptr, &config);
    switch (id) {
      case H5Z_FILTER_DEFLATE:
        filters.push_back({Kind::deflate});
        break;
      case H5Z_FILTER_SHUFFLE:
        filters.push_back({Kind::shuffle, values == 1 ? value : 0});
        break;
      case H5Z_FILTER_FLETCHER32:
        filters.push_back({Kind::fletcher32});
        break;
      default:
        fail(ExitCode::usage, "{}: is stored through filter {}, expected deflate, shuffle or fletcher32", where,
             static_cast<int>(id));
    }
  }
  return filters;
}

/// A box in an array: where it begins in the array, and the array's extents.
struct ArrayPart {
  Coordinates begin;
  const Coordinates& extents;

  /// The row-major index in the array of the box's element `at`.
  std::uint64_t element(const Coordinates& at) const {
    std::uint64_t index = 0;
    for (std::size_t d = 0; d < at.size(); ++d) index = index * extents[d] + begin[d] + at[d];
    return index;
  }
};

/// Copies `box` elements from one array to another.
void copy_box(const Coordinates& box, std::size_t element_bytes, const std::byte* from, const ArrayPart& source,
              std::byte* to, const ArrayPart& target) {
  Coordinates at(box.size(), 0);
  for (;;) {
    std::memcpy(to + target.element(at) * element_bytes, from + source.element(at) * element_bytes,
                box.back() * element_bytes);
    std::size_t d = box.size() - 1;
    while (d > 0 && ++at[d - 1] == box[d - 1]) at[--d] = 0;
    if (d == 0) return;
  }
}

Coordinates offset_of(Coordinates element, const Coordinates& origin) {
  for (std::size_t d = 0; d < element.size(); ++d) element[d] -= origin[d];
  return element;
}

std::uint64_t count_of(const Coordinates& extents) {
  std::uint64_t count = 1;
  for (const std::uint64_t extent : extents) count *= extent;
  return count;
}

}  // namespace

ChunkReader::ChunkReader(std::int64_t dataset, const std::string& path, const std::string& where, ExitCode damaged)
    : where_(where), damaged_(damaged), strings_(path, where, damaged) {
  const Id creation(check(H5Dget_create_plist(dataset), where, "read how it is stored", damaged)),
      type(check(H5Dget_type(dataset), where, "read its type", damaged)),
      space(check(H5Dget_space(dataset), where, "read its shape", damaged));
  const int rank = check(H5Sget_simple_extent_ndims(space.get()), where, "read its shape", damaged);
  std::vector<hsize_t> extents(static_cast<std::size_t>(rank)), chunk(extents.size());
  check(H5Sget_simple_extent_dims(space.get(), extents.data(), nullptr), where, "read its shape", damaged);
  check(H5Pget_chunk(creation.get(), rank, chunk.data()), where, "read its chunk shape", damaged);
  extents_.assign(extents.begin(), extents.end());
  chunk_extents_.assign(chunk.begin(), chunk.end());
  element_bytes_ = element_bytes_of(type.get());
  chunk_bytes_ = count_of(chunk_extents_) * element_bytes_;
  filters_ = filters_of(creation.get(), where);
}

/// Bytes of a chunk in the file, filters applied; 0 where the file does not have the chunk.
std::uint64_t ChunkReader::stored_bytes(std::int64_t dataset, const Coordinates& begin) const {
  const std::vector<hsize_t> offset(begin.begin(), begin.end());
  hsize_t bytes = 0;
  if (H5Dget_chunk_storage_size(dataset, offset.data(), &bytes) < 0 || bytes == 0) {
    // HDF5 1.10 fails for a chunk that is missing.
    if (last_error().cause == "chunk storage is not allocated") return 0;
    // This call distinguishes a missing chunk from damage too, but visits all chunks.
    haddr_t address = HADDR_UNDEF;
    unsigned skipped = 0;
    check(H5Dget_chunk_info_by_coord(dataset, offset.data(), &skipped, &address, &bytes), where_, "find a chunk",
          damaged_);
    if (address == HADDR_UNDEF) return 0;
  }
  // HDF5 skips a filter that would make a chunk larger; only checksums may.
  constexpr std::size_t most_bytes_of_a_filter = 4, deflate_overhead = 64;
  const std::size_t most = chunk_bytes_ + most_bytes_of_a_filter * filters_.size() + deflate_overhead;
  if (bytes == 0 || bytes > most)
    fail(damaged_, "{}: a chunk has {} bytes in the file, expected 1 to {}", where_, bytes, most);
  return bytes;
}

ChunkReader::Values ChunkReader::load_chunk(std::int64_t dataset, const Coordinates& begin) const {
  const std::uint64_t bytes = stored_bytes(dataset, begin);
  if (bytes == 0) return nullptr;
  std::vector<std::byte> stored(bytes);
  const std::vector<hsize_t> offset(begin.begin(), begin.end());
  std::uint32_t skipped = 0;
  check(H5Dread_chunk(dataset, H5P_DEFAULT, offset.data(), &skipped, stored.data()), where_, "read a chunk", damaged_);
  return std::make_shared<const std::vector<std::byte>>(
      hdf5_guard::unfiltered_chunk(std::move(stored), filters_, skipped, chunk_bytes_, where_, damaged_));
}

/// The chunk whose first element is `begin`; nothing where the file does not have it.
ChunkReader::Values ChunkReader::read_chunk(std::int64_t dataset, const Coordinates& begin) {
  const auto found = std::ranges::find(recent_, begin, &std::pair<Coordinates, Values>::first);
  if (found != recent_.end()) {
    std::rotate(recent_.begin(), found, found + 1);
    return recent_.front().second;
  }
  Values values = load_chunk(dataset, begin);
  if (!values) return values;
  // At least one chunk is kept, however large it is.
  const std::size_t kept = std::min(most_recent_chunks, std::max<std::size_t>(1, most_recent_bytes / chunk_bytes_));
  if (recent_.size() >= kept) recent_.resize(kept - 1);
  recent_.insert(recent_.begin(), {begin, values});
  return values;
}

std::vector<std::byte> ChunkReader::fill_value(std::int64_t dataset, std::int64_t memory_type,
                                               std::size_t bytes) const {
  const Id creation(check(H5Dget_create_plist(dataset), where_, "read how it is stored", damaged_));
  std::vector<std::byte> value(bytes);
  H5D_fill_value_t defined = H5D_FILL_VALUE_UNDEFINED;
  check(H5Pfill_value_defined(creation.get(), &defined), where_, "read its fill value", damaged_);
  if (defined != H5D_FILL_VALUE_UNDEFINED)
    check(H5Pget_fill_value(creation.get(), memory_type, value.data()), where_, "read its fill value", damaged_);
  return value;
}

void ChunkReader::read_rows(std::int64_t dataset, std::int64_t begin, std::int64_t rows, std::int64_t memory_type,
                            void* out) {
  const std::lock_guard lock(one_at_a_time_);
  const std::size_t rank = extents_.size();
  Coordinates first(rank, 0), end = extents_, out_extents = extents_, chunk(rank, 0), box_begin(rank), box(rank);
  first[0] = static_cast<std::uint64_t>(begin);
  end[0] = static_cast<std::uint64_t>(begin + rows);
  out_extents[0] = static_cast<std::uint64_t>(rows);
  for (chunk[0] = first[0] / chunk_extents_[0] * chunk_extents_[0]; chunk[0] < end[0];) {
    for (std::size_t d = 0; d < rank; ++d) {
      box_begin[d] = std::max(chunk[d], first[d]);
      box[d] = std::min(chunk[d] + chunk_extents_[d], end[d]) - box_begin[d];
    }
    read_box(dataset, chunk, {box_begin, box}, memory_type, {static_cast<std::byte*>(out), first, out_extents});
    std::size_t d = rank;
    while (--d > 0 && (chunk[d] += chunk_extents_[d]) >= extents_[d]) chunk[d] = 0;
    if (d == 0) chunk[0] += chunk_extents_[0];
  }
}

/// Reads the elements of `box`, which are in the chunk that begins at `chunk`, into `out`.
void ChunkReader::read_box(std::int64_t dataset, const Coordinates& chunk, Box box, std::int64_t memory_type,
                           const Output& out) {
  const Id stored_type(check(H5Dget_type(dataset), where_, "read its type", damaged_));
  const std::size_t memory_bytes = H5Tget_size(memory_type), larger_bytes = std::max(element_bytes_, memory_bytes);
  const Values stored = read_chunk(dataset, chunk);
  const std::vector<std::byte> fill =
      stored ? std::vector<std::byte>() : fill_value(dataset, memory_type, memory_bytes);
  // H5Tconvert needs memory for the larger type. A few rows at a time, so that the memory is bounded.
  const std::uint64_t box_end = box.begin[0] + box.extents[0],
                      row_bytes = count_of(box.extents) / box.extents[0] * larger_bytes,
                      rows = std::max<std::uint64_t>(1, most_converted_bytes / row_bytes);
  std::vector<std::byte> values;
  for (; box.begin[0] < box_end; box.begin[0] += box.extents[0]) {
    box.extents[0] = std::min(rows, box_end - box.begin[0]);
    const std::uint64_t count = count_of(box.extents);
    values.resize(count * larger_bytes);
    const ArrayPart whole{Coordinates(chunk.size(), 0), box.extents};
    if (stored) {
      copy_box(box.extents, element_bytes_, stored->data(), {offset_of(box.begin, chunk), chunk_extents_},
               values.data(), whole);
      check(H5Tconvert(stored_type.get(), memory_type, count, values.data(), nullptr, H5P_DEFAULT), where_,
            "convert its values", damaged_);
    } else {
      for (std::uint64_t i = 0; i < count; ++i) std::ranges::copy(fill, values.data() + i * memory_bytes);
    }
    copy_box(box.extents, memory_bytes, values.data(), whole, out.values,
             {offset_of(box.begin, out.begin), out.extents});
  }
}

std::vector<std::string> ChunkReader::read_strings(std::int64_t dataset, std::int64_t begin, std::int64_t rows) {
  constexpr std::size_t each = hdf5_guard::StringReader::reference_bytes;
  const std::lock_guard lock(one_at_a_time_);
  std::vector<std::string> strings;
  const auto end = static_cast<std::uint64_t>(begin + rows);
  for (auto row = static_cast<std::uint64_t>(begin); row < end;) {
    const std::uint64_t chunk_rows = chunk_extents_[0], chunk = row / chunk_rows * chunk_rows,
                        chunk_end = std::min(chunk + chunk_rows, extents_[0]);
    const Values references = read_chunk(dataset, {chunk});
    if (references && checked_strings_.insert(chunk).second)
      strings_.check(std::span(*references).first((chunk_end - chunk) * each));
    for (; row < std::min(chunk_end, end); ++row)
      strings.push_back(references ? strings_.read(std::span(*references).subspan((row - chunk) * each).first<each>())
                                   : "");
  }
  return strings;
}

}  // namespace causeway::hdf5
