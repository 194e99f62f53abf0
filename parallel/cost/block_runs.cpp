#include "parallel/cost/run_tensors.hpp"

namespace causeway {

KernelRun run_of_block(RunTensors& made, const HyenaBlockForward& call, const TimedKernel& kernel,
                       const TimedShape& shape, bool small) {
  const DType dtype = call.in.q.dtype, wide = accumulator_of(dtype);
  const std::int64_t D = call.in.q.columns();
  const RunSize size = some_tokens(made.stream(), shape.local_tokens, D, small);
  const Shape rows{size.tokens, D}, modes{D, kernel.width};
  const TensorView x = made.random(dtype, {size.tokens, 3 * D}), y = made.random(dtype, rows);
  HyenaBlockInputs in{.q = x.slice_columns(0, D),
                      .k = x.slice_columns(D, D),
                      .v = x.slice_columns(2 * D, D),
                      .featurizer = made.random(dtype, call.in.featurizer.shape),
                      .segments = made.one_document(size.tokens)};
  if (call.in.modal()) {
    in.residues = made.random(wide, modes);
    in.log_rates = made.filled(wide, modes, -3);
  } else {
    in.taps = made.random(call.in.taps.dtype, call.in.taps.shape);
  }
  if (kernel.kind == KernelKind::modal_block_summary) {
    const TensorView state = made.zeros(wide, modes);
    const HyenaBlockSummary forward{.in = in, .state = state};
    const HyenaBlockAdjointSummary backward{.in = in, .d_y = y, .adjoint = state};
    if (kernel.backward)
      return {size.elements(), [=, stream = made.stream()] { hyena_block_adjoint_summary(stream, backward); }};
    return {size.elements(), [=, stream = made.stream()] { hyena_block_summary(stream, forward); }};
  }
  if (!kernel.backward) {
    const HyenaBlockForward args{.in = in, .y = y};
    return {size.elements(), [=, stream = made.stream()] { hyena_block_forward(stream, args); }};
  }
  const TensorView d_x = made.zeros(dtype, x.shape);
  HyenaBlockBackward args{.in = in,
                          .d_y = y,
                          .d_q = d_x.slice_columns(0, D),
                          .d_k = d_x.slice_columns(D, D),
                          .d_v = d_x.slice_columns(2 * D, D),
                          .d_featurizer = made.zeros(wide, in.featurizer.shape)};
  if (call.in.modal())
    args.d_residues = made.zeros(wide, modes), args.d_log_rates = made.zeros(wide, modes);
  else
    args.d_taps = made.zeros(wide, in.taps.shape);
  return {size.elements(), [=, stream = made.stream()] { hyena_block_backward(stream, args); }};
}

}  // namespace causeway
