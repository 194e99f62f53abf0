#pragma once

#include <limits>

#include "kernels/cuda/selective_scan/selective_scan_walk.cuh"

namespace causeway::cuda {

/// The row warps' part of the walk: they read the inputs and write y.
///
/// A lane loads packets of 8 channels of one token and of 8 states of B and C, and computes two neighbouring channels
/// of four tokens of a tile.
template <class Shape>
class RowLane {
 public:
  using Memory = WalkMemory<Shape>;

  /// The lane of a set begins with tile `set`, and continues with every `sets`-th one.
  __device__ RowLane(const ScanInputs<bf16>& in, const WalkRun& run, const WalkPiece& piece, int set)
      : in_(in),
        index_((static_cast<int>(threadIdx.x) - 32 * Shape::scan_warps) % Shape::set_lanes),
        pair_(index_ % (Shape::channels / 2)),
        quad_(index_ / (Shape::channels / 2)),
        packet_(index_ % (Shape::channels / 8)),
        packet_row_(index_ / (Shape::channels / 8)),
        entries_row_(index_ / Shape::token_packets),
        gated_(in.z != nullptr),
        softplus_(in.softplus) {
    const std::int64_t first_channel = std::int64_t{blockIdx.x} * Shape::channels, packet = first_channel + packet_ * 8,
                       channel = first_channel + 2 * pair_;
    packet_inside_ = packet < in.channels;
    inside_ = channel < in.channels;
#pragma unroll
    for (int v = 0; v < 2; ++v) {
      bias_[v] = inside_ ? in.bias_of(channel + v) : 0.0f;
      skip_[v] = inside_ ? in.skip_of(channel + v) : 0.0f;
    }
    // Lanes that are outside read the first packet of their row.
    const std::int64_t begin = piece.begin + set * Shape::tile, row = begin + packet_row_,
                       column = packet_inside_ ? packet : 0;
    delta_ = in.delta + row * in.delta_stride + column;
    u_ = in.u + row * in.u_stride + column;
    z_ = gated_ ? in.z + row * in.z_stride + column : u_;
    delta_stride_ = in.delta_stride;
    u_stride_ = in.u_stride;
    z_stride_ = gated_ ? in.z_stride : 0;
    y_stride_ = run.y_stride;
    y_ = run.y + (begin + 4 * quad_) * y_stride_ + channel;
    const bool is_C = entry_is_C();
    entry_inside_ = entry_state() < in.states;
    entries_stride_ = is_C ? in.C_stride : in.B_stride;
    entries_ = (is_C ? in.C : in.B) + (begin + entries_row_) * entries_stride_ + (entry_inside_ ? entry_state() : 0);
  }

  /// Starts to read the set's next tile. The piece has `left` tokens from the tile's first one on, without the first
  /// `before` ones.
  __device__ void load(int before, int left, typename Memory::Raw& first, unsigned bytes,
                       typename Memory::RawEntries& first_entries, unsigned entries_bytes) {
    if (left > 0) {  // a copy that is not valid writes zeros and reads nothing
      const bool valid = packet_inside_ && packet_row_ < left && packet_row_ >= before;
      const int at = (packet_row_ / 4 * 5 + packet_row_ % 4) * (Shape::channels / 2) + packet_ * 4;
      copy_16_bytes_async(shared_address(&first.delta[0][0][at]) + bytes, valid ? delta_ : in_.delta, valid);
      copy_16_bytes_async(shared_address(&first.u[0][0][at]) + bytes, valid ? u_ : in_.u, valid);
      if (gated_) copy_16_bytes_async(shared_address(&first.z[0][0][at]) + bytes, valid ? z_ : in_.z, valid);
#pragma unroll
      for (int i = 0; i < Shape::entries; ++i) {
        const int further = i * entries_rows;
        if (entries_row_ + further >= Shape::tile) break;
        const bool inside = entry_inside_ && entries_row_ + further < left && entries_row_ + further >= before;
        copy_16_bytes_async(shared_address(&first_entries.packets[i][index_]) + entries_bytes,
                            inside ? entries_ + further * entries_stride_ : in_.B, inside);
      }
    }
    delta_ += Shape::sets * Shape::tile * delta_stride_;
    u_ += Shape::sets * Shape::tile * u_stride_;
    z_ += Shape::sets * Shape::tile * z_stride_;
    entries_ += Shape::sets * Shape::tile * entries_stride_;
    commit_async_copies();
  }

  /// Δ, Δu, B and C of a tile in float32. Outside of the piece Δ and u are zero: the state stays.
  __device__ void convert(int before, int left, const typename Memory::Raw& first, unsigned bytes,
                          const typename Memory::RawEntries& first_entries, unsigned entries_bytes,
                          typename Memory::Group* groups, unsigned groups_bytes) const {
    left -= 4 * quad_;
    before -= 4 * quad_;
    Quad<float> delta[2], x[2];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t steps = displaced(first.delta[quad_][i][pair_], bytes),
                          u = displaced(first.u[quad_][i][pair_], bytes);
      delta[0].at[i] = low_bf16(steps) + bias_[0];
      delta[1].at[i] = high_bf16(steps) + bias_[1];
      x[0].at[i] = low_bf16(u);
      x[1].at[i] = high_bf16(u);
    }
    if (softplus_)
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int v = 0; v < 2; ++v) delta[v].at[i] = softplus(delta[v].at[i]);
    if (left < 4 || before > 0)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (i >= left || i < before) delta[0].at[i] = delta[1].at[i] = 0;
#pragma unroll
    for (int v = 0; v < 2; ++v) {
#pragma unroll
      for (int i = 0; i < 4; ++i) x[v].at[i] *= delta[v].at[i];
      auto& to = groups[quad_ / 2];
      displaced(to.delta[quad_ % 2][v * (Shape::channels / 2) + pair_], groups_bytes) = delta[v];
      displaced(to.x[quad_ % 2][v * (Shape::channels / 2) + pair_], groups_bytes) = x[v];
    }
#pragma unroll
    for (int i = 0; i < Shape::entries; ++i) {
      const int token = entries_row_ + i * entries_rows;
      if (token >= Shape::tile) break;
      const uint4 p = displaced(first_entries.packets[i][index_], entries_bytes);
      auto& to = groups[token / walk_group];
      auto* const row = reinterpret_cast<Quad<float>*>(
          &displaced((entry_is_C() ? to.C : to.B)[token % walk_group][entry_state()], groups_bytes));
      row[0] = {low_bf16(p.x), high_bf16(p.x), low_bf16(p.y), high_bf16(p.y)};
      row[1] = {low_bf16(p.z), high_bf16(p.z), low_bf16(p.w), high_bf16(p.w)};
    }
  }

  /// y = (⟨C, h⟩ + D u) silu(z) of the set's next tile.
  __device__ void write(int before, int left, const typename Memory::Raw& first, unsigned bytes,
                        const typename Memory::Group* groups, unsigned groups_bytes) {
    left = inside_ ? left - 4 * quad_ : 0;
    before -= 4 * quad_;
    const auto& from = groups[quad_ / 2];
    Quad<float> y[2];
#pragma unroll
    for (int v = 0; v < 2; ++v) {
      const int at = v * (Shape::channels / 2) + pair_;
      y[v] = displaced(from.y[0][quad_ % 2][at], groups_bytes);
#pragma unroll
      for (int part = 1; part < Shape::parts; ++part) {
        const Quad<float> other = displaced(from.y[part][quad_ % 2][at ^ part % 2 * 4], groups_bytes);
#pragma unroll
        for (int i = 0; i < 4; ++i) y[v].at[i] += other.at[i];
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t u = displaced(first.u[quad_][i][pair_], bytes);
      y[0].at[i] += skip_[0] * low_bf16(u);
      y[1].at[i] += skip_[1] * high_bf16(u);
    }
    if (gated_)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const std::uint32_t z = displaced(first.z[quad_][i][pair_], bytes);
        y[0].at[i] *= silu(low_bf16(z));
        y[1].at[i] *= silu(high_bf16(z));
      }
    const auto store = [&](int i) {
      *reinterpret_cast<std::uint32_t*>(y_ + i * y_stride_) = pack_bf16(y[0].at[i], y[1].at[i]);
    };
    if (left >= 4 && before <= 0)
#pragma unroll
      for (int i = 0; i < 4; ++i) store(i);
    else
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (i < left && i >= before) store(i);
    y_ += Shape::sets * Shape::tile * y_stride_;
  }

 private:
  static constexpr int entries_rows = Shape::set_lanes / Shape::token_packets;  ///< tokens whose B and C the lanes load
  __device__ int entry_state() const { return 8 * (index_ % (Shape::token_packets / 2)); }
  __device__ bool entry_is_C() const { return index_ / (Shape::token_packets / 2) % 2 != 0; }

  const ScanInputs<bf16>& in_;
  int index_, pair_, quad_;  ///< among the row lanes; the channels and tokens that the lane computes
  int packet_, packet_row_;  ///< the channels and the token of the packet that the lane loads
  int entries_row_;          ///< the first token of whose B or C the lane loads 8 states
  bool gated_, softplus_, packet_inside_, inside_, entry_inside_;
  float bias_[2], skip_[2];
  const bf16 *delta_, *u_, *z_, *entries_;
  bf16* y_;
  std::int64_t delta_stride_, u_stride_, z_stride_, y_stride_, entries_stride_;
};

/// Finds the documents' starts in a set's tiles, one after the other. A warp holds it together.
template <int sets, int tile>
class TileStarts {
 public:
  __device__ TileStarts(const SegmentsView& segments, std::int64_t begin)
      : segments_(segments),
        begin_(begin),
        lane_(static_cast<int>(threadIdx.x) % 32),
        next_(warp_upper_bound(segments.cu_seqlens, segments.count + 1, begin - 1, lane_)) {
    read();
  }
  /// Bit k: token k of the set's next tile is the first of its document.
  __device__ std::uint32_t next() {
    static_assert(sets * tile <= 64);  // two starts a lane: one for each token until the set's tile after this one
    const std::uint32_t bits = __reduce_or_sync(~0u, start_[0] - at_ < tile ? 1u << (start_[0] - at_) : 0u);
    at_ += sets * tile;
    const int passed = __popc(__ballot_sync(~0u, start_[0] < at_)) + __popc(__ballot_sync(~0u, start_[1] < at_));
    if (passed > 0) {
      next_ += passed;
      read();
    }
    return bits;
  }

 private:
  __device__ void read() {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const std::int64_t document = next_ + 32 * i + lane_;
      start_[i] = document < segments_.count ? static_cast<int>(segments_.cu_seqlens[document] - begin_)
                                             : std::numeric_limits<int>::max();
    }
  }

  SegmentsView segments_;
  std::int64_t begin_;
  int lane_;
  std::int64_t next_;      ///< the first document that starts at the set's next tile or after it
  int at_ = 0, start_[2];  ///< relative to begin: the set's next tile; the starts of documents next + lane (+ 32)
};

template <class Shape>
__device__ void walk_over_rows(const ScanInputs<bf16>& in, const WalkRun& run, const WalkPiece& piece,
                               WalkMemory<Shape>& shared) {
  constexpr int sets = Shape::sets, rounds = Shape::stages / sets, lag = rounds - 1;
  const int set = (static_cast<int>(threadIdx.x) / 32 - Shape::scan_warps) / Shape::set_warps;
  const bool first_warp = static_cast<int>(threadIdx.x) / 32 == Shape::scan_warps + set * Shape::set_warps;
  RowLane<Shape> lane(in, run, piece, set);
  TileStarts<sets, Shape::tile> starts(in.segments, piece.begin + set * Shape::tile);
  const int tiles = (piece.tiles - set + sets - 1) / sets;  // of the set
  int left = piece.tokens - set * Shape::tile;              // tokens from the set's tile i on
  const int first_before = set == 0 ? piece.before : 0;     // tokens of the set's first tile before the piece
  typename WalkMemory<Shape>::Raw& raw = shared.raw[set][0];
  typename WalkMemory<Shape>::RawEntries& entries = shared.entries[set][0];
  typename WalkMemory<Shape>::Group* const groups = &shared.group[set * Shape::groups];
  const auto raw_bytes = [](int i) { return static_cast<unsigned>(i) % Shape::raw * unsigned{sizeof(raw)}; };
  const auto entries_bytes = [](int i) { return static_cast<unsigned>(i) % Shape::ahead * unsigned{sizeof(entries)}; };
  const auto round = [](int i) { return static_cast<unsigned>(i) % rounds; };
  constexpr unsigned round_bytes = sets * Shape::groups * sizeof(*groups);
  for (int i = 0; i < Shape::ahead; ++i)
    lane.load(i == 0 ? first_before : 0, left - i * sets * Shape::tile, raw, raw_bytes(i), entries, entries_bytes(i));
  for (int i = 0; i < tiles + lag; ++i, left -= sets * Shape::tile) {
    if (i < tiles) {
      // 1. Convert the set's tile i. Its place became free when tile i - rounds was written. The barrier also says that
      // all warps of the set have written tile i - lag - 1, whose raw inputs step 3 overwrites.
      wait_for_async_copies<Shape::ahead - 1>();
      shared.read[set].arrive_as_warp();
      shared.read[set].wait(static_cast<unsigned>(i) % 2);
      lane.convert(i == 0 ? first_before : 0, left, raw, raw_bytes(i), entries, entries_bytes(i), groups,
                   round(i) * round_bytes);
      if (first_warp) {
        const std::uint32_t bits = starts.next();
        if (const unsigned g = threadIdx.x % 32; g < Shape::groups)
          displaced(groups[g].starts, round(i) * round_bytes) = bits >> (g * walk_group) & ((1u << walk_group) - 1);
      }
      shared.full[round(i) * sets + static_cast<unsigned>(set)].arrive_as_warp();
    }
    if (const int before = i - lag; before >= 0) {
      // 2. Write y of tile i - lag.
      shared.done[round(before) * sets + static_cast<unsigned>(set)].wait(static_cast<unsigned>(before) / rounds % 2);
      lane.write(before == 0 ? first_before : 0, left + lag * sets * Shape::tile, raw, raw_bytes(before), groups,
                 round(before) * round_bytes);
    }
    // 3. Start to read tile i + ahead.
    lane.load(0, left - Shape::ahead * sets * Shape::tile, raw, raw_bytes(i + Shape::ahead), entries, entries_bytes(i));
  }
}

}  // namespace causeway::cuda
