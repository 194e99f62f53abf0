/// ring: keys (with RoPE applied) and values move round the ring, and each rank computes its queries with every block
/// that arrives; partial results are merged by online softmax (log-sum-exp). Backward, keys and values move round
/// again, and their gradients are sent directly to the ranks that hold them. Long blocks are sent in slices of whole
/// heads, one after the other, so that the data in flight is a fraction of what a rank holds.

#include "parallel/exchange/ring.hpp"

#include <algorithm>

#include "parallel/cost/operator_kernels.hpp"
#include "parallel/strategies/attention/heads.hpp"
#include "parallel/strategies/attention/query_key_blocks.hpp"
#include "parallel/strategies/attention/whole_pack.hpp"

namespace causeway::attention::ring {
namespace {

TensorView keys_of(TensorView block) { return block.slice_rows(0, block.rows() / 2); }
TensorView values_of(TensorView block) { return block.slice_rows(block.rows() / 2, block.rows() / 2); }

/// Some heads of this rank's rows, with RoPE applied to q and k. `block` is what the ring sends: the keys of all
/// tokens, then their values.
struct RotatedHeads {
  Rotated q;
  Tensor block;
  std::vector<Shape> shapes;  // of the blocks of all ranks

  template <class Args>
  RotatedHeads(const StrategyContext& context, const Args& args, const RopeAngles& angles, const Range& heads)
      : q(context, heads_of(args.q, heads), angles) {
    for (int rank = 0; rank < context.ranks.size(); ++rank)
      shapes.push_back({2 * context.sharding.layout().local_tokens(rank), heads.size(), args.q.shape[2]});
    block = Tensor(context.stream, args.k.dtype, shapes[static_cast<std::size_t>(context.ranks.rank())]);
    apply_rope(context, heads_of(args.k, heads), angles, keys_of(block));
    scale(context.stream, {.x = heads_of(args.v, heads), .y = values_of(block)});
  }
  Ring ring(const StrategyContext& context) const { return {shapes, context.ranks, context.stream}; }
};

TensorView rows_of(const QueryKeyBlock& pair, TensorView owners) {
  return owners.slice_rows(pair.key_row, pair.keys.size());
}

AttentionInputs inputs_of(const QueryKeyBlock& pair, TensorView q, TensorView block) {
  return {.q = pair.queries.rows(q),
          .k = rows_of(pair, keys_of(block)),
          .v = rows_of(pair, values_of(block)),
          .key_offset = pair.keys.begin - pair.queries.tokens.begin,
          .segments = pair.queries.segments()};
}

}  // namespace

void forward(const StrategyContext& context, RotaryAttentionForward args, Saved* saved) {
  const Sharding& sharding = context.sharding;
  Communicator& ranks = context.ranks;
  const Stream& stream = context.stream;
  if (ranks.size() == 1) return whole_pack::forward(context, args, saved);
  const RopeAngles angles = rotate_in_place(context, args);
  Tensor lse(stream, accumulator_of(args.q.dtype), {args.q.rows(), args.q.shape[1]});
  for (const Range& heads : all_heads_in_slices(sharding.layout(), args.k)) {
    RotatedHeads rotated(context, args, angles, heads);
    const WideResult y(stream, heads_of(args.y, heads));
    const TensorView some_lse = lse.view().slice_columns(heads.begin, heads.size());
    ring_exchange(rotated.ring(context), std::move(rotated.block), [&](int owner, TensorView block) {
      for (const QueryKeyBlock& pair : query_key_blocks(sharding, owner))
        attention_forward(stream, {.in = inputs_of(pair, rotated.q.view(), block),
                                   .accumulate = !pair.own_keys(),
                                   .y = pair.queries.rows(y.view()),
                                   .lse = pair.queries.rows(some_lse)});
    });
    y.store();
  }
  if (saved != nullptr) saved->put("lse", std::move(lse));
}

void backward(const StrategyContext& context, RotaryAttentionBackward args, Saved& saved) {
  const Sharding& sharding = context.sharding;
  Communicator& ranks = context.ranks;
  const Stream& stream = context.stream;
  if (ranks.size() == 1) return whole_pack::backward(context, args, saved);
  const RopeAngles angles = angles_of_inputs(args);
  const Tensor lse = saved.take("lse"), delta = delta_of(stream, args.y, args.d_y);
  for (const Range& heads : all_heads_in_slices(sharding.layout(), args.k)) {
    RotatedHeads rotated(context, args, angles, heads);
    const auto zeros = [&](TensorView gradient) {
      WideResult sum(stream, heads_of(gradient, heads));
      sum.zero();
      return sum;
    };
    const WideResult d_q = zeros(args.d_q), d_k = zeros(args.d_k), d_v = zeros(args.d_v);
    const auto of_heads = [&](const Tensor& x) { return x.view().slice_columns(heads.begin, heads.size()); };
    ring_exchange_adjoint(
        rotated.ring(context), std::move(rotated.block),
        [&](int owner, TensorView block, TensorView d_block) {
          const bool own = owner == ranks.rank();
          const TensorView d_keys = own ? d_k.view() : keys_of(d_block),
                           d_values = own ? d_v.view() : values_of(d_block);
          for (const QueryKeyBlock& pair : query_key_blocks(sharding, owner))
            attention_backward(stream, {.in = inputs_of(pair, rotated.q.view(), block),
                                        .lse = pair.queries.rows(of_heads(lse)),
                                        .delta = pair.queries.rows(of_heads(delta)),
                                        .d_y = pair.queries.rows(heads_of(args.d_y, heads)),
                                        .d_q = pair.queries.rows(d_q.view()),
                                        .d_k = rows_of(pair, d_keys),
                                        .d_v = rows_of(pair, d_values)});
        },
        [&](TensorView part) {
          scale(stream, {.x = keys_of(part), .accumulate = true, .y = d_k.view()});
          scale(stream, {.x = values_of(part), .accumulate = true, .y = d_v.view()});
        });
    for (const WideResult* rotated_gradient : {&d_q, &d_k})
      apply_rope_adjoint(context, rotated_gradient->view(), args.rope);
    for (const WideResult* gradient : {&d_q, &d_k, &d_v}) gradient->store();
  }
}

PassCosts cost(const Sharding& sharding, const RotaryAttentionForward& args) {
  const ShardLayout& layout = sharding.layout();
  const double peers = layout.ranks() - 1, wide = accesses_of_accumulator(args.q.dtype);
  const std::int64_t count = slices_of_all_heads(layout, args.k);
  Cost cost;
  std::int64_t own_bytes = 0;
  for (int rank = 0; rank < layout.ranks(); ++rank) {
    const std::int64_t row = args.k.columns() * size_of(args.k.dtype);
    own_bytes = std::max(own_bytes, layout.local_tokens(rank) * row);
    cost.bytes_sent =
        std::max(cost.bytes_sent, 2 * (layout.tokens() - layout.local_tokens((rank + 1) % layout.ranks())) * row);
  }
  cost.kernels.push_back({.kernel = kernel_of(args),
                          .elements = most_visible_pairs(sharding) * static_cast<double>(args.q.columns()),
                          .calls = static_cast<double>(count) * (peers + 1)});
  cost.rounds = cost.messages = count * (layout.ranks() - 1);
  cost.hidden = 1;
  PassCosts costs{.forward = cost, .backward = adjoint(cost), .repeated = {}};
  // Forward q, k and v are rotated or copied, y is added to at every hop and rounded.
  costs.forward.copied_bytes = static_cast<double>(own_bytes) * (6 + peers * 2 * wide + wide + 1);
  costs.forward.copies = static_cast<double>(count) * (3 + peers) + 1;
  // Backward the same rows, and gradients that are zeroed, rounded and sent to their owner, which adds them: k and v
  // first, and then as many bytes again.
  costs.backward.copied_bytes =
      static_cast<double>(own_bytes) * (6 + 10 * wide + 3 + peers * (4 * wide + 2 * (wide + 1) + 6 * wide));
  costs.backward.copies = static_cast<double>(count) * (8 + 4 * peers);
  costs.backward.bytes_sent *= 2;
  costs.backward.rounds *= 2;
  costs.backward.messages *= 2;
  costs.repeated = costs.forward;
  return costs;
}

}  // namespace causeway::attention::ring
