#pragma once

#include "kernels/activation.hpp"
#include "kernels/attention.hpp"
#include "parallel/strategy.hpp"

/// What attention's strategies share: views of [tokens, H, E] tensors, and RoPE over a rank's chunks.
namespace causeway::attention {

/// Heads [heads.begin, heads.end) of a [tokens, H, E] view.
inline TensorView heads_of(TensorView x, const Range& heads) {
  TensorView part = x;
  part.data = static_cast<std::byte*>(x.data) + heads.begin * x.shape[2] * size_of(x.dtype);
  part.shape = {x.rows(), heads.size(), x.shape[2]};
  return part;
}

/// [tokens, H, E] as [tokens, H·E].
inline TensorView flat(TensorView x) {
  x.shape = {x.rows(), x.columns()};
  return x;
}

/// y = x turned by RoPE, or x itself without (base 0). y may be x.
inline void turn(const Stream& stream, TensorView x, SegmentsView segments, double base, TensorView y) {
  if (base > 0)
    rope(stream, {.x = x, .segments = segments, .base = base, .y = y});
  else if (y.data != x.data)
    scale(stream, {.x = x, .y = y});
}

/// Its adjoint, in place: a gradient in the accumulator type, before it is rounded.
inline void turn_back(const Stream& stream, TensorView x, SegmentsView segments, double base) {
  if (base > 0) rope(stream, {.x = x, .segments = segments, .base = base, .inverse = true, .y = x});
}

/// The same for a rank's chunks, each of which knows how far back its first document begins.
inline void turn(const StrategyContext& context, TensorView x, double base, TensorView y) {
  for (const Chunk& chunk : context.sharding.chunks())
    turn(context.stream, chunk.rows(x), chunk.segments(), base, chunk.rows(y));
}
inline void turn_back(const StrategyContext& context, TensorView x, double base) {
  for (const Chunk& chunk : context.sharding.chunks()) turn_back(context.stream, chunk.rows(x), chunk.segments(), base);
}

/// A result while it adds up, in its accumulator type: `to` itself where that is its type, else a tensor that round()
/// converts.
class Unrounded {
 public:
  Unrounded(const Stream& stream, TensorView to)
      : stream_(stream),
        to_(to),
        own_(to.dtype == accumulator_of(to.dtype) ? Tensor() : Tensor(stream, accumulator_of(to.dtype), to.shape)) {}

  TensorView view() const { return own_.present() ? own_.view() : to_; }
  void zero() const { fill(stream_, {.value = 0, .y = view()}); }
  void round() const {
    if (own_.present()) scale(stream_, {.x = own_, .y = to_});
  }

 private:
  const Stream& stream_;
  TensorView to_;
  Tensor own_;
};

inline Tensor delta_of(const Stream& stream, TensorView y, TensorView d_y) {
  Tensor delta(stream, accumulator_of(d_y.dtype), {d_y.rows(), d_y.shape[1]});
  attention_delta(stream, {.y = y, .d_y = d_y, .delta = delta});
  return delta;
}

}  // namespace causeway::attention
