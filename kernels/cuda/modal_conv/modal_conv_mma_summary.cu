#include "kernels/cuda/modal_conv/modal_conv_mma_launch.cuh"

/// The summaries of a run on tensor cores: the sums of its parts, folded. Only a document's tokens at the run's edge
/// are read.
namespace causeway::cuda::modal_mma {
namespace {

template <class Args>
struct FoldArgs {
  Args run;
  Rows<float> out;  ///< [D, 16]
  bool by_places;
};

/// thread: one mode of one channel
__global__ void __launch_bounds__(256) fold_states_kernel(const __grid_constant__ FoldArgs<ForwardArgs> args) {
  const std::int64_t at = std::int64_t{blockIdx.x} * 256 + threadIdx.x, channel = at / mode_count;
  if (channel >= args.run.filter.channels) return;
  const int m = static_cast<int>(at % mode_count);
  args.out(channel, args.by_places ? place_of(m) : m) = entering_state(args.run, args.run.plan.ranges, channel, m);
}

/// thread: one mode of one channel
__global__ void __launch_bounds__(256) fold_adjoints_kernel(const __grid_constant__ FoldArgs<BackwardArgs> args) {
  const std::int64_t at = std::int64_t{blockIdx.x} * 256 + threadIdx.x, channel = at / mode_count;
  if (channel >= args.run.filter.channels) return;
  const int m = static_cast<int>(at % mode_count);
  args.out(channel, m) = entering_adjoint(args.run, -1, channel, m);
}

/// A run of which only the sums of its parts are computed.
ForwardArgs run_of(const TensorMap& k, const TensorMap& v, const SegmentsView& documents, const Workspace& memory,
                   const Filter& filter, const UnitPlan& plan) {
  return {.q = k,  // q and y are not accessed
          .k = k,
          .v = v,
          .y = k,
          .constants = memory.constants.view().row<const ChannelConstants>(0),
          .filter = filter,
          .documents = documents,
          .plan = plan,
          .state_in = Rows<const float>({}),
          .states = Rows<float>({}),
          .states_from = plan.units,
          .state_out = Rows<float>({}),
          .parts = memory.parts.view().row<float>(0),
          .part_starts = memory.starts.view().row<int>(0),
          .entering = Rows<const float>({})};
}

int blocks_of_modes(std::int64_t channels) { return static_cast<int>(ceil_div(channels * mode_count, 256)); }

}  // namespace

bool suits(const ModalConvSummary& args) { return args.in.k.present() && suit(args.in.v, args.log_rates); }
bool suits(const ModalConvAdjointSummary& args) { return args.in.q.present() && suit(args.in.v, args.log_rates); }

// Lower bound: 2 accesses per element of the edge document. L 65536, D 4096 on an H200: 0.26 ms.
void summary(const Stream& stream, const ModalConvSummary& args) {
  const GatedConvInputs& in = args.in;
  const std::int64_t T = in.segments.tokens, D = in.v.columns(), complete = T / unit_tokens * unit_tokens;
  const Filter filter = filter_of(in, {}, args.log_rates);
  Tensor state;  // after the complete units, if there are tokens after them
  if (complete < T) state = Tensor::zeros(stream, DType::f32, {D, mode_count});
  if (complete > 0) {
    const UnitPlan plan = plan_of(complete, D);
    const Workspace memory(stream, plan, filter);
    const auto k = MappedTensor::input(stream, in.k), v = MappedTensor::input(stream, in.v);
    const ForwardArgs run = run_of(k.map(), v.map(), in.segments, memory, filter, plan);
    launch_forward_parts(stream, run, plan.parts());
    const FoldArgs<ForwardArgs> fold{
        .run = run, .out = Rows<float>(state.present() ? state.view() : args.state), .by_places = state.present()};
    launch_kernel<fold_states_kernel>(stream, blocks_of_modes(D), 256, 0, fold);
  }
  if (state.present()) write_state(stream, in, filter, state.view().row<const float>(0), complete, T, args.state);
}

bool suits(const HyenaBlockSummary& args) {
  const HyenaBlockInputs& in = args.in;
  return in.q.dtype == DType::bf16 && in.log_rates.columns() == mode_count && in.featurizer.columns() <= 3 &&
         in.segments.tokens > 0 && in.segments.tokens % unit_tokens == 0 && can_be_mapped(in.k) &&
         can_be_mapped(in.v) && has_kernels();
}

// Lower bound: as above. The featurizer is computed again in the next pass over the run.
void summary(const Stream& stream, const HyenaBlockSummary& args) {
  const HyenaBlockInputs& in = args.in;
  const Filter filter = filter_of({.v = in.v}, {}, in.log_rates);
  const UnitPlan plan = plan_of(in.segments.tokens, filter.channels);
  const Workspace memory(stream, plan, filter);
  const auto map = [](TensorView x) { return tensor_map(x, unit_tokens, block_channels, true); };
  const ForwardArgs run = run_of(map(in.k), map(in.v), in.segments, memory, filter, plan);
  launch_block_forward_parts(stream, run, in, plan.parts());
  launch_kernel<fold_states_kernel>(
      stream, blocks_of_modes(filter.channels), 256, 0,
      FoldArgs<ForwardArgs>{.run = run, .out = Rows<float>(args.state), .by_places = false});
}

void adjoint_summary(const Stream& stream, const ModalConvAdjointSummary& args) {
  const std::int64_t D = args.in.v.columns();
  const Filter filter = filter_of(args.in, args.residues, args.log_rates);
  const UnitPlan plan = plan_of(args.in.segments.tokens, D);
  const Workspace memory(stream, plan, filter);
  const auto q = MappedTensor::input(stream, args.in.q), d_y = MappedTensor::input(stream, args.d_y);
  // A document that begins with the run passes its adjoint to the left here, so that its start is left out.
  SegmentsView documents = args.in.segments;
  if (documents.host[0] == 0) ++documents.cu_seqlens, ++documents.host, --documents.count;
  const BackwardArgs run{.q = q.map(),
                         .d_y = d_y.map(),
                         .k = q.map(),  // k, v, d_k and d_v are not accessed
                         .v = q.map(),
                         .d_k = q.map(),
                         .d_v = q.map(),
                         .constants = memory.constants.view().row<const ChannelConstants>(0),
                         .filter = filter,
                         .documents = documents,
                         .plan = plan,
                         .states = Rows<const float>({}),
                         .adjoint_in = Rows<const float>({}),
                         .adjoint_out = Rows<float>({}),
                         .parts = memory.parts.view().row<float>(0),
                         .part_starts = memory.starts.view().row<int>(0),
                         .first_part = 0,
                         .sums = nullptr};
  launch_backward_parts(stream, run);
  launch_kernel<fold_adjoints_kernel>(
      stream, blocks_of_modes(D), 256, 0,
      FoldArgs<BackwardArgs>{.run = run, .out = Rows<float>(args.adjoint), .by_places = false});
}

}  // namespace causeway::cuda::modal_mma
