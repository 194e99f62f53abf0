#include "kernels/cuda/hyena_block/hyena_block_mr_scan.cuh"

namespace causeway::cuda::fused_block {

bool has_sm_90a() {
#if CAUSEWAY_SM_90A
  return compute_capability() == 90;
#else
  return false;
#endif
}

// Lower bound: read q, k, v, d_y, write d_q, d_k, d_v; 0.89 ms for L 65536, D 4096 on an H200. The two passes have 11
// accesses per element instead of 7: 1.40 ms.
void mr_backward(const Stream& stream, const HyenaBlockBackward& args) {
  constexpr int query_stages = 6, scan_stages = 4, per_multiprocessor = 2, threads = 256;
  const HyenaBlockInputs& in = args.in;
  const std::int64_t reached = reached_rows(in), blocks = per_multiprocessor * multiprocessors();
  const auto map = [&](TensorView x, TensorView halo, std::int64_t part, int rows = mr_stage_tokens) {
    return RunMap(x, halo, part, reached, rows, mr_channels, true);
  };
  const RunMap q = map(in.q, in.halo, 0), k = map(in.k, in.halo, 1), v = map(in.v, in.halo, 2),
               d_y = map(args.d_y, {}, 0);
  const HaloGradient d_halo(stream, args, mr_stage_tokens);
  with_mr_blocks(in, [&]<int Blocks, int Filters> {
    // 1. d_q'.
    const auto plan_of = [&](int beyond, int more) {
      return BlockPlan::of(in, mr_channels, mr_stage_tokens, beyond, in.taps.columns() + 1 + more, blocks);
    };
    const BlockPlan to_right = plan_of(mr_stage_tokens, mr_stage_tokens), to_left = plan_of(0, 0);
    const Tensor query_parts = parameter_parts(stream, to_right, mr_parameters),
                 scan_parts = parameter_parts(stream, to_left, mr_parameters),
                 lag_parts(stream, DType::f32,
                           {to_left.blocks + to_left.columns, computing_warps, Filters, mr_tile * Blocks});
    const MrQueryArgs query{.q = q,
                            .k = k,
                            .v = v,
                            .d_y = d_y,
                            .d_q = d_halo.map(args.d_q, 0, mr_stage_tokens, mr_channels, true),
                            .filter = BlockFilter(in),
                            .documents = in.segments,
                            .plan = to_right,
                            .parts = query_parts.view().row<float>(0)};
    using Ring = BlockRing<4, mr_stage_tokens / unit_tokens, query_stages, mr_channels, 2>;
    launch_kernel<mr_query_kernel<Blocks, Filters, query_stages, per_multiprocessor>>(stream, to_right.blocks, threads,
                                                                                      sizeof(Ring), query);
    // 2. The rest.
    const MrScanArgs scan{.q = q,
                          .k = k,
                          .v = v,
                          .d_y = d_y,
                          .d_k = d_halo.map(args.d_k, 1, mr_stage_tokens, mr_channels, true),
                          .d_v = d_halo.map(args.d_v, 2, mr_stage_tokens, mr_channels, true),
                          .q_earlier = map(in.q, in.halo, 0, 2),
                          .k_earlier = map(in.k, in.halo, 1, 2),
                          .v_earlier = map(in.v, in.halo, 2, 2),
                          .filter = BlockFilter(in),
                          .documents = in.segments,
                          .plan = to_left,
                          .parts = scan_parts.view().row<float>(0),
                          .lag_parts = lag_parts.view().row<float>(0)};
    launch_kernel<mr_scan_kernel<Blocks, Filters, scan_stages, per_multiprocessor>>(
        stream, to_left.blocks, threads, sizeof(MrScanMemory<Blocks, scan_stages>), scan);
    // 3. The parameters.
    add_parameters(stream, args, to_right, mr_parameters, query.parts, {});
    add_parameters(stream, args, to_left, mr_parameters, scan.parts, {});
    const ParameterSums lags{.parts = scan.lag_parts,
                             .plan = to_left,
                             .filter = BlockFilter(in),
                             .parameters = 0,
                             .d_featurizer = Rows<float>({}),
                             .d_taps = Rows<float>(args.d_taps),
                             .d_skip = Rows<float>({})};
    launch_kernel<add_lags_kernel<Blocks, Filters>>(stream, static_cast<int>(ceil_div(args.d_taps.size(), 8)), 256, 0,
                                                    lags);
  });
  d_halo.write(stream, args);
}

}  // namespace causeway::cuda::fused_block
