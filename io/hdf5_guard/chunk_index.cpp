#include "io/hdf5_guard/chunk_index.hpp"

#include <algorithm>
#include <bit>

namespace causeway::hdf5_guard {
namespace {

/// Bytes of the field for a chunk's stored size, in an index of filtered chunks.
std::uint64_t size_bytes(const DatasetLayout& layout) {
  std::uint64_t bytes = 1;
  for (const std::uint64_t extent : layout.chunk) bytes *= extent;
  return std::min<std::uint64_t>(8, 1 + (static_cast<std::uint64_t>(std::bit_width(bytes)) - 1 + 8) / 8);
}

std::uint64_t chunks_of(const DatasetLayout& layout, const std::vector<std::uint64_t>& extents,
                        const FileLocation& location) {
  std::uint64_t chunks = 1;  // no ceil_div: an extent may be so large that its sum would overflow
  for (std::size_t d = 0; d < extents.size(); ++d)
    location.require(
        !__builtin_mul_overflow(chunks, extents[d] / layout.chunk[d] + (extents[d] % layout.chunk[d] != 0), &chunks) &&
            chunks >> 40 == 0,
        "has 2^40 chunks or more");
  return chunks;
}

/// A chunked dataset whose index is checked.
struct ChunkedDataset {
  FileBytes& file;
  const DatasetLayout& layout;
  const Dataspace& space;
  bool filtered;
  const FileLocation& location;

  /// Bytes of an element of an index: a chunk's address and, with filters, its stored size and a mask of filters.
  std::uint64_t element_bytes() const { return address_bytes + (filtered ? size_bytes(layout) + 4 : 0); }
  std::uint64_t client() const { return filtered ? 1 : 0; }
  void require_in_file(std::uint64_t address) const {
    location.require(address == undefined_address || file.contains(address, 1),
                     "chunk at address {} is past the end of the file", address);
  }
};

void check_fixed_array(const ChunkedDataset& dataset) {
  const std::uint64_t address = dataset.layout.address, element_bytes = dataset.element_bytes();
  const auto head = dataset.file.read(address, 28, dataset.location);
  FieldReader fields(head, dataset.location);
  fields.signature(std::string_view("FAHD\0", 5));
  const std::uint64_t client = fields.number(1), bytes = fields.number(1), bits = fields.number(1),
                      elements = fields.address(), block = fields.address();
  // The array has an entry for each chunk of the largest extents.
  const std::uint64_t most = chunks_of(dataset.layout, dataset.space.largest, dataset.location);
  dataset.location.require(client == dataset.client() && bytes == element_bytes && bits == 10 && elements == most,
                           "fixed array at address {} has other settings than libHDF5 writes for {} chunks", address,
                           most);
  if (block == undefined_address) return;
  const auto data = dataset.file.read(block, 14, dataset.location);
  FieldReader block_fields(data, dataset.location);
  block_fields.signature(std::string_view("FADB\0", 5));
  dataset.location.require(block_fields.number(1) == client && block_fields.address() == address,
                           "data block at address {} belongs to another chunk index", block);
  dataset.location.require(dataset.file.contains(block, 14 + elements * element_bytes),
                           "data block at address {} is past the end of the file", block);
}

void check_extensible_array(const ChunkedDataset& dataset) {
  const std::uint64_t address = dataset.layout.address, element_bytes = dataset.element_bytes();
  const auto head = dataset.file.read(address, 72, dataset.location);
  FieldReader fields(head, dataset.location);
  fields.signature(std::string_view("EAHD\0", 5));
  const std::uint64_t client = fields.number(1);
  dataset.location.require(client == dataset.client() && fields.number(1) == element_bytes,
                           "extensible array at address {} has elements of another kind", address);
  for (const std::uint64_t expected : {32, 4, 16, 4, 10})
    dataset.location.require(fields.number(1) == expected,
                             "extensible array at address {} has other settings than libHDF5 writes", address);
  fields.skip(4 * 8);
  const std::uint64_t elements = fields.number(8);
  fields.skip(8);
  const std::uint64_t block = fields.address();
  // libHDF5 visits as many elements as the header says, whether or not the file has them. A dataset that shrank has
  // more elements than chunks.
  const std::uint64_t most =
      std::max(chunks_of(dataset.layout, dataset.space.extents, dataset.location), dataset.file.size() / element_bytes);
  dataset.location.require(elements <= most, "extensible array at address {} has {} chunks, expected at most {}",
                           address, elements, most);
  if (block == undefined_address) return;
  const auto data = dataset.file.read(block, 14, dataset.location);
  FieldReader block_fields(data, dataset.location);
  block_fields.signature(std::string_view("EAIB\0", 5));
  dataset.location.require(block_fields.number(1) == client && block_fields.address() == address,
                           "index block at address {} belongs to another chunk index", block);
}

}  // namespace

void check_chunk_index(FileBytes& file, const DatasetLayout& layout, const Dataspace& space, bool filtered,
                       const TreeWidths& widths, const FileLocation& location) {
  if (layout.address == undefined_address) return;
  const ChunkedDataset dataset{file, layout, space, filtered, location};
  chunks_of(layout, space.extents, location);
  switch (layout.index) {
    case DatasetLayout::Index::old_tree:
      BTreeV1{.file = file,
              .location = location,
              .kind = 1,
              .key_bytes = 8 + 8 * layout.chunk.size(),
              .most = 2 * widths.chunks,
              .leaf = [&](FieldReader&, std::uint64_t chunk) { dataset.require_in_file(chunk); }}
          .walk(layout.address, std::nullopt);
      return;
    case DatasetLayout::Index::single:
    case DatasetLayout::Index::implicit:
      dataset.require_in_file(layout.address);
      return;
    case DatasetLayout::Index::fixed_array:
      check_fixed_array(dataset);
      return;
    case DatasetLayout::Index::extensible_array:
      check_extensible_array(dataset);
      return;
    case DatasetLayout::Index::tree: {
      const std::uint64_t rank = layout.chunk.size() - 1;
      BTreeV2{.file = file,
              .location = location,
              .kind = filtered ? 11u : 10u,
              .record_bytes = dataset.element_bytes() + 8 * rank,
              .node_bytes = 2048,
              .visit = [&](FieldReader& fields) { dataset.require_in_file(fields.address()); }}
          .check(layout.address);
      return;
    }
  }
}

}  // namespace causeway::hdf5_guard
