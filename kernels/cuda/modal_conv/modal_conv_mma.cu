#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/composed/modal_states.hpp"
#include "kernels/core/integer.hpp"
#include "kernels/cuda/modal_conv/modal_conv.cuh"
#include "kernels/cuda/modal_conv/modal_conv_mma_launch.cuh"

/// modal_conv on tensor cores: how calls become launches.
namespace causeway::cuda::modal_mma {
namespace {

/// The rows of a run's inputs, and of the gradients that it writes.
GatedConvInputs rows_of(GatedConvInputs in, std::int64_t begin, std::int64_t count) {
  for (TensorView* x : {&in.q, &in.k, &in.v}) *x = x->slice_rows(begin, count);
  return in;
}
GatedConvGradients rows_of(GatedConvGradients of, std::int64_t begin, std::int64_t count) {
  for (TensorView* x : {&of.d_y, &of.d_q, &of.d_k, &of.d_v}) *x = x->slice_rows(begin, count);
  return of;
}

/// The backward of a run whose adjoint enters after its last unit.
void backward_of_units(const Stream& stream, const ModalConvBackward& args) {
  const GatedConvInputs& in = args.in;
  const GatedConvGradients& of = args.gradients;
  const std::int64_t D = in.v.columns();
  const Filter filter = filter_of(in, args.residues, args.log_rates);
  const UnitPlan plan = plan_of(in.segments.tokens, D);
  const Workspace memory(stream, plan, filter);
  const auto q = MappedTensor::input(stream, in.q), k = MappedTensor::input(stream, in.k),
             v = MappedTensor::input(stream, in.v), d_y = MappedTensor::input(stream, of.d_y);
  const MappedTensor d_q(stream, of.d_q), d_k(stream, of.d_k), d_v(stream, of.d_v);
  const Tensor sums = Tensor::zeros(stream, DType::f32, {plan.ranges, plan.columns * block_channels, sums_of_channel});
  const auto* const constants = memory.constants.view().row<const ChannelConstants>(0);
  // 1. d_q; and the states, if they were not saved.
  const Tensor own = args.states.present() ? Tensor() : Tensor(stream, DType::f32, {plan.units, D, mode_count});
  const TensorView states = own.present() ? own.view() : args.states;
  const ForwardArgs query{
      .q = d_y.map(),
      .k = k.map(),
      .v = v.map(),
      .y = d_q.map(),
      .constants = constants,
      .filter = filter,
      .documents = in.segments,
      .plan = plan,
      .state_in = Rows<const float>(in.segments.continues_from_left() ? args.state_in : TensorView{}),
      .states = Rows<float>(own),
      .states_from = own.present() ? 0 : plan.units,
      .state_out = Rows<float>({}),
      .parts = memory.parts.view().row<float>(0),
      .part_starts = memory.starts.view().row<int>(0),
      .entering = Rows<const float>(args.states)};
  if (own.present() && plan.ranges > 1) launch_forward_parts(stream, query, plan.parts() - range_parts);
  launch_forward(stream, query);
  // 2. d_k, d_v and the parameters.
  const BackwardArgs rest{.q = q.map(),
                          .d_y = d_y.map(),
                          .k = k.map(),
                          .v = v.map(),
                          .d_k = d_k.map(),
                          .d_v = d_v.map(),
                          .constants = constants,
                          .filter = filter,
                          .documents = in.segments,
                          .plan = plan,
                          .states = Rows<const float>(states),
                          .adjoint_in = Rows<const float>(args.adjoint_in),
                          .adjoint_out = Rows<float>(args.adjoint_out),
                          .parts = memory.parts.view().row<float>(0),
                          .part_starts = memory.starts.view().row<int>(0),
                          .first_part = range_parts,
                          .sums = sums.view().row<float>(0)};
  if (plan.ranges > 1) launch_backward_parts(stream, rest);
  launch_backward(stream, rest);
  add_parameters(stream, rest, args.d_residues, args.d_log_rates, of.d_skip);
  for (const MappedTensor* x : {&d_q, &d_k, &d_v}) x->write_back(stream);
}

/// The backward of the last, incomplete unit [from, tokens) by the recurrence; returns ∂loss/∂(s before token `from`),
/// or absent if a document begins there or it is the run's first token.
Tensor backward_of_last_unit(const Stream& stream, const ModalConvBackward& args, std::int64_t from) {
  const SegmentsView& run = args.in.segments;
  const std::int64_t D = args.in.v.columns(), count = run.tokens - from;
  const std::int64_t* const first = std::upper_bound(run.host, run.host + run.count, from) - 1;
  std::vector<std::int64_t> entries(first, run.host + run.count + 1);
  for (std::int64_t& entry : entries) entry -= from;
  const DeviceSegments documents(stream, entries, count);
  const Tensor state(stream, DType::f32, {D, mode_count}), y(stream, DType::bf16, {count, D}),
      states(stream, DType::f32, {ceil_div(count, modal_conv_block), D, mode_count});
  Tensor adjoint = from > 0 ? Tensor(stream, DType::f32, {D, mode_count}) : Tensor();
  write_state(stream, args.in, filter_of(args.in, args.residues, args.log_rates),
              args.states.row<const float>(from / unit_tokens), from, from, state);
  ModalConvBackward last = args;
  last.in = rows_of(args.in, from, count);
  last.in.segments = documents.view();
  last.gradients = rows_of(args.gradients, from, count);
  last.states = states;
  if (from > 0) last.adjoint_out = adjoint;
  recurrence_forward(stream, {.in = last.in,
                              .residues = args.residues,
                              .log_rates = args.log_rates,
                              .state_in = state,
                              .y = y,  // nobody reads it
                              .states = states,
                              .state_out = {}});
  recurrence_backward(stream, last);
  return entries[0] < 0 ? std::move(adjoint) : Tensor();
}

}  // namespace

bool suits(const GatedConvInputs& in, TensorView log_rates) {
  return in.q.present() && in.k.present() && suit(in.v, log_rates);
}

// Lower bound: 4 accesses per element. L 65536, D 4096 on an H200: 0.51 ms. Measured: README.md.
void forward(const Stream& stream, const ModalConvForward& args) {
  const GatedConvInputs& in = args.in;
  const std::int64_t T = in.segments.tokens, D = in.v.columns();
  const Filter filter = filter_of(in, args.residues, args.log_rates);
  const UnitPlan plan = plan_of(T, D);
  const Workspace memory(stream, plan, filter);
  const auto q = MappedTensor::input(stream, in.q), k = MappedTensor::input(stream, in.k),
             v = MappedTensor::input(stream, in.v);
  const MappedTensor y(stream, args.y);
  const bool whole = T % unit_tokens == 0;  // units, so that the state after the last one is the run's
  TensorView states = args.states;
  const Tensor last = !states.present() && args.state_out.present() && !whole
                          ? Tensor(stream, DType::f32, {1, D, mode_count})
                          : Tensor();
  if (last.present()) states = last;
  const ForwardArgs run{.q = q.map(),
                        .k = k.map(),
                        .v = v.map(),
                        .y = y.map(),
                        .constants = memory.constants.view().row<const ChannelConstants>(0),
                        .filter = filter,
                        .documents = in.segments,
                        .plan = plan,
                        .state_in = Rows<const float>(in.segments.continues_from_left() ? args.state_in : TensorView{}),
                        .states = Rows<float>(states),
                        .states_from = args.states.present() ? 0
                                       : last.present()      ? plan.units - 1
                                                             : plan.units,
                        .state_out = Rows<float>(whole ? args.state_out : TensorView{}),
                        .parts = memory.parts.view().row<float>(0),
                        .part_starts = memory.starts.view().row<int>(0),
                        .entering = Rows<const float>({})};
  if (plan.ranges > 1) launch_forward_parts(stream, run, plan.parts() - range_parts);
  launch_forward(stream, run);
  y.write_back(stream);
  if (args.state_out.present() && !whole)
    write_state(stream, in, filter, states.row<const float>(plan.units - 1 - run.states_from),
                std::int64_t{plan.units - 1} * unit_tokens, T, args.state_out);
}

// Lower bound: 7 accesses per element. L 65536, D 4096 on an H200: 0.89 ms; the two passes have 10: 1.27 ms.
void backward(const Stream& stream, const ModalConvBackward& args) {
  const SegmentsView& documents = args.in.segments;
  const std::int64_t complete = documents.tokens / unit_tokens * unit_tokens;
  ModalConvBackward units = args;
  if (!documents.continues_to_right()) units.adjoint_in = {};
  // An adjoint that enters within a unit: the kernels let it enter after a unit.
  Tensor adjoint, states;
  if (units.adjoint_in.present() && complete < documents.tokens) {
    if (!args.states.present()) {
      states = composed::modal_states(stream, args);
      units.states = states;
    }
    adjoint = backward_of_last_unit(stream, units, complete);
    if (complete == 0) return;
    units.in = rows_of(args.in, 0, complete);
    units.in.segments.tokens = complete;
    units.gradients = rows_of(args.gradients, 0, complete);
    units.adjoint_in = adjoint;
  }
  backward_of_units(stream, units);
}

bool suits(const HyenaBlockForward& args) {
  const HyenaBlockInputs& in = args.in;
  const std::int64_t T = in.segments.tokens;
  return in.modal() && in.q.dtype == DType::bf16 && in.residues.columns() == mode_count &&
         in.featurizer.columns() <= 3 && T < std::int64_t{1} << 30 && can_be_mapped(in.q) && can_be_mapped(in.k) &&
         can_be_mapped(in.v) && can_be_mapped(args.y) && (!args.state_out.present() || T % unit_tokens == 0) &&
         has_kernels();
}

// Lower bound: 4 accesses per element. L 65536, D 4096 on an H200: 0.51 ms. Measured: README.md.
void forward(const Stream& stream, const HyenaBlockForward& args) {
  const HyenaBlockInputs& in = args.in;
  const GatedConvInputs gated{.q = in.q, .k = in.k, .v = in.v, .skip = in.skip, .segments = in.segments};
  const Filter filter = filter_of(gated, in.residues, in.log_rates);
  const UnitPlan plan = plan_of(in.segments.tokens, filter.channels);
  const Workspace memory(stream, plan, filter);
  const auto map = [](TensorView x) { return tensor_map(x, unit_tokens, block_channels, true); };
  launch_block_forward(stream,
                       {.q = map(in.q),
                        .k = map(in.k),
                        .v = map(in.v),
                        .y = map(args.y),
                        .constants = memory.constants.view().row<const ChannelConstants>(0),
                        .filter = filter,
                        .documents = in.segments,
                        .plan = plan,
                        .state_in = Rows<const float>(in.segments.continues_from_left() ? args.state_in : TensorView{}),
                        .states = Rows<float>({}),
                        .states_from = plan.units,
                        .state_out = Rows<float>(args.state_out),
                        .parts = memory.parts.view().row<float>(0),
                        .part_starts = memory.starts.view().row<int>(0),
                        .entering = Rows<const float>({})},
                       in);
}

}  // namespace causeway::cuda::modal_mma
