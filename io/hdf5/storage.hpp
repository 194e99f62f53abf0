#pragma once

#include <cstdint>
#include <string>

#include "io/hdf5/hdf5.hpp"

namespace causeway::hdf5 {

/// Refuses what would make reading a dataset (a hid_t) read other files or run foreign code, and chunks without bound.
void check_storage(std::int64_t dataset, const std::string& where, ExitCode damaged);

/// Refuses a shape that the bytes in the file cannot be, so that a reader may take memory on the shape's word.
void check_size(const Dataset& dataset, const std::string& path);

bool is_chunked(std::int64_t dataset, const std::string& where, ExitCode damaged);

/// Checks the strings of variable length of a contiguous dataset, which libHDF5 would not. (Those of a chunked dataset
/// are checked when a chunk is read, those in an object's header with the object.)
void check_strings_outside_chunks(const Dataset& dataset, const std::string& path, ExitCode damaged);

}  // namespace causeway::hdf5
