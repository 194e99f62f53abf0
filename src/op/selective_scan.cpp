#include "src/op/table.hpp"

namespace causeway {
namespace {

void map_arguments(const OpTensors& tensors, SelectiveScanForward& forward, SelectiveScanBackward& backward) {
  tensors.map("u", forward.in.u, backward.in.u, backward.d_u);
  tensors.map("delta", forward.in.delta, backward.in.delta, backward.d_delta);
  tensors.map("z", forward.in.z, backward.in.z, backward.d_z);
  tensors.map("A", forward.in.A, backward.in.A, backward.d_A);
  tensors.map("B", forward.in.B, backward.in.B, backward.d_B);
  tensors.map("C", forward.in.C, backward.in.C, backward.d_C);
  tensors.map("D", forward.in.D, backward.in.D, backward.d_D);
  tensors.map("delta_bias", forward.in.delta_bias, backward.in.delta_bias, backward.d_delta_bias);
  forward.in.delta_softplus = backward.in.delta_softplus = tensors.attributes.at("delta_softplus") == "1";
  forward.y = tensors.y;
  backward.d_y = tensors.d_y;
}

}  // namespace

OpRow selective_scan_row() {
  return make_op_row({.name = "selective_scan",
                      .inputs = {{.name = "u", .shape = "TD"},
                                 {.name = "delta", .shape = "TD"},
                                 {.name = "z", .shape = "TD", .optional = true},
                                 {.name = "A", .shape = "DN", .accumulator = true},
                                 {.name = "B", .shape = "TN"},
                                 {.name = "C", .shape = "TN"},
                                 {.name = "D", .shape = "D", .accumulator = true},
                                 {.name = "delta_bias", .shape = "D", .optional = true, .accumulator = true}},
                      .attributes = {{.name = "delta_softplus", .choices = {"0", "1"}}}},
                     map_arguments, selective_scan_forward, selective_scan_backward, selective_scan_summary,
                     selective_scan_adjoint_summary, selective_scan_fold);
}

}  // namespace causeway
