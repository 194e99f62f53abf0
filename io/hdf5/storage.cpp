#include "io/hdf5/storage.hpp"

#include <hdf5.h>

#include <algorithm>
#include <filesystem>
#include <utility>
#include <vector>

#include "io/hdf5/check.hpp"
#include "io/hdf5/types.hpp"
#include "io/hdf5_guard/hdf5_guard.hpp"
#include "kernels/core/integer.hpp"

namespace causeway::hdf5 {
namespace {

/// A chunk is inflated whole, so this limits the memory that a reader of a file allocates.
constexpr std::int64_t largest_chunk = std::int64_t{256} << 20;
/// Deflate inflates one byte to at most 1032 bytes, so a larger ratio of shape to stored bytes is damage. A dataset
/// without any stored bytes (never written) may have up to always_plausible bytes.
constexpr std::int64_t most_inflation = 1100, always_plausible = std::int64_t{64} << 20;

/// " (szip)": the name of a filter that other programs use.
std::string name_of_filter(int filter) {
  constexpr std::pair<int, const char*> names[] = {
      {4, "szip"},          {5, "n-bit"},     {6, "scale-offset"}, {305, "LZO"},          {307, "bzip2"},
      {32000, "LZF"},       {32001, "Blosc"}, {32004, "LZ4"},      {32008, "bitshuffle"}, {32013, "ZFP"},
      {32015, "Zstandard"}, {32017, "SZ"},    {32024, "SZ3"},      {32026, "Blosc2"}};
  for (const auto& [number, name] : names)
    if (number == filter) return fmt::format(" ({})", name);
  return "";
}

/// A chunk that the file does not have takes no byte of it, but looking for it takes time. Each stored one has an
/// address of 8 bytes.
void check_number_of_chunks(const Dataset& dataset, hid_t creation, std::int64_t file_size) {
  constexpr std::int64_t always_few = 65536, address_bytes = 8;
  const std::vector<std::int64_t> shape = dataset.shape();
  std::vector<hsize_t> chunk(shape.size());
  H5Pget_chunk(creation, static_cast<int>(chunk.size()), chunk.data());
  std::int64_t chunks = 1;
  for (std::size_t d = 0; d < shape.size(); ++d) chunks *= ceil_div(shape[d], static_cast<std::int64_t>(chunk[d]));
  const std::int64_t most = always_few + file_size / address_bytes;
  if (chunks > most)
    throw UnsupportedFile(
        fmt::format("{}: has {} chunks, more than a file of {} bytes can have; write it again with "
                    "larger chunks, for example with h5repack -l CHUNK=65536",
                    dataset.where(), chunks, file_size));
}

}  // namespace

void check_storage(std::int64_t dataset, const std::string& where, ExitCode damaged) {
  const Id creation(check(H5Dget_create_plist(dataset), where, "read how it is stored", damaged));
  const H5D_layout_t layout = H5Pget_layout(creation.get());
  if (layout != H5D_CONTIGUOUS && layout != H5D_COMPACT && layout != H5D_CHUNKED)
    throw UnsupportedFile(
        fmt::format("{}: is a virtual dataset, expected data in this file; copy the data into it, for "
                    "example with h5repack -l CHUNK=65536",
                    where));
  require(H5Pget_external_count(creation.get()) <= 0, "{}: keeps its data in another file, expected it in this one",
          where);
  if (layout != H5D_CHUNKED) return;
  const int filters = check(H5Pget_nfilters(creation.get()), where, "count its filters", damaged);
  for (int index = 0; index < filters; ++index) {
    unsigned flags = 0, config = 0;
    std::size_t values = 0;
    const H5Z_filter_t filter =
        H5Pget_filter2(creation.get(), static_cast<unsigned>(index), &flags, &values, nullptr, 0, nullptr, &config);
    if (filter < H5Z_FILTER_DEFLATE || filter > H5Z_FILTER_FLETCHER32)
      throw UnsupportedFile(
          fmt::format("{}: is stored through filter {}{}, expected deflate, shuffle or fletcher32; write it again, for "
                      "example with "
                      "h5repack -f GZIP=4 where the filter is installed",
                      where, static_cast<int>(filter), name_of_filter(filter)));
  }
  hsize_t extents[H5S_MAX_RANK] = {};
  const int rank = check(H5Pget_chunk(creation.get(), H5S_MAX_RANK, extents), where, "read its chunk shape", damaged);
  const Id type(check(H5Dget_type(dataset), where, "read its type", damaged));
  std::vector<std::int64_t> chunk(extents, extents + rank);
  chunk.push_back(static_cast<std::int64_t>(H5Tget_size(type.get())));
  const std::int64_t bytes = product(chunk, where);
  if (bytes > largest_chunk)
    throw UnsupportedFile(
        fmt::format("{}: a chunk has {} bytes, expected at most {}; write it again with smaller chunks, "
                    "for example with h5repack -l CHUNK=65536",
                    where, bytes, largest_chunk));
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
  if (H5Pget_layout(creation.get()) == H5D_CHUNKED) check_number_of_chunks(dataset, creation.get(), file_size);
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
