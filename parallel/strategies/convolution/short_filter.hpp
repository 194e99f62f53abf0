#pragma once

#include "kernels/activation.hpp"
#include "kernels/core/integer.hpp"
#include "parallel/exchange/halo.hpp"
#include "parallel/strategies/gates.hpp"
#include "parallel/strategy.hpp"

/// causal_conv and the gated convolutions as one: what strategies have to know of a convolution whose filter is short.
/// Each strategy is written once over these functions, for both.
namespace causeway::convolution {

inline std::int64_t reach_of(TensorView taps_in_columns) { return taps_in_columns.columns() - 1; }
inline std::int64_t reach_of(const CausalConvForward& args) { return reach_of(args.weight); }
inline std::int64_t reach_of(const CausalConvBackward& args) { return reach_of(args.weight); }
inline std::int64_t reach_of(const BlockedConvForward& args) { return reach_of(args.taps); }
inline std::int64_t reach_of(const BlockedConvBackward& args) { return reach_of(args.taps); }

/// What the filter meets: the rows that halos are made of.
inline HaloRows filtered(const CausalConvForward& args) { return {.a = args.x, .b = {}}; }
inline HaloRows filtered(const CausalConvBackward& args) { return {.a = args.x, .b = {}}; }
inline HaloRows filtered(const GatedConvInputs& in) { return {.a = in.v, .b = in.k}; }
inline HaloRows filtered(const BlockedConvForward& args) { return filtered(args.in); }
inline HaloRows filtered(const BlockedConvBackward& args) { return filtered(args.in); }
inline HaloRows filtered_gradient(const CausalConvBackward& args) { return {.a = args.d_x, .b = {}}; }
inline HaloRows filtered_gradient(const BlockedConvBackward& args) {
  return {.a = args.gradients.d_v, .b = args.gradients.d_k};
}

/// The same arguments on the rows of one run.
inline CausalConvForward on_run(CausalConvForward args, const Chunk& run) {
  args.x = run.rows(args.x);
  args.y = run.rows(args.y);
  args.segments = run.segments();
  return args;
}
inline CausalConvBackward on_run(CausalConvBackward args, const Chunk& run) {
  args.x = run.rows(args.x);
  args.d_y = run.rows(args.d_y);
  args.d_x = run.rows(args.d_x);
  args.segments = run.segments();
  return args;
}
inline BlockedConvForward on_run(BlockedConvForward args, const Chunk& run) {
  args.in = on_run(args.in, run);
  args.y = run.rows(args.y);
  return args;
}
inline BlockedConvBackward on_run(BlockedConvBackward args, const Chunk& run) {
  args.in = on_run(args.in, run);
  args.gradients = on_run(args.gradients, run);
  return args;
}

inline void convolve(const Stream& stream, const CausalConvForward& args) { causal_conv_forward(stream, args); }
inline void convolve(const Stream& stream, const BlockedConvForward& args) { blocked_conv_forward(stream, args); }
inline void convolve(const Stream& stream, const CausalConvBackward& args) { causal_conv_backward(stream, args); }
inline void convolve(const Stream& stream, const BlockedConvBackward& args) { blocked_conv_backward(stream, args); }

/// Multiply-adds of one channel of one token.
inline double operations_a_token(const CausalConvForward& args) { return static_cast<double>(reach_of(args) + 1); }
inline double operations_a_token(const BlockedConvForward& args) { return static_cast<double>(reach_of(args) + 1); }

/// The rows of chunk i of a halo tensor; absent without a halo (one tap).
inline TensorView halo_of(TensorView halos, std::size_t chunk, std::int64_t reach) {
  return reach == 0 ? TensorView() : halos.slice_rows(static_cast<std::int64_t>(chunk) * reach, reach);
}

inline Tensor room_for_halos(const StrategyContext& context, TensorView like, std::int64_t reach) {
  return Tensor(context.stream, like.dtype, {std::ssize(context.sharding.chunks()) * reach, like.columns()});
}

/// strategies.md: at most (taps-1)·D·s bytes a chunk.
template <class Forward>
Cost halo_cost(const Sharding& sharding, const Forward& args, double hidden) {
  const TensorView like = filtered(args).a;
  const ShardLayout& layout = sharding.layout();
  const std::int64_t chunks = layout.chunk_count() / layout.ranks(),
                     tokens = chunks * ceil_div(layout.tokens(), layout.chunk_count());
  const double operations =
      operations_a_token(args) * static_cast<double>(like.columns()) * static_cast<double>(tokens);
  if (layout.ranks() == 1 || reach_of(args) == 0) return {.operations = operations};
  return {.operations = operations,
          .bytes_sent = chunks * reach_of(args) * like.columns() * size_of(like.dtype),
          .messages = 1,
          .hidden = hidden};
}

}  // namespace causeway::convolution
