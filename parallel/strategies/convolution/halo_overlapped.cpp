/// halo_overlapped: while the halo is in flight, the rows of a chunk after its first taps-1 are computed, because they
/// need no halo; the first taps-1 rows are computed afterwards. Backward computes the first taps-1 rows first, and the
/// others while the gradient of the halo is in flight.

#include "parallel/strategies/convolution/modal_block.hpp"
#include "parallel/strategies/convolution/short_filter.hpp"

namespace causeway::convolution::halo_overlapped {
namespace {

/// A chunk in two parts: the head needs the halo; the body needs the last rows of the head in place of a halo.
struct HeadAndBody {
  const Chunk& head;
  const Chunk& body;
  HeadAndBody(const Sharding& sharding, const Chunk& chunk, std::int64_t reach)
      : head(sharding.sub_chunk(chunk, 0, std::min(reach, chunk.tokens.size()))),
        body(sharding.sub_chunk(chunk, head.tokens.size(), chunk.tokens.size())) {}
};

/// The rows before the body, in place of its halo: the head's rows, or their products, or several tensors' rows side by
/// side; the last two stored in `memory`.
template <class Args>
TensorView head_as_halo(const StrategyContext& context, const Args& args, const Chunk& head, Tensor& memory) {
  const FilterInput x = filter_input(args);
  if (head.tokens.size() == 0) return {};
  if (!x.b.present() && x.tensors() == 1) return head.rows(x.a);
  memory = Tensor(context.stream, x.a.dtype, {head.tokens.size(), x.columns()});
  if (x.b.present()) multiply(context.stream, {.a = head.rows(x.a), .b = head.rows(x.b), .y = memory});
  for (int i = 0; x.tensors() > 1 && i < x.tensors(); ++i)
    scale(context.stream, {.x = head.rows(x.tensor(i)), .y = x.columns_of_tensor(i, memory)});
  return memory;
}

template <class Forward>
void run_forward(const StrategyContext& context, const Forward& args, Saved* saved) {
  const Sharding& sharding = context.sharding;
  Communicator& ranks = context.ranks;
  const Stream& stream = context.stream;
  const std::int64_t reach = reach_of(args);
  Tensor halos = allocate_halos(context, filter_input(args), reach);
  Pending arriving;
  if (!context.repeats()) arriving = start_halo(sharding.halo_plan(reach), filter_input(args), halos, ranks, stream);
  for (const Chunk& chunk : sharding.chunks()) {
    const HeadAndBody parts(sharding, chunk, reach);
    if (parts.body.tokens.size() == 0) continue;
    Tensor memory;
    Forward local = on_chunk(args, parts.body);
    halo_of(local) = head_as_halo(context, args, parts.head, memory);
    convolve(stream, local);
  }
  arriving.wait();
  context.pass_received(halos);
  for (std::size_t i = 0; const Chunk& chunk : sharding.chunks()) {
    const HeadAndBody parts(sharding, chunk, reach);
    Forward local = on_chunk(args, parts.head);
    halo_of(local) = halo_of_chunk(halos, i++, reach);
    if (parts.head.tokens.size() > 0) convolve(stream, local);
  }
  if (saved != nullptr) saved->put("halos", std::move(halos));
}

/// Adds the gradient r that the body computes for the rows of the head: d_a += r, or d_a += r⊙b and d_b += r⊙a; side by
/// side, each its own columns of r.
void add_to_head(const StrategyContext& context, const FilterInput& rows, const FilterInput& gradient,
                 const Chunk& head, TensorView r) {
  const Stream& stream = context.stream;
  if (!rows.b.present()) {
    for (int i = 0; i < gradient.tensors(); ++i)
      scale(stream, {.x = gradient.columns_of_tensor(i, r), .accumulate = true, .y = head.rows(gradient.tensor(i))});
    return;
  }
  multiply(stream, {.a = r, .b = head.rows(rows.b), .accumulate = true, .y = head.rows(gradient.a)});
  multiply(stream, {.a = r, .b = head.rows(rows.a), .accumulate = true, .y = head.rows(gradient.b)});
}

template <class Backward>
void run_backward(const StrategyContext& context, const Backward& args, Saved& saved) {
  const Sharding& sharding = context.sharding;
  Communicator& ranks = context.ranks;
  const Stream& stream = context.stream;
  const std::int64_t reach = reach_of(args);
  const Tensor halos = saved.take("halos"), d_halos = allocate_halos(context, filter_input(args), reach);
  for (std::size_t i = 0; const Chunk& chunk : sharding.chunks()) {
    const HeadAndBody parts(sharding, chunk, reach);
    Backward local = on_chunk(args, parts.head);
    halo_of(local) = halo_of_chunk(halos, i, reach);
    local.d_halo = halo_of_chunk(d_halos, i++, reach);
    if (parts.head.tokens.size() > 0) convolve(stream, local);
  }
  Pending leaving = start_halo_adjoint(sharding.halo_plan(reach), d_halos, filter_input(args),
                                       filter_input_gradient(args), ranks, stream);
  for (const Chunk& chunk : sharding.chunks()) {
    const HeadAndBody parts(sharding, chunk, reach);
    if (parts.body.tokens.size() == 0) continue;
    Tensor memory;
    Backward local = on_chunk(args, parts.body);
    halo_of(local) = head_as_halo(context, args, parts.head, memory);
    const Tensor d_head(stream, filter_input(args).a.dtype, {reach, filter_input(args).columns()});
    if (reach > 0) local.d_halo = d_head;
    convolve(stream, local);
    if (reach > 0) add_to_head(context, filter_input(args), filter_input_gradient(args), parts.head, d_head);
  }
  leaving.wait();
}

}  // namespace

void forward(const StrategyContext& context, CausalConvForward args, Saved* saved) {
  run_forward(context, args, saved);
}
void forward(const StrategyContext& context, BlockedConvForward args, Saved* saved) {
  run_forward(context, args, saved);
}
void backward(const StrategyContext& context, CausalConvBackward args, Saved& saved) {
  run_backward(context, with_product_added_to_d_y(context.stream, args), saved);
}
void backward(const StrategyContext& context, BlockedConvBackward args, Saved& saved) {
  run_backward(context, args, saved);
}
// With a modal filter this is the strategy halo: its state waits for the featurizer's few rows in any case.
void forward(const StrategyContext& context, HyenaBlockForward args, Saved* saved) {
  args.in.modal() ? modal_block::forward(context, args, saved) : run_forward(context, args, saved);
}
void backward(const StrategyContext& context, HyenaBlockBackward args, Saved& saved) {
  args.in.modal() ? modal_block::backward(context, args, saved) : run_backward(context, args, saved);
}
PassCosts cost(const Sharding& sharding, const CausalConvForward& args) { return halo_costs(sharding, args, 2, 1); }
PassCosts cost(const Sharding& sharding, const BlockedConvForward& args) { return halo_costs(sharding, args, 2, 1); }
PassCosts cost(const Sharding& sharding, const HyenaBlockForward& args) {
  return args.in.modal() ? modal_block::cost(sharding, args) : halo_costs(sharding, args, 2, 1);
}

}  // namespace causeway::convolution::halo_overlapped
