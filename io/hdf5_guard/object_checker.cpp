#include "io/hdf5_guard/object_checker.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "io/hdf5_guard/chunk_index.hpp"
#include "io/hdf5_guard/global_heap.hpp"
#include "io/hdf5_guard/link_storage.hpp"
#include "io/hdf5_guard/virtual_mappings.hpp"

namespace causeway::hdf5_guard {
namespace {

constexpr std::string_view file_signature("\x89HDF\r\n\x1a\n");
constexpr std::uint64_t most_header_parts = 4096;

/// Throws unless the last four bytes are the checksum of those before: only then is an unknown message a feature.
void check_checksum(std::span<const std::byte> bytes, const FileLocation& location) {
  FieldReader fields(bytes, location);
  fields.skip(bytes.size() - checksum_bytes);
  fields.checksum();
}

}  // namespace

/// The messages of an object header that have to fit each other.
struct ObjectChecker::Object {
  struct Part {
    std::uint64_t address, bytes;
  };
  std::vector<Part> parts;  ///< continuation blocks, to be read after the first block of the header
  std::set<std::uint64_t> seen;
  std::set<std::uint64_t> kinds;
  std::optional<Dataspace> space;
  std::optional<Datatype> type;
  std::optional<DatasetLayout> layout;
  bool filtered = false;
  std::uint64_t fill_bytes = 0;
  DenseStorage links, attributes;
  std::optional<std::pair<std::uint64_t, std::uint64_t>> symbol_table;  ///< tree and heap
};

ObjectChecker::ObjectChecker(const std::string& path, ExitCode damaged) : path_(path), damaged_(damaged), file_(path) {
  read_superblock({path, damaged});
  check_object(root_, path + ":/");
}

/// libHDF5 finds the superblock at byte 0, 512, 1024, 2048 … A user block is what comes before it.
void ObjectChecker::refuse_user_block(const FileLocation& location) {
  for (std::uint64_t at = 512; file_.contains(at, file_signature.size()); at *= 2) {
    const auto bytes = file_.read(at, file_signature.size(), location);
    if (std::memcmp(bytes.data(), file_signature.data(), bytes.size()) == 0)
      location.refuse_feature(fmt::format("has a user block of {} bytes before its data", at),
                              fmt::format("remove it with h5unjam -i {} -o NEW.h5 --delete", location.where));
  }
}

void ObjectChecker::read_superblock(const FileLocation& location) {
  constexpr std::uint64_t longest = 100;
  const auto bytes = file_.read(0, std::min(longest, file_.size()), location);
  if (bytes.size() < file_signature.size() ||
      std::memcmp(bytes.data(), file_signature.data(), file_signature.size()) != 0)
    refuse_user_block(location);
  FieldReader fields(bytes, location);
  fields.signature(file_signature);
  const std::uint64_t version = fields.number(1);
  if (version == 1 || (version > 3 && version < 8))
    location.refuse_feature(fmt::format("has a superblock of version {}, expected 0, 2 or 3", version),
                            "write the file again with h5repack -j 2 -k 2");
  location.require(version == 0 || version == 2 || version == 3, "has a superblock of version {}, expected 0, 2 or 3",
                   version);
  const auto sizes = [&] {
    const std::uint64_t offsets = fields.number(1), lengths = fields.number(1);
    const auto possible = [](std::uint64_t size) { return std::has_single_bit(size) && size >= 2 && size <= 32; };
    location.require(possible(offsets) && possible(lengths), "has addresses of {} and lengths of {} bytes, expected 8",
                     offsets, lengths);
    if (offsets != 8 || lengths != 8)
      location.refuse_feature(fmt::format("has addresses of {} and lengths of {} bytes, expected 8", offsets, lengths));
  };
  // libHDF5 takes the place of the superblock, which is 0 here, and not what the file says.
  constexpr std::uint64_t largest_user_block = std::uint64_t{1} << 40;
  const auto base_address = [&] {
    const std::uint64_t base = fields.address();
    location.require(base == 0 || (base >= 512 && std::has_single_bit(base) && base <= largest_user_block),
                     "has base address {}, expected 0 or that of a user block", base);
  };
  if (version == 0) {
    fields.skip(4);
    sizes();
    fields.skip(1);
    widths_.links = fields.number(2);
    widths_.groups = fields.number(2);
    constexpr std::uint64_t widest = 1024;
    location.require(widths_.links >= 1 && widths_.links <= widest && widths_.groups >= 1 && widths_.groups <= widest,
                     "has B-tree widths {} and {}, expected 1 to 1024", widths_.links, widths_.groups);
    fields.skip(4);
    base_address();
    location.require(fields.address() == undefined_address, "has a free space list, expected none");
    fields.address();
    if (fields.address() != undefined_address)
      location.refuse_feature("was written by a file driver (family, multi or split)");
    fields.address();  // the name of the root
    root_ = fields.address();
    location.require(fields.number(4) <= 1, "has a root group that is cached as a link");
  } else {
    sizes();
    const std::uint64_t state = fields.number(1);
    base_address();
    const bool extension = fields.address() != undefined_address;
    fields.address();
    root_ = fields.address();
    fields.checksum();  // what follows is certain then
    if (extension)
      location.refuse_feature("has a superblock extension (paged file space, shared messages or a file driver)",
                              fmt::format("write the file again with h5repack -S FSM_AGGR {} NEW.h5", location.where));
    constexpr std::uint64_t open_for_writing = 1;
    if (version == 3 && (state & open_for_writing) != 0)
      location.refuse_feature("is open for writing, or its writer ended without closing it",
                              fmt::format("close it there; if no program writes to it: h5clear -s {}", location.where));
  }
}

void ObjectChecker::check_object(std::uint64_t address, const std::string& where) {
  const std::lock_guard lock(one_at_a_time_);
  if (checked_.contains(address)) return;
  const FileLocation location{where, damaged_};
  Object object;
  read_header(address, location, object);
  const auto links = [&](FieldReader& message) { read_link(message); };
  const auto attributes = [&](FieldReader& message) { check_attribute(message); };
  check_dense_storage(file_, object.links, DenseKind::links, location, links);
  check_dense_storage(file_, object.attributes, DenseKind::attributes, location, attributes);
  if (object.symbol_table)
    check_symbol_table(file_, object.symbol_table->first, object.symbol_table->second, widths_, location);
  check_dataset(object, location);
  checked_.insert(address);
}

void ObjectChecker::read_header(std::uint64_t address, const FileLocation& location, Object& object) {
  location.require(file_.contains(address, 16), "object header at address {} is past the end of the file", address);
  auto bytes = file_.read(address, 16, location);
  const std::string_view start(reinterpret_cast<const char*>(bytes.data()), 4);
  if (start != "OHDR") {
    read_old_header(address, location, object);
    return;
  }
  constexpr std::uint64_t longest = 6 + 16 + 4 + 8;
  bytes = file_.read(address, std::min(longest, file_.size() - address), location);
  FieldReader fields(bytes, location);
  fields.signature("OHDR\2");
  const std::uint64_t flags = fields.number(1);
  location.require(flags < 64, "object header at address {} has flags {}, expected less than 64", address, flags);
  if (flags & 0x20) fields.skip(16);
  if (flags & 0x10) fields.skip(4);
  const std::uint64_t size = fields.number(std::size_t{1} << (flags & 3));
  object.seen.insert(address);
  const bool ordered = (flags & 4) != 0;
  location.require(file_.contains(address, fields.at()) && file_.contains(address + fields.at(), size) &&
                       file_.contains(address + fields.at() + size, checksum_bytes),
                   "object header at address {} is past the end of the file", address);
  const auto header = file_.read(address, fields.at() + size + checksum_bytes, location);
  check_checksum(header, location);
  read_messages(std::span<const std::byte>(header).subspan(fields.at(), size), false, ordered, object, location);
  for (std::size_t p = 0; p < object.parts.size(); ++p) {
    const Object::Part part = object.parts[p];
    const auto whole = file_.read(part.address, part.bytes, location);
    FieldReader frame(whole, location);
    frame.signature("OCHK");
    location.require(frame.left() >= 4, "object header continuation at address {} has {} bytes, expected at least 8",
                     part.address, part.bytes);
    check_checksum(whole, location);
    read_messages(frame.take(frame.left() - 4), false, ordered, object, location);
  }
}

void ObjectChecker::read_old_header(std::uint64_t address, const FileLocation& location, Object& object) {
  const auto bytes = file_.read(address, 16, location);
  FieldReader fields(bytes, location);
  const std::uint64_t version = fields.number(1);
  location.require(version == 1, "object header at address {} has version {}, expected 1 or 2", address, version);
  fields.skip(7);
  const std::uint64_t size = fields.number(4);
  object.seen.insert(address);
  read_messages(file_.read(address + 16, size, location), true, false, object, location);
  for (std::size_t p = 0; p < object.parts.size(); ++p) {
    const Object::Part part = object.parts[p];
    read_messages(file_.read(part.address, part.bytes, location), true, false, object, location);
  }
}

void ObjectChecker::read_messages(std::span<const std::byte> bytes, bool old, bool ordered, Object& object,
                                  const FileLocation& location) {
  constexpr std::uint64_t shared = 2;
  const std::size_t head = old ? 8 : 4 + (ordered ? 2 : 0);
  FieldReader fields(bytes, location);
  while (fields.left() >= head) {
    const std::uint64_t kind = fields.number(old ? 2 : 1), size = fields.number(2), flags = fields.number(1);
    fields.skip(old ? 3 : ordered ? 2 : 0);
    if ((flags & shared) != 0)
      location.refuse_feature("has a committed (named) datatype, or another header message that objects share",
                              "write it with a plain type");
    location.require(!old || size % 8 == 0, "has a header message of {} bytes, expected a multiple of 8", size);
    read_message(kind, FieldReader(fields.take(size), location), object);
  }
  location.require(!old || fields.left() == 0, "has an object header that ends within a message");
}

void ObjectChecker::read_message(std::uint64_t kind, FieldReader fields, Object& object) {
  const FileLocation& location = fields.location();
  const bool first = object.kinds.insert(kind).second;
  const auto message = static_cast<Message>(kind);
  const bool may_repeat = message == Message::nothing || message == Message::link || message == Message::attribute ||
                          message == Message::continuation;
  location.require(first || may_repeat, "has two header messages of kind {}, expected one", kind);
  switch (message) {
    case Message::nothing:
      return;
    case Message::dataspace:
      object.space = read_dataspace(fields);
      return;
    case Message::link_info:
      object.links = read_link_info(fields);
      return;
    case Message::datatype:
      object.type = read_datatype(fields);
      return;
    case Message::old_fill_value:
      object.fill_bytes = std::max(object.fill_bytes, read_old_fill_value(fields));
      return;
    case Message::fill_value:
      object.fill_bytes = std::max(object.fill_bytes, read_fill_value(fields));
      return;
    case Message::link:
      read_link(fields);
      return;
    case Message::external_files:
      location.refuse_feature("keeps its data in another file, expected it in this one",
                              "copy the data into the file, for example with h5repack");
    case Message::layout:
      object.layout = read_layout(fields);
      return;
    case Message::group_info:
      read_group_info(fields);
      return;
    case Message::filters:
      object.filtered = read_filters(fields);
      return;
    case Message::attribute:
      check_attribute(fields);
      return;
    case Message::comment:
      fields.text();
      return;
    case Message::old_time:
      fields.skip(16);
      return;
    case Message::time:
      fields.skip(8);
      return;
    case Message::reference_count:
      fields.skip(5);
      return;
    case Message::attribute_info:
      object.attributes = read_attribute_info(fields);
      return;
    case Message::continuation: {
      const Object::Part part{fields.address(), fields.address()};
      location.require(part.bytes >= 8, "object header continuation at address {} has {} bytes, expected at least 8",
                       part.address, part.bytes);
      location.require(object.seen.insert(part.address).second, "object header has a cycle at address {}",
                       part.address);
      location.require(object.parts.size() < most_header_parts, "object header has more than {} continuations",
                       most_header_parts);
      object.parts.push_back(part);
      return;
    }
    case Message::symbol_table: {
      const std::uint64_t tree = fields.address(), heap = fields.address();
      object.symbol_table.emplace(tree, heap);
      return;
    }
  }
  constexpr std::uint64_t most_known = 0x30;
  if (kind <= most_known) location.refuse_feature(fmt::format("has a header message of kind {:#x}", kind));
  location.refuse("has a header message of kind {:#x}", kind);
}

void ObjectChecker::check_attribute(FieldReader& message) {
  const Attribute attribute = read_attribute(message);
  check_references(attribute.data, attribute.elements, attribute.type, message.location());
}

void ObjectChecker::check_references(std::span<const std::byte> references, std::uint64_t count, const Datatype& type,
                                     const FileLocation& location) {
  if (type.on_heap == 0 || count == 0) return;
  constexpr std::size_t each = GlobalHeap::reference_bytes;
  GlobalHeap heap(path_, location);
  for (std::uint64_t r = 0; r < count; ++r)
    heap.check_reference(references.subspan(r * each).first<each>(), type.on_heap);
}

void ObjectChecker::check_dataset(const Object& object, const FileLocation& location) {
  if (!object.layout && !object.space && !object.type) return;
  location.require(object.layout && object.space && object.type,
                   "has only some of the messages of a dataset: layout, dataspace, datatype");
  const DatasetLayout& layout = *object.layout;
  location.require(object.fill_bytes == 0 || (object.fill_bytes == object.type->size && !object.type->on_heap),
                   "has a fill value of {} bytes, but elements of {}", object.fill_bytes, object.type->size);
  std::uint64_t bytes = 0;
  location.require(!__builtin_mul_overflow(object.space->elements, object.type->size, &bytes),
                   "has 2^64 bytes or more");
  switch (layout.kind) {
    case DatasetLayout::Kind::compact:
      location.require(layout.compact.size() == bytes, "has {} bytes of compact data, expected {}",
                       layout.compact.size(), bytes);
      check_references(layout.compact, object.space->elements, *object.type, location);
      break;
    case DatasetLayout::Kind::contiguous:
      location.require(layout.address == undefined_address ||
                           (layout.bytes >= bytes && file_.contains(layout.address, layout.bytes)),
                       "has {} bytes of data at address {}, expected {} within the file", layout.bytes, layout.address,
                       bytes);
      break;
    case DatasetLayout::Kind::chunked:
      location.require(
          layout.chunk.size() == object.space->extents.size() + 1 && layout.chunk.back() == object.type->size,
          "has chunks with another rank or element size than the dataset");
      check_chunk_index(file_, layout, *object.space, object.filtered, widths_, location);
      break;
    case DatasetLayout::Kind::virtual_dataset:
      check_mappings(GlobalHeap(path_, location).read_object(layout.address, layout.heap_index), location);
      break;
  }
}

}  // namespace causeway::hdf5_guard
