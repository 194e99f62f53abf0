#include "io/hdf5_guard/structure.hpp"

#include <algorithm>

#include "io/hdf5_guard/mappings.hpp"
#include "io/hdf5_guard/strings.hpp"

namespace causeway::hdf5 {
namespace {

constexpr std::string_view file_signature("\x89HDF\r\n\x1a\n");
constexpr std::uint64_t most_header_parts = 4096;

}  // namespace

/// What an object's header says, as far as parts of it have to fit each other.
struct Structure::Object {
  struct Part {
    std::uint64_t address, bytes;
  };
  std::vector<Part> parts;  ///< that are still to be read: a header goes on elsewhere
  std::set<std::uint64_t> seen;
  std::set<std::uint64_t> kinds;
  std::optional<Dataspace> space;
  std::optional<Datatype> type;
  std::optional<Layout> layout;
  bool filtered = false;
  std::uint64_t fill_bytes = 0;
  DenseStorage links, attributes;
  std::optional<std::pair<std::uint64_t, std::uint64_t>> symbol_table;  ///< tree and heap
};

Structure::Structure(const std::string& path, ExitCode damaged) : path_(path), damaged_(damaged), file_(path) {
  read_superblock({path, damaged});
  check_object(root_, path + ":/");
}

void Structure::read_superblock(const Place& place) {
  constexpr std::uint64_t longest = 100;
  const auto bytes = file_.read(0, std::min(longest, file_.size()), place);
  Fields fields(bytes, place);
  fields.signature(file_signature);
  const std::uint64_t version = fields.number(1);
  place.needs(version == 0 || version == 2 || version == 3,
              "is HDF5 with a superblock of version {}, expected 0, 2 or 3", version);
  const auto sizes = [&] {
    const std::uint64_t offsets = fields.number(1), lengths = fields.number(1);
    place.needs(offsets == 8 && lengths == 8, "has addresses of {} and lengths of {} bytes, expected 8", offsets,
                lengths);
  };
  const auto absent = [&](const char* what) {
    place.needs(fields.address() == undefined_address, "has {}, expected none", what);
  };
  if (version == 0) {
    fields.skip(4);
    sizes();
    fields.skip(1);
    widths_.links = fields.number(2);
    widths_.groups = fields.number(2);
    constexpr std::uint64_t widest = 1024;
    place.needs(widths_.links >= 1 && widths_.links <= widest && widths_.groups >= 1 && widths_.groups <= widest,
                "has trees {} and {} wide", widths_.links, widths_.groups);
    fields.skip(4);
    place.needs(fields.address() == 0, "begins elsewhere in its file");
    absent("a list of free space");
    fields.address();
    absent("a driver of its own");
    fields.address();  // the root's name
    root_ = fields.address();
    place.needs(fields.number(4) <= 1, "has a root that is cached as a link");
  } else {
    sizes();
    fields.skip(1);
    place.needs(fields.address() == 0, "begins elsewhere in its file");
    absent("a superblock extension");
    fields.address();
    root_ = fields.address();
  }
}

void Structure::check_object(std::uint64_t address, const std::string& where) {
  const std::lock_guard lock(one_at_a_time_);
  if (checked_.contains(address)) return;
  const Place place{where, damaged_};
  Object object;
  read_header(address, place, object);
  const auto links = [&](Fields& message) { read_link(message); };
  const auto attributes = [&](Fields& message) { check_attribute(message); };
  check_dense(file_, object.links, DenseKind::links, place, links);
  check_dense(file_, object.attributes, DenseKind::attributes, place, attributes);
  if (object.symbol_table)
    check_symbol_table(file_, object.symbol_table->first, object.symbol_table->second, widths_, place);
  check_dataset(object, place);
  checked_.insert(address);
}

void Structure::read_header(std::uint64_t address, const Place& place, Object& object) {
  place.needs(file_.contains(address, 16), "an object's header at {} lies past the end of the file", address);
  auto bytes = file_.read(address, 16, place);
  const std::string_view start(reinterpret_cast<const char*>(bytes.data()), 4);
  if (start != "OHDR") {
    read_old_header(address, place, object);
    return;
  }
  constexpr std::uint64_t longest = 6 + 16 + 4 + 8;
  bytes = file_.read(address, std::min(longest, file_.size() - address), place);
  Fields fields(bytes, place);
  fields.signature("OHDR\2");
  const std::uint64_t flags = fields.number(1);
  place.needs(flags < 64, "an object's header has flags {}", flags);
  if (flags & 0x20) fields.skip(16);
  if (flags & 0x10) fields.skip(4);
  const std::uint64_t size = fields.number(std::size_t{1} << (flags & 3));
  object.seen.insert(address);
  const bool ordered = (flags & 4) != 0;
  read_messages(file_.read(address + fields.at(), size, place), false, ordered, object, place);
  for (std::size_t p = 0; p < object.parts.size(); ++p) {
    const Object::Part part = object.parts[p];
    const auto whole = file_.read(part.address, part.bytes, place);
    Fields frame(whole, place);
    frame.signature("OCHK");
    place.needs(frame.left() >= 4, "a part of an object's header has {} bytes", part.bytes);
    read_messages(frame.take(frame.left() - 4), false, ordered, object, place);
  }
}

void Structure::read_old_header(std::uint64_t address, const Place& place, Object& object) {
  const auto bytes = file_.read(address, 16, place);
  Fields fields(bytes, place);
  const std::uint64_t version = fields.number(1);
  place.needs(version == 1, "an object's header has version {}", version);
  fields.skip(7);
  const std::uint64_t size = fields.number(4);
  object.seen.insert(address);
  read_messages(file_.read(address + 16, size, place), true, false, object, place);
  for (std::size_t p = 0; p < object.parts.size(); ++p) {
    const Object::Part part = object.parts[p];
    read_messages(file_.read(part.address, part.bytes, place), true, false, object, place);
  }
}

void Structure::read_messages(std::span<const std::byte> bytes, bool old, bool ordered, Object& object,
                              const Place& place) {
  constexpr std::uint64_t shared = 2;
  const std::size_t head = old ? 8 : 4 + (ordered ? 2 : 0);
  Fields fields(bytes, place);
  while (fields.left() >= head) {
    const std::uint64_t kind = fields.number(old ? 2 : 1), size = fields.number(2), flags = fields.number(1);
    fields.skip(old ? 3 : ordered ? 2 : 0);
    place.needs((flags & shared) == 0, "a part of its description is shared with other objects");
    place.needs(!old || size % 8 == 0, "a message of {} bytes", size);
    read_message(kind, Fields(fields.take(size), place), object);
  }
  place.needs(!old || fields.left() == 0, "an object's header ends within a message");
}

void Structure::read_message(std::uint64_t kind, Fields fields, Object& object) {
  const Place& place = fields.place();
  const bool first = object.kinds.insert(kind).second;
  const auto message = static_cast<Message>(kind);
  const bool may_repeat = message == Message::nothing || message == Message::link || message == Message::attribute ||
                          message == Message::continuation;
  place.needs(first || may_repeat, "has two messages of kind {}", kind);
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
      fail(ExitCode::usage, "{}: keeps its data in another file, expected it in this one", place.where);
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
      place.needs(part.bytes >= 8 && object.seen.insert(part.address).second && object.parts.size() < most_header_parts,
                  "an object's header goes on in a circle or for ever");
      object.parts.push_back(part);
      return;
    }
    case Message::symbol_table: {
      const std::uint64_t tree = fields.address(), heap = fields.address();
      object.symbol_table.emplace(tree, heap);
      return;
    }
  }
  place.refuse("has a message of kind {}, which Causeway has no use for", kind);
}

void Structure::check_attribute(Fields& message) {
  const Attribute attribute = read_attribute(message);
  check_references(attribute.data, attribute.elements, attribute.type, message.place());
}

void Structure::check_references(std::span<const std::byte> references, std::uint64_t count, const Datatype& type,
                                 const Place& place) {
  if (type.on_heap > 0 && count > 0) check_heap_references(path_, references, count, type.on_heap, place);
}

void Structure::check_dataset(const Object& object, const Place& place) {
  if (!object.layout && !object.space && !object.type) return;
  place.needs(object.layout && object.space && object.type, "is neither a group nor a whole dataset");
  const Layout& layout = *object.layout;
  place.needs(object.fill_bytes == 0 || (object.fill_bytes == object.type->size && !object.type->on_heap),
              "is filled with {} bytes for elements of {}", object.fill_bytes, object.type->size);
  std::uint64_t bytes = 0;
  place.needs(!__builtin_mul_overflow(object.space->elements, object.type->size, &bytes),
              "has more bytes than 64 bits count");
  switch (layout.kind) {
    case Layout::Kind::compact:
      place.needs(layout.compact.size() == bytes, "keeps {} bytes, expected {}", layout.compact.size(), bytes);
      check_references(layout.compact, object.space->elements, *object.type, place);
      break;
    case Layout::Kind::contiguous:
      place.needs(layout.address == undefined_address ||
                      (layout.bytes >= bytes && file_.contains(layout.address, layout.bytes)),
                  "keeps its {} bytes past the end of the file", layout.bytes);
      break;
    case Layout::Kind::chunked:
      place.needs(layout.chunk.size() == object.space->extents.size() + 1 && layout.chunk.back() == object.type->size,
                  "has chunks of another shape or type than its own");
      check_chunk_index(file_, layout, *object.space, object.filtered, widths_, place);
      break;
    case Layout::Kind::virtual_dataset:
      check_mappings(read_heap_object(path_, layout.address, layout.heap_index, place), place);
      break;
  }
}

}  // namespace causeway::hdf5
