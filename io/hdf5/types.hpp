#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/hdf5/hdf5.hpp"

/// What the files of io/hdf5 share: its types as HDF5's (std::int64_t is hid_t), paths, sizes.
namespace causeway::hdf5 {

std::int64_t memory_type(ElementType type);
/// Little-endian whatever the machine, so that the same data is the same file.
std::int64_t file_type(ElementType type);
/// Of variable length, UTF-8.
Id string_type();
ElementType element_type_of(std::int64_t type);
/// A string of fixed length without its padding.
std::string unpadded(std::string text, std::int64_t type);

/// Strings longer than this are not believed.
inline constexpr std::int64_t longest_fixed_string = std::int64_t{1} << 20;

std::vector<std::string> parts_of(std::string_view path);
/// "file.h5:/a/b"
std::string place_of(const std::string& file, std::string_view path);
/// Throws Error(usage) where 64 bits do not count it.
std::int64_t product(std::span<const std::int64_t> extents, const std::string& where);

}  // namespace causeway::hdf5
