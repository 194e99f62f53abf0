/// all_to_all: q, k and v go from tokens to whole heads; a rank applies RoPE and attention to its heads of the whole
/// pack; y goes back to tokens. All ranks have the same work in both layouts. With fewer heads than ranks, some have
/// none.

#include "parallel/cost/operator_kernels.hpp"
#include "parallel/strategies/all_to_all_pipeline.hpp"
#include "parallel/strategies/attention/heads.hpp"
#include "parallel/strategies/attention/query_key_blocks.hpp"
#include "parallel/strategies/attention/whole_pack.hpp"

namespace causeway::attention::all_to_all {
namespace {

Shape heads_shape(TensorView columns, std::int64_t width) { return {columns.rows(), columns.columns() / width, width}; }

AttentionInputs inputs_of(TensorView q, TensorView k, TensorView v, std::int64_t width, SegmentsView segments) {
  const Shape shape = heads_shape(q, width);
  return {
      .q = q.reshaped(shape), .k = k.reshaped(shape), .v = v.reshaped(shape), .key_offset = 0, .segments = segments};
}

}  // namespace

void forward(const StrategyContext& context, RotaryAttentionForward args, Saved* saved) {
  if (context.ranks.size() == 1) return whole_pack::forward(context, args, saved);
  const RopeAngles angles = rotate_in_place(context, args);
  const Stream& stream = context.stream;
  const SegmentsView segments = context.sharding.whole_pack().segments();
  const std::int64_t width = args.q.shape[2];
  Tensor q, k, v, y, lse;
  run_all_to_all(context,
                 {.channels = args.q.columns(),
                  .groups = args.q.shape[1],
                  .in = {flatten_heads(args.q), flatten_heads(args.k), flatten_heads(args.v)},
                  .out = {flatten_heads(args.y)},
                  .run =
                      [&](Range, std::vector<Tensor>& moved, std::span<const TensorView> out) {
                        const AttentionInputs in = inputs_of(moved[0], moved[1], moved[2], width, segments);
                        for (const TensorView x : {in.q, in.k}) apply_rope(stream, x, segments, angles, x);
                        y = Tensor(stream, in.q.dtype, in.q.shape);
                        lse = Tensor(stream, accumulator_of(in.q.dtype), {in.q.rows(), in.q.shape[1]});
                        attention_forward(stream, {.in = in, .y = y, .lse = lse});
                        scale(stream, {.x = flatten_heads(y), .y = out[0]});
                        q = std::move(moved[0]);
                        k = std::move(moved[1]);
                        v = std::move(moved[2]);
                      }},
                 1);
  if (saved == nullptr) return;
  saved->put("q", std::move(q));
  saved->put("k", std::move(k));
  saved->put("v", std::move(v));
  saved->put("y", std::move(y));
  saved->put("lse", std::move(lse));
}

void backward(const StrategyContext& context, RotaryAttentionBackward args, Saved& saved) {
  if (context.ranks.size() == 1) return whole_pack::backward(context, args, saved);
  const Stream& stream = context.stream;
  const SegmentsView segments = context.sharding.whole_pack().segments();
  const std::int64_t width = args.q.shape[2];
  Tensor q = saved.take("q"), k = saved.take("k"), v = saved.take("v"), y = saved.take("y"), lse = saved.take("lse");
  run_all_to_all(context,
                 {.channels = args.q.columns(),
                  .groups = args.q.shape[1],
                  .in = {flatten_heads(args.d_y)},
                  .out = {flatten_heads(args.d_q), flatten_heads(args.d_k), flatten_heads(args.d_v)},
                  .run =
                      [&](Range, std::vector<Tensor>& moved, std::span<const TensorView> out) {
                        const AttentionInputs in = inputs_of(q, k, v, width, segments);
                        const TensorView d_y = moved[0].view().reshaped(in.q.shape);
                        const Tensor delta = delta_of(stream, y, d_y);
                        y = {};
                        const DType dtype = gradient_dtype(stream, in);
                        const GradientAccumulator d_q(stream, out[0].reshaped(in.q.shape), dtype),
                            d_k(stream, out[1].reshaped(in.q.shape), dtype);
                        attention_backward(stream, {.in = in,
                                                    .accumulate = false,
                                                    .lse = lse,
                                                    .delta = delta,
                                                    .d_y = d_y,
                                                    .d_q = d_q.view(),
                                                    .d_k = d_k.view(),
                                                    .d_v = out[2].reshaped(in.q.shape)});
                        for (Tensor* const done : {&q, &k, &v, &lse}) *done = {};
                        for (const GradientAccumulator* gradient : {&d_q, &d_k}) {
                          apply_rope_adjoint(stream, gradient->view(), segments, args.rope);
                          gradient->store();
                        }
                      }},
                 1);
}

PassCosts cost(const Sharding& sharding, const RotaryAttentionForward& args) {
  const int wide = accesses_of_accumulator(args.q.dtype);
  return all_to_all_costs(
      sharding,
      {.channels = args.q.columns(),
       .groups = args.q.shape[1],
       .dtype = args.q.dtype,
       .kernel = kernel_of(args),
       .elements = static_cast<double>(visible_pairs(sharding.segments(), {0, sharding.layout().tokens()})),
       .vectors = false,
       .in = 3,
       .out = 1,
       .back_in = 1,
       .back_out = 3,
       .gates = 4 + 2,                                       // q and k are rotated, y is copied
       .back_gates = 3 * wide + 4 * wide + 3 * (wide + 1)},  // gradients are zeroed, rotated back and rounded
      1);
}

}  // namespace causeway::attention::all_to_all
