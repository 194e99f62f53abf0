#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "io/hdf5_guard/bytes.hpp"

/// The messages of an HDF5 object header, decoded as far as libHDF5 decodes them. Values with which libHDF5 would read
/// past the end of its memory, or divide by zero, throw. Format: HDF5 File Format Specification 3.0, IV.A.2.
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
  std::vector<std::uint64_t> extents, largest;  ///< now, and the most allowed; 2^64 - 1: unlimited
  std::uint64_t elements = 1;                   ///< 0: it has none
};

struct Datatype {
  std::uint64_t size = 0;
  /// 0: the elements are in the dataset. Else the type is of variable length: the dataset has references to the global
  /// heap, and this is the bytes of one item there.
  std::uint64_t on_heap = 0;
};

/// Where links or attributes are that do not fit in the header: a fractal heap, and the B-trees that index it.
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
  std::vector<std::byte> compact;                        ///< the values of a compact dataset
  std::uint64_t heap_index = 0;                          ///< of the mappings of a virtual dataset
  std::vector<std::uint64_t> chunk;  ///< extents of a chunk; the last entry is the bytes of an element
};

Dataspace read_dataspace(FieldReader& fields);
/// Throws for other types than native integers and IEEE floats, enumerations, references, strings, and lists of
/// variable length.
Datatype read_datatype(FieldReader& fields, int depth = 0);
/// Bytes of the fill value.
std::uint64_t read_fill_value(FieldReader& fields);
std::uint64_t read_old_fill_value(FieldReader& fields);
void read_link(FieldReader& fields);
DenseStorage read_link_info(FieldReader& fields);
DenseStorage read_attribute_info(FieldReader& fields);
Attribute read_attribute(FieldReader& fields);
/// Whether the dataset has filters. The reader of the dataset checks which filters these are.
bool read_filters(FieldReader& fields);
DatasetLayout read_layout(FieldReader& fields);
void read_group_info(FieldReader& fields);

}  // namespace causeway::hdf5_guard
