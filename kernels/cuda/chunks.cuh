#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "kernels/error.hpp"

/// How recurrences along the tokens are cut for a GPU: into chunks of whole blocks, channels to threads.
namespace causeway::cuda {

inline constexpr int scan_threads = 128, block_tokens = 64;

/// States of a channel that a thread holds in registers.
inline constexpr int thread_states = 16;

/// Which way a recurrence runs: a state from left to right, its adjoint from right to left.
enum class Towards { right, left };

inline unsigned blocks_of(std::int64_t count, std::int64_t each) { return static_cast<unsigned>((count + each - 1) / each); }

/// Tokens a chunk: a quarter of a million channels' chunks fill the device several times over; beyond that, longer chunks have fewer sums to fold.
inline std::int64_t chunk_tokens(std::int64_t tokens, std::int64_t channels) {
  return block_tokens * std::clamp<std::int64_t>(tokens * channels / (std::int64_t{1} << 18) / block_tokens, 1, 8);
}

/// Calls body<L>() with the number of threads that share a channel's states, thread_states each.
template <class Body>
void with_threads_a_channel(std::string_view name, std::int64_t states, const Body& body) {
  ensure(states >= 1 && states <= 2 * thread_states, "{} has {} states, expected 1 to {} on cuda", name, states, 2 * thread_states);
  states <= thread_states ? body.template operator()<1>() : body.template operator()<2>();
}

}  // namespace causeway::cuda
