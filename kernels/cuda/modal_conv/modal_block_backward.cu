#include "kernels/composed/featurizer.hpp"
#include "kernels/cuda/modal_conv/modal_block_features.cuh"
#include "kernels/cuda/modal_conv/modal_conv_mma_backward.cuh"
#include "kernels/cuda/modal_conv/modal_conv_mma_forward_pass.cuh"
#include "kernels/cuda/modal_conv/modal_conv_mma_launch.cuh"

/// hyena_block with 16 modes, backward: the two passes with the features of q, k and v made where they are loaded
/// (modal_block_features.cuh); then the featurizer's adjoint, a kernel of its own. In the pass from right to left f_q,
/// f_k and f_v are rounded, and so are their gradients between the passes and the adjoint.
namespace causeway::cuda::modal_mma {
namespace {

/// x of the pass from left to right.
struct QueryOperands {
  struct Args {
    ForwardArgs run;  ///< q: d_y; y: the gradient of f_q; k and v before the featurizer
    BlockRows in;
  };
  struct Memory {
    ForwardMemory run;
    FeatureMemory features;
  };
  static_assert(sizeof(Memory) <= 232448);
  const Args& args;
  Memory& memory;
  FeatureProduct<false> product;
  int column, warp, lane;

  __device__ static const ForwardArgs& run_of(const Args& args) { return args.run; }
  __device__ static void set_up(const Args& args, Memory& memory, int column, int unit, int warp, int lane) {
    memory.features.load_weights(args.in, column);
    if (warp < computing_warps)
      memory.features.fetch_rows(args.in, unit, 0, column * block_channels + warp * warp_channels, warp, lane);
  }
  __device__ QueryOperands(const Args& args_, Memory& memory_, int column_, int warp_, int lane_)
      : args(args_), memory(memory_), product(lane_), column(column_), warp(warp_), lane(lane_) {}
  __device__ void begin_unit(int unit, int end, int slot) const {
    wait_for_async_copies<0>();
    __syncwarp();
    if (unit + 1 < end)
      memory.features.fetch_rows(args.in, unit + 1, 1 - slot, column * block_channels + warp * warp_channels, warp,
                                 lane);
  }
  __device__ void load(ProductOperands& x, const UnitStarts& starts, int slot, const LaneAddress& address) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      TokenPairs<4> k, v;
      k.load(shared_address(memory.run.kv[0]), memory.features.rows[slot][1], address, half, warp, lane);
      v.load(shared_address(memory.run.kv[1]), memory.features.rows[slot][2], address, half, warp, lane);
      multiply_features(x.high + 4 * half, x.low + 4 * half, k, v, product,
                        memory.features.weights + warp * warp_channels + 4 * half, starts, lane);
    }
  }
};

/// dc, k and v of the pass from right to left.
struct BlockOperands : GatedOperands {
  struct Args {
    BackwardArgs run;  ///< q, k and v before the featurizer; d_k, d_v: the gradients of f_k, f_v
    BlockRows in;
  };
  struct Memory {
    BackwardMemory run;
    FeatureMemory features;
  };
  static_assert(sizeof(Memory) <= 232448);
  const Args& args;
  Memory& memory;
  FeatureProduct<true> mirrored;
  FeatureProduct<false> product;
  int column, warp, lane, slot = 0;

  __device__ static const BackwardArgs& run_of(const Args& args) { return args.run; }
  __device__ static void set_up(const Args& args, Memory& memory, int column, int unit, int warp, int lane) {
    memory.features.load_weights(args.in, column);
    if (warp < computing_warps)
      memory.features.fetch_rows(args.in, unit, 0, column * block_channels + warp * warp_channels, warp, lane);
  }
  __device__ BlockOperands(const Args& args_, Memory& memory_, int column_, int warp_, const LaneAddress& at)
      : GatedOperands(memory_.run, warp_, at),
        args(args_),
        memory(memory_),
        mirrored(static_cast<int>(threadIdx.x) % 32),
        product(static_cast<int>(threadIdx.x) % 32),
        column(column_),
        warp(warp_),
        lane(static_cast<int>(threadIdx.x) % 32) {}
  __device__ void begin_unit(int unit, int i, int begin) {
    slot = i % 2;
    wait_for_async_copies<0>();
    __syncwarp();
    if (unit > begin)
      memory.features.fetch_rows(args.in, unit - 1, 1 - slot, column * block_channels + warp * warp_channels, warp,
                                 lane);
  }
  /// Features in place of an input, as pieces.
  template <bool Mirrored>
  __device__ void featurize(unsigned tensor, int input, const FeatureProduct<Mirrored>& by,
                            const UnitStarts& starts) const {
    TokenPairs<warp_channels> x;
    x.load_all(tensor, memory.features.rows[slot][input], pieces, warp, lane);
    __syncwarp();
    std::uint32_t f[warp_channels][4];
    make_features(f, x, by, memory.features.weights + warp * warp_channels, input, starts, lane);
    pieces.store_all(tensor, f);
  }
  __device__ void prepare_qd(const UnitStarts& starts) const {
    featurize(qd_at, 0, mirrored, starts);
    rearrange<true>(qd_at + tensor_bytes);
  }
  __device__ void prepare_kv(const UnitStarts& starts) const {
    featurize(kv_at, 1, product, starts);
    featurize(kv_at + tensor_bytes, 2, product, starts);
  }
};

}  // namespace

bool suits(const HyenaBlockBackward& args) {
  const HyenaBlockInputs& in = args.in;
  const bool enters_within_a_unit =
      args.adjoint_in.present() && in.segments.continues_to_right() && in.segments.tokens % unit_tokens != 0;
  return in.modal() && in.q.dtype == DType::bf16 && in.residues.columns() == mode_count &&
         in.featurizer.columns() <= 3 && !enters_within_a_unit && can_be_mapped(in.q) && can_be_mapped(in.k) &&
         can_be_mapped(in.v) && can_be_mapped(args.d_y) && has_kernels();
}

// Lower bound: 7 accesses per element; the two passes and the adjoint have 4, 6 and 9: 2.43 ms for L 65536, D 4096 on
// an H200. Measured: README.md.
void backward(const Stream& stream, const HyenaBlockBackward& args) {
  const HyenaBlockInputs& in = args.in;
  const std::int64_t D = in.q.columns();
  const GatedConvInputs gated{.q = in.q, .k = in.k, .v = in.v, .skip = in.skip, .segments = in.segments};
  const Filter filter = filter_of(gated, in.residues, in.log_rates);
  const UnitPlan plan = plan_of(in.segments.tokens, D);
  const Workspace memory(stream, plan, filter);
  const Tensor d_features(stream, in.q.dtype, {in.q.rows(), 3 * D});
  const auto map = [](TensorView x) { return tensor_map(x, unit_tokens, block_channels, true); };
  const auto d_feature = [&](std::int64_t part) { return map(d_features.view().slice_columns(part * D, D)); };
  const Tensor mode_parts(stream, DType::f32, {plan.ranges, D, 2 * mode_count}),
      lag_parts(stream, DType::f32, {plan.ranges, D, 4 * 32}), states(stream, DType::f32, {plan.units, D, mode_count});
  const auto* const constants = memory.constants.view().row<const ChannelConstants>(0);
  const BlockRows rows(in);
  // 1. The gradient of f_q, and the states.
  const ForwardArgs query{
      .q = map(args.d_y),
      .k = map(in.k),
      .v = map(in.v),
      .y = d_feature(0),
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
  if (plan.ranges > 1) launch_block_forward_parts(stream, query, in, plan.parts() - range_parts);
  launch_kernel<forward_kernel<false, QueryOperands>>(stream, plan.columns * plan.ranges, block_threads,
                                                      sizeof(QueryOperands::Memory),
                                                      QueryOperands::Args{.run = query, .in = rows});
  // 2. Those of f_k and f_v, and the parameters.
  const BlockOperands::Args rest{
      .run = {.q = map(in.q),
              .d_y = map(args.d_y),
              .k = map(in.k),
              .v = map(in.v),
              .d_k = d_feature(1),
              .d_v = d_feature(2),
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
              .mode_parts = mode_parts.view().row<float>(0),
              .lag_parts = lag_parts.view().row<float>(0)},
      .in = rows};
  if (plan.ranges > 1)
    launch_kernel<backward_kernel<true, BlockOperands>>(stream, plan.columns * (plan.parts() - range_parts),
                                                        block_threads, sizeof(BlockOperands::Memory), rest);
  launch_kernel<backward_kernel<false, BlockOperands>>(stream, plan.columns * plan.ranges, block_threads,
                                                       sizeof(BlockOperands::Memory), rest);
  add_parameters(stream, rest.run, args.d_residues, args.d_log_rates, args.d_skip);
  // 3. The featurizer.
  composed::featurizer_adjoint(stream, args, d_features);
}

}  // namespace causeway::cuda::modal_mma
