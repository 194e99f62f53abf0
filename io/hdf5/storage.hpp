#pragma once

#include <cstdint>
#include <string>

#include "io/hdf5/hdf5.hpp"

namespace causeway::hdf5 {

/// Throws for a dataset (a hid_t) that reads other files, uses filters from plug-ins, or has chunks of more than 256
/// MiB.
void check_storage(std::int64_t dataset, const std::string& where, ExitCode damaged);

/// Throws for a shape that is too large for the bytes stored in the file. After it a reader may allocate memory for the
/// shape.
void check_size(const Dataset& dataset, const std::string& path);

bool is_chunked(std::int64_t dataset, const std::string& where, ExitCode damaged);

/// Checks the strings of variable length of a contiguous dataset, which libHDF5 would not. (Those of a chunked dataset
/// are checked when a chunk is read, those in an object's header with the object.)
void check_strings_outside_chunks(const Dataset& dataset, const std::string& path, ExitCode damaged);

}  // namespace causeway::hdf5
