#include "io/hdf5_guard/checksum.hpp"

#include <bit>

namespace causeway::hdf5_guard {

std::uint32_t metadata_checksum(std::span<const std::byte> key) {
  std::uint32_t a = 0xdeadbeef + static_cast<std::uint32_t>(key.size()), b = a, c = a;
  const auto word = [&](std::size_t at) {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4 && at + i < key.size(); ++i)
      value |= std::to_integer<std::uint32_t>(key[at + i]) << (8 * i);
    return value;
  };
  const auto mix = [](std::uint32_t& x, std::uint32_t& y, std::uint32_t z, int by) {
    x = (x - y) ^ std::rotl(y, by);
    y += z;
  };
  const auto finish = [](std::uint32_t& x, std::uint32_t y, int by) { x = (x ^ y) - std::rotl(y, by); };
  if (key.empty()) return c;
  std::size_t at = 0;
  for (; key.size() - at > 12; at += 12) {
    a += word(at);
    b += word(at + 4);
    c += word(at + 8);
    mix(a, c, b, 4);
    mix(b, a, c, 6);
    mix(c, b, a, 8);
    mix(a, c, b, 16);
    mix(b, a, c, 19);
    mix(c, b, a, 4);
  }
  a += word(at);
  b += word(at + 4);
  c += word(at + 8);
  finish(c, b, 14);
  finish(a, c, 11);
  finish(b, a, 25);
  finish(c, b, 16);
  finish(a, c, 4);
  finish(b, a, 14);
  finish(c, b, 24);
  return c;
}

}  // namespace causeway::hdf5_guard
