/// all_gather: every rank receives all keys (with RoPE applied) and values, and computes its queries. Backward, the
/// gradients of all keys and values are summed over the ranks, in slices of whole heads. The memory grows with the
/// pack: for short packs.

#include <algorithm>

#include "parallel/cost/operator_kernels.hpp"
#include "parallel/exchange/reshard.hpp"
#include "parallel/strategies/attention/heads.hpp"
#include "parallel/strategies/attention/query_key_blocks.hpp"
#include "parallel/strategies/attention/whole_pack.hpp"

namespace causeway::attention::all_gather {
namespace {

/// The queries of a chunk and the keys that they see: from the start of the first query's document.
AttentionInputs inputs_of(const Chunk& chunk, TensorView q, const Range& keys, TensorView k, TensorView v) {
  return {.q = chunk.rows(q),
          .k = k.slice_rows(keys.begin, keys.size()),
          .v = v.slice_rows(keys.begin, keys.size()),
          .key_offset = keys.begin - chunk.tokens.begin,
          .segments = chunk.segments()};
}
Range keys_of(const Chunk& chunk) { return {chunk.tokens.begin + chunk.cu_seqlens()[0], chunk.tokens.end}; }

}  // namespace

void forward(const StrategyContext& context, RotaryAttentionForward args, Saved* saved) {
  const Sharding& sharding = context.sharding;
  Communicator& ranks = context.ranks;
  const Stream& stream = context.stream;
  if (ranks.size() == 1) return whole_pack::forward(context, args, saved);
  const RopeAngles angles = rotate_in_place(context, args);
  const Shape all = args.k.shape.with_rows(sharding.layout().tokens());
  Tensor k(stream, args.k.dtype, all), v(stream, args.v.dtype, all);
  {
    const Rotated local(context, args.k, angles);
    start_gather_tokens(sharding,
                        std::vector<LocalAndWhole>{{flatten_heads(local.view()), flatten_heads(k)},
                                                   {flatten_heads(args.v), flatten_heads(v)}},
                        ranks, stream)
        .wait();
  }
  const Rotated q(context, args.q, angles);
  Tensor lse(stream, accumulator_of(args.q.dtype), {args.q.rows(), args.q.shape[1]});
  for (const Chunk& chunk : sharding.chunks())
    if (chunk.tokens.size() > 0)
      attention_forward(
          stream,
          {.in = inputs_of(chunk, q.view(), keys_of(chunk), k, v), .y = chunk.rows(args.y), .lse = chunk.rows(lse)});
  if (saved == nullptr) return;
  saved->put("k", std::move(k));
  saved->put("v", std::move(v));
  saved->put("lse", std::move(lse));
}

void backward(const StrategyContext& context, RotaryAttentionBackward args, Saved& saved) {
  const Sharding& sharding = context.sharding;
  Communicator& ranks = context.ranks;
  const Stream& stream = context.stream;
  if (ranks.size() == 1) return whole_pack::backward(context, args, saved);
  const Tensor k = saved.take("k"), v = saved.take("v"), lse = saved.take("lse"),
               delta = delta_of(stream, args.y, args.d_y);
  const Rotated q(context, args.q, angles_of_inputs(args));
  const std::vector<Range> slices = all_heads_in_slices(sharding.layout(), args.k);
  for (const Range& heads : slices) {
    const auto of_heads = [&](const Tensor& x) { return x.view().slice_columns(heads.begin, heads.size()); };
    const auto zeros = [&](const Tensor& whole) {
      return Tensor::zeros(stream, accumulator_of(args.q.dtype), heads_of(whole, heads).shape);
    };
    const Tensor d_k = zeros(k), d_v = zeros(v);
    {
      const WideResult d_q(stream, heads_of(args.d_q, heads));
      d_q.zero();
      for (const Chunk& chunk : sharding.chunks()) {
        if (chunk.tokens.size() == 0) continue;
        const Range keys = keys_of(chunk);
        attention_backward(
            stream, {.in = inputs_of(chunk, heads_of(q.view(), heads), keys, heads_of(k, heads), heads_of(v, heads)),
                     .lse = chunk.rows(of_heads(lse)),
                     .delta = chunk.rows(of_heads(delta)),
                     .d_y = chunk.rows(heads_of(args.d_y, heads)),
                     .d_q = chunk.rows(d_q.view()),
                     .d_k = d_k.view().slice_rows(keys.begin, keys.size()),
                     .d_v = d_v.view().slice_rows(keys.begin, keys.size())});
      }
      apply_rope_adjoint(context, d_q.view(), args.rope);
      d_q.store();
    }
    // The adjoint of RoPE is applied before a rank's part is rounded and sent.
    apply_rope_adjoint(stream, d_k, sharding.whole_pack().segments(), args.rope);
    reduce_tokens(sharding,
                  std::vector<LocalAndWhole>{{flatten_heads(heads_of(args.d_k, heads)), flatten_heads(d_k)},
                                             {flatten_heads(heads_of(args.d_v, heads)), flatten_heads(d_v)}},
                  ranks, stream, all_gather_pieces(sharding.layout(), args.k));
  }
}

PassCosts cost(const Sharding& sharding, const RotaryAttentionForward& args) {
  const ShardLayout& layout = sharding.layout();
  const std::int64_t peers = layout.ranks() - 1;
  const double all = layout.ranks(), wide = accesses_of_accumulator(args.q.dtype);
  std::int64_t own_bytes = 0;
  for (int rank = 0; rank < layout.ranks(); ++rank)
    own_bytes = std::max(own_bytes, layout.local_tokens(rank) * args.k.columns() * size_of(args.k.dtype));
  Cost cost{.to_all = true};
  cost.kernels.push_back({.kernel = kernel_of(args),
                          .elements = most_visible_pairs(sharding) * static_cast<double>(args.q.columns()),
                          .calls = static_cast<double>(layout.chunk_count()) / all});
  cost.bytes_sent = 2 * peers * own_bytes;
  const std::int64_t chunks = layout.chunk_count() / layout.ranks();
  cost.rounds = peers > 0 ? 1 : 0;
  cost.messages = 2 * peers * chunks;
  PassCosts costs{.forward = cost, .backward = adjoint(cost), .repeated = {}};
  // Forward q and k are rotated, k and v placed among all.
  costs.forward.copied_bytes = static_cast<double>(own_bytes) * 8;
  costs.forward.copies = 4;
  // Backward q is rotated, the gradients of all k and v are zeroed, rotated back, rounded and summed.
  costs.backward.copied_bytes =
      static_cast<double>(own_bytes) * (2 + 4 * wide + 1 + all * 4 * wide + 2 * all * (wide + 1) + 2 * all * 3 * wide);
  const int slices = slices_of_all_heads(layout, args.k), reductions = 2 * slices * all_gather_pieces(layout, args.k);
  costs.backward.kernels.front().calls *= slices;
  costs.backward.copies = 6 * slices + reductions * (2 * all + 2);
  if (peers > 0) costs.backward.rounds = reductions;
  costs.backward.messages = reductions * peers * chunks;
  costs.repeated = costs.forward;
  return costs;
}

}  // namespace causeway::attention::all_gather
