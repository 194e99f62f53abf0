#include "io/hdf5_guard/virtual_mappings.hpp"

namespace causeway::hdf5_guard {
namespace {

constexpr std::uint64_t most_dimensions = 32;

void check_dimensions(std::uint64_t rank, const FileLocation& location) {
  location.require(rank >= 1 && rank <= most_dimensions, "a mapping has {} dimensions, expected 1 to {}", rank,
                   most_dimensions);
}

void check_hyperslab(FieldReader& fields) {
  const std::uint64_t version = fields.number(4);
  if (version == 1) {
    fields.skip(4);
    const std::uint64_t bytes = fields.number(4);
    FieldReader body(fields.take(bytes), fields.location());
    const std::uint64_t rank = body.number(4), blocks = body.number(4);
    check_dimensions(rank, fields.location());
    fields.location().require(blocks >= 1 && blocks <= body.left() / (8 * rank),
                              "a mapping has {} blocks, too many for its {} bytes", blocks, bytes);
    for (std::uint64_t b = 0; b < blocks; ++b) {
      std::uint64_t begin[most_dimensions];
      for (std::uint64_t d = 0; d < rank; ++d) begin[d] = body.number(4);
      for (std::uint64_t d = 0; d < rank; ++d)
        fields.location().require(body.number(4) >= begin[d], "a mapping has a block that ends before it begins");
    }
    return;
  }
  if (version == 3) fields.location().refuse_feature("has mappings of version 3, expected 1 or 2");
  fields.location().require(version == 2, "a mapping has version {}, expected 1 or 2", version);
  const std::uint64_t flags = fields.number(1), bytes = fields.number(4);
  FieldReader body(fields.take(bytes), fields.location());
  const std::uint64_t rank = body.number(4);
  check_dimensions(rank, fields.location());
  fields.location().require(flags == 1 && body.left() == 32 * rank,
                            "a mapping of {} dimensions has {} bytes, expected 32 for each and 4", rank, bytes);
  for (std::uint64_t d = 0; d < rank; ++d) {
    const std::uint64_t start = body.number(8), stride = body.number(8), count = body.number(8), block = body.number(8);
    std::uint64_t end = 0;
    const bool bounded =
        count >= 1 && block >= 1 && stride >= block && !__builtin_mul_overflow(count - 1, stride, &end) &&
        !__builtin_add_overflow(end, block, &end) && !__builtin_add_overflow(end, start, &end) && end >> 62 == 0;
    fields.location().require(bounded, "a mapping selects no elements, or elements past the largest index");
  }
}

void check_selection(FieldReader& fields) {
  constexpr std::uint64_t hyperslab = 2, all = 3;
  const std::uint64_t kind = fields.number(4);
  if (kind == hyperslab) {
    check_hyperslab(fields);
    return;
  }
  if (kind < hyperslab) fields.location().refuse_feature("has mappings of single elements, expected boxes");
  fields.location().require(kind == all && fields.number(4) == 1,
                            "a mapping has a selection of kind {}, expected a hyperslab or all", kind);
  fields.skip(8);
}

}  // namespace

void check_mappings(std::span<const std::byte> list, const FileLocation& location) {
  constexpr std::uint64_t least_bytes = 2 + 2 * 16, checksum_bytes = 4;  // of a mapping
  FieldReader fields(list, location);
  location.require(fields.number(1) == 0, "a list of mappings has an unknown version, expected 0");
  const std::uint64_t count = fields.address();
  location.require(count <= fields.left() / least_bytes, "has {} mappings, too many for their {} bytes", count,
                   fields.left());
  for (std::uint64_t m = 0; m < count; ++m) {
    // libHDF5 replaces '%b' in a name by 0, 1, 2, … and tries to open each such file.
    for (int name = 0; name < 2; ++name)
      location.require(fields.text().find('%') == std::string_view::npos,
                       "a mapping has a name with '%', expected one file and one dataset");
    check_selection(fields);
    check_selection(fields);
  }
  location.require(fields.left() >= checksum_bytes, "a list of mappings has no checksum");
}

}  // namespace causeway::hdf5_guard
