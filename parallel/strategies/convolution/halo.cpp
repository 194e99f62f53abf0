/// halo: a rank receives the taps-1 rows before each of its chunks, as far as they belong to the same document.
/// Backward, the gradients of these rows are sent back and added where the rows came from. exchange/halo.hpp sends
/// both.

#include "parallel/strategies/convolution/modal_block.hpp"
#include "parallel/strategies/convolution/short_filter.hpp"

namespace causeway::convolution::halo {
namespace {

template <class Forward>
void run_forward(const StrategyContext& context, const Forward& args, Saved* saved) {
  const Sharding& sharding = context.sharding;
  const Stream& stream = context.stream;
  const std::int64_t reach = reach_of(args);
  Tensor halos = receive_halos(context, filter_input(args), reach);
  for (std::size_t i = 0; const Chunk& chunk : sharding.chunks()) {
    Forward local = on_chunk(args, chunk);
    if (halos.present()) halo_of(local) = halo_of_chunk(halos, i++, reach);
    if (chunk.tokens.size() > 0) convolve(stream, local);
  }
  if (saved != nullptr) saved->put("halos", std::move(halos));
}

template <class Backward>
void run_backward(const StrategyContext& context, const Backward& args, Saved& saved) {
  const Sharding& sharding = context.sharding;
  Communicator& ranks = context.ranks;
  const Stream& stream = context.stream;
  const std::int64_t reach = reach_of(args);
  const HaloPlan& plan = sharding.halo_plan(reach);
  const Tensor halos = saved.take("halos"),
               d_halos = has_no_halo(plan) ? Tensor() : allocate_halos(context, filter_input(args), reach);
  for (std::size_t i = 0; const Chunk& chunk : sharding.chunks()) {
    Backward local = on_chunk(args, chunk);
    if (halos.present()) {
      halo_of(local) = halo_of_chunk(halos, i, reach);
      local.d_halo = halo_of_chunk(d_halos, i++, reach);
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
void forward(const StrategyContext& context, HyenaBlockForward args, Saved* saved) {
  args.in.modal() ? modal_block::forward(context, args, saved) : run_forward(context, args, saved);
}
void backward(const StrategyContext& context, HyenaBlockBackward args, Saved& saved) {
  args.in.modal() ? modal_block::backward(context, args, saved) : run_backward(context, args, saved);
}
PassCosts cost(const Sharding& sharding, const CausalConvForward& args) { return halo_costs(sharding, args, 1, 0); }
PassCosts cost(const Sharding& sharding, const BlockedConvForward& args) { return halo_costs(sharding, args, 1, 0); }
PassCosts cost(const Sharding& sharding, const HyenaBlockForward& args) {
  return args.in.modal() ? modal_block::cost(sharding, args) : halo_costs(sharding, args, 1, 0);
}

}  // namespace causeway::convolution::halo
