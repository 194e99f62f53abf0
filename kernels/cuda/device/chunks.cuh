#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "kernels/core/error.hpp"
#include "kernels/core/integer.hpp"
#include "kernels/core/scan_direction.hpp"
#include "kernels/core/tensor.hpp"
#include "kernels/cuda/device/documents.cuh"

/// How selective_scan and modal_conv divide a recurrence along the tokens among the threads of a GPU.
///
///   block of tokens  64 tokens; the forward pass saves the state before each of them (selective_scan: every 16 tokens)
///   chunk            1 to 8 blocks of tokens; one block of threads computes one chunk of some channels
///   thread           one channel of the chunk and up to 16 of its states; L threads share the states of a channel
///   state group      at most 32 states; a channel that has more is computed group by group, in several launches
namespace causeway::cuda {

inline constexpr int scan_threads = 128;  ///< threads of a block
inline constexpr int block_tokens = 64;   ///< tokens of a block of tokens

inline constexpr int thread_states = 16;                ///< states of a channel that a thread holds in registers
inline constexpr int group_states = 2 * thread_states;  ///< states of a channel that one launch computes

/// Tokens of a chunk, 64 to 512. About 2^18 pairs of a chunk and a channel fill the device several times; with more
/// work than that, longer chunks are better, because there are fewer chunk sums to fold.
inline std::int64_t chunk_tokens(std::int64_t tokens, std::int64_t channels) {
  return block_tokens * std::clamp<std::int64_t>(tokens * channels / (std::int64_t{1} << 18) / block_tokens, 1, 8);
}

/// Calls body<L>(), where L threads share the states of a channel, thread_states each.
template <class Body>
void with_threads_per_channel(std::string_view name, std::int64_t states, const Body& body) {
  ensure(states >= 1 && states <= group_states, "{}: {} states in one launch, expected 1 to {}", name, states,
         group_states);
  states <= thread_states ? body.template operator()<1>() : body.template operator()<2>();
}

/// The same for kernels that may have to add their results to GroupSums: calls body<L, Grouped>().
template <class Body>
void with_threads_per_channel(std::string_view name, std::int64_t states, bool grouped, const Body& body) {
  if (grouped) return body.template operator()<2, true>();
  with_threads_per_channel(name, states, [&]<int L> { body.template operator()<L, false>(); });
}

/// The states [first, first + count) of every channel, which the kernels compute in one launch.
struct StateGroup {
  std::int64_t first, count;
  bool last;  ///< no group follows

  /// The columns of a [channels, states] matrix that belong to this group. An absent matrix stays absent.
  TensorView columns_of(TensorView x) const { return x.present() ? x.slice_columns(first, count) : x; }
};

/// Calls body(group) for every group of at most group_states states, in their order.
template <class Body>
void for_each_state_group(std::int64_t states, const Body& body) {
  std::int64_t first = 0;
  do {
    const std::int64_t count = std::min<std::int64_t>(states - first, group_states);
    body(StateGroup{.first = first, .count = count, .last = first + count == states});
    first += count;
  } while (first < states);
}

/// Sums over all states of a channel, in scratch memory in the accumulator type: the first group writes its sums, every
/// later group adds its own, and the last one obtains the complete sums. They are rounded only then.
template <class R>
struct GroupSums {
  R* sums = nullptr;  ///< null: one group has all states
  bool first = true, last = true;

  /// Adds the sums of the earlier groups to x. Returns whether x is complete; if not, x is stored for the next group.
  __device__ bool complete(R& x, std::int64_t index) const {
    if (!first) x += sums[index];
    if (!last) sums[index] = x;
    return last;
  }
};

/// Owns `count` matrices [tokens, channels] of GroupSums; allocates nothing if one group has all states.
template <class R>
class GroupMemory {
 public:
  GroupMemory(const Stream& stream, std::int64_t states, std::int64_t count, std::int64_t tokens, std::int64_t channels)
      : sums_(states > group_states ? Tensor(stream, dtype_of<R>, {count, tokens, channels}) : Tensor()) {}
  GroupSums<R> sums_of(const StateGroup& group) const {
    return {static_cast<R*>(sums_.view().data), group.first == 0, group.last};
  }

 private:
  Tensor sums_;
};

/// The part of a chunk that one thread computes, if blockIdx.x is the chunk and blockIdx.y counts blocks of
/// scan_threads / L channels: neighbouring groups of L threads have neighbouring channels.
template <int L>
struct ChunkThread {
  std::int64_t begin, end;  ///< tokens [begin, end) of the run: the chunk
  std::int64_t channel;     ///< threads beyond the last channel read the last channel and write nothing
  std::int64_t channels;
  int part, lane;  ///< part: index among the L threads of its channel; lane: index in its warp
  int states;      ///< states of a channel
  bool inside;     ///< the thread's channel exists

  __device__ ChunkThread(std::int64_t tokens, std::int64_t tokens_each, std::int64_t channels_, int states_)
      : begin(std::int64_t{blockIdx.x} * tokens_each),
        end(begin + tokens_each < tokens ? begin + tokens_each : tokens),
        channel(std::int64_t{blockIdx.y} * (scan_threads / L) + threadIdx.x / L),
        channels(channels_),
        part(static_cast<int>(threadIdx.x) % L),
        lane(static_cast<int>(threadIdx.x) % 32),
        states(states_),
        inside(channel < channels_) {
    if (!inside) channel = channels - 1;
  }

  /// The number, within its channel, of the n-th state that this thread holds.
  __device__ int state(int n) const { return part * thread_states + n; }
  /// Whether the thread holds an n-th state.
  __device__ bool has_state(int n) const { return state(n) < states; }
  /// The index of that state in one [states][channels] matrix.
  __device__ std::int64_t index(int n) const { return state(n) * channels + channel; }
};

/// The tokens of a chunk on which the state at the chunk's far edge depends: those of the document that contains the
/// chunk's last token (left to right) or its first token (right to left). A warp constructs it together.
template <ScanDirection direction>
struct ChunkTail {
  std::int64_t first, last;  ///< tokens [first, last) of the run
  bool passes;               ///< the document covers the whole chunk and also the token at which the chunk is entered
  DocumentBounds document;
  bool at_run_edge;  ///< it is the last (left to right) or the first (right to left) document of the run

  __device__ ChunkTail(const SegmentsView& segments, std::int64_t begin, std::int64_t end, int lane)
      : document(segments, direction == ScanDirection::right_to_left ? begin : end - 1, lane) {
    constexpr bool backwards = direction == ScanDirection::right_to_left;
    first = backwards || document.start < begin ? begin : document.start;
    last = !backwards || document.end > end ? end : document.end;
    passes = backwards ? document.end > end : document.start < begin;
    at_run_edge = backwards ? document.start <= 0 : document.end >= segments.tokens;
  }
};

}  // namespace causeway::cuda
