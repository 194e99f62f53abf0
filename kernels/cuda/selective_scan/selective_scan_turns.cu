#include <algorithm>
#include <initializer_list>
#include <optional>

#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/sums.cuh"
#include "kernels/cuda/selective_scan/selective_scan_gradients.cuh"
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
/// registers: exp(ΔA), then g, and h, then exp(ΔA) g h_{t-1}, of 4 tokens and 8 chains; d_A
/// One function of 180 lines, because its phases share registers and shared memory.
template <bool Gated>
__global__ void __launch_bounds__(32 * turn_warps, 2)
    walk_in_turns(ScanInputs<bf16> in, const __grid_constant__ TurnRun run) {
  extern __shared__ __align__(16) unsigned char memory[];
  TurnMemory& shared = *reinterpret_cast<TurnMemory*>(memory);
  TurnLane l;
  l.lane = static_cast<int>(threadIdx.x) % 32;
  l.warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
  l.part = l.lane >> 3;
  l.even = (l.lane & 4) == 0;
  l.team = l.warp / team_warps;
  l.rank = l.warp % team_warps;
  l.pair = l.lane & 7;
  const int channel = static_cast<int>(blockIdx.x) * turn_channels + 2 * l.pair;
  // The first and the last step may hold tokens outside of the piece: they leave h and g as they are.
  const int begin = run.pieces.begin[blockIdx.y], end = run.pieces.end[blockIdx.y];
  const int steps_begin = begin / turn_step, steps_end = (end + turn_step - 1) / turn_step;
  const auto in_piece = [&](int token) { return token >= begin && token < end; };
  TurnWarpMemory& own = shared.warps[l.warp];

  float d_A[lane_chains] = {};
  own.sums[l.lane] = make_float4(0, 0, 0, 0);
  if (l.warp == 0) {
    float rate[lane_chains];
#pragma unroll
    for (int j = 0; j < lane_chains; ++j) rate[j] = in.rate(channel + j % 2, part_states * l.part + j / 2);
    shared.rates.store(l.lane, rate);
    if (l.part == 0)
      shared.channels[l.pair] =
          make_float4(in.bias_of(channel), in.bias_of(channel + 1), in.skip_of(channel), in.skip_of(channel + 1));
  }
  const int top = steps_end - 1, own_top = (top & 1) == l.team ? top : top - 1;  // the team's first step
  if (l.rank == team_warps - 1 && own_top == top) {
    const EnteringState adjoint = run.adjoint.right_of(run.pieces, blockIdx.y, in.segments.tokens);
    float g[lane_chains];
#pragma unroll
    for (int j = 0; j < lane_chains; ++j) g[j] = adjoint(channel + j % 2, part_states * l.part + j / 2);
    shared.g[top >> 1 & 1][l.warp].store(l.lane, g);
  }
  const auto fetch_h = [&](int step) {
    if (l.rank != 0) return;
#pragma unroll
    for (int s = 0; s < part_states; ++s)
      copy_8_bytes_async(shared_address(&shared.h[step >> 1 & 1][l.warp].half[s / 2][l.lane]) + s % 2 * 8,
                         run.states + step * run.states_stride + (part_states * l.part + s) * in.channels + channel);
  };
  // Lane 8k + 2i + j copies 16 bytes, half j, of token i of input k, and of B (k = 0) or C (k = 1); it writes half j of
  // token i of gradient k.
  const int moved = l.lane / 2 % 4;
  {
    const int row = l.rank * turn_tokens + moved, half = l.lane % 2 * 8,
              first_channel = static_cast<int>(blockIdx.x) * turn_channels;
    const auto set = [&](TurnRows(&rows)[32], int k, auto* tensor, std::int64_t stride, int column) {
      if (l.part == k) rows[l.lane].set(tensor, stride, row, column + half);
    };
    set(own.pieces[0], 0, in.delta, in.delta_stride, first_channel);
    set(own.pieces[0], 1, in.u, in.u_stride, first_channel);
    set(own.pieces[0], 2, Gated ? in.z : in.u, Gated ? in.z_stride : in.u_stride, first_channel);
    set(own.pieces[0], 3, run.d_y, run.d_y_stride, first_channel);
    set(own.pieces[1], 0, in.B, in.B_stride, 0);
    set(own.pieces[1], 1, in.C, in.C_stride, 0);
    set(own.pieces[2], 0, run.d_delta, run.d_delta_stride, first_channel);
    set(own.pieces[2], 1, run.d_u, run.d_u_stride, first_channel);
    if (Gated) set(own.pieces[2], 2, run.d_z, run.d_z_stride, first_channel);
  }
  const bool writes = l.part < (Gated ? 3 : 2);
  __syncwarp();
  if (own_top >= steps_begin) {
    copy_turn_inputs(own, run.starts, l.lane, own_top, in_piece(own_top * turn_step + l.rank * turn_tokens + moved));
    fetch_h(own_top);
  }
  __syncthreads();

  for (int step = own_top; step >= steps_begin; step -= 2) {
    // 1. Inputs: those of this step are there; start to copy the next ones.
    const int first = step * turn_step + l.rank * turn_tokens;
    wait_for_all_async_copies();
    __syncwarp();
    const int parity = step >> 1 & 1;
    const unsigned starts = own.stages[parity].starts >> ((step & 1) * turn_step + l.rank * turn_tokens) & 15;
    if (step - 2 >= steps_begin) {
      copy_turn_inputs(own, run.starts, l.lane, step - 2, first - 2 * turn_step + moved >= begin);
      fetch_h(step - 2);
    }
    stage_turn_inputs<Gated>(own.stages[parity], l, in_piece(first + l.part),
                             *reinterpret_cast<const float2*>(&shared.channels[l.pair]), own);
    __syncwarp();
    float d_B[4] = {}, d_C[4] = {};
    const bool first_step = step == top, last_step = step == steps_begin;
    if (starts == 0)
      walk_tokens<false>(shared, l, step, run.once, first_step, last_step, starts, d_A, d_B, d_C);
    else
      walk_tokens<true>(shared, l, step, run.once, first_step, last_step, starts, d_A, d_B, d_C);
    __syncwarp();

    // 7. Sums over the states; gradients of the lane's token and channels.
    {
      const float4 first_g = own.g_sums[l.part][l.pair];
      const float2* const parts = own.y_sums[l.part];
      const float2 first_y = parts[l.part % 2 * 8 + l.pair];
      float y[2] = {first_y.x, first_y.y}, gB[2] = {first_g.x, first_g.y}, gA[2] = {first_g.z, first_g.w};
#pragma unroll
      for (int k = 1; k < 4; ++k) {
        const float4 g = own.g_sums[l.part][8 * k + l.pair];
        const float2 part = parts[8 * (k ^ l.part % 2) + l.pair];
        gB[0] += g.x, gB[1] += g.y, gA[0] += g.z, gA[1] += g.w;
        y[0] += part.x, y[1] += part.y;
      }
      float kept[4], d_delta[2], d_u[2], d_z[2];
      fill(kept, own.kept[l.lane]);
      const std::uint32_t u_pair = own.stages[parity].u[l.lane];
      const float2 skips = *reinterpret_cast<const float2*>(&shared.channels[l.pair].z);
      float4 sums = own.sums[l.lane];
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const float u = c == 0 ? low_bf16(u_pair) : high_bf16(u_pair);
        const float delta = own.delta[c][4 * l.pair + l.part], ds = own.ds[c][4 * l.pair + l.part];
        d_delta[c] = kept[c] * (gB[c] * u + gA[c] * static_cast<float>(ln_2));
        const float skip = c == 0 ? skips.x : skips.y;
        d_u[c] = skip * ds + gB[c] * delta;
        d_z[c] = kept[2 + c] * (y[c] + skip * u);
        (c == 0 ? sums.x : sums.y) += ds * u;
        (c == 0 ? sums.z : sums.w) += d_delta[c];
      }
      own.sums[l.lane] = sums;
      own.outputs[0][l.lane] = pack_bf16(d_delta[0], d_delta[1]);
      own.outputs[1][l.lane] = pack_bf16(d_u[0], d_u[1]);
      if constexpr (Gated) own.outputs[2][l.lane] = pack_bf16(d_z[0], d_z[1]);
    }
    __syncwarp();
    if (writes && in_piece(first + moved))
      *reinterpret_cast<uint4*>(own.pieces[2][l.lane].at(step)) =
          reinterpret_cast<const uint4*>(&own.outputs[0][0])[l.lane];
    // 8. d_B and d_C: add the other half of the channels. Lanes 8k + t keep d_B of token t, lanes 8k + 4 + t d_C.
    {
      const bool keeps_C = l.lane & 4;
      float kept[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float give = keeps_C ? d_B[j] : d_C[j], keep = keeps_C ? d_C[j] : d_B[j];
        kept[j] = keep + __shfl_xor_sync(~0u, give, 4);
      }
      if (in_piece(first + (l.lane & 3))) {
        float4* const rows = reinterpret_cast<float4*>(run.rows + blockIdx.x * (in.segments.tokens * 2 * turn_states));
        rows[((first + (l.lane & 3)) * 2 + ((l.lane >> 2 & 1))) * 4 + l.part] =
            make_float4(kept[0], kept[2], kept[1], kept[3]);
      }
    }
  }

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
  shared.h[0][l.warp].store(l.lane, d_A);
  if (l.part == 0) shared.warps[l.warp].kept[l.pair] = make_float4(d_D[0], d_D[1], d_bias[0], d_bias[1]);
  __syncthreads();
  float* const row = run.parameters + blockIdx.y * (turn_states + 2) * in.channels + blockIdx.x * turn_channels;
  {
    const int c = static_cast<int>(threadIdx.x) % 16, n = static_cast<int>(threadIdx.x) / 16;
    const int j = n % 4 * 2 + c % 2, lane = n / 4 * 8 + c / 2;
    float sum = 0;
    for (int w = 0; w < turn_warps; ++w)
      sum += reinterpret_cast<const float*>(&shared.h[0][w].half[j / 4][lane])[j % 4];
    row[n * in.channels + c] = sum;
  }
  if (threadIdx.x < 32) {
    const int c = l.lane % 16, which = l.lane / 16;
    float sum = 0;
    for (int w = 0; w < turn_warps; ++w)
      sum += reinterpret_cast<const float*>(&shared.warps[w].kept[c / 2])[which * 2 + c % 2];
    row[(turn_states + which) * in.channels + c] = sum;
  }
}

/// starts[s], bit k: token 32 s + k is the first of its document.
///
/// block: 256 tokens
/// warp: 64 tokens
__global__ void __launch_bounds__(128) mark_document_starts(SegmentsView segments, std::uint32_t* starts) {
  const std::int64_t pair = blockIdx.x * std::int64_t{4} + threadIdx.x / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t words = ceil_div(segments.tokens, 32);
  if (2 * pair >= words) return;
  const DocumentStarts found(segments, pair * 64, lane);
  if (lane < 2 && 2 * pair + lane < words)
    starts[2 * pair + lane] = static_cast<std::uint32_t>(found.bits >> (32 * lane));
}

constexpr PieceCosts turn_costs{.any = {.launches = 25000, .element = 0.33},
                                .channels = turn_channels,
                                .places = 2,
                                .token = 106,
                                .token_alone = 82,
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
  const Tensor starts(stream, DType::i32, {ceil_div<std::int64_t>(tokens, 32)}),
      rows(stream, DType::f32, {blocks, tokens, 2 * turn_states}),
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
              .starts = static_cast<const std::uint32_t*>(starts.view().data),
              .pieces = pieces,
              .adjoint = PieceStates(args.in.segments.continues_to_right() ? args.adjoint_in : TensorView{}),
              .rows = wide(rows.view()),
              .parameters = wide(parameters.view())};
  std::optional<ScanChunkMemory<bf16>> memory;
  if (pieces.any_open) {
    memory.emplace(stream, in, each);
    sum_scan_chunks<bf16>(stream, ScanDirection::right_to_left, in, args.d_y, memory->view(), false, &pieces);
    fold_scan_chunks<bf16>(stream, ScanDirection::right_to_left, in, args.adjoint_in, memory->view());
    run.adjoint.set_chunks(memory->view(), channels, turn_states);
  }
  const auto queue = native_of(stream);
  mark_document_starts<<<grid_of(tokens, 256), 128, 0, queue>>>(in.segments,
                                                                static_cast<std::uint32_t*>(starts.view().data));
  cuda_check(cudaGetLastError());
  const auto kernel = in.z != nullptr ? walk_in_turns<true> : walk_in_turns<false>;
  constexpr std::size_t bytes = sizeof(TurnMemory);
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)));
  kernel<<<dim3(grid_of(blocks), grid_of(pieces.count)), 32 * turn_warps, bytes, queue>>>(in, run);
  cuda_check(cudaGetLastError());
  add_parts_in_order<float>(stream, run.rows, blocks, tokens * 2 * turn_states,
                            RowGradients<bf16>{data(args.d_B), data(args.d_C), args.d_B.row_stride, args.d_C.row_stride,
                                               turn_states, tf32_correction});
  add_parts_by_warps(
      stream, run.parameters, pieces.count, turn_states + 2, channels,
      ParameterGradients<float>{wide(args.d_A), wide(args.d_D), wide(args.d_delta_bias), args.d_A.row_stride,
                                args.d_D.row_stride, args.d_delta_bias.row_stride, turn_states});
  return true;
}

}  // namespace causeway::cuda
