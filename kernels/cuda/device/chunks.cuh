#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "kernels/core/error.hpp"
#include "kernels/core/integer.hpp"
#include "kernels/core/scan_direction.hpp"
#include "kernels/core/tensor.hpp"

/// How recurrences along the tokens are cut for a GPU: into chunks of whole blocks, channels to threads, many states
/// into groups.
namespace causeway::cuda {

inline constexpr int scan_threads = 128, block_tokens = 64;

/// States of a channel that a thread holds in registers, and that kernels take at a time.
inline constexpr int thread_states = 16, group_states = 2 * thread_states;

inline unsigned blocks_of(std::int64_t count, std::int64_t each) {
  return static_cast<unsigned>(ceil_div(count, each));
}

/// Tokens a chunk: a quarter of a million channels' chunks fill the device several times over; beyond that, longer
/// chunks have fewer sums to fold.
inline std::int64_t chunk_tokens(std::int64_t tokens, std::int64_t channels) {
  return block_tokens * std::clamp<std::int64_t>(tokens * channels / (std::int64_t{1} << 18) / block_tokens, 1, 8);
}

/// Calls body<L>() with the number of threads that share a channel's states, thread_states each.
template <class Body>
void with_threads_per_channel(std::string_view name, std::int64_t states, const Body& body) {
  ensure(states >= 1 && states <= group_states, "{} has {} states together, expected 1 to {} on cuda", name, states,
         group_states);
  states <= thread_states ? body.template operator()<1>() : body.template operator()<2>();
}

/// The same for kernels that add to GroupSums: body<L, Grouped>().
template <class Body>
void with_threads_per_channel(std::string_view name, std::int64_t states, bool grouped, const Body& body) {
  if (grouped) return body.template operator()<2, true>();
  with_threads_per_channel(name, states, [&]<int L> { body.template operator()<L, false>(); });
}

/// States [first, first + count) of a channel, which kernels take together; more than group_states go group after
/// group.
struct StateGroup {
  std::int64_t first, count;
  bool last;

  /// These states' columns of a matrix; an absent one stays so.
  TensorView of(TensorView x) const { return x.present() ? x.slice_columns(first, count) : x; }
};

template <class Body>
void for_each_state_group(std::int64_t states, const Body& body) {
  std::int64_t first = 0;
  do {
    const std::int64_t count = std::min<std::int64_t>(states - first, group_states);
    body(StateGroup{.first = first, .count = count, .last = first + count == states});
    first += count;
  } while (first < states);
}

/// Sums over all states of a channel, in scratch: the first group writes, the others add, each in its turn; the last
/// one has the whole.
template <class R>
struct GroupSums {
  R* at = nullptr;
  bool first = true, last = true;

  /// Adds what the groups before left to x; whether x is complete.
  __device__ bool complete(R& x, std::int64_t index) const {
    if (!first) x += at[index];
    if (!last) at[index] = x;
    return last;
  }
};

/// Owns `count` [tokens, channels] of GroupSums; nothing where one group holds all states.
template <class R>
class GroupMemory {
 public:
  GroupMemory(const Stream& stream, std::int64_t states, std::int64_t count, std::int64_t tokens, std::int64_t channels)
      : sums_(states > group_states ? Tensor(stream, dtype_of<R>, {count, tokens, channels}) : Tensor()) {}
  GroupSums<R> of(const StateGroup& group) const {
    return {static_cast<R*>(sums_.view().data), group.first == 0, group.last};
  }

 private:
  Tensor sums_;
};

}  // namespace causeway::cuda
