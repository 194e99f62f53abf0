#pragma once

#include <cstddef>
#include <span>

#include "io/hdf5_guard/bytes.hpp"

namespace causeway::hdf5_guard {

/// Looks at the list of a virtual dataset's mappings, as it lies on the global heap, before HDF5 decodes it with no
/// regard to where it ends. That the files named may be read is for whoever reads virtual datasets. Format: HDF5 File
/// Format Specification 3.0, VIII.B and VIII.D.
void check_mappings(std::span<const std::byte> list, const FileLocation& location);

}  // namespace causeway::hdf5_guard
