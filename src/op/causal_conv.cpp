#include "src/op/table.hpp"

namespace causeway {
namespace {

void map_arguments(const OpTensors& tensors, CausalConvForward& forward, CausalConvBackward& backward) {
  tensors.map("x", forward.x, backward.x, backward.d_x);
  tensors.map("weight", forward.weight, backward.weight, backward.d_weight);
  tensors.map("bias", forward.bias, backward.bias, backward.d_bias);
  forward.activation = backward.activation =
      tensors.attributes.at("activation") == "silu" ? Activation::silu : Activation::none;
  forward.y = tensors.y;
  backward.d_y = tensors.d_y;
}

}  // namespace

OpRow causal_conv_row() {
  return make_op_row({.name = "causal_conv",
                      .inputs = {{.name = "x", .shape = "TD"},
                                 {.name = "weight", .shape = "DW"},
                                 {.name = "bias", .shape = "D", .optional = true}},
                      .attributes = {{.name = "activation", .choices = {"none", "silu"}}}},
                     map_arguments, causal_conv_forward, causal_conv_backward);
}

}  // namespace causeway
