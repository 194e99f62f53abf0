
#include <optional>

#include "kernels/core/integer.hpp"
#include "kernels/cuda/selective_scan/selective_scan_walk_alone.cuh"
#include "kernels/cuda/selective_scan/selective_scan_walk_rows.cuh"
#include "kernels/cuda/selective_scan/selective_scan_walk_states.cuh"

namespace causeway::cuda {
namespace {

// Lower bound: 16 exponentials for each element, softplus's and two of silu, 38 clocks for a token of 32 channels; at
// L 16384, D 4096 on an H200 0.32 ms (0.26 ms without softplus and silu), and 0.157 ms for the bytes with the saved
// states. Reached: 0.55 ms. With 64 states, at L 8192: 0.54 ms for the exponentials, 0.17 ms for the bytes; reached:
// 0.80 ms.

/// The forward scan of one piece of the run, with one exponential for each element and state.
///
/// block: `channels` channels (blockIdx.x) of one piece of the run (blockIdx.y); it walks over the piece's tokens
/// warp: scan warps compute the states; row warps convert the inputs of later tiles and write y of earlier ones
/// thread: scan lane: four states of one or two channels; row lane: two channels of four tokens of each tile
/// shared memory: WalkMemory, 4 tiles in float32 and the tiles that were read ahead
template <class Shape>
__global__ void __launch_bounds__(Shape::threads, 1) walk(ScanInputs<bf16> in, WalkRun run) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<WalkMemory<Shape>*>(memory);
  const WalkPiece piece(run.piece_tokens, in.segments.tokens, Shape::tile);
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

std::int64_t attribute_of_device(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  cuda_check(cudaGetDevice(&device));
  cuda_check(cudaDeviceGetAttribute(&value, attribute, device));
  return value;
}

template <class Shape>
void launch_walk(const Stream& stream, const ScanInputs<bf16>& in, const WalkRun& run, std::int64_t pieces) {
  constexpr int bytes = sizeof(WalkMemory<Shape>);
  cuda_check(cudaFuncSetAttribute(walk<Shape>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  const dim3 grid(grid_of(in.channels, Shape::channels), grid_of(pieces));
  walk<Shape><<<grid, Shape::threads, bytes, native_of(stream)>>>(in, run);
  cuda_check(cudaGetLastError());
}

/// A shape of the walk that plan_walk may choose.
struct WalkForm {
  int channels, states;  ///< of a block
  double token_clocks;   ///< a block's time for a token
  std::int64_t memory;
  void (*launch)(const Stream&, const ScanInputs<bf16>&, const WalkRun&, std::int64_t pieces);
};

template <int Channels, int States, int Turns, int Tile>
constexpr WalkForm walk_form(double token_clocks) {
  using Shape = WalkShape<Channels, States, Turns, Tile>;
  return {Channels, States, token_clocks, sizeof(WalkMemory<Shape>), launch_walk<Shape>};
}
constexpr WalkForm walk_forms[] = {walk_form<32, 16, 3, 32>(64),  walk_form<16, 16, 6, 32>(42),
                                   walk_form<32, 32, 2, 16>(111), walk_form<16, 32, 4, 16>(91),
                                   walk_form<32, 64, 1, 16>(177), walk_form<16, 64, 2, 16>(144)};
constexpr std::int64_t most_states = 64;

/// How the walk divides a run.
struct WalkPlan {
  const WalkForm* form = nullptr;  ///< null: the chunked form is faster
  std::int64_t pieces = 1;
};

/// The fastest division by a model of the times, in clocks. Two pieces or more need the chunk sums (pass 1) first. The
/// chunked form's three passes are the alternative; their threads hold 16 states.
WalkPlan plan_walk(std::int64_t tokens, std::int64_t channels, std::int64_t states, std::int64_t multiprocessors) {
  constexpr double sum_clocks = 1.4, chunked_clocks = 3.3;  // for each element, times multiprocessors
  const double elements = static_cast<double>(tokens * channels * ceil_div<std::int64_t>(states, thread_states)) /
                          static_cast<double>(multiprocessors);
  const std::int64_t of_a_block = states <= 16 ? 16 : states <= 32 ? 32 : most_states;
  WalkPlan best;
  double least = chunked_clocks * elements;
  for (const WalkForm& form : walk_forms)
    for (std::int64_t pieces = 1; pieces <= 16 && form.states == of_a_block; pieces *= 2) {
      const std::int64_t waves = ceil_div(ceil_div<std::int64_t>(channels, form.channels) * pieces, multiprocessors);
      const double clocks = static_cast<double>(waves * ceil_div(tokens, pieces)) * form.token_clocks +
                            (pieces > 1 ? sum_clocks * elements : 0.0);
      if (clocks < least) {
        least = clocks;
        best = {&form, pieces};
      }
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
  const WalkPlan plan = plan_walk(tokens, channels, states, attribute_of_device(cudaDevAttrMultiProcessorCount));
  if (plan.form == nullptr || plan.form->memory > attribute_of_device(cudaDevAttrMaxSharedMemoryPerBlockOptin))
    return false;
  const ScanInputs<bf16> in(given);
  WalkRun run{.piece_tokens = tokens,
              .enter = ScanInputs<bf16>::data<float>(args.state_in),
              .enter_piece = 0,
              .enter_state = 1,
              .enter_channel = args.state_in.row_stride,
              .y = static_cast<bf16*>(args.y.data),
              .saved = args.states.present() ? static_cast<float*>(args.states.data) : nullptr,
              .y_stride = args.y.row_stride,
              .saved_stride = args.states.row_stride};
  std::optional<ScanChunkMemory<bf16>> memory;
  if (plan.pieces > 1) {
    const std::int64_t each = chunk_tokens(tokens, channels);
    memory.emplace(stream, in, each);
    const ScanChunks<bf16> chunks = memory->view();
    sum_scan_chunks<bf16>(stream, ScanDirection::left_to_right, in, {}, chunks, false);
    fold_scan_chunks<bf16>(stream, ScanDirection::left_to_right, in, args.state_in, chunks);
    const std::int64_t piece_chunks = ceil_div(chunks.count, plan.pieces);
    run.piece_tokens = piece_chunks * each;
    run.enter = chunks.state;
    run.enter_piece = piece_chunks * states * channels;
    run.enter_state = channels;
    run.enter_channel = 1;
  }
  plan.form->launch(stream, in, run, ceil_div(tokens, run.piece_tokens));
  return true;
}

}  // namespace causeway::cuda
