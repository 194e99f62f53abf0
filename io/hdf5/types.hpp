#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/hdf5/hdf5.hpp"

/// Shared by the files of io/hdf5: ElementType from and to libHDF5's types (std::int64_t is hid_t), paths, sizes.
namespace causeway::hdf5 {

std::int64_t memory_type(ElementType type);
/// Little-endian on every machine, so that the same data gives the same file.
std::int64_t file_type(ElementType type);
/// The type of UTF-8 strings of variable length.
Id string_type();
ElementType element_type_of(std::int64_t type);
/// A string of fixed length without its padding.
std::string unpadded(std::string text, std::int64_t type);

/// The largest size in bytes of a string of fixed length. A longer string throws.
inline constexpr std::int64_t longest_fixed_string = std::int64_t{1} << 20;

std::vector<std::string> path_parts(std::string_view path);
/// "file.h5:/a/b"
std::string where_of(const std::string& file, std::string_view path);
/// The product of the extents. Throws Error(usage) if it does not fit in 64 bits.
std::int64_t product(std::span<const std::int64_t> extents, const std::string& where);

}  // namespace causeway::hdf5
