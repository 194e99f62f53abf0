/// all_to_all: q, k and v go from tokens to whole heads; a rank applies RoPE and attention to its heads of the whole
/// pack; y goes back to tokens. All ranks have the same work in both layouts. With fewer heads than ranks, some have
/// none. Large tensors move in slices of whole heads, one after the other, so that the data in flight is a fraction of
/// what a rank holds. Backward gets its heads of d_y and delta; those of q, k, v and lse it has kept.

#include <algorithm>
#include <array>

#include "parallel/cost/operator_kernels.hpp"
#include "parallel/exchange/reshard.hpp"
#include "parallel/strategies/all_to_all_pipeline.hpp"
#include "parallel/strategies/attention/heads.hpp"
#include "parallel/strategies/attention/query_key_blocks.hpp"
#include "parallel/strategies/attention/whole_pack.hpp"

namespace causeway::attention::all_to_all {
namespace {

/// A slice of the heads of each rank. A tensor `local` has all heads of this rank's rows, [local tokens, H, E] or
/// [local tokens, H]; `whole` has this rank's heads in the slice, of all tokens.
class HeadSlice {
 public:
  HeadSlice(const StrategyContext& context, TensorView q, int slice)
      : context_(context),
        partition_{.channels = q.shape[1],
                   .groups = q.shape[1],
                   .slices = slices_of_own_heads(context.sharding.layout(), q),
                   .slice = slice} {}

  Range mine() const { return partition_.share(context_.ranks.size(), context_.ranks.rank()); }
  bool empty() const { return mine().size() == 0 || context_.sharding.layout().tokens() == 0; }
  Shape whole_shape(TensorView local) const {
    const std::int64_t tokens = context_.sharding.layout().tokens(), heads = mine().size();
    return local.shape.rank() == 3 ? Shape{tokens, heads, local.shape[2]} : Shape{tokens, heads};
  }
  Tensor allocate(TensorView local) const { return {context_.stream, local.dtype, whole_shape(local)}; }

  Pending start_fetch(TensorView local, TensorView whole) const {
    const LocalAndWhole tensors[] = {{flatten_heads(local), flatten_heads(whole)}};
    return start_tokens_to_channels(context_.sharding, partition_of(local), tensors, context_.ranks, context_.stream);
  }
  SliceOfTensor way_back(TensorView local, TensorView whole) const {
    return {partition_of(local), {flatten_heads(local), flatten_heads(whole)}};
  }
  void send_back(TensorView local, TensorView whole) const {
    const auto [partition, tensor] = way_back(local, whole);
    start_channels_to_tokens(context_.sharding, partition, {&tensor, 1}, context_.ranks, context_.stream).wait();
  }

 private:
  ChannelPartition partition_of(TensorView local) const {
    ChannelPartition partition = partition_;
    partition.channels = local.columns();
    return partition;
  }

  const StrategyContext& context_;
  ChannelPartition partition_;  // of the heads
};

/// Results by heads that are sent back to tokens when all slices are computed. They lie in the memory of the outputs,
/// one after the other, as far as it is large enough: nobody reads an output before it is written at the end.
class ResultMemory {
 public:
  ResultMemory(const Stream& stream, TensorView output) : stream_(stream), output_(output) {}
  TensorView take(const Shape& shape) {
    if (used_ + shape.size() > output_.size()) return allocated_.emplace_back(stream_, output_.dtype, shape);
    auto* const data = static_cast<std::byte*>(output_.data) + used_ * size_of(output_.dtype);
    used_ += shape.size();
    return view_of(data, output_.dtype, shape);
  }

 private:
  const Stream& stream_;
  TensorView output_;  // dense
  std::int64_t used_ = 0;
  std::vector<Tensor> allocated_;
};

/// What forward keeps of a slice.
struct Kept {
  Tensor q, k, v, lse;
};

AttentionInputs inputs_of(const StrategyContext& context, const Kept& kept) {
  return {.q = kept.q, .k = kept.k, .v = kept.v, .key_offset = 0, .segments = context.sharding.whole_pack().segments()};
}

/// The gradients of a slice's q, k and v, from d_y and delta by heads.
void gradients(const StrategyContext& context, const Kept& kept, const RopeAngles& angles, TensorView d_y,
               TensorView delta, const std::array<TensorView, 3>& d) {
  const Stream& stream = context.stream;
  const AttentionInputs in = inputs_of(context, kept);
  const DType dtype = gradient_dtype(stream, in);
  const WideResult d_q(stream, d[0], dtype), d_k(stream, d[1], dtype);
  attention_backward(stream, {.in = in,
                              .accumulate = false,
                              .lse = kept.lse,
                              .delta = delta,
                              .d_y = d_y,
                              .d_q = d_q.view(),
                              .d_k = d_k.view(),
                              .d_v = d[2]});
  for (const WideResult* gradient : {&d_q, &d_k}) {
    apply_rope_adjoint(stream, gradient->view(), in.segments, angles);
    gradient->store();
  }
}

}  // namespace

void forward(const StrategyContext& context, RotaryAttentionForward args, Saved* saved) {
  if (context.ranks.size() == 1) return whole_pack::forward(context, args, saved);
  const RopeAngles angles = rotate_in_place(context, args);
  const Stream& stream = context.stream;
  const SegmentsView segments = context.sharding.whole_pack().segments();
  for (int s = 0; s < slices_of_own_heads(context.sharding.layout(), args.q); ++s) {
    const HeadSlice slice(context, args.q, s);
    // One tensor after the other, so that only one has buffers for sending. The one before is rotated meanwhile.
    const auto fetch = [&](TensorView local, TensorView before) {
      Tensor whole = slice.allocate(local);
      Pending arriving = slice.start_fetch(local, whole);
      if (before.size() > 0) apply_rope(stream, before, segments, angles, before);
      arriving.wait();
      return whole;
    };
    Kept kept;
    kept.q = fetch(args.q, {});
    kept.k = fetch(args.k, kept.q);
    kept.v = fetch(args.v, kept.k);
    const Tensor y = slice.allocate(args.y);
    if (!slice.empty()) {
      kept.lse = Tensor(stream, accumulator_of(args.q.dtype), {y.view().rows(), y.view().shape[1]});
      attention_forward(stream, {.in = inputs_of(context, kept), .y = y, .lse = kept.lse});
    }
    if (saved == nullptr) kept = {};
    slice.send_back(args.y, y);
    if (saved == nullptr || slice.empty()) continue;
    Saved& of_slice = slice_scope(*saved, slice.mine());
    of_slice.put("q", std::move(kept.q));
    of_slice.put("k", std::move(kept.k));
    of_slice.put("v", std::move(kept.v));
    of_slice.put("lse", std::move(kept.lse));
  }
}

void backward(const StrategyContext& context, RotaryAttentionBackward args, Saved& saved) {
  if (context.ranks.size() == 1) return whole_pack::backward(context, args, saved);
  const Stream& stream = context.stream;
  const std::array<TensorView, 3> outputs{args.d_q, args.d_k, args.d_v};
  const bool in_place = std::ranges::all_of(outputs, [](TensorView x) { return x.dense(); });
  std::vector<ResultMemory> memory;
  for (const TensorView output : outputs) memory.emplace_back(stream, output);
  std::vector<SliceOfTensor> results;
  const Tensor delta = delta_of(stream, args.y, args.d_y);
  for (int s = 0; s < slices_of_own_heads(context.sharding.layout(), args.q); ++s) {
    const HeadSlice slice(context, args.q, s);
    std::vector<Tensor> allocated;
    std::array<TensorView, 3> d;
    {
      const Tensor d_y = slice.allocate(args.d_y), some_delta = slice.allocate(delta);
      {
        Pending arriving[] = {slice.start_fetch(args.d_y, d_y), slice.start_fetch(delta, some_delta)};
        for (Pending& tensor : arriving) tensor.wait();
      }
      for (std::size_t i = 0; i < d.size(); ++i)
        d[i] = in_place ? memory[i].take(slice.whole_shape(outputs[i]))
                        : allocated.emplace_back(slice.allocate(outputs[i])).view();
      if (!slice.empty()) {
        Saved& of_slice = slice_scope(saved, slice.mine());
        const Kept kept{of_slice.take("q"), of_slice.take("k"), of_slice.take("v"), of_slice.take("lse")};
        gradients(context, kept, args.rope, d_y, some_delta, d);
      }
    }
    for (std::size_t i = 0; i < d.size(); ++i) {
      if (in_place)
        results.push_back(slice.way_back(outputs[i], d[i]));
      else
        slice.send_back(outputs[i], d[i]);
    }
  }
  if (in_place) channels_to_tokens_in_place(context.sharding, results, context.ranks, stream);
}

PassCosts cost(const Sharding& sharding, const RotaryAttentionForward& args) {
  const ShardLayout& layout = sharding.layout();
  const std::int64_t heads = args.q.shape[1];
  PassCosts costs = all_to_all_costs(
      sharding,
      {.channels = args.q.columns(),
       .groups = heads,
       .dtype = args.q.dtype,
       .kernel = kernel_of(args),
       .elements = visible_pairs(sharding.segments(), {0, layout.tokens()}),
       .vectors = false,
       .in = 3,
       .out = 1,
       .back_in = 1,
       .back_out = 3,
       .gates = 4,            // q and k are rotated
       .back_gates = 2 + 4},  // delta reads y and d_y; the gradients of q and k, which kernels round, are rotated back
      1);
  const int slices = slices_of_own_heads(layout, args.q);
  for (Cost* cost : {&costs.forward, &costs.backward}) {
    cost->kernels.front().calls *= slices;
    cost->copies *= slices;
    if (layout.ranks() > 1) cost->rounds = 4 * slices;  // a tensor at a time
    cost->messages *= slices;
    cost->busiest_messages *= slices;
  }
  std::int64_t delta = 0, busiest = 0;  // elements that a rank sends; that it sends or receives
  for (int rank = 0; rank < layout.ranks(); ++rank) {
    const std::int64_t tokens = layout.local_tokens(rank),
                       mine = ChannelPartition{.channels = heads, .groups = heads}.share(layout.ranks(), rank).size();
    delta = std::max(delta, tokens * (heads - mine));
    busiest = std::max(busiest, std::max(tokens * (heads - mine), (layout.tokens() - tokens) * mine));
  }
  Cost& backward = costs.backward;
  backward.bytes_sent += delta * size_of(accumulator_of(args.q.dtype));
  backward.busiest_bytes += busiest * size_of(accumulator_of(args.q.dtype));
  if (layout.ranks() > 1) {
    const std::int64_t chunks = layout.chunk_count() / layout.ranks();
    backward.messages += (std::min<std::int64_t>(heads, layout.ranks()) - 1) * chunks * slices;
    backward.busiest_messages += (layout.ranks() - 1) * chunks * slices;
  }
  costs.repeated = costs.forward;
  return costs;
}

}  // namespace causeway::attention::all_to_all
