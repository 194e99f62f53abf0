#include "src/op/table.hpp"

/// hyena_se and hyena_mr, which differ only in the length of their taps; hyena_li; long_conv.
namespace causeway {
namespace {

/// Common to hyena_se, hyena_mr and hyena_li: y = q ⊙ (filter * (k ⊙ v) + skip ⊙ k ⊙ v).
template <class Forward, class Backward>
void map_gated(const OpTensors& tensors, Forward& forward, Backward& backward) {
  tensors.map("q", forward.in.q, backward.in.q, backward.gradients.d_q);
  tensors.map("k", forward.in.k, backward.in.k, backward.gradients.d_k);
  tensors.map("v", forward.in.v, backward.in.v, backward.gradients.d_v);
  tensors.map("skip", forward.in.skip, backward.in.skip, backward.gradients.d_skip);
  forward.y = tensors.y;
  backward.gradients.d_y = tensors.d_y;
}

void map_blocked(const OpTensors& tensors, BlockedConvForward& forward, BlockedConvBackward& backward) {
  map_gated(tensors, forward, backward);
  tensors.map("taps", forward.taps, backward.taps, backward.d_taps);
}

void map_modal(const OpTensors& tensors, ModalConvForward& forward, ModalConvBackward& backward) {
  map_gated(tensors, forward, backward);
  tensors.map("residues", forward.residues, backward.residues, backward.d_residues);
  tensors.map("log_rates", forward.log_rates, backward.log_rates, backward.d_log_rates);
}

/// long_conv has no gates: its x is the v of the gated convolutions.
void map_long(const OpTensors& tensors, FftConvForward& forward, FftConvBackward& backward) {
  tensors.map("x", forward.in.v, backward.in.v, backward.gradients.d_v);
  tensors.map("skip", forward.in.skip, backward.in.skip, backward.gradients.d_skip);
  tensors.map("taps", forward.taps, backward.taps, backward.d_taps);
  forward.y = tensors.y;
  backward.gradients.d_y = tensors.d_y;
}

OpRow blocked_row(std::string_view name) {
  return make_op_row({.name = name,
                      .inputs = {{.name = "q", .shape = "TD"},
                                 {.name = "k", .shape = "TD"},
                                 {.name = "v", .shape = "TD"},
                                 {.name = "taps", .shape = "GL"},
                                 {.name = "skip", .shape = "D", .optional = true}},
                      .divides = {{'G', 'D'}}},
                     map_blocked, blocked_conv_forward, blocked_conv_backward);
}

}  // namespace

OpRow hyena_se_row() { return blocked_row("hyena_se"); }
OpRow hyena_mr_row() { return blocked_row("hyena_mr"); }

OpRow hyena_li_row() {
  return make_op_row({.name = "hyena_li",
                      .inputs = {{.name = "q", .shape = "TD"},
                                 {.name = "k", .shape = "TD"},
                                 {.name = "v", .shape = "TD"},
                                 {.name = "residues", .shape = "DM", .accumulator = true},
                                 {.name = "log_rates", .shape = "DM", .accumulator = true},
                                 {.name = "skip", .shape = "D", .optional = true}}},
                     map_modal, modal_conv_forward, modal_conv_backward, modal_conv_summary, modal_conv_adjoint_summary,
                     modal_conv_fold, modal_filter, modal_filter_backward, blocked_conv_forward, blocked_conv_backward,
                     fft_conv_forward, fft_conv_backward);
}

OpRow long_conv_row() {
  return make_op_row({.name = "long_conv",
                      .inputs = {{.name = "x", .shape = "TD"},
                                 {.name = "taps", .shape = "GL"},
                                 {.name = "skip", .shape = "D", .optional = true}},
                      .divides = {{'G', 'D'}}},
                     map_long, fft_conv_forward, fft_conv_backward);
}

}  // namespace causeway
