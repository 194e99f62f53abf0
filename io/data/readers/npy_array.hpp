#pragma once

#include "io/data/readers/number_array.hpp"

namespace causeway {

/// The numbers of an array that numpy.save() wrote, format 1.0 to 3.0 (numpy.lib.format), of one dimension: integers of
/// any size, bool, float32 or float64, of either byte order. Throws Error(usage) for other types and shapes, by name,
/// and for a file with less or more data than its header says. `file` must outlive the array.
NumberArray read_npy_header(const ByteSource& file);

}  // namespace causeway
