#include "io/hdf5/storage.hpp"

#include <hdf5.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "io/hdf5/check.hpp"
#include "io/hdf5/types.hpp"
#include "io/hdf5_guard/hdf5_guard.hpp"

namespace causeway::hdf5 {
namespace {

/// A chunk is inflated whole, so this limits the memory that a reader of a file allocates.
constexpr std::int64_t largest_chunk = std::int64_t{256} << 20;
/// Deflate inflates one byte to at most 1032 bytes, so a larger ratio of shape to stored bytes is damage. A dataset
/// without any stored bytes (never written) may have up to always_plausible bytes.
constexpr std::int64_t most_inflation = 1100, always_plausible = std::int64_t{64} << 20;

}  // namespace

void check_storage(std::int64_t dataset, const std::string& where, ExitCode damaged) {
  const Id creation(check(H5Dget_create_plist(dataset), where, "read how it is stored", damaged));
  const H5D_layout_t layout = H5Pget_layout(creation.get());
  require(layout == H5D_CONTIGUOUS || layout == H5D_COMPACT || layout == H5D_CHUNKED,
          "{}: is a virtual dataset, expected data in this file", where);
  require(H5Pget_external_count(creation.get()) <= 0, "{}: keeps its data in another file, expected it in this one",
          where);
  if (layout != H5D_CHUNKED) return;
  const int filters = check(H5Pget_nfilters(creation.get()), where, "count its filters", damaged);
  for (int index = 0; index < filters; ++index) {
    unsigned flags = 0, config = 0;
    std::size_t values = 0;
    const H5Z_filter_t filter =
        H5Pget_filter2(creation.get(), static_cast<unsigned>(index), &flags, &values, nullptr, 0, nullptr, &config);
    require(filter >= H5Z_FILTER_DEFLATE && filter <= H5Z_FILTER_FLETCHER32,
            "{}: is stored through filter {}, expected deflate, shuffle or fletcher32", where,
            static_cast<int>(filter));
  }
  hsize_t extents[H5S_MAX_RANK] = {};
  const int rank = check(H5Pget_chunk(creation.get(), H5S_MAX_RANK, extents), where, "read its chunk shape", damaged);
  const Id type(check(H5Dget_type(dataset), where, "read its type", damaged));
  std::vector<std::int64_t> chunk(extents, extents + rank);
  chunk.push_back(static_cast<std::int64_t>(H5Tget_size(type.get())));
  const std::int64_t bytes = product(chunk, where);
  require(bytes <= largest_chunk, "{}: a chunk has {} bytes, expected at most {}", where, bytes, largest_chunk);
}

void check_size(const Dataset& dataset, const std::string& path) {
  const Id type(H5Dget_type(dataset.id())), creation(H5Dget_create_plist(dataset.id()));
  const std::int64_t size = dataset.size(), element = static_cast<std::int64_t>(H5Tget_size(type.get()));
  require(element > 0, "{}: has a datatype of 0 bytes", dataset.where());
  std::error_code error;
  const auto file_size = static_cast<std::int64_t>(std::filesystem::file_size(path, error));
  if (error) fail(ExitCode::io, "{}: cannot read its size: {}", path, error.message());
  const std::int64_t stored = std::min(static_cast<std::int64_t>(H5Dget_storage_size(dataset.id())), file_size);
  const std::int64_t plausible =
      always_plausible + stored * (H5Pget_layout(creation.get()) == H5D_CHUNKED ? most_inflation : 1);
  require(size <= plausible / element, "{}: has a shape of {} values but only {} stored bytes", dataset.where(), size,
          stored);
}

bool is_chunked(std::int64_t dataset, const std::string& where, ExitCode damaged) {
  const Id creation(check(H5Dget_create_plist(dataset), where, "read how it is stored", damaged));
  return H5Pget_layout(creation.get()) == H5D_CHUNKED;
}

void check_strings_outside_chunks(const Dataset& dataset, const std::string& path, ExitCode damaged) {
  const ElementType type = dataset.type();
  const std::optional<std::int64_t> offset = dataset.file_offset();
  if (type.kind != ElementType::Kind::string || type.bytes > 0 || !offset) return;
  hdf5_guard::StringReader(path, dataset.where(), damaged)
      .check_in_file(static_cast<std::uint64_t>(*offset), static_cast<std::uint64_t>(dataset.size()));
}

}  // namespace causeway::hdf5
