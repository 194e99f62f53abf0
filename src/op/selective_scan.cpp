#include "src/op/table.hpp"

namespace causeway {
namespace {

SelectiveScanInputs inputs_of(const OpViews& in, const OpAttributes& attributes) {
  return {.u = find_tensor(in, "u"),
          .delta = find_tensor(in, "delta"),
          .z = find_tensor(in, "z"),
          .A = find_tensor(in, "A"),
          .B = find_tensor(in, "B"),
          .C = find_tensor(in, "C"),
          .D = find_tensor(in, "D"),
          .delta_bias = find_tensor(in, "delta_bias"),
          .delta_softplus = attributes.at("delta_softplus") == "1"};
}

OperatorArguments arguments(const OpViews& in, const OpAttributes& attributes, TensorView y) {
  return SelectiveScanForward{.in = inputs_of(in, attributes), .state_in = {}, .y = y, .states = {}};
}

void backward(const OpPass& pass, TensorView d_y, const OpViews& gradients, Saved& saved) {
  find_strategy(selective_scan_strategies(), "selective_scan", pass.strategy)
      .backward(pass.context,
                {.in = inputs_of(pass.inputs, pass.attributes),
                 .d_y = d_y,
                 .d_u = find_tensor(gradients, "u"),
                 .d_delta = find_tensor(gradients, "delta"),
                 .d_B = find_tensor(gradients, "B"),
                 .d_C = find_tensor(gradients, "C"),
                 .d_z = find_tensor(gradients, "z"),
                 .d_A = find_tensor(gradients, "A"),
                 .d_D = find_tensor(gradients, "D"),
                 .d_delta_bias = find_tensor(gradients, "delta_bias")},
                saved);
}

}  // namespace

OpRow selective_scan_row() {
  return {.name = "selective_scan",
          .inputs = {{.name = "u", .shape = "TD"},
                     {.name = "delta", .shape = "TD"},
                     {.name = "z", .shape = "TD", .optional = true},
                     {.name = "A", .shape = "DN", .accumulator = true},
                     {.name = "B", .shape = "TN"},
                     {.name = "C", .shape = "TN"},
                     {.name = "D", .shape = "D", .accumulator = true},
                     {.name = "delta_bias", .shape = "D", .optional = true, .accumulator = true}},
          .attributes = {{.name = "delta_softplus", .choices = {"0", "1"}}},
          .divides = {},
          .strategies = op_strategies(selective_scan_strategies(), selective_scan_forward, selective_scan_backward,
                                      selective_scan_summary, selective_scan_adjoint_summary, selective_scan_fold),
          .arguments = arguments,
          .backward = backward};
}

}  // namespace causeway
