#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace causeway {

/// Philox4x32-10 (Salmon et al., SC'11): maps a counter and a key to four random 32-bit words. A draw depends only on
/// its index, never on how many ranks or threads draw. It is implemented here because every device and machine must
/// give the same bits, and the standard library (before C++26) and Boost do not contain it. It is tested against the
/// known answers of Random123.
constexpr std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * counter[0], b = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
               static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key = {key[0] + 0x9E3779B9, key[1] + 0xBB67AE85};
  }
  return counter;
}

/// One stream of random numbers: seed, stream and index determine a draw.
class RandomStream {
 public:
  constexpr RandomStream(std::uint64_t seed, std::uint64_t stream) : seed_(seed), stream_(stream) {}

  /// 64 random bits.
  constexpr std::uint64_t bits(std::uint64_t index) const {
    const auto word = draw(index);
    return (std::uint64_t{word[1]} << 32) | word[0];
  }
  /// Uniform in (0, 1).
  constexpr double uniform(std::uint64_t index) const { return to_unit(bits(index)); }
  /// Two independent uniform numbers.
  constexpr std::array<double, 2> uniform_pair(std::uint64_t index) const {
    const auto word = draw(index);
    return {to_unit((std::uint64_t{word[1]} << 32) | word[0]), to_unit((std::uint64_t{word[3]} << 32) | word[2])};
  }
  /// Standard normal, by the Box-Muller transform.
  double normal(std::uint64_t index) const {
    const auto [radius, angle] = uniform_pair(index);
    return std::sqrt(-2 * std::log(radius)) * std::cos(2 * std::numbers::pi * angle);
  }
  /// An integer in [0, bound), bound >= 1, by multiplication (Lemire); its bias is below bound / 2^64.
  std::uint64_t below(std::uint64_t index, std::uint64_t bound) const {
    return static_cast<std::uint64_t>((static_cast<unsigned __int128>(bits(index)) * bound) >> 64);
  }

 private:
  constexpr std::array<std::uint32_t, 4> draw(std::uint64_t index) const {
    return philox({static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
                   static_cast<std::uint32_t>(stream_), static_cast<std::uint32_t>(stream_ >> 32)},
                  {static_cast<std::uint32_t>(seed_), static_cast<std::uint32_t>(seed_ >> 32)});
  }
  static constexpr double to_unit(std::uint64_t bits) { return (static_cast<double>(bits >> 11) + 0.5) * 0x1p-53; }

  std::uint64_t seed_, stream_;
};

}  // namespace causeway
