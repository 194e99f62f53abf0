#include "src/op/table.hpp"

namespace causeway {
namespace {

Activation activation_of(const OpAttributes& attributes) {
  return attributes.at("activation") == "silu" ? Activation::silu : Activation::none;
}

OperatorArguments arguments(const OpViews& in, const OpAttributes& attributes, TensorView y) {
  return CausalConvForward{.x = find_tensor(in, "x"),
                           .halo = {},
                           .weight = find_tensor(in, "weight"),
                           .bias = find_tensor(in, "bias"),
                           .segments = {},
                           .activation = activation_of(attributes),
                           .y = y};
}

void backward(const OpPass& pass, TensorView d_y, const OpViews& gradients, Saved& saved) {
  const OpViews& in = pass.inputs;
  find_strategy(convolution_strategies(), "causal_conv", pass.strategy)
      .backward(pass.context,
                {.x = find_tensor(in, "x"),
                 .weight = find_tensor(in, "weight"),
                 .bias = find_tensor(in, "bias"),
                 .activation = activation_of(pass.attributes),
                 .d_y = d_y,
                 .d_x = find_tensor(gradients, "x"),
                 .d_weight = find_tensor(gradients, "weight"),
                 .d_bias = find_tensor(gradients, "bias")},
                saved);
}

}  // namespace

OpRow causal_conv_row() {
  return {.name = "causal_conv",
          .inputs = {{.name = "x", .shape = "TD"},
                     {.name = "weight", .shape = "DW"},
                     {.name = "bias", .shape = "D", .optional = true}},
          .attributes = {{.name = "activation", .choices = {"none", "silu"}}},
          .divides = {},
          .strategies = op_strategies(convolution_strategies(), causal_conv_forward, causal_conv_backward),
          .arguments = arguments,
          .backward = backward};
}

}  // namespace causeway
