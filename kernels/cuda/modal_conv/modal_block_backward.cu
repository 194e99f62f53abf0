#include "kernels/cuda/modal_conv/modal_block_pass.cuh"
#include "kernels/cuda/modal_conv/modal_block_states.cuh"
#include "kernels/cuda/modal_conv/modal_conv_mma_launch.cuh"

/// hyena_block with 16 modes, backward: a pass over the states, from left to right; a pass from right to left, which
/// makes all gradients; and what is left at the borders of ranges.
namespace causeway::cuda::modal_mma {
namespace {

struct FeaturizerArgs {
  BlockRows in;
  SegmentsView documents;
  UnitPlan plan;
  const float* edges;  ///< as in BlockOperands::Args
  Rows<bf16> d_q, d_k, d_v, d_halo;
  Rows<float> d_featurizer;
};

/// The gradients of the last two tokens before each range, and d_featurizer: sums in a fixed order, in float64.
///
/// thread: a channel of an input
__global__ void __launch_bounds__(256) featurizer_kernel(const __grid_constant__ FeaturizerArgs args) {
  const BlockRows& in = args.in;
  const std::int64_t at = std::int64_t{blockIdx.x} * 256 + threadIdx.x, D = in.channels, channel = at % D;
  const int input = static_cast<int>(at / D);
  if (input >= 3) return;
  const float w[3] = {in.weight(input, channel, 0), in.weight(input, channel, 1), in.weight(input, channel, 2)};
  double sums[3] = {0, 0, 0};
  for (int range = 0; range < args.plan.ranges; ++range) {
    const float* const row =
        args.edges + (std::int64_t{range} * args.plan.columns * block_channels + channel) * edge_of_channel;
    const float* const parts = row + input * 32;
    for (int i = 0; i < 32; ++i)
      if (i % 4 < 3) sums[i % 4] += double{parts[i]};
    // d_f of tokens B - 2 to B + 1, of which the range begins with B. q's are in mirrored order.
    const std::int64_t B = std::int64_t{args.plan.begin(range)} * unit_tokens;
    const std::uint32_t next = __float_as_uint(row[edge_first + input]);
    const float n0 = input == 0 ? high_bf16(next) : low_bf16(next), n1 = input == 0 ? low_bf16(next) : high_bf16(next);
    std::int64_t low = 0, high = args.documents.count + 1;  // whether a document begins with B - 1
    while (low < high) {
      const std::int64_t middle = (low + high) / 2;
      args.documents.cu_seqlens[middle] < B - 1 ? low = middle + 1 : high = middle;
    }
    const bool starts = low <= args.documents.count && args.documents.cu_seqlens[low] == B - 1;
    const float near = widened(in.before(input, B - 1, channel)), far = widened(in.before(input, B - 2, channel));
    sums[1] += double{near} * double{n0};
    sums[2] += double{near} * double{n1};
    if (!starts) sums[2] += double{far} * double{n0};
    if (range > 0) {
      const std::uint32_t last =
          __float_as_uint(row[edge_last + input - args.plan.columns * block_channels * edge_of_channel]);
      const float l0 = input == 0 ? high_bf16(last) : low_bf16(last),
                  l1 = input == 0 ? low_bf16(last) : high_bf16(last);
      const Rows<bf16>& to = input == 0 ? args.d_q : input == 1 ? args.d_k : args.d_v;
      to(B - 1, channel) = narrowed<bf16>(w[0] * l1 + w[1] * n0 + w[2] * n1);
      float d = w[0] * l0;
      if (!starts) d += w[1] * l1 + w[2] * n0;
      to(B - 2, channel) = narrowed<bf16>(d);
    } else if (args.d_halo.data != nullptr) {
      for (int back = 1; back < in.width; ++back) {
        const float d = back == 1 ? w[1] * n0 + w[2] * n1 : w[2] * n0;
        args.d_halo(in.width - 1 - back, input * D + channel) = narrowed<bf16>(back <= in.reached ? d : 0.0f);
      }
    }
  }
  for (int lag = 0; lag < in.width; ++lag)
    args.d_featurizer(input * D + channel, in.width - 1 - lag) += static_cast<float>(sums[lag]);
}

}  // namespace

bool suits(const HyenaBlockBackward& args) {
  const HyenaBlockInputs& in = args.in;
  const bool enters_within_a_unit =
      args.adjoint_in.present() && in.segments.continues_to_right() && in.segments.tokens % unit_tokens != 0;
  return in.modal() && in.q.dtype == DType::bf16 && in.residues.columns() == mode_count &&
         in.featurizer.columns() <= 3 && !enters_within_a_unit && can_be_mapped(in.q) && can_be_mapped(in.k) &&
         can_be_mapped(in.v) && can_be_mapped(args.d_y) && has_kernels();
}

// Lower bound: 7 accesses per element; both passes have 9: 1.15 ms for L 65536, D 4096 on an H200. Measured: README.md.
void backward(const Stream& stream, const HyenaBlockBackward& args) {
  const HyenaBlockInputs& in = args.in;
  const std::int64_t D = in.q.columns();
  const GatedConvInputs gated{.q = in.q, .k = in.k, .v = in.v, .skip = in.skip, .segments = in.segments};
  const Filter filter = filter_of(gated, in.residues, in.log_rates);
  const UnitPlan plan = plan_of(in.segments.tokens, D);
  const Workspace memory(stream, plan, filter);
  const auto map = [](TensorView x) { return tensor_map(x, unit_tokens, block_channels, true); };
  const MappedTensor d_q(stream, args.d_q), d_k(stream, args.d_k), d_v(stream, args.d_v);
  const Tensor sums = Tensor::zeros(stream, DType::f32, {plan.ranges, plan.columns * block_channels, sums_of_channel}),
               states(stream, DType::f32, {plan.units, D, mode_count}),
               edges = Tensor::zeros(stream, DType::f32, {plan.ranges, plan.columns * block_channels, edge_of_channel});
  const auto* const constants = memory.constants.view().row<const ChannelConstants>(0);
  const BlockRows rows(in);
  // 1. The states that enter units.
  const ForwardArgs forth{
      .q = map(in.k),  // q and y are not accessed
      .k = map(in.k),
      .v = map(in.v),
      .y = map(in.k),
      .constants = constants,
      .filter = filter,
      .documents = in.segments,
      .plan = plan,
      .state_in = Rows<const float>(in.segments.continues_from_left() ? args.state_in : TensorView{}),
      .states = Rows<float>(states),
      .states_from = 0,
      .state_out = Rows<float>({}),
      .parts = memory.parts.view().row<float>(0),
      .part_starts = memory.starts.view().row<int>(0),
      .entering = Rows<const float>({})};
  launch_kernel<states_kernel>(stream, plan.columns * plan.ranges, block_threads, sizeof(StatesMemory),
                               StatesArgs{.run = forth, .in = rows});
  const int group = 16;                                           // units of a block
  const int groups = (plan.units / plan.ranges + group) / group;  // of the longest range
  launch_kernel<complete_states_kernel>(stream, plan.columns * groups * plan.ranges, 256, 0,
                                        CompletionArgs{.run = forth, .units = group, .groups = groups});
  // 2. The gradients.
  const BlockOperands::Args back{
      .run = {.q = map(in.q),
              .d_y = map(args.d_y),
              .k = map(in.k),
              .v = map(in.v),
              .d_k = d_k.map(),
              .d_v = d_v.map(),
              .constants = constants,
              .filter = filter,
              .documents = in.segments,
              .plan = plan,
              .states = Rows<const float>(states),
              .adjoint_in = Rows<const float>(in.segments.continues_to_right() ? args.adjoint_in : TensorView{}),
              .adjoint_out = Rows<float>(args.adjoint_out),
              .parts = memory.parts.view().row<float>(0),
              .part_starts = memory.starts.view().row<int>(0),
              .first_part = range_parts,
              .sums = sums.view().row<float>(0)},
      .d_q = d_q.map(),
      .in = rows,
      .edges = edges.view().row<float>(0)};
  if (plan.ranges > 1)
    launch_kernel<backward_kernel<true, BlockOperands>>(stream, plan.columns * (plan.parts() - range_parts),
                                                        block_threads, sizeof(BlockOperands::Memory), back);
  launch_kernel<backward_kernel<false, BlockOperands>>(stream, plan.columns * plan.ranges, block_threads,
                                                       sizeof(BlockOperands::Memory), back);
  add_parameters(stream, back.run, args.d_residues, args.d_log_rates, args.d_skip);
  for (const MappedTensor* x : {&d_q, &d_k, &d_v}) x->write_back(stream);
  // 3. What ranges leave for each other, and d_featurizer.
  launch_kernel<featurizer_kernel>(stream, static_cast<int>(ceil_div(3 * D, 256)), 256, 0,
                                   FeaturizerArgs{.in = rows,
                                                  .documents = in.segments,
                                                  .plan = plan,
                                                  .edges = back.edges,
                                                  .d_q = Rows<bf16>(args.d_q),
                                                  .d_k = Rows<bf16>(args.d_k),
                                                  .d_v = Rows<bf16>(args.d_v),
                                                  .d_halo = Rows<bf16>(args.d_halo),
                                                  .d_featurizer = Rows<float>(args.d_featurizer)});
}

}  // namespace causeway::cuda::modal_mma
