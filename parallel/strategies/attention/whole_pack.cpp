#include "parallel/strategies/attention/whole_pack.hpp"

#include "parallel/strategies/attention/heads.hpp"

namespace causeway::attention::whole_pack {
namespace {

/// q, k and v as attention uses them: q and k themselves, or rotated copies.
class RotatedInputs {
 public:
  RotatedInputs(const StrategyContext& context, TensorView q, TensorView k, TensorView v, const RopeAngles& angles)
      : inputs_{.q = q, .k = k, .v = v, .segments = context.sharding.whole_pack().segments()} {
    if (angles.base == 0) return;
    const auto rotate = [&](Tensor& copy, TensorView& x) {
      copy = Tensor(context.stream, x.dtype, x.shape);
      apply_rope(context.stream, x, inputs_.segments, angles, copy);
      x = copy;
    };
    rotate(q_, inputs_.q);
    rotate(k_, inputs_.k);
  }
  const AttentionInputs& view() const { return inputs_; }

 private:
  AttentionInputs inputs_;
  Tensor q_, k_;
};

}  // namespace

void forward(const StrategyContext& context, const RotaryAttentionForward& args, Saved* saved) {
  const RotatedInputs in(context, args.q, args.k, args.v, rotate_in_place(context, args));
  Tensor lse(context.stream, accumulator_of(args.q.dtype), {args.q.rows(), args.q.shape[1]});
  attention_forward(context.stream, {.in = in.view(), .y = args.y, .lse = lse});
  if (saved != nullptr) saved->put("lse", std::move(lse));
}

void backward(const StrategyContext& context, const RotaryAttentionBackward& args, Saved& saved) {
  const Stream& stream = context.stream;
  const RotatedInputs in(context, args.q, args.k, args.v, angles_of_inputs(args));
  const Tensor lse = saved.take("lse"), delta = delta_of(stream, args.y, args.d_y);
  const DType dtype = gradient_dtype(stream, in.view());
  const WideResult d_q(stream, args.d_q, dtype), d_k(stream, args.d_k, dtype);
  attention_backward(stream, {.in = in.view(),
                              .accumulate = false,
                              .lse = lse,
                              .delta = delta,
                              .d_y = args.d_y,
                              .d_q = d_q.view(),
                              .d_k = d_k.view(),
                              .d_v = args.d_v});
  for (const WideResult* gradient : {&d_q, &d_k}) {
    apply_rope_adjoint(stream, gradient->view(), in.view().segments, args.rope);
    gradient->store();
  }
}

}  // namespace causeway::attention::whole_pack
