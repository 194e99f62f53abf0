#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/core/dtype.hpp"
#include "kernels/core/integer.hpp"
#include "parallel/layout/shard_layout.hpp"

namespace causeway::long_convolution::fft {

/// fft processes the channels in slices, so that spectra and received tensors need little memory compared with the
/// tokens. A message has at least one MiB, so that its latency is small compared with its transfer. A slice has at
/// least as many channels as the transform on each rank processes together.
inline constexpr std::int64_t most_slices = 16, message_bytes = 1 << 20, fewest_channels = 8;

/// Rows of the equal shards of a document that all ranks hold.
inline std::int64_t equal_shard(const ShardLayout& layout) { return ceil_div(layout.tokens(), layout.ranks()); }

/// The number of slices. It depends on the layout, not on the documents, and is the same on every rank.
inline int slices_of(const ShardLayout& layout, std::int64_t channels, DType dtype) {
  const std::int64_t bytes = equal_shard(layout) * channels * 2 * size_of(accumulator_of(dtype));
  return static_cast<int>(
      std::clamp<std::int64_t>(std::min(bytes / message_bytes, channels / fewest_channels), 1, most_slices));
}

}  // namespace causeway::long_convolution::fft
