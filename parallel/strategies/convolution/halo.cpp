/// halo: a rank receives the taps-1 rows before each of its chunks, as far as they belong to the same document.
/// Backward, the gradients of these rows are sent back and added where the rows came from. exchange/halo.hpp sends
/// both.

#include "parallel/strategies/convolution/short_filter.hpp"

namespace causeway::convolution::halo {
namespace {

/// Whether no row moves to or from this rank, as on one rank: its chunks then need no halo, and give none a gradient.
bool has_no_halo(const HaloPlan& plan) { return plan.sends.empty() && plan.receives.empty(); }

template <class Forward>
void run_forward(const StrategyContext& context, const Forward& args, Saved* saved) {
  const auto& [sharding, ranks, stream, schedule, method, received] = context;
  const std::int64_t reach = reach_of(args);
  const HaloPlan& plan = sharding.halo_plan(reach);
  Tensor halos;
  if (!has_no_halo(plan)) {
    halos = allocate_halos(context, filter_input(args).a, reach);
    if (!context.repeats()) start_halo(plan, filter_input(args), halos, ranks, stream).wait();
    context.pass_received(halos);
  }
  for (std::size_t i = 0; const Chunk& chunk : sharding.chunks()) {
    Forward local = on_chunk(args, chunk);
    if (halos.present()) local.halo = halo_of(halos, i++, reach);
    if (chunk.tokens.size() > 0) convolve(stream, local);
  }
  if (saved != nullptr) saved->put("halos", std::move(halos));
}

template <class Backward>
void run_backward(const StrategyContext& context, const Backward& args, Saved& saved) {
  const auto& [sharding, ranks, stream, schedule, method, received] = context;
  const std::int64_t reach = reach_of(args);
  const HaloPlan& plan = sharding.halo_plan(reach);
  const Tensor halos = saved.take("halos"),
               d_halos = has_no_halo(plan) ? Tensor() : allocate_halos(context, filter_input(args).a, reach);
  for (std::size_t i = 0; const Chunk& chunk : sharding.chunks()) {
    Backward local = on_chunk(args, chunk);
    if (halos.present()) {
      local.halo = halo_of(halos, i, reach);
      local.d_halo = halo_of(d_halos, i++, reach);
    }
    if (chunk.tokens.size() > 0) convolve(stream, local);
  }
  if (d_halos.present())
    start_halo_adjoint(plan, d_halos, filter_input(args), filter_input_gradient(args), ranks, stream).wait();
}

}  // namespace

void forward(const StrategyContext& context, CausalConvForward args, Saved* saved) {
  run_forward(context, args, saved);
}
void forward(const StrategyContext& context, BlockedConvForward args, Saved* saved) {
  run_forward(context, args, saved);
}
void backward(const StrategyContext& context, CausalConvBackward args, Saved& saved) {
  // One kernel can compute the product as well, but not with a halo: then the product is added first.
  const bool alone = has_no_halo(context.sharding.halo_plan(reach_of(args)));
  run_backward(context, alone ? args : with_product_added_to_d_y(context.stream, args), saved);
}
void backward(const StrategyContext& context, BlockedConvBackward args, Saved& saved) {
  run_backward(context, args, saved);
}
PassCosts cost(const Sharding& sharding, const CausalConvForward& args) { return halo_costs(sharding, args, 1, 0); }
PassCosts cost(const Sharding& sharding, const BlockedConvForward& args) { return halo_costs(sharding, args, 1, 0); }

}  // namespace causeway::convolution::halo
