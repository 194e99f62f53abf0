#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/hdf5_guard/bytes.hpp"

namespace causeway::hdf5 {

/// HDF5 keeps strings of variable length on its "global heap" and, up to 1.14, trusts the sizes written there: one
/// flipped bit makes it read or write past its memory, or run forever. So the heap's collections are looked at before
/// HDF5 is. This throws unless `count` references of 16 bytes name what is there, with the lengths they say; the
/// strings of a list are for Dataset::check_strings.
void check_heap_references(const std::string& path, std::span<const std::byte> references, std::uint64_t count,
                           std::uint64_t element_bytes, const Place& place);

/// An object of the heap.
std::vector<std::byte> read_heap_object(const std::string& path, std::uint64_t address, std::uint64_t index,
                                        const Place& place);

}  // namespace causeway::hdf5
