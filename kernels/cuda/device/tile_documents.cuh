#pragma once

#include <cstdint>

/// Documents within a tile of 16 tokens, an operand of a tensor core product (tensor_core.cuh). `starts` has a bit for
/// each token of the tile with which a document begins.
namespace causeway::cuda {

/// The number of tokens of a tile before its first start.
__device__ inline int tokens_before(unsigned starts) {
  constexpr int tile = 16;
  return starts == 0 ? tile : __ffs(static_cast<int>(starts)) - 1;
}
/// Calls body(low, high) with the tokens [low, high) of each document that begins in the tile.
template <class Body>
__device__ void for_each_start(unsigned starts, const Body& body) {
  for (unsigned rest = starts; rest != 0; rest &= rest - 1) body(tokens_before(rest), tokens_before(rest & (rest - 1)));
}
/// to = x for the tokens [low, high) of a tile [channels, tokens], zeros elsewhere.
__device__ inline void keep_columns(std::uint32_t (&to)[4], const std::uint32_t (&x)[4], int low, int high, int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int token = 8 * half + 2 * (lane % 4);
    const std::uint32_t mask =
        (token >= low && token < high ? 0xffffu : 0u) | (token + 1 >= low && token + 1 < high ? 0xffff0000u : 0u);
    to[2 * half] = x[2 * half] & mask;
    to[2 * half + 1] = x[2 * half + 1] & mask;
  }
}

}  // namespace causeway::cuda
