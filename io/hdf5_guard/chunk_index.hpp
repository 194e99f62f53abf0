#pragma once

#include "io/hdf5_guard/b_trees.hpp"
#include "io/hdf5_guard/bytes.hpp"
#include "io/hdf5_guard/messages.hpp"

namespace causeway::hdf5_guard {

/// Checks the index of a dataset's chunks: a B-tree of either version, a fixed or an extensible array, or none. The
/// elements of the arrays are not checked. Format: HDF5 File Format Specification 3.0, III.A and VII.
void check_chunk_index(FileBytes& file, const DatasetLayout& layout, const Dataspace& space, bool filtered,
                       const TreeWidths& widths, const FileLocation& location);

}  // namespace causeway::hdf5_guard
