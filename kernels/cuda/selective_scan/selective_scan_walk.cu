
#include <optional>

#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/shared_memory.cuh"
#include "kernels/cuda/selective_scan/selective_scan_walk_alone.cuh"
#include "kernels/cuda/selective_scan/selective_scan_walk_rows.cuh"
#include "kernels/cuda/selective_scan/selective_scan_walk_states.cuh"

namespace causeway::cuda {
namespace {

// Lower bound: 16 exponentials for each element, softplus's and two of silu, 38 clocks for a token of 32 channels; at
// L 16384, D 4096 on an H200 0.32 ms (0.26 ms without softplus and silu), and 0.157 ms for the bytes with the saved
// states. Reached: 0.56 ms. With 64 states, at L 8192: 0.54 ms for the exponentials, 0.17 ms for the bytes; reached:
// 0.80 ms.

/// The forward scan of one piece of the run, with one exponential for each element and state.
///
/// block: `channels` channels (blockIdx.x) of one piece of the run (blockIdx.y); it walks over the piece's tokens
/// warp: scan warps compute the states; row warps convert the inputs of later tiles and write y of earlier ones
/// thread: scan lane: four states of one or two channels; row lane: two channels of four tokens of each tile
/// shared memory: WalkMemory, 4 tiles in float32 and the tiles that were read ahead
template <class Shape>
__global__ void __launch_bounds__(Shape::threads, 1) walk(ScanInputs<bf16> in, const __grid_constant__ WalkRun run) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<WalkMemory<Shape>*>(memory);
  const WalkPiece piece(run.pieces, Shape::tile);
  if (threadIdx.x == 0) {
    for (int i = 0; i < Shape::sets; ++i) shared.read[i].initialize(Shape::set_warps);
    for (int i = 0; i < Shape::stages; ++i) {
      shared.full[i].initialize(Shape::set_warps);
      shared.done[i].initialize(Shape::units * min(Shape::turns, Shape::groups));  // warps with a group of the tile
    }
  }
  __syncthreads();
  if (threadIdx.x >= 32 * Shape::scan_warps)
    walk_over_rows<Shape>(in, run, piece, shared);
  else if constexpr (Shape::turns == 1)
    walk_over_states_alone<Shape>(in, run, piece, shared);
  else
    walk_over_states<Shape>(in, run, piece, shared);
}

template <class Shape>
void launch_walk(const Stream& stream, const ScanInputs<bf16>& in, const WalkRun& run) {
  constexpr int bytes = sizeof(WalkMemory<Shape>);
  allow_shared_memory(walk<Shape>, bytes);
  const dim3 grid(grid_of(in.channels, Shape::channels), grid_of(run.pieces.count));
  walk<Shape><<<grid, Shape::threads, bytes, native_of(stream)>>>(in, run);
  cuda_check(cudaGetLastError());
}

/// A shape of the walk that plan_walk may choose.
struct WalkForm {
  PieceCosts costs;
  int states;  ///< of a channel, at most
  std::int64_t memory;
  void (*launch)(const Stream&, const ScanInputs<bf16>&, const WalkRun&);
};

/// `token` is a block's time for a token on an H200, in nanoseconds.
template <int Channels, int States, int Turns, int Tile>
constexpr WalkForm walk_form(double token) {
  using Shape = WalkShape<Channels, States, Turns, Tile>;
  return {.costs = {.any = {.launches = 10000, .element = 0},
                    .channels = Channels,
                    .token = token,
                    .block = States == 16 ? 75 : 2600 / token},
          .states = States,
          .memory = sizeof(WalkMemory<Shape>),
          .launch = launch_walk<Shape>};
}
constexpr WalkForm walk_forms[] = {walk_form<32, 16, 3, 16>(34.2), walk_form<16, 16, 6, 32>(21.9),
                                   walk_form<32, 32, 2, 16>(61),   walk_form<16, 32, 4, 16>(50),
                                   walk_form<32, 64, 1, 16>(97),   walk_form<16, 64, 2, 16>(79)};
constexpr std::int64_t most_states = 64;

/// How the walk divides a run.
struct WalkPlan {
  const WalkForm* form = nullptr;  ///< null: the chunked form is faster
  RunPieces pieces;
};

/// The fastest form by a model of the times. The chunked form's three passes are the alternative.
WalkPlan plan_walk(const Stream& stream, const PieceRun& run, std::int64_t states, std::int64_t multiprocessors) {
  const std::int64_t of_a_block = states <= 16 ? 16 : states <= 32 ? 32 : most_states;
  WalkPlan best;
  const ScanCosts three_passes{.launches = 35000,
                               .element = 1.5 + 0.15 * static_cast<double>(ceil_div<std::int64_t>(states, 16))};
  double least = time_of(run, three_passes, multiprocessors);
  for (const WalkForm& form : walk_forms) {
    if (form.states != of_a_block) continue;
    const PiecePlan& plan = stream.resource<PlannedPieces>()(run, form.costs, multiprocessors);
    if (plan.time >= least) continue;
    least = plan.time;
    best = {&form, plan.pieces};
  }
  return best;
}

}  // namespace

bool walk_forward(const Stream& stream, const SelectiveScanForward& args) {
  const SelectiveScanInputs& given = args.in;
  const std::int64_t tokens = given.segments.tokens, channels = given.A.rows(), states = given.A.columns();
  if (states > most_states || tokens >= std::int64_t{1} << 31 ||
      !aligned({given.u, given.delta, given.z, given.B, given.C, args.y}, 16) || !aligned({args.states}, 8))
    return false;
  const std::int64_t each = chunk_tokens(tokens, channels);
  const PieceRun divided{.segments = given.segments,
                         .channels = channels,
                         .states = states,
                         .chunk_tokens = each,
                         .direction = ScanDirection::left_to_right};
  const WalkPlan plan = plan_walk(stream, divided, states, attribute_of_device(cudaDevAttrMultiProcessorCount));
  if (plan.form == nullptr || plan.form->memory > attribute_of_device(cudaDevAttrMaxSharedMemoryPerBlockOptin))
    return false;
  const ScanInputs<bf16> in(given);
  WalkRun run{.pieces = plan.pieces,
              .enter = PieceStates(given.segments.continues_from_left() ? args.state_in : TensorView{}),
              .leave = args.state_out.present() ? static_cast<float*>(args.state_out.data) : nullptr,
              .leave_channel = args.state_out.row_stride,
              .y = static_cast<bf16*>(args.y.data),
              .saved = args.states.present() ? static_cast<float*>(args.states.data) : nullptr,
              .y_stride = args.y.row_stride,
              .saved_stride = args.states.row_stride};
  std::optional<ScanChunkMemory<bf16>> memory;
  if (plan.pieces.any_open) {
    memory.emplace(stream, in, each);
    sum_scan_chunks<bf16>(stream, ScanDirection::left_to_right, in, {}, memory->view(), false, &plan.pieces);
    fold_scan_chunks<bf16>(stream, ScanDirection::left_to_right, in, args.state_in, {}, memory->view());
    run.enter.set_chunks(memory->view(), channels, states);
  }
  plan.form->launch(stream, in, run);
  return true;
}

}  // namespace causeway::cuda
