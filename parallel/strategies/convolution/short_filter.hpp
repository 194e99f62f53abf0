#pragma once

#include "kernels/activation.hpp"
#include "kernels/core/integer.hpp"
#include "parallel/cost/operator_kernels.hpp"
#include "parallel/exchange/halo.hpp"
#include "parallel/strategies/gates.hpp"
#include "parallel/strategy.hpp"

/// One interface to causal_conv, the gated convolutions and hyena_block with taps, so that halo and halo_overlapped are
/// written once for all: overloads for the argument structs of each.
namespace causeway::convolution {

inline std::int64_t reach_of(TensorView taps_in_columns) { return taps_in_columns.columns() - 1; }
inline std::int64_t reach_of(const CausalConvForward& args) { return reach_of(args.weight); }
inline std::int64_t reach_of(const CausalConvBackward& args) { return reach_of(args.weight); }
inline std::int64_t reach_of(const BlockedConvForward& args) { return reach_of(args.taps); }
inline std::int64_t reach_of(const BlockedConvBackward& args) { return reach_of(args.taps); }
/// One halo for both filters of a block.
inline std::int64_t reach_of(const HyenaBlockForward& args) { return block_reach(args.in); }
inline std::int64_t reach_of(const HyenaBlockBackward& args) { return block_reach(args.in); }

/// The tensor that the filter is applied to: x; the product k⊙v; or q, k and v. Halos consist of its rows.
inline FilterInput filter_input(const CausalConvForward& args) { return {.a = args.x, .b = {}}; }
inline FilterInput filter_input(const CausalConvBackward& args) { return {.a = args.x, .b = {}}; }
inline FilterInput filter_input(const GatedConvInputs& in) { return {.a = in.v, .b = in.k}; }
inline FilterInput filter_input(const BlockedConvForward& args) { return filter_input(args.in); }
inline FilterInput filter_input(const BlockedConvBackward& args) { return filter_input(args.in); }
inline FilterInput filter_input(const HyenaBlockInputs& in) { return {.a = in.q, .b = {}, .beside = {in.k, in.v}}; }
inline FilterInput filter_input(const HyenaBlockForward& args) { return filter_input(args.in); }
inline FilterInput filter_input(const HyenaBlockBackward& args) { return filter_input(args.in); }
inline FilterInput filter_input_gradient(const CausalConvBackward& args) { return {.a = args.d_x, .b = {}}; }
inline FilterInput filter_input_gradient(const BlockedConvBackward& args) {
  return {.a = args.gradients.d_v, .b = args.gradients.d_k};
}
inline FilterInput filter_input_gradient(const HyenaBlockBackward& args) {
  return {.a = args.d_q, .b = {}, .beside = {args.d_k, args.d_v}};
}

/// Where the rows before a run are put.
template <class Args>
TensorView& halo_of(Args& args) {
  return args.halo;
}
inline TensorView& halo_of(HyenaBlockForward& args) { return args.in.halo; }
inline TensorView& halo_of(HyenaBlockBackward& args) { return args.in.halo; }

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
inline HyenaBlockInputs on_chunk(HyenaBlockInputs in, const Chunk& chunk) {
  for (TensorView HyenaBlockInputs::*rows : {&HyenaBlockInputs::q, &HyenaBlockInputs::k, &HyenaBlockInputs::v})
    in.*rows = chunk.rows(in.*rows);
  in.segments = chunk.segments();
  return in;
}
inline HyenaBlockForward on_chunk(HyenaBlockForward args, const Chunk& chunk) {
  args.in = on_chunk(args.in, chunk);
  args.y = chunk.rows(args.y);
  return args;
}
inline HyenaBlockBackward on_chunk(HyenaBlockBackward args, const Chunk& chunk) {
  args.in = on_chunk(args.in, chunk);
  for (TensorView HyenaBlockBackward::*rows :
       {&HyenaBlockBackward::d_y, &HyenaBlockBackward::d_q, &HyenaBlockBackward::d_k, &HyenaBlockBackward::d_v})
    args.*rows = chunk.rows(args.*rows);
  return args;
}

inline void convolve(const Stream& stream, const CausalConvForward& args) { causal_conv_forward(stream, args); }
inline void convolve(const Stream& stream, const BlockedConvForward& args) { blocked_conv_forward(stream, args); }
inline void convolve(const Stream& stream, const CausalConvBackward& args) { causal_conv_backward(stream, args); }
inline void convolve(const Stream& stream, const BlockedConvBackward& args) { blocked_conv_backward(stream, args); }
inline void convolve(const Stream& stream, const HyenaBlockForward& args) { hyena_block_forward(stream, args); }
inline void convolve(const Stream& stream, const HyenaBlockBackward& args) { hyena_block_backward(stream, args); }

/// Whether no row moves to or from this rank, as on one rank: its chunks then need no halo, and give none a gradient.
inline bool has_no_halo(const HaloPlan& plan) { return plan.sends.empty() && plan.receives.empty(); }

/// The halo of the rank's i-th chunk; absent if the filter has one tap.
inline TensorView halo_of_chunk(TensorView halos, std::size_t chunk, std::int64_t reach) {
  return reach == 0 ? TensorView() : halos.slice_rows(static_cast<std::int64_t>(chunk) * reach, reach);
}

/// A tensor for the halos of all chunks of this rank.
inline Tensor allocate_halos(const StrategyContext& context, const FilterInput& x, std::int64_t reach) {
  return Tensor(context.stream, x.a.dtype, {std::ssize(context.sharding.chunks()) * reach, x.columns()});
}

/// The halos of all chunks, received; absent if this rank has none.
inline Tensor receive_halos(const StrategyContext& context, const FilterInput& x, std::int64_t reach) {
  const HaloPlan& plan = context.sharding.halo_plan(reach);
  if (has_no_halo(plan)) return {};
  Tensor halos = allocate_halos(context, x, reach);
  if (!context.repeats()) start_halo(plan, x, halos, context.ranks, context.stream).wait();
  context.pass_received(halos);
  return halos;
}

/// Adds to a cost that of sending and receiving halos of x.
inline void add_halo(Cost& cost, const ShardLayout& layout, const FilterInput& x, std::int64_t reach) {
  if (layout.ranks() == 1 || reach == 0) return;
  const std::int64_t chunks = layout.chunk_count() / layout.ranks(),
                     bytes = chunks * reach * x.columns() * size_of(x.a.dtype);
  cost.bytes_sent += bytes;
  cost.rounds += 1;
  // A reach that is longer than a chunk has rows of several.
  const std::int64_t of_a_chunk = std::max<std::int64_t>(1, layout.tokens() / layout.chunk_count());
  cost.messages += chunks * std::min<std::int64_t>(ceil_div(reach, of_a_chunk), layout.chunk_count() - 1);
  cost.copied_bytes += 4 * static_cast<double>(bytes);
  // packed (two tensors and their product, or three side by side), zeroed, unpacked
  cost.copies += x.b.present() || x.tensors() > 1 ? 5 : 3;
}

/// At most reach·D·s bytes per chunk, of each tensor side by side. `parts`: calls of the kernel per chunk; `hidden`: of
/// the communication.
template <class Forward>
PassCosts halo_costs(const Sharding& sharding, const Forward& args, int parts, double hidden) {
  const FilterInput x = filter_input(args);
  const ShardLayout& layout = sharding.layout();
  const std::int64_t chunks = layout.chunk_count() / layout.ranks(),
                     tokens = chunks * ceil_div(layout.tokens(), layout.chunk_count());
  Cost cost;
  cost.kernels.push_back({.kernel = kernel_of(args),
                          .elements = static_cast<double>(tokens) * static_cast<double>(x.a.columns()),
                          .calls = static_cast<double>(chunks * parts)});
  const Cost repeated = cost;
  add_halo(cost, layout, x, reach_of(args));
  if (cost.rounds > 0) cost.hidden = hidden;
  PassCosts costs{.forward = cost, .backward = adjoint(cost), .repeated = repeated};
  if (parts > 1) costs.backward.copies += static_cast<double>(2 * chunks);  // the head's gradients are added
  return costs;
}

}  // namespace causeway::convolution
