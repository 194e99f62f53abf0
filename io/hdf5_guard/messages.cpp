#include "io/hdf5_guard/messages.hpp"

#include <algorithm>
#include <bit>

#include "kernels/core/integer.hpp"

namespace causeway::hdf5_guard {
namespace {

constexpr std::uint64_t most_dimensions = 32;

std::size_t padded(std::size_t bytes) { return round_up(bytes, std::size_t{8}); }

/// Versions that HDF5 has or will have, in other files than libHDF5 1.10 writes, are a feature; other numbers are
/// damage.
void expect_version(FieldReader& fields, std::uint64_t lowest, std::uint64_t highest, std::uint64_t found,
                    const char* what) {
  constexpr std::uint64_t newest = 8;
  if ((found > highest && found <= newest) || (found > 0 && found < lowest))
    fields.location().refuse_feature(
        fmt::format("has {} of version {}, expected {} to {}", what, found, lowest, highest),
        "write the file again with the format of HDF5 1.10, for example with h5repack -j 2 -k 2");
  fields.location().require(found >= lowest && found <= highest, "{} has version {}, expected {} to {}", what, found,
                            lowest, highest);
}

/// Only integer types of processors are allowed. libHDF5 converts others bit by bit, without checking their sizes.
void read_integer(FieldReader& fields, std::uint64_t size) {
  const std::uint64_t offset = fields.number(2), precision = fields.number(2);
  fields.location().require(precision >= 1 && offset + precision <= 8 * size,
                            "has integers of {} bits at bit {} in {} bytes", precision, offset, size);
  if (size > 8 || !std::has_single_bit(size) || offset != 0 || precision != 8 * size)
    fields.location().refuse_feature(
        fmt::format("has integers of {} bits in {} bytes, expected 8, 16, 32 or 64 bits", precision, size),
        "write it with another integer type");
}

void read_float(FieldReader& fields, std::uint64_t size, std::uint64_t bits) {
  struct Ieee {
    std::uint64_t bytes, exponent, mantissa, bias;
  };
  constexpr Ieee known[] = {{2, 5, 10, 15}, {2, 8, 7, 127}, {4, 8, 23, 127}, {8, 11, 52, 1023}};
  const std::uint64_t offset = fields.number(2), precision = fields.number(2), exponent_at = fields.number(1),
                      exponent = fields.number(1), mantissa_at = fields.number(1), mantissa = fields.number(1),
                      bias = fields.number(4);
  const bool fits = std::ranges::any_of(known, [&](const Ieee& row) {
    return size == row.bytes && offset == 0 && precision == 8 * size && exponent_at == row.mantissa &&
           exponent == row.exponent && mantissa_at == 0 && mantissa == row.mantissa && bias == row.bias &&
           (bits >> 8 & 0xff) == 8 * size - 1;
  });
  if (!fits)
    fields.location().refuse_feature(
        fmt::format("has floating-point numbers of {} bytes, expected IEEE 754 of 2, 4 or 8 bytes or bfloat16", size),
        "write it with another type");
}

const char* class_name(std::uint64_t number) {
  switch (number) {
    case 2:
      return "time";
    case 4:
      return "bit field";
    case 5:
      return "opaque";
    case 6:
      return "compound";
    case 10:
      return "array";
    case 11:
      return "complex";
    default:
      return "newer";
  }
}

void read_members(FieldReader& fields, std::uint64_t version, std::uint64_t count, std::uint64_t size) {
  for (std::uint64_t m = 0; m < count; ++m) {
    const std::size_t before = fields.at();
    fields.text();
    if (version < 3) fields.skip(padded(fields.at() - before) - (fields.at() - before));
  }
  fields.skip(count * size);
}

/// `order_bytes`: of the largest creation order, which comes before the addresses if it is tracked.
DenseStorage read_dense_storage(FieldReader& fields, const char* what, std::size_t order_bytes) {
  const std::uint64_t version = fields.number(1), flags = fields.number(1);
  expect_version(fields, 0, 0, version, what);
  fields.location().require(flags < 4, "{} has flags {}, expected less than 4", what, flags);
  if (flags & 1) fields.skip(order_bytes);
  DenseStorage storage{.heap = fields.address(), .by_name = fields.address()};
  if (flags & 2) storage.by_order = fields.address();
  return storage;
}

}  // namespace

Dataspace read_dataspace(FieldReader& fields) {
  const std::uint64_t version = fields.number(1), rank = fields.number(1), flags = fields.number(1),
                      kind = fields.number(1);
  expect_version(fields, 1, 2, version, "a dataspace");
  fields.location().require(rank <= most_dimensions && (flags & ~std::uint64_t{1}) == 0,
                            "a dataspace has {} dimensions and flags {}, expected at most 32 and flags 0 or 1", rank,
                            flags);
  if (version == 1) fields.skip(4);
  Dataspace space;
  const bool null = version == 2 && kind == 2;
  fields.location().require(version == 1 || (kind <= 2 && (kind == 1 || rank == 0)),
                            "a dataspace has kind {} and {} dimensions", kind, rank);
  for (std::uint64_t d = 0; d < rank; ++d) {
    space.extents.push_back(fields.address());
    fields.location().require(
        !__builtin_mul_overflow(space.elements, space.extents.back(), &space.elements) && space.elements >> 62 == 0,
        "a dataspace has 2^62 elements or more");
  }
  space.largest = space.extents;
  if (flags & 1)
    for (std::uint64_t d = 0; d < rank; ++d) {
      space.largest[d] = fields.address();
      fields.location().require(space.largest[d] >= space.extents[d], "a dataspace has an extent above its maximum");
    }
  if (null) space.elements = 0;
  return space;
}

Datatype read_datatype(FieldReader& fields, int depth) {
  constexpr int deepest = 4;
  const FileLocation& location = fields.location();
  location.require(depth < deepest, "a datatype is nested more than {} deep", deepest);
  const std::uint64_t head = fields.number(1), version = head >> 4, bits = fields.number(3);
  Datatype type{.size = fields.number(4)};
  expect_version(fields, 1, 3, version, "a datatype");
  location.require(type.size > 0, "a datatype has 0 bytes");
  switch (head & 15) {
    case 0:
      read_integer(fields, type.size);
      break;
    case 1:
      read_float(fields, type.size, bits);
      break;
    case 3:
      location.require((bits & 15) <= 2 && (bits >> 4 & 15) <= 1,
                       "a string type has unknown padding or character set (bits {:#x})", bits);
      break;
    case 7:
      if (bits > 1 || type.size != (bits == 0 ? 8 : 12))
        location.refuse_feature(fmt::format("has references of {} bytes, expected 8 or 12", type.size));
      break;
    case 8: {
      const Datatype base = read_datatype(fields, depth + 1);
      location.require(base.on_heap == 0 && base.size == type.size,
                       "an enumeration type has {} bytes, but its integers have {}", type.size, base.size);
      read_members(fields, version, bits & 0xffff, base.size);
      break;
    }
    case 9: {
      constexpr std::uint64_t reference_bytes = 16;
      location.require((bits & 15) <= 1 && type.size == reference_bytes,
                       "a type of variable length has {} bytes, expected {}", type.size, reference_bytes);
      const Datatype element = read_datatype(fields, depth + 1);
      if (element.on_heap != 0) location.refuse_feature("has lists of variable length of such lists");
      type.on_heap = element.size;
      break;
    }
    default:
      location.refuse_feature(
          fmt::format("has values of a {} type, expected numbers or strings", class_name(head & 15)),
          "write them as numbers or strings");
  }
  return type;
}

std::uint64_t read_fill_value(FieldReader& fields) {
  const std::uint64_t version = fields.number(1);
  expect_version(fields, 1, 3, version, "a fill value");
  std::uint64_t defined = 0;
  if (version == 3) {
    defined = fields.number(1) & 0x20;
  } else {
    fields.skip(2);
    defined = fields.number(1);
    if (version == 1) defined = 1;
  }
  const std::uint64_t bytes = defined ? fields.number(4) : 0;
  fields.skip(bytes);
  return bytes;
}

std::uint64_t read_old_fill_value(FieldReader& fields) {
  const std::uint64_t bytes = fields.number(4);
  fields.skip(bytes);
  return bytes;
}

void read_link(FieldReader& fields) {
  constexpr std::uint64_t hard = 0, soft = 1, external = 64;
  const std::uint64_t version = fields.number(1), flags = fields.number(1);
  expect_version(fields, 1, 1, version, "a link");
  fields.location().require(flags < 32, "a link has flags {}, expected less than 32", flags);
  const std::uint64_t kind = flags & 8 ? fields.number(1) : hard;
  if (flags & 4) fields.skip(8);
  if (flags & 16) fields.location().require(fields.number(1) <= 1, "a link name has an unknown character set");
  const std::uint64_t length = fields.number(std::size_t{1} << (flags & 3));
  fields.location().require(length > 0, "a link has an empty name");
  fields.skip(length);
  if (kind == hard) {
    fields.address();
    return;
  }
  if (kind > external) fields.location().refuse_feature(fmt::format("has a link of a user's own kind {}", kind));
  fields.location().require(kind == soft || kind == external, "a link has kind {}, expected hard, soft or external",
                            kind);
  const std::uint64_t target = fields.number(2);
  fields.location().require(target > 0, "a link has an empty target");
  FieldReader target_fields(fields.take(target), fields.location());
  if (kind == soft) return;
  fields.location().require(target_fields.number(1) == 0, "an external link has an unknown version, expected 0");
  target_fields.text();
  target_fields.text();
}

DenseStorage read_link_info(FieldReader& fields) { return read_dense_storage(fields, "a link info message", 8); }

DenseStorage read_attribute_info(FieldReader& fields) {
  return read_dense_storage(fields, "an attribute info message", 2);
}

Attribute read_attribute(FieldReader& fields) {
  const std::uint64_t version = fields.number(1), flags = fields.number(1), name = fields.number(2),
                      type = fields.number(2), space = fields.number(2);
  expect_version(fields, 1, 3, version, "an attribute");
  fields.location().require(version == 1 || flags < 4, "an attribute has flags {}, expected less than 4", flags);
  if (version > 1 && flags != 0)
    fields.location().refuse_feature("has an attribute of a committed (named) datatype", "write it with a plain type");
  if (version == 3) fields.location().require(fields.number(1) <= 1, "an attribute name has an unknown character set");
  const auto part = [&](std::uint64_t bytes) {
    return FieldReader(fields.take(version == 1 ? padded(bytes) : bytes), fields.location());
  };
  FieldReader name_fields = part(name), type_fields = part(type), space_fields = part(space);
  const std::string_view text = name_fields.text();
  fields.location().require(text.size() + 1 == name, "an attribute name has {} bytes, expected {}", text.size() + 1,
                            name);
  Attribute attribute{.type = read_datatype(type_fields), .elements = read_dataspace(space_fields).elements};
  std::uint64_t bytes = 0;
  fields.location().require(
      !__builtin_mul_overflow(attribute.elements, attribute.type.size, &bytes) && bytes <= fields.left(),
      "attribute {} has {} values, too many for its {} bytes", text, attribute.elements, fields.left());
  attribute.data = fields.take(bytes);
  return attribute;
}

bool read_filters(FieldReader& fields) {
  constexpr std::uint64_t most = 32;
  const std::uint64_t version = fields.number(1), count = fields.number(1);
  expect_version(fields, 1, 2, version, "a filter pipeline");
  fields.location().require(count <= most, "has {} filters, expected at most {}", count, most);
  if (version == 1) fields.skip(6);
  for (std::uint64_t f = 0; f < count; ++f) {
    const std::uint64_t id = fields.number(2);
    const std::uint64_t name = version == 1 || id >= 256 ? fields.number(2) : 0;
    fields.skip(2);
    const std::uint64_t values = fields.number(2);
    fields.skip(version == 1 ? padded(name) : name);
    fields.skip(4 * values);
    if (version == 1 && values % 2 == 1) fields.skip(4);
  }
  return count > 0;
}

DatasetLayout read_layout(FieldReader& fields) {
  const FileLocation& location = fields.location();
  const std::uint64_t version = fields.number(1), kind = fields.number(1);
  expect_version(fields, 3, 4, version, "a data layout");
  DatasetLayout layout{.kind = static_cast<DatasetLayout::Kind>(kind)};
  switch (layout.kind) {
    case DatasetLayout::Kind::compact: {
      const auto values = fields.take(fields.number(2));
      layout.compact.assign(values.begin(), values.end());
      return layout;
    }
    case DatasetLayout::Kind::contiguous:
      layout.address = fields.address();
      layout.bytes = fields.address();
      return layout;
    case DatasetLayout::Kind::virtual_dataset:
      location.require(version == 4, "a virtual dataset has a data layout of version {}, expected 4", version);
      layout.address = fields.address();
      layout.heap_index = fields.number(4);
      return layout;
    case DatasetLayout::Kind::chunked:
      break;
    default:
      location.refuse("a data layout has kind {}, expected compact, contiguous, chunked or virtual", kind);
  }
  const std::uint64_t flags = version == 4 ? fields.number(1) : 0, rank = fields.number(1);
  location.require(rank >= 2 && rank <= most_dimensions + 1 && flags < 4,
                   "a chunked layout has {} dimensions and flags {}, expected 2 to 33 and flags 0 to 3", rank, flags);
  if (flags & 1) location.refuse_feature("has chunks at its edges without the filters of the others");
  if (version == 3) layout.address = fields.address();
  const std::uint64_t extent_bytes = version == 3 ? 4 : fields.number(1);
  location.require(extent_bytes >= 1 && extent_bytes <= 8, "a chunked layout has extents of {} bytes, expected 1 to 8",
                   extent_bytes);
  std::uint64_t bytes = 1;
  for (std::uint64_t d = 0; d < rank; ++d) {
    layout.chunk.push_back(fields.number(extent_bytes));
    location.require(
        layout.chunk.back() > 0 && !__builtin_mul_overflow(bytes, layout.chunk.back(), &bytes) && bytes >> 32 == 0,
        "a chunk has 0 bytes, or 4 GiB or more");
  }
  if (version == 3) return layout;
  const std::uint64_t index = fields.number(1);
  location.require(index >= 1 && index <= 5, "a chunk index has type {}, expected 1 to 5", index);
  layout.index = static_cast<DatasetLayout::Index>(index);
  // libHDF5 always writes these values. When it reads other values, it computes sizes of memory blocks from them.
  const auto settings = [&](std::initializer_list<std::uint64_t> expected) {
    for (const std::uint64_t value : expected)
      location.require(fields.number(1) == value, "a chunk index has other settings than libHDF5 writes");
  };
  switch (layout.index) {
    case DatasetLayout::Index::single:
      if (flags & 2) {
        layout.bytes = fields.address();
        fields.skip(4);
      }
      break;
    case DatasetLayout::Index::fixed_array:
      settings({10});
      break;
    case DatasetLayout::Index::extensible_array:
      settings({32, 4, 4, 16, 10});
      break;
    case DatasetLayout::Index::tree:
      location.require(fields.number(4) == 2048, "a chunk index has other settings than libHDF5 writes");
      settings({100, 40});
      break;
    default:
      break;
  }
  layout.address = fields.address();
  return layout;
}

void read_group_info(FieldReader& fields) {
  const std::uint64_t version = fields.number(1), flags = fields.number(1);
  expect_version(fields, 0, 0, version, "a group info message");
  fields.location().require(flags < 4, "a group info message has flags {}, expected less than 4", flags);
  if (flags & 1) fields.skip(4);
  if (flags & 2) fields.skip(4);
}

}  // namespace causeway::hdf5_guard
