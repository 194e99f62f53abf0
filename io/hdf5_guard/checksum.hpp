#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace causeway::hdf5_guard {

/// What HDF5's metadata carries from format 1.8 on: Bob Jenkins' lookup3 (hashlittle, initial value 0).
std::uint32_t metadata_checksum(std::span<const std::byte> bytes);

}  // namespace causeway::hdf5_guard
