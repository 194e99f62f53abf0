#pragma once

#include <string>

#include "kernels/error.hpp"

namespace causeway::hdf5 {

/// HDF5 keeps strings of variable length on its "global heap" and, up to 1.14, trusts the sizes written there: one flipped bit makes it read
/// or write past its memory, or run forever. So the heaps are looked at before HDF5 is. This throws unless those in the first and the last
/// 16 MiB of a file are in order, which is where files have the strings of their attributes; those of a list are for Dataset::check_strings.
void check_string_heaps(const std::string& path, ExitCode damaged);

/// The same for the reference to the heap that attributes called `name` hold: it names a string that is there, of that length.
void check_attribute_string(const std::string& path, const std::string& name, const std::string& where, ExitCode damaged);

}  // namespace causeway::hdf5
