#pragma once

#include "kernels/cuda/hyena_block/hyena_block_mr_layout.cuh"

/// The kernels on tensor cores with groups of channels that are no multiple of 16: which channels a warp has, and
/// copies for groups of other than 15 channels. Bulk copies do not suit those: where a box begins, its memory must be
/// aligned to 16 bytes (the GPU stops with an illegal instruction), and a few groups together may begin anywhere. So
/// warps copy words of two channels.
namespace causeway::cuda::fused_block {

/// The windows of 16 channels that a warp has. A window has channels of one group only: a group of 15 channels is a
/// window, a group of 40 is three, of 16, 16 and 8. Windows begin with a whole word of memory, so that before or after
/// the group's channels there may be some of others, or zeros after the last one. They are computed too, but not
/// counted and not written. `octets`: the window is of a group of 15 channels as MrForm describes it.
struct ChannelWindows {
  int width = 0;  ///< channels of a group; 0: channels count as they are
  int all = 0;    ///< windows of all groups
  bool octets = false;

  static ChannelWindows of(const HyenaBlockInputs& in, MrLayout layout) {
    ChannelWindows w{.width = static_cast<int>(in.q.columns() / in.taps.rows()), .octets = layout == MrLayout::octets};
    w.all = static_cast<int>(in.taps.rows()) * w.of_group();
    return w;
  }
  /// The same with `octets` as the compiler knows it.
  template <MrLayout Layout>
  __device__ ChannelWindows as() const {
    return {.width = width, .all = all, .octets = MrForm<Layout>::octets};
  }
  __host__ __device__ int of_group() const { return (width + mr_tile - 1) / mr_tile; }
  /// The first channel of a window; beyond all channels if there is no such window. Before the first channel of a
  /// window of octets there are places that its last channels have.
  __host__ __device__ int channel(int window) const {
    const int first = window / of_group() * width;
    return octets ? (first + 7) / 8 * 8 - 8 : first / 2 * 2 + window % of_group() * mr_tile;
  }
  /// The channel at a place of a window.
  __device__ int channel(int window, int place) const {
    const int at = channel(window) + place;
    return octets && at < window * width ? at + mr_tile : at;
  }
  /// Whether a place of a window has a channel of its group.
  __device__ bool counts(int window, int place) const {
    const int of = channel(window, place) - window / of_group() * width;
    return window < all && of >= 0 && of < width;
  }
  /// The place of a channel among those of all windows.
  __device__ std::int64_t place(std::int64_t channel_index) const {
    if (width == 0) return channel_index;
    const int group = static_cast<int>(channel_index / width), first = group * of_group(),
              of = static_cast<int>(channel_index) - channel(first);
    return std::int64_t{first + (octets ? 0 : of / mr_tile)} * mr_tile + of % mr_tile;
  }
};

/// Masks of a tile [channels, tokens] that leave the channels that count. The others may be NaN, and products add over
/// channels. The second half of a window of octets counts as a whole.
template <MrLayout Layout>
struct GroupMask {
  std::uint32_t of_half[2];
  __device__ GroupMask(const ChannelWindows& windows, int window, int lane) {
#pragma unroll
    for (int h = 0; h < 2; ++h) of_half[h] = windows.counts(window, lane / 4 + 8 * h) ? ~0u : 0u;
  }
  __device__ void keep(std::uint32_t (&x)[4]) const {
    if constexpr (Layout == MrLayout::whole) return;
#pragma unroll
    for (int i = 0; i < 4; i += MrForm<Layout>::octets ? 2 : 1) x[i] &= of_half[i % 2];
  }
};

/// Rows of a run, and of the rows before it, if there are some.
struct RunRows {
  std::uint16_t *run, *before;
  std::int64_t stride, stride_before;
  int rows_before;

  explicit RunRows(TensorView of_run, TensorView of_before = {})
      : run(static_cast<std::uint16_t*>(of_run.data)),
        before(static_cast<std::uint16_t*>(of_before.data)),
        stride(of_run.row_stride),
        stride_before(of_before.present() ? of_before.row_stride : 0),
        rows_before(of_before.present() ? static_cast<int>(of_before.rows()) : 0) {}
};

/// The two channels of a column's four windows that a lane copies, in a tensor of a stage in shared memory: windows one
/// after the other, rows of 32 bytes. Row r of window w is at r ^ w, and its halves are exchanged if r / 4 is odd, so
/// that neither the windows of a row nor eight rows of a window share banks.
struct WindowWord {
  int column, channel;
  unsigned place;          ///< of row 0
  bool exists, low, high;  ///< whether the matrix has the word; whether its channels count

  __device__ WindowWord(const ChannelWindows& windows, std::int64_t channels, int of_column, int lane)
      : column(of_column) {
    const int local = lane / 8, word = lane % 8, window = column * computing_warps + local;
    channel = windows.channel(window) + 2 * word;
    exists = channel < channels;
    low = windows.counts(window, 2 * word);
    high = windows.counts(window, 2 * word + 1);
    place = static_cast<unsigned>(local * mr_stage_tokens * 32 + local * 32 + word * 4);
  }
  __device__ unsigned at(int row) const {
    return (place ^ static_cast<unsigned>(row % 4 * 32 + row / 4 % 2 * 16)) + static_cast<unsigned>(row / 4 * 128);
  }
  /// Starts copies of a stage's rows from `token` on; zeros where there are none. A warp calls it together.
  __device__ void load(unsigned tensor, const RunRows& from, int token, std::int64_t tokens) const {
    const bool halo = token < 0;
    const std::int64_t stride = halo ? from.stride_before : from.stride;
    const int first = halo ? token + from.rows_before : token,  // of the rows of the halo or of the run
        low_row = first < 0 ? -first : 0;
    const std::int64_t high_row = !halo ? tokens - token : from.rows_before > 0 ? mr_stage_tokens : 0;
    const std::uint16_t* const x = (halo ? from.before : from.run) + first * stride + channel;
    if (low_row == 0 && high_row >= mr_stage_tokens)
      load_rows(tensor, x, stride, [&](int) { return exists; });
    else
      load_rows(tensor, x, stride, [&](int row) { return exists && row >= low_row && row < high_row; });
  }
  /// Writes a stage's rows from `token` on that exist. A warp calls it together.
  __device__ void write(const RunRows& to, unsigned tensor, int token, std::int64_t tokens) const {
    if (token < 0 && to.rows_before == 0) return;
    const bool whole = low && high, part = low != high;
    const int second = part && high ? 1 : 0;
    const std::int64_t stride = token < 0 ? to.stride_before : to.stride;
    std::uint16_t* const y =
        (token < 0 ? to.before + (token + to.rows_before) * stride : to.run + token * stride) + channel + second;
    if (token < 0 || tokens - token >= mr_stage_tokens)
      write_rows(
          y, tensor, stride, second, [&](int) { return whole; }, [&](int) { return part; });
    else
      write_rows(
          y, tensor, stride, second, [&](int row) { return whole && token + row < tokens; },
          [&](int row) { return part && token + row < tokens; });
  }

 private:
  template <class Exists>
  __device__ void load_rows(unsigned tensor, const std::uint16_t* x, std::int64_t stride, const Exists& valid) const {
#pragma unroll 1
    for (int r = 0; r < mr_stage_tokens; r += 8)
#pragma unroll
      for (int i = 0; i < 8; ++i, x += stride)
        copy_4_bytes_async(tensor + at(i) + static_cast<unsigned>(r) * 32, x, valid(r + i));
  }
  /// whole, part: whether a row's word is written, or the half of it that y points to.
  template <class Whole, class Part>
  __device__ void write_rows(std::uint16_t* y, unsigned tensor, std::int64_t stride, int second, const Whole& whole,
                             const Part& part) const {
#pragma unroll 1
    for (int r = 0; r < mr_stage_tokens; r += 8)
#pragma unroll
      for (int i = 0; i < 8; ++i, y += stride) {
        const std::uint32_t x = load_word(tensor + at(i) + static_cast<unsigned>(r) * 32) >> (16 * second);
        if (whole(r + i)) *reinterpret_cast<std::uint32_t*>(y) = x;
        if (part(r + i)) *y = static_cast<std::uint16_t>(x);
      }
  }
};

}  // namespace causeway::cuda::fused_block
