#pragma once

#include <cstddef>
#include <span>

#include "io/hdf5_guard/bytes.hpp"

namespace causeway::hdf5_guard {

/// Checks the list of a virtual dataset's mappings, an object on the global heap. libHDF5 decodes the list without
/// checking where it ends. The reader of virtual datasets must check that the source files may be read. Format: HDF5
/// File Format Specification 3.0, VIII.B and VIII.D.
void check_mappings(std::span<const std::byte> list, const FileLocation& location);

}  // namespace causeway::hdf5_guard
