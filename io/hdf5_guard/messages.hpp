#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "io/hdf5_guard/bytes.hpp"

/// The messages that an HDF5 object header is made of, taken apart as far as HDF5 itself takes them apart: what it
/// would read past its memory for, or divide by, is refused here. Format: HDF5 File Format Specification 3.0, IV.A.2.
namespace causeway::hdf5_guard {

enum class Message : std::uint16_t {
  nothing = 0x00,
  dataspace = 0x01,
  link_info = 0x02,
  datatype = 0x03,
  old_fill_value = 0x04,
  fill_value = 0x05,
  link = 0x06,
  external_files = 0x07,
  layout = 0x08,
  group_info = 0x0a,
  filters = 0x0b,
  attribute = 0x0c,
  comment = 0x0d,
  old_time = 0x0e,
  continuation = 0x10,
  symbol_table = 0x11,
  time = 0x12,
  attribute_info = 0x15,
  reference_count = 0x16,
};

struct Dataspace {
  std::vector<std::uint64_t> extents, largest;  ///< as it is and as it may become, 2^64 - 1: of any size
  std::uint64_t elements = 1;                   ///< 0 where it holds none
};

struct Datatype {
  std::uint64_t size = 0;
  std::uint64_t on_heap =
      0;  ///< of variable length, elements being references to the global heap: bytes of what is there each; else 0
};

/// Where dense links or attributes are: a fractal heap, and B-trees over it.
struct DenseStorage {
  std::uint64_t heap = undefined_address, by_name = undefined_address, by_order = undefined_address;
};

struct Attribute {
  Datatype type;
  std::uint64_t elements = 0;
  std::span<const std::byte> data;
};

struct DatasetLayout {
  enum class Kind : std::uint8_t { compact, contiguous, chunked, virtual_dataset };
  enum class Index : std::uint8_t { old_tree, single, implicit, fixed_array, extensible_array, tree };
  Kind kind = Kind::contiguous;
  Index index = Index::old_tree;
  std::uint64_t address = undefined_address, bytes = 0;  ///< bytes: of a contiguous dataset
  std::vector<std::byte> compact;                        ///< a compact dataset's values
  std::uint64_t heap_index = 0;                          ///< of a virtual dataset's mappings
  std::vector<std::uint64_t> chunk;                      ///< its extents, the last an element's bytes
};

Dataspace read_dataspace(Fields& fields);
/// Numbers as processors have them, enumerations, references, strings, and what is of variable length.
Datatype read_datatype(Fields& fields, int depth = 0);
/// Bytes of the fill value.
std::uint64_t read_fill_value(Fields& fields);
std::uint64_t read_old_fill_value(Fields& fields);
void read_link(Fields& fields);
DenseStorage read_link_info(Fields& fields);
DenseStorage read_attribute_info(Fields& fields);
Attribute read_attribute(Fields& fields);
/// Whether there are any; which, is for whoever reads through them.
bool read_filters(Fields& fields);
DatasetLayout read_layout(Fields& fields);
void read_group_info(Fields& fields);

}  // namespace causeway::hdf5_guard
