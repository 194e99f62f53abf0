#include "io/hdf5_guard/checksum.hpp"

#include <algorithm>
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

std::uint32_t fletcher32(std::span<const std::byte> bytes) {
  constexpr std::size_t words_between_folds = 360;  // so few that no sum exceeds 32 bits
  const auto fold = [](std::uint32_t sum) { return (sum & 0xffff) + (sum >> 16); };
  std::uint32_t sum = 0, sum_of_sums = 0;
  const auto add = [&](std::byte upper, std::byte lower) {
    sum += std::to_integer<std::uint32_t>(upper) << 8 | std::to_integer<std::uint32_t>(lower);
    sum_of_sums += sum;
  };
  const std::size_t words = bytes.size() / 2;
  for (std::size_t begin = 0; begin < words; begin += words_between_folds) {
    for (std::size_t w = begin; w < std::min(words, begin + words_between_folds); ++w)
      add(bytes[2 * w], bytes[2 * w + 1]);
    sum = fold(sum);
    sum_of_sums = fold(sum_of_sums);
  }
  if (bytes.size() % 2 == 1) {
    add(bytes.back(), std::byte{0});
    sum = fold(sum);
    sum_of_sums = fold(sum_of_sums);
  }
  return fold(sum_of_sums) << 16 | fold(sum);
}

}  // namespace causeway::hdf5_guard
