/// causal_conv by halo: the last W-1 tokens of the shards before travel to the right, clipped where a document starts; backward their gradients
/// travel to the left and are added where the tokens came from.

#include "parallel/halo.hpp"
#include "parallel/strategy.hpp"

namespace causeway::convolution::halo {
namespace {

/// The rows of chunk i of a halo tensor; absent without a halo (one tap).
TensorView part(TensorView halo, std::size_t chunk, std::int64_t reach) {
  return reach == 0 ? TensorView() : halo.slice_rows(static_cast<std::int64_t>(chunk) * reach, reach);
}

}  // namespace

void forward(const StrategyContext& context, CausalConvForward args, Saved* saved) {
  const auto& [sharding, ranks, stream, schedule] = context;
  const std::int64_t reach = args.weight.columns() - 1;
  Tensor halo(stream, args.x.dtype, {std::ssize(sharding.chunks()) * reach, args.x.columns()});
  halo_forward(sharding.halo(reach), args.x, halo, ranks, stream);
  for (std::size_t i = 0; const Chunk& chunk : sharding.chunks()) {
    CausalConvForward local = args;
    local.x = chunk.rows(args.x);
    local.y = chunk.rows(args.y);
    local.halo = part(halo, i++, reach);
    local.segments = chunk.segments();
    if (local.segments.tokens > 0) causal_conv_forward(stream, local);
  }
  if (saved != nullptr) saved->push(std::move(halo));
}

void backward(const StrategyContext& context, CausalConvBackward args, Saved& saved) {
  const auto& [sharding, ranks, stream, schedule] = context;
  const std::int64_t reach = args.weight.columns() - 1;
  const Tensor halo = saved.pop();
  const Tensor d_halo(stream, args.x.dtype, halo.view().shape);
  for (std::size_t i = 0; const Chunk& chunk : sharding.chunks()) {
    CausalConvBackward local = args;
    local.x = chunk.rows(args.x);
    local.d_y = chunk.rows(args.d_y);
    local.d_x = chunk.rows(args.d_x);
    local.halo = part(halo, i, reach);
    local.d_halo = part(d_halo, i++, reach);
    local.segments = chunk.segments();
    if (local.segments.tokens > 0) causal_conv_backward(stream, local);
  }
  halo_backward(sharding.halo(reach), d_halo, args.d_x, ranks, stream);
}

}  // namespace causeway::convolution::halo
