#pragma once

#include <cstdint>
#include <functional>

#include "io/hdf5_guard/b_trees.hpp"
#include "io/hdf5_guard/bytes.hpp"
#include "io/hdf5_guard/messages.hpp"

/// Checks of links and attributes that are outside their object's header. Format: HDF5 File Format Specification 3.0,
/// III.A to III.D and III.G.
namespace causeway::hdf5_guard {

/// Checks a version 1 group: a B-tree of its links, and a local heap with their names.
void check_symbol_table(FileBytes& file, std::uint64_t tree, std::uint64_t heap, const TreeWidths& widths,
                        const FileLocation& location);

enum class DenseKind : std::uint8_t { links, attributes };
/// Checks dense storage: a fractal heap with links or attributes, and the B-trees that index it. `visit` gets the
/// message of each.
void check_dense_storage(FileBytes& file, const DenseStorage& storage, DenseKind kind, const FileLocation& location,
                         const std::function<void(FieldReader&)>& visit);

}  // namespace causeway::hdf5_guard
