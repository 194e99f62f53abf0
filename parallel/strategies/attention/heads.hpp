#pragma once

#include <algorithm>
#include <vector>

#include "kernels/activation.hpp"
#include "kernels/attention.hpp"
#include "kernels/core/integer.hpp"
#include "parallel/exchange/reshard.hpp"
#include "parallel/strategy.hpp"

/// Shared by the strategies of attention: views of [tokens, H, E] tensors, and RoPE on a rank's chunks.
namespace causeway::attention {

/// Heads [heads.begin, heads.end) of a [tokens, H, E] view.
inline TensorView heads_of(TensorView x, const Range& heads) {
  TensorView part = x;
  part.data = static_cast<std::byte*>(x.data) + heads.begin * x.shape[2] * size_of(x.dtype);
  part.shape = {x.rows(), heads.size(), x.shape[2]};
  return part;
}

/// Reads or writes of an element in the accumulator type, counted in those of `dtype`, for costs.
inline int accesses_of_accumulator(DType dtype) {
  return static_cast<int>(size_of(accumulator_of(dtype)) / size_of(dtype));
}

/// [tokens, H, E] as [tokens, H·E].
inline TensorView flatten_heads(TensorView x) {
  x.shape = {x.rows(), x.columns()};
  return x;
}

/// y = RoPE(x), or a copy of x without RoPE (base 0). y may be x.
inline void apply_rope(const Stream& stream, TensorView x, SegmentsView segments, const RopeAngles& angles,
                       TensorView y) {
  if (angles.base > 0)
    rope(stream, {.x = x, .segments = segments, .angles = angles, .y = y});
  else if (y.data != x.data)
    scale(stream, {.x = x, .y = y});
}

/// The adjoint of RoPE, in place.
inline void apply_rope_adjoint(const Stream& stream, TensorView x, SegmentsView segments, const RopeAngles& angles) {
  if (angles.base > 0) rope(stream, {.x = x, .segments = segments, .angles = angles, .inverse = true, .y = x});
}

/// The same on a rank's chunks: positions count from the start of the document, which may be before the chunk.
inline void apply_rope(const StrategyContext& context, TensorView x, const RopeAngles& angles, TensorView y) {
  for (const Chunk& chunk : context.sharding.chunks())
    apply_rope(context.stream, chunk.rows(x), chunk.segments(), angles, chunk.rows(y));
}
inline void apply_rope_adjoint(const StrategyContext& context, TensorView x, const RopeAngles& angles) {
  for (const Chunk& chunk : context.sharding.chunks())
    apply_rope_adjoint(context.stream, chunk.rows(x), chunk.segments(), angles);
}

/// A rank's rows of x with RoPE applied: a copy, or x itself without RoPE and where it was applied in place.
class Rotated {
 public:
  Rotated(const StrategyContext& context, TensorView x, const RopeAngles& angles) : view_(x) {
    if (angles.base == 0) return;
    copy_ = Tensor(context.stream, x.dtype, x.shape);
    apply_rope(context, x, angles, copy_);
    view_ = copy_;
  }
  TensorView view() const { return view_; }

 private:
  Tensor copy_;
  TensorView view_;
};

/// Rotates q and k in place, if the arguments ask for it. Returns the angles by which the strategy still has to rotate.
inline RopeAngles rotate_in_place(const StrategyContext& context, const RotaryAttentionForward& args) {
  if (!args.rotate_in_place) return args.rope;
  for (const TensorView x : {args.q, args.k}) apply_rope(context, x, args.rope, x);
  return {.base = 0};
}
/// In the backward pass, in which they are rotated already.
inline RopeAngles angles_of_inputs(const RotaryAttentionBackward& args) {
  return args.rotate_in_place ? RopeAngles{.base = 0} : args.rope;
}

/// The dtype in which gradients of rotated q and k are computed: they are rounded after the adjoint of RoPE, unless the
/// kernels round them anyway.
inline DType gradient_dtype(const Stream& stream, const AttentionInputs& in) {
  const bool rounded = attention_form(stream.device(), {.q = in.q, .k = in.k, .v = in.v}).fused;
  return rounded ? in.q.dtype : accumulator_of(in.q.dtype);
}

/// A result that is computed in the accumulator type, or in `dtype`, and then stored in `to`. If `to` has that dtype,
/// it is computed there; otherwise in a separate tensor, which store() rounds.
class WideResult {
 public:
  WideResult(const Stream& stream, TensorView to) : WideResult(stream, to, accumulator_of(to.dtype)) {}
  WideResult(const Stream& stream, TensorView to, DType dtype)
      : stream_(stream), to_(to), wide_(to.dtype == dtype ? Tensor() : Tensor(stream, dtype, to.shape)) {}

  TensorView view() const { return wide_.present() ? wide_.view() : to_; }
  void zero() const { fill(stream_, {.value = 0, .y = view()}); }
  void store() const {
    if (wide_.present()) scale(stream_, {.x = wide_, .y = to_});
  }

 private:
  const Stream& stream_;
  TensorView to_;
  Tensor wide_;
};

/// Limits of the slices of whole heads in which a rank's keys and values move between ranks.
struct SliceLimits {
  std::int64_t most, least_bytes;
};
/// The number of slices, the same on all ranks: at most `limits.most`, and at most `heads`, of at least
/// `limits.least_bytes` each. Smaller slices would save little memory and cost latency.
inline int slices_of_heads(const ShardLayout& layout, TensorView k, std::int64_t heads, SliceLimits limits) {
  if (layout.ranks() == 1) return 1;
  const std::int64_t bytes = 2 * (layout.tokens() / layout.ranks()) * k.columns() * size_of(k.dtype);
  return static_cast<int>(
      std::clamp<std::int64_t>(bytes / limits.least_bytes, 1, std::clamp<std::int64_t>(heads, 1, limits.most)));
}
/// The number of slices of all heads, in ring and all_gather.
inline int slices_of_all_heads(const ShardLayout& layout, TensorView k) {
  return slices_of_heads(layout, k, k.shape[1], {.most = 4, .least_bytes = 1 << 20});
}
inline std::vector<Range> all_heads_in_slices(const ShardLayout& layout, TensorView k) {
  const std::int64_t heads = k.shape[1], count = slices_of_all_heads(layout, k);
  std::vector<Range> ranges;
  for (std::int64_t i = 0; i < count; ++i) ranges.push_back({heads * i / count, heads * (i + 1) / count});
  return ranges;
}
/// The number of pieces of each slice, in the reduction of all_gather's gradients.
inline int all_gather_pieces(const ShardLayout& layout, TensorView k) {
  const std::int64_t slices = slices_of_all_heads(layout, k), row_bytes = k.columns() / slices * size_of(k.dtype);
  return std::min(static_cast<int>(ceil_div<std::int64_t>(reduce_pieces, slices)),
                  pieces_of_long_messages(layout, row_bytes));
}
/// The number of slices of the heads that a rank has in all_to_all. They are computed together where messages would be
/// short. At most two: each call has an end at which not all of a GPU is busy.
inline int slices_of_own_heads(const ShardLayout& layout, TensorView k) {
  return slices_of_heads(layout, k, ceil_div<std::int64_t>(k.shape[1], layout.ranks()),
                         {.most = 2, .least_bytes = 4 << 20});
}

/// delta = Σ over a head of y⊙d_y, for the backward pass of the softmax: [tokens, H].
inline Tensor delta_of(const Stream& stream, TensorView y, TensorView d_y) {
  Tensor delta(stream, accumulator_of(d_y.dtype), {d_y.rows(), d_y.shape[1]});
  attention_delta(stream, {.y = y, .d_y = d_y, .delta = delta});
  return delta;
}

}  // namespace causeway::attention
