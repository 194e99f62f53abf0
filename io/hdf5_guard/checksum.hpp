#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace causeway::hdf5_guard {

/// The checksum of HDF5's own structures since format 1.8: Bob Jenkins' lookup3 (hashlittle, initial value 0).
std::uint32_t metadata_checksum(std::span<const std::byte> bytes);

/// The checksum of a chunk's values: Fletcher's over big-endian 16-bit words, the sum of the words in the lower half,
/// the sum of those sums in the upper half; an odd last byte is a word's upper byte. Both sums modulo 65535.
std::uint32_t fletcher32(std::span<const std::byte> bytes);

}  // namespace causeway::hdf5_guard
