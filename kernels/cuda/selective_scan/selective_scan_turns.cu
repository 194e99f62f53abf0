#include <algorithm>
#include <initializer_list>
#include <optional>

#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/shared_memory.cuh"
#include "kernels/cuda/device/sums.cuh"
#include "kernels/cuda/selective_scan/selective_scan_turns_parts.cuh"
#include "kernels/cuda/selective_scan/selective_scan_turns_walk.cuh"

namespace causeway::cuda {
namespace {

// Lower bound: 7 accesses per element and one of h per 16 tokens, 0.28 ms at L 16384, D 4096 on an H200; 21
// exponentials per element, 0.34 ms; 13 arithmetic instructions and 2 for the sums per element and state, 0.54 ms.

/// All gradients of a piece of the run, from right to left.
///
/// block: 16 channels of one piece (blockIdx.x: channels, blockIdx.y: piece), two teams of 4 warps
/// warp: 4 tokens of each step of its team, all channels and states
/// thread: 4 states of a pair of channels (TurnLane)
/// shared memory: TurnMemory
/// registers: exp(ΔA), then g, and h, then exp(ΔA) h_{t-1}, of 4 tokens and 8 chains; d_A
/// One function, because its phases share registers and shared memory.
template <bool Gated>
__global__ void __launch_bounds__(32 * turn_warps, 2)
    walk_in_turns(ScanInputs<bf16> in, const __grid_constant__ TurnRun run) {
  extern __shared__ __align__(16) unsigned char memory[];
  TurnMemory& shared = *reinterpret_cast<TurnMemory*>(memory);
  const TurnPiece piece{run.pieces.begin[blockIdx.y], run.pieces.end[blockIdx.y]};
  const int steps_begin = piece.first_step(), top = piece.last_step();
  TurnLane l;
  l.lane = static_cast<int>(threadIdx.x) % 32;
  l.warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
  l.part = l.lane >> 3;
  l.team = l.warp / team_warps;
  l.pair = l.lane & 7;
  const int own_top = (top & 1) == l.team ? top : top - 1;  // the team's first step
  l.rank = l.warp % team_warps ^ (own_top >> 1 & 1) * 3;
  const int channel = static_cast<int>(blockIdx.x) * turn_channels + 2 * l.pair,
            channels = static_cast<int>(in.channels);
  TurnWarpMemory& own = shared.warps[l.warp];

  float d_A[lane_chains] = {};
  own.sums[l.lane] = make_float4(0, 0, 0, 0);
  if (l.warp == 0) {
    float rate[lane_chains];
#pragma unroll
    for (int j = 0; j < lane_chains; ++j)
      rate[j] = in.rate(channel + channel_of(j), part_states * l.part + state_of(j));
    shared.rates.store(l.lane, rate);
    if (l.part == 0)
      shared.channels[l.pair] =
          make_float4(in.bias_of(channel), in.bias_of(channel + 1), in.skip_of(channel), in.skip_of(channel + 1));
  }
  if (l.rank == team_warps - 1 && own_top == top) {
    const EnteringState adjoint = run.adjoint.right_of(run.pieces, blockIdx.y, in.segments.tokens);
    float g[lane_chains];
#pragma unroll
    for (int j = 0; j < lane_chains; ++j) g[j] = adjoint(channel + channel_of(j), part_states * l.part + state_of(j));
    shared.g.store(l.lane, g);
  }
  {
    const int row = l.lane / 2 % 4, half = l.lane % 2 * 8, column = static_cast<int>(blockIdx.x) * turn_channels + half;
    const auto set = [&](TurnRows(&rows)[32], int k, auto* tensor, std::int64_t stride, int first) {
      if (l.part == k) rows[l.lane].set(tensor + row * stride + first, stride);
    };
    set(own.pieces[0], 0, in.delta, in.delta_stride, column);
    set(own.pieces[0], 1, in.u, in.u_stride, column);
    set(own.pieces[0], 2, Gated ? in.z : in.u, Gated ? in.z_stride : in.u_stride, column);
    set(own.pieces[0], 3, run.d_y, run.d_y_stride, column);
    set(own.pieces[1], 0, in.B, in.B_stride, half);
    set(own.pieces[1], 1, in.C, in.C_stride, half);
    if (l.lane == 16) own.pieces[1][16] = {reinterpret_cast<char*>(const_cast<uint4*>(run.starts)), 16 / turn_tokens};
    set(own.pieces[2], 0, run.d_delta, run.d_delta_stride, column);
    set(own.pieces[2], 1, run.d_u, run.d_u_stride, column);
    if (Gated) set(own.pieces[2], 2, run.d_z, run.d_z_stride, column);
    own.pieces[3][l.lane].set(run.states + part_states * l.part * channels + channel, run.states_stride);
  }
  uint2* const rows = run.rows + blockIdx.x * ceil_div(in.segments.tokens, turn_step) * team_warps * 32;
  int once = run.once;
  unsigned next_starts = 0;
  const auto copy = [&](int step, int rank) {
    if (step >= steps_begin) copy_turn_inputs(own, l, piece, rank >= 2, step * turn_step + rank * turn_tokens);
  };
  // The inputs of a step of low rank are converted when it begins, those of high rank in the step before.
  const auto convert = [&](int step, int rank) {
    if (rank >= 2) next_starts = own.stages[1].starts.x;
    convert_turn_inputs<Gated>(shared, l, piece, rank >= 2, step * turn_step + rank * turn_tokens);
    __syncwarp();
  };
  __syncwarp();
  copy(own_top, l.rank);
  copy(own_top - 2, l.rank ^ 3);
  if (l.rank == 0 && own_top >= steps_begin) copy_saved_states(shared, l, own_top, channels);
  if (l.rank == 3 && own_top - 2 >= steps_begin) copy_saved_states(shared, l, own_top - 2, channels);
  __syncthreads();
  if (l.high() && own_top >= steps_begin) {
    wait_for_all_async_copies();
    __syncwarp();
    convert(own_top, l.rank);
    copy(own_top - 4, l.rank);
  }

  for (int step = own_top; step >= steps_begin; step -= 2, l.rank ^= 3) {
    // 1. Inputs.
    TurnGroup group{
        .step = step,
        .first = step * turn_step + l.rank * turn_tokens,
        .waits = l.rank != team_warps - 1 || step != top,
        .passes = l.rank != 0 || step != steps_begin,
        .g_to = turn_of_g(l.rank != 0 ? warp_of(step, l.rank - 1) : warp_of(step - 1, team_warps - 1)),
        .starts = next_starts,
    };
    asm volatile("" : "+r"(group.g_to));  // not in the turn
    if (!l.high()) {
      wait_for_all_async_copies();
      __syncwarp();
      group.starts = own.stages[0].starts.x;
      convert(step, l.rank);
    }
    float d_B[2][4] = {}, d_C[2][4] = {};
    const auto between = [&] {
      if (l.high()) return;
      if (step != own_top)
        write_turn_gradients<Gated>(shared, l, piece, true, (step + 2) * turn_step + (l.rank ^ 3) * turn_tokens);
      if (step - 2 >= steps_begin) convert(step - 2, l.rank ^ 3);
      copy(step - 4, l.rank);
      copy(step - 6, l.rank ^ 3);
      if (l.rank == 0 && step - 4 >= steps_begin) copy_saved_states(shared, l, step - 4, channels);
    };
    if (group.starts == 0)
      walk_tokens<false>(shared, l, group, once, d_A, d_B, d_C, between);
    else
      walk_tokens<true>(shared, l, group, once, d_A, d_B, d_C, between);
    __syncwarp();
    // 7. Gradients of the warp's tokens; if the rank is high, in the next step.
    if (!l.high()) write_turn_gradients<Gated>(shared, l, piece, false, group.first);
    // 8. d_B and d_C: add the other half of the channels. Lanes 8k + t keep d_B of token t, lanes 8k + 4 + t d_C.
    {
      const bool half = l.lane & 4;
      float kept[4];
#pragma unroll
      for (int s = 0; s < 4; ++s) {
        const int m = s / 2, j = s % 2 * 2;
        const float give = half ? d_B[m][j + 1] : d_C[m][j], keep = half ? d_C[m][j + 1] : d_B[m][j];
        kept[s] = keep + __shfl_xor_sync(~0u, give, 4);
      }
      if (piece.has(group.first + (l.lane & 3))) rows[group.first / turn_tokens * 32 + l.lane] = PackedQuad::of(kept);
    }
  }
  l.rank ^= 3;  // of the team's last step
  const int last_step = steps_begin + ((steps_begin ^ own_top) & 1);
  if (own_top >= steps_begin && l.high())
    write_turn_gradients<Gated>(shared, l, piece, true, last_step * turn_step + l.rank * turn_tokens);

  // 9. Parameter gradients of the piece: add the warps in their order.
  __syncthreads();
  const float4 sums = own.sums[l.lane];
  float d_D[2] = {sums.x, sums.y}, d_bias[2] = {sums.z, sums.w};
#pragma unroll
  for (int other = 8; other < 32; other *= 2)
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      d_D[c] += __shfl_xor_sync(~0u, d_D[c], other);
      d_bias[c] += __shfl_xor_sync(~0u, d_bias[c], other);
    }
  LaneOctets& own_d_A = *reinterpret_cast<LaneOctets*>(&own.g_sums);
  own_d_A.store(l.lane, d_A);
  if (l.part == 0) own.sums[l.pair] = make_float4(d_D[0], d_D[1], d_bias[0], d_bias[1]);
  __syncthreads();
  float* const row = run.parameters + blockIdx.y * (turn_states + 2) * in.channels + blockIdx.x * turn_channels;
  {
    const int c = static_cast<int>(threadIdx.x) % 16, n = static_cast<int>(threadIdx.x) / 16;
    const int j = chain_of(n % 4, c % 2), lane = n / 4 * 8 + c / 2;
    float sum = 0;
    for (int w = 0; w < turn_warps; ++w)
      sum += reinterpret_cast<const float*>(
          &reinterpret_cast<const LaneOctets&>(shared.warps[w].g_sums).half[j / 4][lane])[j % 4];
    row[n * in.channels + c] = sum;
    // The adjoint that leaves the run: the last turn of g left it for a step -1, which there is not.
    if (run.leave != nullptr && piece.begin == 0)
      run.leave[(std::int64_t{blockIdx.x} * turn_channels + c) * run.leave_channel + n] =
          reinterpret_cast<const float*>(&shared.g.half[j / 4][lane])[j % 4];
  }
  if (threadIdx.x < 32) {
    const int c = l.lane % 16, which = l.lane / 16;
    float sum = 0;
    for (int w = 0; w < turn_warps; ++w)
      sum += reinterpret_cast<const float*>(&shared.warps[w].sums[c / 2])[which * 2 + c % 2];
    row[(turn_states + which) * in.channels + c] = sum;
  }
}

/// Bit k of starts[s]: token 4 s + k is the first of its document.
///
/// block: 256 tokens
/// warp: 64 tokens
/// thread: 4 tokens, of the first 16 lanes
__global__ void __launch_bounds__(128) mark_document_starts(SegmentsView segments, uint4* starts) {
  const std::int64_t begin = (blockIdx.x * std::int64_t{4} + threadIdx.x / 32) * 64;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (begin >= segments.tokens) return;
  const DocumentStarts found(segments, begin, lane);
  const unsigned own = static_cast<unsigned>(found.bits >> (turn_tokens * lane)) & 15;
  if (lane < 64 / turn_tokens) starts[begin / turn_tokens + lane] = make_uint4(own, own, own, own);
}

constexpr PieceCosts turn_costs{.any = {.launches = 25000, .element = 0.33},
                                .channels = turn_channels,
                                .places = 2,
                                .token = 88,
                                .token_alone = 61,
                                .block = 50};
constexpr ScanCosts chunked_costs{.launches = 37000, .element = 5.3};

/// Whether this form computes these arguments.
bool takes_turns(const SelectiveScanBackward& args) {
  const SelectiveScanInputs& in = args.in;
  const std::initializer_list<TensorView> rows = {in.u,     in.delta,     in.z,     in.B,    in.C,
                                                  args.d_y, args.d_delta, args.d_u, args.d_z};
  const bool short_strides = std::all_of(rows.begin(), rows.end(), [](TensorView x) {
    return x.row_stride < std::int64_t{1} << 28 && x.rows() < std::int64_t{1} << 30;
  });
  return in.delta.dtype == DType::bf16 && in.delta_softplus && in.A.columns() == turn_states &&
         in.A.rows() % turn_channels == 0 && aligned(rows, 16) && aligned({args.states}, 8) && short_strides;
}

}  // namespace

bool backward_in_turns(const Stream& stream, const SelectiveScanBackward& args) {
  if (!takes_turns(args)) return false;
  const ScanInputs<bf16> in(args.in);
  const std::int64_t tokens = in.segments.tokens, channels = in.channels, each = chunk_tokens(tokens, channels),
                     blocks = channels / turn_channels;
  const std::int64_t multiprocessors = attribute_of_device(cudaDevAttrMultiProcessorCount);
  const PieceRun divided{.segments = args.in.segments,
                         .channels = channels,
                         .states = turn_states,
                         .chunk_tokens = each,
                         .direction = ScanDirection::right_to_left};
  const auto& [pieces, time] = stream.resource<PlannedPieces>()(divided, turn_costs, multiprocessors);
  if (time_of(divided, chunked_costs, multiprocessors) < time) return false;
  const auto data = [](TensorView x) { return x.present() ? static_cast<bf16*>(x.data) : nullptr; };
  const auto wide = [](TensorView x) { return x.present() ? static_cast<float*>(x.data) : nullptr; };
  const std::int64_t quads = ceil_div(tokens, std::int64_t{turn_step}) * team_warps * 32;
  const Tensor starts(stream, DType::i32, {round_up<std::int64_t>(tokens, 64) / turn_tokens, 4}),
      rows(stream, DType::f32, {blocks, quads, 2}),
      parameters(stream, DType::f32, {pieces.count, turn_states + 2, channels});
  TurnRun run{.d_y = data(args.d_y),
              .d_u = data(args.d_u),
              .d_delta = data(args.d_delta),
              .d_z = data(args.d_z),
              .d_y_stride = args.d_y.row_stride,
              .d_u_stride = args.d_u.row_stride,
              .d_delta_stride = args.d_delta.row_stride,
              .d_z_stride = args.d_z.row_stride,
              .states = wide(args.states),
              .states_stride = args.states.row_stride,
              .starts = static_cast<const uint4*>(starts.view().data),
              .pieces = pieces,
              .adjoint = PieceStates(args.in.segments.continues_to_right() ? args.adjoint_in : TensorView{}),
              .leave = wide(args.adjoint_out),
              .leave_channel = args.adjoint_out.row_stride,
              .rows = static_cast<uint2*>(rows.view().data),
              .parameters = wide(parameters.view())};
  std::optional<ScanChunkMemory<bf16>> memory;
  if (pieces.any_open) {
    memory.emplace(stream, in, each);
    sum_scan_chunks<bf16>(stream, ScanDirection::right_to_left, in, args.d_y, memory->view(), false, &pieces);
    fold_scan_chunks<bf16>(stream, ScanDirection::right_to_left, in, args.adjoint_in, {}, memory->view());
    run.adjoint.set_chunks(memory->view(), channels, turn_states);
  }
  const auto queue = native_of(stream);
  mark_document_starts<<<grid_of(tokens, 256), 128, 0, queue>>>(in.segments, static_cast<uint4*>(starts.view().data));
  cuda_check(cudaGetLastError());
  const auto kernel = in.z != nullptr ? walk_in_turns<true> : walk_in_turns<false>;
  constexpr std::size_t bytes = sizeof(TurnMemory);
  allow_shared_memory(kernel, bytes);
  kernel<<<dim3(grid_of(blocks), grid_of(pieces.count)), 32 * turn_warps, bytes, queue>>>(in, run);
  cuda_check(cudaGetLastError());
  add_row_parts<<<grid_of(quads, 256), 256, 0, queue>>>(run.rows, blocks, quads,
                                                        TurnRowGradients{.d_B = data(args.d_B),
                                                                         .d_C = data(args.d_C),
                                                                         .B_stride = args.d_B.row_stride,
                                                                         .C_stride = args.d_C.row_stride,
                                                                         .tokens = tokens,
                                                                         .gated = in.z != nullptr});
  cuda_check(cudaGetLastError());
  add_parts_by_warps(
      stream, run.parameters, pieces.count, turn_states + 2, channels,
      ParameterGradients<float>{wide(args.d_A), wide(args.d_D), wide(args.d_delta_bias), args.d_A.row_stride,
                                args.d_D.row_stride, args.d_delta_bias.row_stride, turn_states});
  return true;
}

}  // namespace causeway::cuda
