#include "io/hdf5_guard/trees.hpp"

#include <algorithm>
#include <bit>
#include <set>

#include "io/hdf5_guard/checksum.hpp"

namespace causeway::hdf5_guard {
namespace {

constexpr std::uint64_t address_bytes = 8, checksum_bytes = 4;
constexpr std::uint64_t deepest = 16;

/// The older B-trees: keys and children in turn, one key more. `leaf` gets each child at level 0.
struct OldTree {
  FileBytes& file;
  const FileLocation& location;
  std::uint64_t kind, key_bytes, most;
  std::function<void(Fields& key, std::uint64_t child)> leaf;
  std::set<std::uint64_t> seen = {};

  /// `level`: what it must be; nothing at the root.
  void walk(std::uint64_t address, std::optional<std::uint64_t> level) {
    location.require(seen.insert(address).second, "a tree meets itself at {}", address);
    // HDF5 reads a node with all of its room.
    const auto bytes = file.read(address, 24 + most * (key_bytes + address_bytes) + key_bytes, location);
    Fields fields(bytes, location);
    fields.signature("TREE");
    const std::uint64_t found_kind = fields.number(1), found_level = fields.number(1), entries = fields.number(2);
    location.require(
        found_kind == kind && found_level <= deepest && entries <= most && (!level || found_level == *level),
        "a tree's node at {} has kind {}, level {}, {} entries", address, found_kind, found_level, entries);
    fields.skip(2 * address_bytes);
    for (std::uint64_t e = 0; e < entries; ++e) {
      Fields key(fields.take(key_bytes), location);
      const std::uint64_t child = fields.address();
      if (found_level > 0)
        walk(child, found_level - 1);
      else
        leaf(key, child);
    }
  }
};

/// The names of a group's links.
std::vector<std::byte> local_heap(FileBytes& file, std::uint64_t address, const FileLocation& location) {
  const auto head = file.read(address, 32, location);
  Fields fields(head, location);
  fields.signature(std::string_view("HEAP\0", 5));
  fields.skip(3);
  const std::uint64_t size = fields.address(), first_free = fields.address(), data = fields.address();
  location.require(size > 0, "a heap of names is empty");
  auto bytes = file.read(data, size, location);
  constexpr std::uint64_t none = 1;  // also the offset past every heap in older files
  std::uint64_t rounds = 0;
  for (std::uint64_t free = first_free; free != none && free != undefined_address;) {
    location.require(free <= size && size - free >= 16 && ++rounds <= size / 16,
                     "a heap's free space lies outside of it or in a circle");
    Fields block{std::span<const std::byte>(bytes).subspan(free), location};
    const std::uint64_t next = block.address(), length = block.address();
    location.require(length >= 16 && length <= size - free, "a heap's free space lies outside of it");
    free = next;
  }
  return bytes;
}

std::uint64_t bytes_for(std::uint64_t limit) { return (static_cast<std::uint64_t>(std::bit_width(limit)) + 7) / 8; }

/// The newer B-trees.
struct Tree {
  FileBytes& file;
  const FileLocation& location;
  std::uint64_t kind, record_bytes, node_bytes;
  std::function<void(Fields& record)> visit;
  std::vector<std::uint64_t> most = {}, count_bytes = {}, total_bytes = {};  // by level
  std::set<std::uint64_t> seen = {};
  std::uint64_t visited = 0;

  void check(std::uint64_t address) {
    const auto head = file.read(address, 38, location);
    Fields fields(head, location);
    fields.signature(std::string_view("BTHD\0", 5));
    const std::uint64_t found_kind = fields.number(1), found_node = fields.number(4), found_record = fields.number(2),
                        depth = fields.number(2), split = fields.number(1), merge = fields.number(1),
                        root = fields.address(), records = fields.number(2);
    location.require(found_kind == kind && found_node == node_bytes && found_record == record_bytes && split == 100 &&
                         merge == 40 && depth <= deepest,
                     "a tree at {} is not as HDF5 makes it", address);
    const std::uint64_t all = fields.address();
    fields.checksum();
    if (root != undefined_address) walk_all(root, records, depth);
    // HDF5 makes a table of as many as it was told.
    location.require(all == visited, "a tree at {} has {} records, expected {}", address, visited, all);
  }

  void walk_all(std::uint64_t root, std::uint64_t records, std::uint64_t depth) {
    constexpr std::uint64_t frame = 10;  // signature, version, kind, checksum
    most = {(node_bytes - frame) / record_bytes};
    count_bytes = total_bytes = {0};
    std::uint64_t total = most[0];
    for (std::uint64_t level = 1; level <= depth; ++level) {
      count_bytes.push_back(bytes_for(most[0]));
      const std::uint64_t pointer = address_bytes + count_bytes.back() + total_bytes.back();
      most.push_back((node_bytes - frame - pointer) / (record_bytes + pointer));
      location.require(most.back() > 0 && !__builtin_mul_overflow(total, most.back() + 1, &total), "a tree is {} deep",
                       depth);
      total += most.back();
      total_bytes.push_back(bytes_for(total));
    }
    walk(root, records, depth);
  }

  void walk(std::uint64_t address, std::uint64_t records, std::uint64_t level) {
    location.require(records <= most[level] && seen.insert(address).second,
                     "a tree's node at {} has {} records, or is met twice", address, records);
    const auto bytes = file.read(address, node_bytes, location);
    Fields fields(bytes, location);
    fields.signature(level > 0 ? std::string_view("BTIN\0", 5) : std::string_view("BTLF\0", 5));
    location.require(fields.number(1) == kind, "a tree's node at {} is of another kind", address);
    for (std::uint64_t r = 0; r < records; ++r) {
      Fields record(fields.take(record_bytes), location);
      visit(record);
    }
    visited += records;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> children;
    for (std::uint64_t child = 0; level > 0 && child <= records; ++child) {
      const std::uint64_t where = fields.address(), below = fields.number(count_bytes[level]);
      fields.skip(total_bytes[level - 1]);
      children.emplace_back(where, below);
    }
    fields.checksum();
    for (const auto& [where, below] : children) walk(where, below, level - 1);
  }
};

/// A heap whose blocks grow twofold every row; here with the settings that HDF5 gives links and attributes.
class FractalHeap {
 public:
  FractalHeap(FileBytes& file, std::uint64_t address, DenseKind kind, const FileLocation& location)
      : file_(file),
        location_(location),
        address_(address),
        smallest_(kind == DenseKind::links ? 512 : 1024),
        offset_bytes_(kind == DenseKind::links ? 4 : 5) {
    const auto head = file.read(address, 146, location);
    Fields fields(head, location);
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
    location.require(id == (kind == DenseKind::links ? 7u : 8u) && filters == 0 && (flags & ~std::uint64_t{1}) == 2 &&
                         largest == 4096 && width == columns && smallest == smallest_ &&
                         largest_direct == largest_block && bits == 8 * offset_bytes_ && first_rows == 1,
                     "a heap at {} is not as HDF5 makes it", address);
    location.require(huge == 0 && tiny == 0, "a heap at {} holds links or attributes of more than 4096 bytes", address);
    location.require(rows_ <= direct_rows(), "a heap at {} holds more than half a megabyte", address);
    if (rows_ > 0) read_rows();
    location.require(objects == 0 || root_ != undefined_address, "a heap at {} holds {} objects nowhere", address,
                     objects);
  }

  /// The object that an identifier names.
  std::vector<std::byte> object(Fields& id) {
    location_.require(id.number(1) == 0, "an object is not on its heap");
    const std::uint64_t offset = id.number(offset_bytes_), length = id.number(2);
    const auto [begin, block, bytes] = block_of(offset);
    const std::uint64_t head = 5 + address_bytes + offset_bytes_ + checksum_bytes;
    location_.require(offset - begin >= head && length > 0 && length <= bytes - (offset - begin),
                      "an object of {} bytes at {} of the heap lies outside of its block", length, offset);
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
    Fields fields(bytes, location_);
    fields.signature(std::string_view("FHIB\0", 5));
    location_.require(fields.address() == address_ && fields.number(offset_bytes_) == 0,
                      "a heap's rows at {} belong to another", root_);
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
        location_.require(children_[b] != undefined_address, "an object at {} lies in a block that its heap has not",
                          offset);
        return {begin, children_[b], bytes};
      }
      begin += bytes;
    }
    location_.refuse("an object at {} is past its heap's end", offset);
  }

  void check_block(std::uint64_t block, std::uint64_t begin, std::uint64_t bytes) {
    auto whole = file_.read(block, bytes, location_);
    Fields fields(whole, location_);
    fields.signature(std::string_view("FHDB\0", 5));
    location_.require(fields.address() == address_ && fields.number(offset_bytes_) == begin,
                      "a heap's block at {} belongs elsewhere", block);
    const std::size_t at = fields.at();
    const std::uint64_t expected = fields.number(checksum_bytes);
    std::fill_n(whole.begin() + static_cast<std::ptrdiff_t>(at), checksum_bytes,
                std::byte{0});  // it stands among what it is of
    location_.require(metadata_checksum(whole) == expected, "the checksum of a heap's block at {} does not fit it",
                      block);
  }

  FileBytes& file_;
  const FileLocation& location_;
  std::uint64_t address_, smallest_, offset_bytes_, root_ = 0, rows_ = 0;
  std::vector<std::uint64_t> children_;
  std::set<std::uint64_t> blocks_;
};

/// Bytes that a chunk's size takes in an index of filtered chunks.
std::uint64_t size_bytes(const DatasetLayout& layout) {
  std::uint64_t bytes = 1;
  for (const std::uint64_t extent : layout.chunk) bytes *= extent;
  return std::min<std::uint64_t>(8, 1 + (static_cast<std::uint64_t>(std::bit_width(bytes)) - 1 + 8) / 8);
}

std::uint64_t chunks_of(const DatasetLayout& layout, const std::vector<std::uint64_t>& extents,
                        const FileLocation& location) {
  std::uint64_t chunks = 1;
  for (std::size_t d = 0; d < extents.size(); ++d)
    location.require(
        !__builtin_mul_overflow(chunks, extents[d] / layout.chunk[d] + (extents[d] % layout.chunk[d] != 0), &chunks) &&
            chunks >> 40 == 0,
        "has more chunks than 40 bits count");
  return chunks;
}

}  // namespace

void check_symbol_table(FileBytes& file, std::uint64_t tree, std::uint64_t heap, const TreeWidths& widths,
                        const FileLocation& location) {
  const std::vector<std::byte> names = local_heap(file, heap, location);
  const auto name_at = [&](std::uint64_t offset) {
    location.require(offset < names.size(), "a name lies {} bytes into a heap of {}", offset, names.size());
    Fields(std::span<const std::byte>(names).subspan(offset), location).text();
  };
  const auto node = [&](Fields& key, std::uint64_t address) {
    name_at(key.address());
    const auto bytes = file.read(address, 8 + 2 * widths.links * 40, location);
    Fields fields(bytes, location);
    fields.signature(std::string_view("SNOD\1", 5));
    fields.skip(1);
    const std::uint64_t links = fields.number(2);
    location.require(links <= 2 * widths.links, "a group's node at {} has {} links", address, links);
    for (std::uint64_t l = 0; l < links; ++l) {
      name_at(fields.address());
      fields.address();
      const std::uint64_t cached = fields.number(4);
      fields.skip(4);
      Fields what(fields.take(16), location);
      location.require(cached <= 2, "a link is cached as {}", cached);
      if (cached == 2) name_at(what.number(4));
      // HDF5 goes by the object's own header, but compares.
      if (cached == 1)
        location.require(file.contains(what.address(), 1) && file.contains(what.address(), 1),
                         "a link's cached group lies past the end of the file");
    }
  };
  OldTree{.file = file, .location = location, .kind = 0, .key_bytes = 8, .most = 2 * widths.groups, .leaf = node}.walk(
      tree, std::nullopt);
}

void check_dense(FileBytes& file, const DenseStorage& storage, DenseKind kind, const FileLocation& location,
                 const std::function<void(Fields&)>& visit) {
  if (storage.heap == undefined_address) {
    location.require(storage.by_name == undefined_address && storage.by_order == undefined_address,
                     "there is an index of a heap that is not there");
    return;
  }
  FractalHeap heap(file, storage.heap, kind, location);
  constexpr std::uint64_t node_bytes = 512;
  const bool links = kind == DenseKind::links;
  const auto entry = [&](Fields& record, std::uint64_t before, bool look) {
    record.skip(before);
    Fields id(record.take(links ? 7 : 8), location);
    if (!links) location.require((record.number(1) & 2) == 0, "an attribute is shared");
    const auto bytes = heap.object(id);
    if (!look) return;
    Fields message(bytes, location);
    visit(message);
  };
  Tree by_name{.file = file,
               .location = location,
               .kind = links ? 5u : 8u,
               .record_bytes = links ? 11u : 17u,
               .node_bytes = node_bytes,
               .visit = [&](Fields& record) { entry(record, links ? 4 : 0, true); }};
  by_name.check(storage.by_name);
  if (storage.by_order == undefined_address) return;
  Tree by_order{.file = file,
                .location = location,
                .kind = links ? 6u : 9u,
                .record_bytes = links ? 15u : 13u,
                .node_bytes = node_bytes,
                .visit = [&](Fields& record) { entry(record, links ? 8 : 0, false); }};
  by_order.check(storage.by_order);
  location.require(by_name.visited == by_order.visited,
                   "{} links or attributes have a name and {} a location in the order", by_name.visited,
                   by_order.visited);
}

void check_chunk_index(FileBytes& file, const DatasetLayout& layout, const Dataspace& space, bool filtered,
                       const TreeWidths& widths, const FileLocation& location) {
  if (layout.address == undefined_address) return;
  const std::uint64_t element = address_bytes + (filtered ? size_bytes(layout) + 4 : 0),
                      chunks = chunks_of(layout, space.extents, location);
  const auto lies_in_file = [&](std::uint64_t address) {
    location.require(address == undefined_address || file.contains(address, 1),
                     "a chunk at {} lies past the end of the file", address);
  };
  switch (layout.index) {
    case DatasetLayout::Index::old_tree:
      OldTree{.file = file,
              .location = location,
              .kind = 1,
              .key_bytes = 8 + 8 * layout.chunk.size(),
              .most = 2 * widths.chunks,
              .leaf = [&](Fields&, std::uint64_t chunk) { lies_in_file(chunk); }}
          .walk(layout.address, std::nullopt);
      return;
    case DatasetLayout::Index::single:
    case DatasetLayout::Index::implicit:
      lies_in_file(layout.address);
      return;
    case DatasetLayout::Index::fixed_array: {
      const auto head = file.read(layout.address, 28, location);
      Fields fields(head, location);
      fields.signature(std::string_view("FAHD\0", 5));
      const std::uint64_t client = fields.number(1), bytes = fields.number(1), bits = fields.number(1),
                          elements = fields.address(), block = fields.address();
      const std::uint64_t most = chunks_of(layout, space.largest, location);  // it has room for all that may come
      location.require(client == (filtered ? 1u : 0u) && bytes == element && bits == 10 && elements == most,
                       "an index at {} of {} chunks is not as HDF5 makes it", layout.address, most);
      if (block == undefined_address) return;
      const auto data = file.read(block, 14, location);
      Fields of(data, location);
      of.signature(std::string_view("FADB\0", 5));
      location.require(
          of.number(1) == client && of.address() == layout.address && file.contains(block, 14 + elements * element),
          "an index's elements at {} belong elsewhere", block);
      return;
    }
    case DatasetLayout::Index::extensible_array: {
      const auto head = file.read(layout.address, 72, location);
      Fields fields(head, location);
      fields.signature(std::string_view("EAHD\0", 5));
      const std::uint64_t client = fields.number(1);
      location.require(client == (filtered ? 1u : 0u) && fields.number(1) == element,
                       "an index at {} holds elements of another kind", layout.address);
      for (const std::uint64_t expected : {32, 4, 16, 4, 10})
        location.require(fields.number(1) == expected, "an index at {} is not as HDF5 makes it", layout.address);
      fields.skip(4 * 8);
      const std::uint64_t set = fields.number(8);
      fields.skip(8);
      const std::uint64_t block = fields.address();
      // HDF5 goes through as many, whether or not the file has them. A dataset that has been made smaller leaves some
      // behind.
      const std::uint64_t most = std::max(chunks, file.size() / element);
      location.require(set <= most, "an index at {} holds {} chunks, expected at most {}", layout.address, set, most);
      if (block == undefined_address) return;
      const auto data = file.read(block, 14, location);
      Fields of(data, location);
      of.signature(std::string_view("EAIB\0", 5));
      location.require(of.number(1) == client && of.address() == layout.address,
                       "an index's elements at {} belong elsewhere", block);
      return;
    }
    case DatasetLayout::Index::tree: {
      const std::uint64_t rank = layout.chunk.size() - 1, record = (filtered ? element : address_bytes) + 8 * rank;
      Tree{.file = file,
           .location = location,
           .kind = filtered ? 11u : 10u,
           .record_bytes = record,
           .node_bytes = 2048,
           .visit = [&](Fields& fields) { lies_in_file(fields.address()); }}
          .check(layout.address);
      return;
    }
  }
}

}  // namespace causeway::hdf5_guard
