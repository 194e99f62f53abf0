#include "io/hdf5_guard/link_storage.hpp"

#include <algorithm>
#include <bit>
#include <set>

#include "io/hdf5_guard/checksum.hpp"

namespace causeway::hdf5_guard {
namespace {

/// The bytes of a local heap: the names of the links of a version 1 group.
std::vector<std::byte> local_heap(FileBytes& file, std::uint64_t address, const FileLocation& location) {
  const auto head = file.read(address, 32, location);
  FieldReader fields(head, location);
  fields.signature(std::string_view("HEAP\0", 5));
  fields.skip(3);
  const std::uint64_t size = fields.address(), first_free = fields.address(), data = fields.address();
  location.require(size > 0, "local heap at address {} has 0 bytes", address);
  auto bytes = file.read(data, size, location);
  constexpr std::uint64_t none = 1;  // in older files the end of the list
  std::uint64_t rounds = 0;
  for (std::uint64_t free = first_free; free != none && free != undefined_address;) {
    location.require(free <= size && size - free >= 16 && ++rounds <= size / 16,
                     "local heap at address {} has a free block outside of it, or a cycle in its free list", address);
    FieldReader block{std::span<const std::byte>(bytes).subspan(free), location};
    const std::uint64_t next = block.address(), length = block.address();
    location.require(length >= 16 && length <= size - free,
                     "local heap at address {} has a free block that ends outside of it", address);
    free = next;
  }
  return bytes;
}

/// A fractal heap: four blocks a row, and a row has blocks twice as large as the row before. Only the settings that
/// libHDF5 writes for links and attributes are supported, and only direct blocks.
class FractalHeap {
 public:
  FractalHeap(FileBytes& file, std::uint64_t address, DenseKind kind, const FileLocation& location)
      : file_(file),
        location_(location),
        address_(address),
        smallest_(kind == DenseKind::links ? 512 : 1024),
        offset_bytes_(kind == DenseKind::links ? 4 : 5) {
    const auto head = file.read(address, 146, location);
    FieldReader fields(head, location);
    fields.signature(std::string_view("FRHP\0", 5));
    const std::uint64_t id = fields.number(2), filters = fields.number(2), flags = fields.number(1),
                        largest = fields.number(4);
    fields.skip(7 * 8);
    const std::uint64_t objects = fields.number(8);
    fields.skip(8);
    const std::uint64_t huge = fields.number(8);
    fields.skip(8);
    const std::uint64_t tiny = fields.number(8), width = fields.number(2), smallest = fields.number(8),
                        largest_direct = fields.number(8), bits = fields.number(2), first_rows = fields.number(2);
    root_ = fields.address();
    rows_ = fields.number(2);
    fields.checksum();
    if (filters != 0) location.refuse_feature("has compressed links or attributes");
    location.require(id == (kind == DenseKind::links ? 7u : 8u) && filters == 0 && (flags & ~std::uint64_t{1}) == 2 &&
                         largest == 4096 && width == columns && smallest == smallest_ &&
                         largest_direct == largest_block && bits == 8 * offset_bytes_ && first_rows == 1,
                     "fractal heap at address {} has other settings than libHDF5 writes", address);
    if (huge != 0 || tiny != 0) location.refuse_feature("has links or attributes of more than 4096 bytes");
    if (rows_ > direct_rows()) location.refuse_feature("has more than half a megabyte of links or attributes");
    if (rows_ > 0) read_rows();
    location.require(objects == 0 || root_ != undefined_address,
                     "fractal heap at address {} has {} objects, but no blocks", address, objects);
  }

  /// The object that a heap identifier names.
  std::vector<std::byte> object(FieldReader& id) {
    location_.require(id.number(1) == 0, "heap identifier is not of a managed object");
    const std::uint64_t offset = id.number(offset_bytes_), length = id.number(2);
    const auto [begin, block, bytes] = block_of(offset);
    const std::uint64_t head = 5 + address_bytes + offset_bytes_ + checksum_bytes;
    location_.require(offset - begin >= head && length > 0 && length <= bytes - (offset - begin),
                      "heap object of {} bytes at offset {} is outside its block", length, offset);
    if (blocks_.insert(block).second) check_block(block, begin, bytes);
    return file_.read(block + (offset - begin), length, location_);
  }

 private:
  static constexpr std::uint64_t columns = 4, largest_block = 65536;
  struct Block {
    std::uint64_t begin, address, bytes;
  };

  std::uint64_t direct_rows() const {
    return static_cast<std::uint64_t>(std::bit_width(largest_block) - std::bit_width(smallest_)) + 2;
  }
  std::uint64_t row_bytes(std::uint64_t row) const { return row < 2 ? smallest_ : smallest_ << (row - 1); }

  void read_rows() {
    const auto bytes = file_.read(
        root_, 5 + address_bytes + offset_bytes_ + rows_ * columns * address_bytes + checksum_bytes, location_);
    FieldReader fields(bytes, location_);
    fields.signature(std::string_view("FHIB\0", 5));
    location_.require(fields.address() == address_ && fields.number(offset_bytes_) == 0,
                      "indirect block at address {} belongs to another fractal heap", root_);
    for (std::uint64_t b = 0; b < rows_ * columns; ++b) children_.push_back(fields.address());
    fields.checksum();
  }

  Block block_of(std::uint64_t offset) const {
    if (rows_ == 0) {
      location_.require(root_ != undefined_address && offset < smallest_, "an object at {} is past its heap's end",
                        offset);
      return {0, root_, smallest_};
    }
    std::uint64_t begin = 0;
    for (std::uint64_t b = 0; b < children_.size(); ++b) {
      const std::uint64_t bytes = row_bytes(b / columns);
      if (offset - begin < bytes) {
        location_.require(children_[b] != undefined_address,
                          "heap object at offset {} is in a block that its heap does not have", offset);
        return {begin, children_[b], bytes};
      }
      begin += bytes;
    }
    location_.refuse("heap object at offset {} is past the end of its heap", offset);
  }

  void check_block(std::uint64_t block, std::uint64_t begin, std::uint64_t bytes) {
    auto whole = file_.read(block, bytes, location_);
    FieldReader fields(whole, location_);
    fields.signature(std::string_view("FHDB\0", 5));
    location_.require(fields.address() == address_ && fields.number(offset_bytes_) == begin,
                      "heap block at address {} belongs to another heap or offset", block);
    const std::size_t at = fields.at();
    const std::uint64_t expected = fields.number(checksum_bytes);
    std::fill_n(whole.begin() + static_cast<std::ptrdiff_t>(at), checksum_bytes,
                std::byte{0});  // the block is hashed with 0 there
    location_.require(metadata_checksum(whole) == expected, "heap block at address {} has a wrong checksum", block);
  }

  FileBytes& file_;
  const FileLocation& location_;
  std::uint64_t address_, smallest_, offset_bytes_, root_ = 0, rows_ = 0;
  std::vector<std::uint64_t> children_;
  std::set<std::uint64_t> blocks_;
};

}  // namespace

void check_symbol_table(FileBytes& file, std::uint64_t tree, std::uint64_t heap, const TreeWidths& widths,
                        const FileLocation& location) {
  const std::vector<std::byte> names = local_heap(file, heap, location);
  const auto name_at = [&](std::uint64_t offset) {
    location.require(offset < names.size(), "a name is at offset {} of a local heap of {} bytes", offset, names.size());
    FieldReader(std::span<const std::byte>(names).subspan(offset), location).text();
  };
  const auto node = [&](FieldReader& key, std::uint64_t address) {
    name_at(key.address());
    const auto bytes = file.read(address, 8 + 2 * widths.links * 40, location);
    FieldReader fields(bytes, location);
    fields.signature(std::string_view("SNOD\1", 5));
    fields.skip(1);
    const std::uint64_t links = fields.number(2);
    location.require(links <= 2 * widths.links, "group node at address {} has {} links, expected at most {}", address,
                     links, 2 * widths.links);
    for (std::uint64_t l = 0; l < links; ++l) {
      name_at(fields.address());
      fields.address();
      const std::uint64_t cached = fields.number(4);
      fields.skip(4);
      FieldReader cache(fields.take(16), location);
      location.require(cached <= 2, "a link has cache type {}, expected 0 to 2", cached);
      if (cached == 2) name_at(cache.number(4));
      // libHDF5 uses the object's own header, but compares it with this.
      if (cached == 1)
        location.require(file.contains(cache.address(), 1) && file.contains(cache.address(), 1),
                         "a link has a cached group past the end of the file");
    }
  };
  BTreeV1{.file = file, .location = location, .kind = 0, .key_bytes = 8, .most = 2 * widths.groups, .leaf = node}.walk(
      tree, std::nullopt);
}

void check_dense_storage(FileBytes& file, const DenseStorage& storage, DenseKind kind, const FileLocation& location,
                         const std::function<void(FieldReader&)>& visit) {
  if (storage.heap == undefined_address) {
    location.require(storage.by_name == undefined_address && storage.by_order == undefined_address,
                     "dense storage has an index, but no heap");
    return;
  }
  FractalHeap heap(file, storage.heap, kind, location);
  constexpr std::uint64_t node_bytes = 512;
  const bool links = kind == DenseKind::links;
  const auto entry = [&](FieldReader& record, std::uint64_t before, bool look) {
    record.skip(before);
    FieldReader id(record.take(links ? 7 : 8), location);
    if (!links)
      if ((record.number(1) & 2) != 0) location.refuse_feature("has an attribute that is shared with other objects");
    const auto bytes = heap.object(id);
    if (!look) return;
    FieldReader message(bytes, location);
    visit(message);
  };
  BTreeV2 by_name{.file = file,
                  .location = location,
                  .kind = links ? 5u : 8u,
                  .record_bytes = links ? 11u : 17u,
                  .node_bytes = node_bytes,
                  .visit = [&](FieldReader& record) { entry(record, links ? 4 : 0, true); }};
  by_name.check(storage.by_name);
  if (storage.by_order == undefined_address) return;
  BTreeV2 by_order{.file = file,
                   .location = location,
                   .kind = links ? 6u : 9u,
                   .record_bytes = links ? 15u : 13u,
                   .node_bytes = node_bytes,
                   .visit = [&](FieldReader& record) { entry(record, links ? 8 : 0, false); }};
  by_order.check(storage.by_order);
  location.require(by_name.visited == by_order.visited,
                   "{} links or attributes have a name and {} a location in the order", by_name.visited,
                   by_order.visited);
}

}  // namespace causeway::hdf5_guard
