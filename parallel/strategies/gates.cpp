#include "parallel/strategies/gates.hpp"

#include "kernels/activation.hpp"

namespace causeway {
namespace {

Tensor tensor_like(const StrategyContext& context, TensorView like) {
  return Tensor(context.stream, like.dtype, {like.rows(), like.columns()});
}

}  // namespace

GatedConvInputs on_chunk(GatedConvInputs in, const Chunk& chunk) {
  for (TensorView GatedConvInputs::*rows : {&GatedConvInputs::q, &GatedConvInputs::k, &GatedConvInputs::v})
    in.*rows = chunk.rows(in.*rows);
  in.segments = chunk.segments();
  return in;
}

GatedConvGradients on_chunk(GatedConvGradients gradients, const Chunk& chunk) {
  for (TensorView GatedConvGradients::*rows :
       {&GatedConvGradients::d_y, &GatedConvGradients::d_q, &GatedConvGradients::d_k, &GatedConvGradients::d_v})
    gradients.*rows = chunk.rows(gradients.*rows);
  return gradients;
}

TensorView gate_product(const StrategyContext& context, const GatedConvInputs& in, Tensor& memory) {
  if (!in.k.present()) return in.v;
  memory = tensor_like(context, in.v);
  multiply(context.stream, {.a = in.k, .b = in.v, .y = memory});
  return memory;
}

void gate_columns_forward(const StrategyContext& context, const GatedConvInputs& in, TensorView y, Saved* saved,
                          const std::function<void(TensorView x, TensorView c, const ColumnGates&)>& plain) {
  const Stream& stream = context.stream;
  Tensor x_memory, c_memory;
  TensorView x = in.v, c = y;
  ColumnGates gates;
  if (in.k.present()) {
    x = x_memory = tensor_like(context, in.v);
    gates.before = [&, x](Range columns) {
      multiply(stream, {.a = columns_of(in.k, columns), .b = columns_of(in.v, columns), .y = columns_of(x, columns)});
    };
  }
  if (in.q.present()) {
    c = c_memory = tensor_like(context, y);
    gates.after = [&, c](Range columns) {
      multiply(stream, {.a = columns_of(in.q, columns), .b = columns_of(c, columns), .y = columns_of(y, columns)});
    };
  }
  plain(x, c, gates);
  if (in.q.present() && saved != nullptr) saved->put("c", std::move(c_memory));
}

void gate_columns_backward(
    const StrategyContext& context, const GatedConvInputs& in, const GatedConvGradients& gradients, Saved& saved,
    const std::function<void(TensorView d_c, TensorView d_x, const ColumnGates&)>& plain_adjoint) {
  const Stream& stream = context.stream;
  Tensor c, d_c_memory, d_x_memory;
  TensorView d_c = gradients.d_y, d_x = gradients.d_v;
  ColumnGates gates;
  if (in.q.present()) {
    c = saved.take("c");
    d_c = d_c_memory = tensor_like(context, gradients.d_y);
    gates.before = [&, d_c](Range columns) {
      const TensorView d_y = columns_of(gradients.d_y, columns);
      multiply(stream, {.a = d_y, .b = columns_of(c, columns), .y = columns_of(gradients.d_q, columns)});
      multiply(stream, {.a = d_y, .b = columns_of(in.q, columns), .y = columns_of(d_c, columns)});
    };
  }
  if (in.k.present()) {
    d_x = d_x_memory = tensor_like(context, in.v);
    gates.after = [&, d_x](Range columns) {
      multiply(
          stream,
          {.a = columns_of(d_x, columns), .b = columns_of(in.v, columns), .y = columns_of(gradients.d_k, columns)});
      multiply(
          stream,
          {.a = columns_of(d_x, columns), .b = columns_of(in.k, columns), .y = columns_of(gradients.d_v, columns)});
    };
  }
  plain_adjoint(d_c, d_x, gates);
}

void gate_forward(const StrategyContext& context, const GatedConvInputs& in, TensorView y, Saved* saved,
                  const std::function<void(TensorView x, TensorView c)>& plain) {
  gate_columns_forward(context, in, y, saved, [&](TensorView x, TensorView c, const ColumnGates& gates) {
    if (gates.before) gates.before({0, x.columns()});
    plain(x, c);
    if (gates.after) gates.after({0, c.columns()});
  });
}

void gate_backward(const StrategyContext& context, const GatedConvInputs& in, const GatedConvGradients& gradients,
                   Saved& saved, const std::function<void(TensorView d_c, TensorView d_x)>& plain_adjoint) {
  gate_columns_backward(context, in, gradients, saved, [&](TensorView d_c, TensorView d_x, const ColumnGates& gates) {
    if (gates.before) gates.before({0, d_c.columns()});
    plain_adjoint(d_c, d_x);
    if (gates.after) gates.after({0, d_x.columns()});
  });
}

}  // namespace causeway
