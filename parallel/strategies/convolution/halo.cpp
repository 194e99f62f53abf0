/// halo: the last taps-1 tokens of the shards before travel to the right, clipped where a document starts; backward
/// their gradients travel to the left and are added where the tokens came from.

#include "parallel/strategies/convolution/short_filter.hpp"

namespace causeway::convolution::halo {
namespace {

template <class Forward>
void run_forward(const StrategyContext& context, const Forward& args, Saved* saved) {
  const auto& [sharding, ranks, stream, schedule, method] = context;
  const std::int64_t reach = reach_of(args);
  Tensor halos = room_for_halos(context, filtered(args).a, reach);
  start_halo(sharding.halo(reach), filtered(args), halos, ranks, stream).wait();
  for (std::size_t i = 0; const Chunk& chunk : sharding.chunks()) {
    Forward local = on_run(args, chunk);
    local.halo = halo_of(halos, i++, reach);
    if (chunk.tokens.size() > 0) convolve(stream, local);
  }
  if (saved != nullptr) saved->put("halos", std::move(halos));
}

template <class Backward>
void run_backward(const StrategyContext& context, const Backward& args, Saved& saved) {
  const auto& [sharding, ranks, stream, schedule, method] = context;
  const std::int64_t reach = reach_of(args);
  const Tensor halos = saved.take("halos"), d_halos = room_for_halos(context, filtered(args).a, reach);
  for (std::size_t i = 0; const Chunk& chunk : sharding.chunks()) {
    Backward local = on_run(args, chunk);
    local.halo = halo_of(halos, i, reach);
    local.d_halo = halo_of(d_halos, i++, reach);
    if (chunk.tokens.size() > 0) convolve(stream, local);
  }
  start_halo_adjoint(sharding.halo(reach), d_halos, filtered(args), filtered_gradient(args), ranks, stream).wait();
}

}  // namespace

void forward(const StrategyContext& context, CausalConvForward args, Saved* saved) {
  run_forward(context, args, saved);
}
void forward(const StrategyContext& context, BlockedConvForward args, Saved* saved) {
  run_forward(context, args, saved);
}
void backward(const StrategyContext& context, CausalConvBackward args, Saved& saved) {
  run_backward(context, args, saved);
}
void backward(const StrategyContext& context, BlockedConvBackward args, Saved& saved) {
  run_backward(context, args, saved);
}
Cost cost(const Sharding& sharding, const CausalConvForward& args) { return halo_cost(sharding, args, 0); }
Cost cost(const Sharding& sharding, const BlockedConvForward& args) { return halo_cost(sharding, args, 0); }

}  // namespace causeway::convolution::halo
