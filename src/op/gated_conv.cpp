#include "src/op/table.hpp"

/// hyena_se and hyena_mr, which differ in the length of their taps alone; hyena_li; long_conv.
namespace causeway {
namespace {

GatedConvInputs gated_inputs(const OpViews& in) {
  return {.q = find_tensor(in, "q"),
          .k = find_tensor(in, "k"),
          .v = find_tensor(in, "v"),
          .skip = find_tensor(in, "skip"),
          .segments = {}};
}

GatedConvGradients gated_gradients(TensorView d_y, const OpViews& gradients) {
  return {.d_y = d_y,
          .d_q = find_tensor(gradients, "q"),
          .d_k = find_tensor(gradients, "k"),
          .d_v = find_tensor(gradients, "v"),
          .d_skip = find_tensor(gradients, "skip")};
}

const GatedConvolutionStrategy& blocked_strategy(const OpPass& pass) {
  return find_strategy(gated_convolution_strategies(), "hyena_se or hyena_mr", pass.strategy);
}

OperatorArguments blocked_arguments(const OpViews& in, const OpAttributes&, TensorView y) {
  return BlockedConvForward{.in = gated_inputs(in), .halo = {}, .taps = find_tensor(in, "taps"), .y = y};
}

void blocked_backward(const OpPass& pass, TensorView d_y, const OpViews& gradients, Saved& saved) {
  blocked_strategy(pass).backward(pass.context,
                                  {.in = gated_inputs(pass.inputs),
                                   .halo = {},
                                   .taps = find_tensor(pass.inputs, "taps"),
                                   .gradients = gated_gradients(d_y, gradients),
                                   .d_halo = {},
                                   .d_taps = find_tensor(gradients, "taps")},
                                  saved);
}

OperatorArguments modal_arguments(const OpViews& in, const OpAttributes&, TensorView y) {
  return ModalConvForward{.in = gated_inputs(in),
                          .residues = find_tensor(in, "residues"),
                          .log_rates = find_tensor(in, "log_rates"),
                          .state_in = {},
                          .y = y,
                          .states = {}};
}

void modal_backward(const OpPass& pass, TensorView d_y, const OpViews& gradients, Saved& saved) {
  find_strategy(modal_convolution_strategies(), "hyena_li", pass.strategy)
      .backward(pass.context,
                {.in = gated_inputs(pass.inputs),
                 .residues = find_tensor(pass.inputs, "residues"),
                 .log_rates = find_tensor(pass.inputs, "log_rates"),
                 .states = {},
                 .adjoint_in = {},
                 .gradients = gated_gradients(d_y, gradients),
                 .d_residues = find_tensor(gradients, "residues"),
                 .d_log_rates = find_tensor(gradients, "log_rates")},
                saved);
}

/// long_conv's x is the gated convolutions' v.
GatedConvInputs plain_inputs(const OpViews& in) {
  return {.q = {}, .k = {}, .v = find_tensor(in, "x"), .skip = find_tensor(in, "skip"), .segments = {}};
}

OperatorArguments long_arguments(const OpViews& in, const OpAttributes&, TensorView y) {
  return FftConvForward{.in = plain_inputs(in), .taps = find_tensor(in, "taps"), .y = y};
}

void long_backward(const OpPass& pass, TensorView d_y, const OpViews& gradients, Saved& saved) {
  find_strategy(long_convolution_strategies(), "long_conv", pass.strategy)
      .backward(pass.context,
                {.in = plain_inputs(pass.inputs),
                 .taps = find_tensor(pass.inputs, "taps"),
                 .gradients = {.d_y = d_y,
                               .d_q = {},
                               .d_k = {},
                               .d_v = find_tensor(gradients, "x"),
                               .d_skip = find_tensor(gradients, "skip")},
                 .d_taps = find_tensor(gradients, "taps")},
                saved);
}

OpRow blocked_row(std::string_view name) {
  return {.name = name,
          .inputs = {{.name = "q", .shape = "TD"},
                     {.name = "k", .shape = "TD"},
                     {.name = "v", .shape = "TD"},
                     {.name = "taps", .shape = "GL"},
                     {.name = "skip", .shape = "D", .optional = true}},
          .attributes = {},
          .divides = {{'G', 'D'}},
          .strategies = op_strategies(gated_convolution_strategies(), blocked_conv_forward, blocked_conv_backward),
          .arguments = blocked_arguments,
          .backward = blocked_backward};
}

}  // namespace

OpRow hyena_se_row() { return blocked_row("hyena_se"); }
OpRow hyena_mr_row() { return blocked_row("hyena_mr"); }

OpRow hyena_li_row() {
  return {.name = "hyena_li",
          .inputs = {{.name = "q", .shape = "TD"},
                     {.name = "k", .shape = "TD"},
                     {.name = "v", .shape = "TD"},
                     {.name = "residues", .shape = "DM", .accumulator = true},
                     {.name = "log_rates", .shape = "DM", .accumulator = true},
                     {.name = "skip", .shape = "D", .optional = true}},
          .attributes = {},
          .divides = {},
          .strategies =
              op_strategies(modal_convolution_strategies(), modal_conv_forward, modal_conv_backward, modal_conv_summary,
                            modal_conv_adjoint_summary, modal_conv_fold, modal_filter, modal_filter_backward,
                            blocked_conv_forward, blocked_conv_backward, fft_conv_forward, fft_conv_backward),
          .arguments = modal_arguments,
          .backward = modal_backward};
}

OpRow long_conv_row() {
  return {.name = "long_conv",
          .inputs = {{.name = "x", .shape = "TD"},
                     {.name = "taps", .shape = "GL"},
                     {.name = "skip", .shape = "D", .optional = true}},
          .attributes = {},
          .divides = {{'G', 'D'}},
          .strategies = op_strategies(long_convolution_strategies(), fft_conv_forward, fft_conv_backward),
          .arguments = long_arguments,
          .backward = long_backward};
}

}  // namespace causeway
