#pragma once

#include <cstdint>
#include <string>

namespace causeway::testing {

/// A file of safetensors with this header and data.
inline std::string safetensors(const std::string& header, const std::string& data) {
  const auto size = static_cast<std::uint64_t>(header.size());
  return std::string(reinterpret_cast<const char*>(&size), sizeof(size)) + header + data;
}

}  // namespace causeway::testing
