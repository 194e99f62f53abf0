#pragma once

#include "kernels/activation.hpp"
#include "kernels/core/integer.hpp"
#include "parallel/cost/operator_kernels.hpp"
#include "parallel/exchange/halo.hpp"
#include "parallel/strategies/gates.hpp"
#include "parallel/strategy.hpp"

/// One interface to causal_conv and the gated convolutions, so that halo and halo_overlapped are written once for both:
/// overloads for the argument structs of each.
namespace causeway::convolution {

inline std::int64_t reach_of(TensorView taps_in_columns) { return taps_in_columns.columns() - 1; }
inline std::int64_t reach_of(const CausalConvForward& args) { return reach_of(args.weight); }
inline std::int64_t reach_of(const CausalConvBackward& args) { return reach_of(args.weight); }
inline std::int64_t reach_of(const BlockedConvForward& args) { return reach_of(args.taps); }
inline std::int64_t reach_of(const BlockedConvBackward& args) { return reach_of(args.taps); }

/// The tensor that the filter is applied to: x, or the product k⊙v. Halos consist of its rows.
inline FilterInput filter_input(const CausalConvForward& args) { return {.a = args.x, .b = {}}; }
inline FilterInput filter_input(const CausalConvBackward& args) { return {.a = args.x, .b = {}}; }
inline FilterInput filter_input(const GatedConvInputs& in) { return {.a = in.v, .b = in.k}; }
inline FilterInput filter_input(const BlockedConvForward& args) { return filter_input(args.in); }
inline FilterInput filter_input(const BlockedConvBackward& args) { return filter_input(args.in); }
inline FilterInput filter_input_gradient(const CausalConvBackward& args) { return {.a = args.d_x, .b = {}}; }
inline FilterInput filter_input_gradient(const BlockedConvBackward& args) {
  return {.a = args.gradients.d_v, .b = args.gradients.d_k};
}

/// The arguments for the rows of one chunk.
inline CausalConvForward on_chunk(CausalConvForward args, const Chunk& chunk) {
  args.x = chunk.rows(args.x);
  args.y = chunk.rows(args.y);
  args.segments = chunk.segments();
  return args;
}
inline CausalConvBackward on_chunk(CausalConvBackward args, const Chunk& chunk) {
  args.x = chunk.rows(args.x);
  args.d_y = chunk.rows(args.d_y);
  args.d_y_product.a = chunk.rows(args.d_y_product.a);
  args.d_x = chunk.rows(args.d_x);
  args.segments = chunk.segments();
  return args;
}
inline BlockedConvForward on_chunk(BlockedConvForward args, const Chunk& chunk) {
  args.in = on_chunk(args.in, chunk);
  args.y = chunk.rows(args.y);
  return args;
}
inline BlockedConvBackward on_chunk(BlockedConvBackward args, const Chunk& chunk) {
  args.in = on_chunk(args.in, chunk);
  args.gradients = on_chunk(args.gradients, chunk);
  return args;
}

inline void convolve(const Stream& stream, const CausalConvForward& args) { causal_conv_forward(stream, args); }
inline void convolve(const Stream& stream, const BlockedConvForward& args) { blocked_conv_forward(stream, args); }
inline void convolve(const Stream& stream, const CausalConvBackward& args) { causal_conv_backward(stream, args); }
inline void convolve(const Stream& stream, const BlockedConvBackward& args) { blocked_conv_backward(stream, args); }

/// The halo of the rank's i-th chunk; absent if the filter has one tap.
inline TensorView halo_of(TensorView halos, std::size_t chunk, std::int64_t reach) {
  return reach == 0 ? TensorView() : halos.slice_rows(static_cast<std::int64_t>(chunk) * reach, reach);
}

/// A tensor for the halos of all chunks of this rank.
inline Tensor allocate_halos(const StrategyContext& context, TensorView like, std::int64_t reach) {
  return Tensor(context.stream, like.dtype, {std::ssize(context.sharding.chunks()) * reach, like.columns()});
}

/// At most (taps-1)·D·s bytes per chunk. `parts`: calls of the kernel per chunk; `hidden`: of the communication.
template <class Forward>
PassCosts halo_costs(const Sharding& sharding, const Forward& args, int parts, double hidden) {
  const TensorView like = filter_input(args).a;
  const ShardLayout& layout = sharding.layout();
  const std::int64_t chunks = layout.chunk_count() / layout.ranks(),
                     tokens = chunks * ceil_div(layout.tokens(), layout.chunk_count());
  Cost cost;
  cost.kernels.push_back({.kernel = kernel_of(args),
                          .elements = static_cast<double>(tokens) * static_cast<double>(like.columns()),
                          .calls = static_cast<double>(chunks * parts)});
  const Cost repeated = cost;
  if (layout.ranks() > 1 && reach_of(args) > 0) {
    const std::int64_t rows = chunks * reach_of(args) * like.columns() * size_of(like.dtype);
    cost.bytes_sent = rows;
    cost.messages = 1;
    cost.hidden = hidden;
    cost.copied_bytes = 4 * static_cast<double>(rows);
    cost.copies = filter_input(args).b.present() ? 5 : 3;  // packed (two tensors, and their product), zeroed, unpacked
  }
  PassCosts costs{.forward = cost, .backward = adjoint(cost), .repeated = repeated};
  if (parts > 1) costs.backward.copies += static_cast<double>(2 * chunks);  // the head's gradients are added
  return costs;
}

}  // namespace causeway::convolution
