/// halo: a rank receives the taps-1 rows before each of its chunks, as far as they belong to the same document.
/// Backward, the gradients of these rows are sent back and added where the rows came from. exchange/halo.hpp sends
/// both.

#include "parallel/strategies/convolution/short_filter.hpp"

namespace causeway::convolution::halo {
namespace {

template <class Forward>
void run_forward(const StrategyContext& context, const Forward& args, Saved* saved) {
  const auto& [sharding, ranks, stream, schedule, method] = context;
  const std::int64_t reach = reach_of(args);
  Tensor halos = allocate_halos(context, filter_input(args).a, reach);
  start_halo(sharding.halo_plan(reach), filter_input(args), halos, ranks, stream).wait();
  for (std::size_t i = 0; const Chunk& chunk : sharding.chunks()) {
    Forward local = on_chunk(args, chunk);
    local.halo = halo_of(halos, i++, reach);
    if (chunk.tokens.size() > 0) convolve(stream, local);
  }
  if (saved != nullptr) saved->put("halos", std::move(halos));
}

template <class Backward>
void run_backward(const StrategyContext& context, const Backward& args, Saved& saved) {
  const auto& [sharding, ranks, stream, schedule, method] = context;
  const std::int64_t reach = reach_of(args);
  const Tensor halos = saved.take("halos"), d_halos = allocate_halos(context, filter_input(args).a, reach);
  for (std::size_t i = 0; const Chunk& chunk : sharding.chunks()) {
    Backward local = on_chunk(args, chunk);
    local.halo = halo_of(halos, i, reach);
    local.d_halo = halo_of(d_halos, i++, reach);
    if (chunk.tokens.size() > 0) convolve(stream, local);
  }
  start_halo_adjoint(sharding.halo_plan(reach), d_halos, filter_input(args), filter_input_gradient(args), ranks, stream)
      .wait();
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
