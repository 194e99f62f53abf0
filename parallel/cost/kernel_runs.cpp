#include "parallel/cost/kernel_runs.hpp"

#include <algorithm>
#include <cmath>
#include <memory>

#include "kernels/core/integer.hpp"
#include "kernels/fourier.hpp"
#include "parallel/cost/operator_kernels.hpp"
#include "parallel/cost/run_tensors.hpp"

namespace causeway {
namespace {

/// Whole documents of fewer channels: how fast a Fourier transform is depends on its length.
RunSize some_channels(const Stream& stream, std::int64_t tokens, std::int64_t channels, std::int64_t group,
                      bool small) {
  const std::int64_t length = std::clamp<std::int64_t>(tokens, 1, 4 * most_elements(stream));
  std::int64_t fewer = std::clamp<std::int64_t>(most_elements(stream) / length, std::min<std::int64_t>(16, channels),
                                                std::max<std::int64_t>(channels, 1));
  if (small) fewer = std::max<std::int64_t>(fewer / 16, 1);
  return {length, fewer <= group ? fewer : fewer / group * group};
}

KernelRun causal_conv_run(RunTensors& made, const CausalConvForward& call, const TimedKernel& kernel, RunSize size) {
  const DType dtype = call.x.dtype, wide = accumulator_of(dtype);
  const Shape rows{size.tokens, size.channels}, taps{size.channels, kernel.width};
  const TensorView x = made.random(dtype, rows), weight = made.random(dtype, taps), y = made.random(dtype, rows);
  const SegmentsView segments = made.one_document(size.tokens);
  if (!kernel.backward) {
    const CausalConvForward args{
        .x = x, .halo = {}, .weight = weight, .bias = {}, .segments = segments, .activation = call.activation, .y = y};
    return {size.elements(), [=, stream = made.stream()] { causal_conv_forward(stream, args); }};
  }
  const CausalConvBackward args{.x = x,
                                .halo = {},
                                .weight = weight,
                                .bias = {},
                                .segments = segments,
                                .activation = call.activation,
                                .d_y = y,
                                .d_x = made.zeros(dtype, rows),
                                .d_halo = {},
                                .d_weight = made.zeros(wide, taps),
                                .d_bias = {}};
  return {size.elements(), [=, stream = made.stream()] { causal_conv_backward(stream, args); }};
}

GatedConvInputs gated_inputs(RunTensors& made, DType dtype, bool gated, RunSize size) {
  const Shape rows{size.tokens, size.channels};
  GatedConvInputs in{
      .q = {}, .k = {}, .v = made.random(dtype, rows), .skip = {}, .segments = made.one_document(size.tokens)};
  if (gated) in.q = made.random(dtype, rows), in.k = made.random(dtype, rows);
  return in;
}
GatedConvGradients gated_gradients(RunTensors& made, const GatedConvInputs& in) {
  GatedConvGradients gradients{.d_y = made.random(in.v.dtype, in.v.shape),
                               .d_q = {},
                               .d_k = {},
                               .d_v = made.zeros(in.v.dtype, in.v.shape),
                               .d_skip = {}};
  if (in.q.present()) gradients.d_q = made.zeros(in.v.dtype, in.v.shape);
  if (in.k.present()) gradients.d_k = made.zeros(in.v.dtype, in.v.shape);
  return gradients;
}

KernelRun blocked_conv_run(RunTensors& made, const BlockedConvForward& call, const TimedKernel& kernel, RunSize size) {
  const DType dtype = call.in.v.dtype;
  const GatedConvInputs in = gated_inputs(made, dtype, kernel.gated, size);
  const TensorView taps = made.random(call.taps.dtype, call.taps.shape);
  if (!kernel.backward) {
    const BlockedConvForward args{
        .in = in, .halo = {}, .taps = taps, .block = call.block, .y = made.zeros(dtype, in.v.shape)};
    return {size.elements(), [=, stream = made.stream()] { blocked_conv_forward(stream, args); }};
  }
  const BlockedConvBackward args{.in = in,
                                 .halo = {},
                                 .taps = taps,
                                 .block = call.block,
                                 .gradients = gated_gradients(made, in),
                                 .d_halo = {},
                                 .d_taps = made.zeros(accumulator_of(dtype), taps.shape)};
  return {size.elements(), [=, stream = made.stream()] { blocked_conv_backward(stream, args); }};
}

KernelRun modal_conv_run(RunTensors& made, const ModalConvForward& call, const TimedKernel& kernel, RunSize size) {
  const DType dtype = call.in.v.dtype, wide = call.residues.dtype;
  const Shape modes{size.channels, kernel.width};
  const GatedConvInputs in = gated_inputs(made, dtype, kernel.gated, size);
  const TensorView residues = made.random(wide, modes), log_rates = made.filled(wide, modes, -3);
  if (kernel.kind == KernelKind::modal_summary && !kernel.backward) {
    const ModalConvSummary args{.in = in, .log_rates = log_rates, .state = made.zeros(wide, modes)};
    return {size.elements(), [=, stream = made.stream()] { modal_conv_summary(stream, args); }};
  }
  if (kernel.kind == KernelKind::modal_summary) {
    const ModalConvAdjointSummary args{.in = in,
                                       .residues = residues,
                                       .log_rates = log_rates,
                                       .d_y = made.random(dtype, in.v.shape),
                                       .adjoint = made.zeros(wide, modes)};
    return {size.elements(), [=, stream = made.stream()] { modal_conv_adjoint_summary(stream, args); }};
  }
  const TensorView states = made.zeros(wide, {ceil_div(size.tokens, modal_conv_block), size.channels, kernel.width});
  if (!kernel.backward) {
    const ModalConvForward args{.in = in,
                                .residues = residues,
                                .log_rates = log_rates,
                                .state_in = {},
                                .y = made.zeros(dtype, in.v.shape),
                                .states = states};
    return {size.elements(), [=, stream = made.stream()] { modal_conv_forward(stream, args); }};
  }
  const ModalConvBackward args{.in = in,
                               .residues = residues,
                               .log_rates = log_rates,
                               .states = states,
                               .adjoint_in = {},
                               .gradients = gated_gradients(made, in),
                               .d_residues = made.zeros(wide, modes),
                               .d_log_rates = made.zeros(wide, modes)};
  return {size.elements(), [=, stream = made.stream()] { modal_conv_backward(stream, args); }};
}

KernelRun modal_spectrum_run(RunTensors& made, const ModalConvForward& call, const TimedKernel& kernel, RunSize size) {
  const DType wide = call.residues.dtype;
  const Shape modes{size.channels, kernel.width}, points{size.tokens, size.channels, 2};
  const TensorView residues = made.random(wide, modes), log_rates = made.filled(wide, modes, -3);
  if (!kernel.backward) {
    const ModalSpectrum args{.residues = residues,
                             .log_rates = log_rates,
                             .length = size.tokens,
                             .first = 1,
                             .step = 4,
                             .y = made.zeros(wide, points)};
    return {size.elements(), [=, stream = made.stream()] { modal_spectrum(stream, args); }};
  }
  const ModalSpectrumBackward args{.residues = residues,
                                   .log_rates = log_rates,
                                   .length = size.tokens,
                                   .first = 1,
                                   .step = 4,
                                   .d_y = made.random(wide, points),
                                   .d_residues = made.zeros(wide, modes),
                                   .d_log_rates = made.zeros(wide, modes)};
  return {size.elements(), [=, stream = made.stream()] { modal_spectrum_backward(stream, args); }};
}

/// The longest document, with the channels that a rank convolves of it.
KernelRun fft_conv_run(RunTensors& made, DType dtype, DType taps_dtype, std::int64_t channels,
                       const TimedKernel& kernel, const TimedShape& shape, bool small) {
  const RunSize size =
      some_channels(made.stream(), shape.longest_document, ceil_div(channels, shape.ranks), kernel.group, small);
  const GatedConvInputs in = gated_inputs(made, dtype, false, size);
  const std::int64_t group = std::min(kernel.group, size.channels);
  const TensorView taps = made.random(taps_dtype, {size.channels / group, size.tokens});
  if (!kernel.backward) {
    const FftConvForward args{.in = in, .taps = taps, .y = made.zeros(dtype, in.v.shape)};
    return {size.elements(), [=, stream = made.stream()] { fft_conv_forward(stream, args); }};
  }
  const FftConvBackward args{.in = in,
                             .taps = taps,
                             .gradients = gated_gradients(made, in),
                             .d_taps = made.zeros(accumulator_of(dtype), taps.shape)};
  return {size.elements(), [=, stream = made.stream()] { fft_conv_backward(stream, args); }};
}

/// A step of a Fourier transform over ranks, in place on some complex points.
KernelRun transform_step_run(RunTensors& made, DType wide, const TimedKernel& kernel, RunSize size) {
  const TensorView x = made.random(wide, {size.tokens, size.channels, 2});
  if (kernel.kind == KernelKind::shard_transform) {
    const FourierTransform args{.length = size.tokens, .x = x};
    return {size.elements(), [=, stream = made.stream()] { fourier_transform(stream, args); }};
  }
  const Rotate args{.x = x, .first = 0, .step = 1, .modulus = 4 * size.tokens, .y = x};
  return {size.elements(), [=, stream = made.stream()] { rotate(stream, args); }};
}

KernelRun selective_scan_run(RunTensors& made, const SelectiveScanForward& call, const TimedKernel& kernel,
                             RunSize size) {
  const DType dtype = call.in.u.dtype, wide = call.in.A.dtype;
  const Shape rows{size.tokens, size.channels}, states{size.channels, kernel.width}, inputs{size.tokens, kernel.width};
  SelectiveScanInputs in{.u = made.random(dtype, rows),
                         .delta = made.random(dtype, rows),
                         .z = {},
                         .A = made.filled(wide, states, -1),
                         .B = made.random(dtype, inputs),
                         .C = made.random(dtype, inputs),
                         .D = made.random(wide, {size.channels}),
                         .delta_bias = {},
                         .segments = made.one_document(size.tokens)};
  if (kernel.gated) in.z = made.random(dtype, rows);
  if (kernel.kind == KernelKind::scan_summary && !kernel.backward) {
    const SelectiveScanSummary args{
        .in = in, .state = made.zeros(wide, states), .sum_delta = made.zeros(wide, {size.channels})};
    return {size.elements(), [=, stream = made.stream()] { selective_scan_summary(stream, args); }};
  }
  if (kernel.kind == KernelKind::scan_summary) {
    const SelectiveScanAdjointSummary args{.in = in,
                                           .d_y = made.random(dtype, rows),
                                           .adjoint = made.zeros(wide, states),
                                           .sum_delta = made.zeros(wide, {size.channels})};
    return {size.elements(), [=, stream = made.stream()] { selective_scan_adjoint_summary(stream, args); }};
  }
  const TensorView saved = made.zeros(wide, {ceil_div(size.tokens, selective_scan_block), size.channels, kernel.width});
  if (!kernel.backward) {
    const SelectiveScanForward args{.in = in, .state_in = {}, .y = made.zeros(dtype, rows), .states = saved};
    return {size.elements(), [=, stream = made.stream()] { selective_scan_forward(stream, args); }};
  }
  const SelectiveScanBackward args{.in = in,
                                   .states = saved,
                                   .adjoint_in = {},
                                   .d_y = made.random(dtype, rows),
                                   .d_u = made.zeros(dtype, rows),
                                   .d_delta = made.zeros(dtype, rows),
                                   .d_B = made.zeros(dtype, inputs),
                                   .d_C = made.zeros(dtype, inputs),
                                   .d_z = kernel.gated ? made.zeros(dtype, rows) : TensorView(),
                                   .d_A = made.zeros(wide, states),
                                   .d_D = made.zeros(wide, {size.channels}),
                                   .d_delta_bias = {}};
  return {size.elements(), [=, stream = made.stream()] { selective_scan_backward(stream, args); }};
}

/// One document of fewer tokens: its pairs are what a rank can compute in a few milliseconds.
RunSize some_queries(const Stream& stream, std::int64_t tokens, std::int64_t channels, bool small) {
  const double pairs = std::ldexp(1, stream.device() == Device::cpu ? 24 : 40) / static_cast<double>(channels + 1);
  const std::int64_t large = std::clamp<std::int64_t>(tokens, 1, 16 + static_cast<std::int64_t>(std::sqrt(pairs)));
  return {small ? std::max<std::int64_t>(large / 4, 1) : large, channels};
}

KernelRun attention_run(RunTensors& made, const RotaryAttentionForward& call, const TimedKernel& kernel, RunSize size) {
  const DType dtype = call.q.dtype, wide = accumulator_of(dtype);
  const Shape rows = call.q.shape.with_rows(size.tokens), heads{size.tokens, call.q.shape[1]};
  const AttentionInputs in{.q = made.random(dtype, rows),
                           .k = made.random(dtype, rows),
                           .v = made.random(dtype, rows),
                           .segments = made.one_document(size.tokens)};
  const TensorView lse = made.filled(wide, heads, 10);
  const double pairs = static_cast<double>(size.tokens) * static_cast<double>(size.tokens + 1) / 2;
  const double elements = pairs * static_cast<double>(size.channels);
  if (!kernel.backward) {
    const AttentionForward args{.in = in, .y = made.zeros(wide, rows), .lse = lse};
    return {elements, [=, stream = made.stream()] { attention_forward(stream, args); }};
  }
  const AttentionBackward args{.in = in,
                               .lse = lse,
                               .delta = made.zeros(wide, heads),
                               .d_y = made.random(dtype, rows),
                               .d_q = made.zeros(wide, rows),
                               .d_k = made.zeros(wide, rows),
                               .d_v = made.zeros(wide, rows)};
  return {elements, [=, stream = made.stream()] { attention_backward(stream, args); }};
}

// The run of a kernel of each operator.

KernelRun run_of(RunTensors& made, const CausalConvForward& call, const TimedKernel& kernel, const TimedShape& shape,
                 bool small) {
  return causal_conv_run(made, call, kernel, some_tokens(made.stream(), shape.local_tokens, call.x.columns(), small));
}
KernelRun run_of(RunTensors& made, const BlockedConvForward& call, const TimedKernel& kernel, const TimedShape& shape,
                 bool small) {
  return blocked_conv_run(made, call, kernel,
                          some_tokens(made.stream(), shape.local_tokens, call.in.v.columns(), small));
}
KernelRun run_of(RunTensors& made, const FftConvForward& call, const TimedKernel& kernel, const TimedShape& shape,
                 bool small) {
  const std::int64_t channels = call.in.v.columns();
  const DType dtype = call.in.v.dtype;
  if (kernel.kind == KernelKind::fft_conv)
    return fft_conv_run(made, dtype, call.taps.dtype, channels, kernel, shape, small);
  return transform_step_run(made, accumulator_of(dtype), kernel,
                            some_channels(made.stream(), shape.local_tokens, channels, 1, small));
}
KernelRun run_of(RunTensors& made, const ModalConvForward& call, const TimedKernel& kernel, const TimedShape& shape,
                 bool small) {
  const std::int64_t channels = call.in.v.columns();
  const RunSize size = some_tokens(made.stream(), shape.local_tokens, channels, small);
  const DType dtype = call.in.v.dtype;
  switch (kernel.kind) {
    case KernelKind::fft_conv:
      return fft_conv_run(made, dtype, call.residues.dtype, channels, kernel, shape, small);
    case KernelKind::shard_transform:
    case KernelKind::rotation:
      return transform_step_run(made, accumulator_of(dtype), kernel,
                                some_channels(made.stream(), shape.local_tokens, channels, 1, small));
    case KernelKind::filter_spectrum:
      return modal_spectrum_run(made, call, kernel, {ceil_div(size.tokens, 16), channels});
    default:
      return modal_conv_run(made, call, kernel, size);
  }
}
KernelRun run_of(RunTensors& made, const HyenaBlockForward& call, const TimedKernel& kernel, const TimedShape& shape,
                 bool small) {
  return run_of_block(made, call, kernel, shape, small);
}
KernelRun run_of(RunTensors& made, const SelectiveScanForward& call, const TimedKernel& kernel, const TimedShape& shape,
                 bool small) {
  return selective_scan_run(made, call, kernel,
                            some_tokens(made.stream(), shape.local_tokens, call.in.A.rows(), small));
}
KernelRun run_of(RunTensors& made, const RotaryAttentionForward& call, const TimedKernel& kernel,
                 const TimedShape& shape, bool small) {
  return attention_run(made, call, kernel, some_queries(made.stream(), shape.local_tokens, call.q.columns(), small));
}

// The kernels of the forward pass of each operator.

std::vector<TimedKernel> forward_kernels(const CausalConvForward& call, const TimedShape&) { return {kernel_of(call)}; }
std::vector<TimedKernel> forward_kernels(const BlockedConvForward& call, const TimedShape&) {
  return {kernel_of(call), ungated(kernel_of(call))};
}
std::vector<TimedKernel> forward_kernels(const ModalConvForward& call, const TimedShape& shape) {
  return {kernel_of(call),
          ungated(kernel_of(call)),
          summary_of(call),
          spectrum_of(call),
          transform_kernel(shape.local_tokens),
          rotation_kernel(),
          fft_kernel(shape.longest_document, call.in.v.columns(), call.residues.rows())};
}
std::vector<TimedKernel> forward_kernels(const FftConvForward& call, const TimedShape& shape) {
  return {fft_kernel(shape.longest_document, call.in.v.columns(), call.taps.rows()),
          transform_kernel(shape.local_tokens), rotation_kernel()};
}
std::vector<TimedKernel> forward_kernels(const HyenaBlockForward& call, const TimedShape&) {
  if (!call.in.modal()) return {kernel_of(call)};
  return {kernel_of(call), summary_of(call)};
}
std::vector<TimedKernel> forward_kernels(const SelectiveScanForward& call, const TimedShape&) {
  return {kernel_of(call), ungated(kernel_of(call)), summary_of(call)};
}
std::vector<TimedKernel> forward_kernels(const RotaryAttentionForward& call, const TimedShape&) {
  return {kernel_of(call)};
}

}  // namespace

std::vector<TimedKernel> kernels_of(const OperatorArguments& call, const TimedShape& shape) {
  std::vector<TimedKernel> kernels;
  for (TimedKernel kernel : std::visit([&](const auto& args) { return forward_kernels(args, shape); }, call))
    for (const bool backward : {false, true}) {
      kernel.backward = backward;
      if (backward && !has_backward(kernel.kind)) continue;
      if (std::ranges::find(kernels, kernel) == kernels.end()) kernels.push_back(kernel);
    }
  return kernels;
}

KernelRun prepare_run(const Stream& stream, const OperatorArguments& call, const TimedKernel& kernel,
                      const TimedShape& shape, bool small) {
  const auto made = std::make_shared<RunTensors>(stream);
  KernelRun prepared = std::visit([&](const auto& args) { return run_of(*made, args, kernel, shape, small); }, call);
  prepared.run = [made, run = std::move(prepared.run)] { run(); };
  return prepared;
}

}  // namespace causeway
