#include "parallel/strategies/gates.hpp"

#include "kernels/activation.hpp"

namespace causeway {
namespace {

Tensor room(const StrategyContext& context, TensorView like) {
  return Tensor(context.stream, like.dtype, {like.rows(), like.columns()});
}

}  // namespace

TensorView gate_product(const StrategyContext& context, const GatedConvInputs& in, Tensor& memory) {
  if (!in.k.present()) return in.v;
  memory = room(context, in.v);
  multiply(context.stream, {.a = in.k, .b = in.v, .y = memory});
  return memory;
}

void gate_forward(const StrategyContext& context, const GatedConvInputs& in, TensorView y, Saved* saved,
                  const std::function<void(TensorView x, TensorView c)>& plain) {
  Tensor memory;
  const TensorView x = gate_product(context, in, memory);
  if (!in.q.present()) return plain(x, y);
  Tensor c = room(context, y);
  plain(x, c);
  memory = {};
  multiply(context.stream, {.a = in.q, .b = c, .y = y});
  if (saved != nullptr) saved->push(std::move(c));
}

void gate_backward(const StrategyContext& context, const GatedConvInputs& in, const GatedConvGradients& gradients,
                   Saved& saved, const std::function<void(TensorView d_c, TensorView d_x)>& plain_adjoint) {
  const Stream& stream = context.stream;
  Tensor d_c_memory;
  TensorView d_c = gradients.d_y;
  if (in.q.present()) {
    const Tensor c = saved.pop();
    multiply(stream, {.a = gradients.d_y, .b = c, .y = gradients.d_q});
    d_c_memory = room(context, gradients.d_y);
    multiply(stream, {.a = gradients.d_y, .b = in.q, .y = d_c_memory});
    d_c = d_c_memory;
  }
  if (!in.k.present()) return plain_adjoint(d_c, gradients.d_v);
  const Tensor d_x = room(context, in.v);
  plain_adjoint(d_c, d_x);
  multiply(stream, {.a = d_x, .b = in.v, .y = gradients.d_k});
  multiply(stream, {.a = d_x, .b = in.k, .y = gradients.d_v});
}

}  // namespace causeway
