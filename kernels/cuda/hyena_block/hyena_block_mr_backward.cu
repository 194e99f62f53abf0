#include "kernels/cuda/hyena_block/hyena_block_launch.cuh"
#include "kernels/cuda/hyena_block/hyena_block_mr_memory.cuh"
#include "kernels/cuda/hyena_block/hyena_block_parameters.cuh"

namespace causeway::cuda::fused_block {
namespace {

/// The computing warps and the movers' warpgroup.
template <MrLayout Layout>
inline constexpr int mr_backward_threads = 32 * (MrForm<Layout>::warps + 4);

/// One pass from left to right. With tile n a warp computes c and d_q of it, and d_x, d_k, d_v of the tile Blocks - 1
/// before it, whose later d_c are then known. Rows of gradients are complete two tokens after their own.
///
/// block: 64 channels, a range of stages of 32 tokens; 4 computing warps and a mover's warpgroup; with octets twice as
/// many channels and computing warps
/// warp: 16 places for channels, from left to right
/// shared memory: 3 stages of q', d_y and 7 of k', v' of 8 KiB; the last tiles of x; results replace q', k', v'
/// registers: Toeplitz blocks 19, tiles of d_c 36, sums of d_taps 36, parameters 20, sums of parameters 20,
/// gradients of the two tokens before 12. More than 80 lines because all phases share the registers.
///
/// Without `Featured` the featurizer is the identity. Both parts of the computation are compiled with and without
/// starts of documents: the first one with `Now` for those in the tile, the second one with `Near` for those from the
/// tokens before the target to the tile. More versions would be faster by themselves, but then warps wait for
/// instructions.
template <int Blocks, MrLayout Layout, bool Featured>
__global__ void __launch_bounds__(mr_backward_threads<Layout>, MrForm<Layout>::octets ? 1 : 2)
    mr_backward_kernel(const __grid_constant__ MrBackwardArgs args) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)  // it moves registers between warpgroups
  using Memory = MrBackwardMemory<Blocks, Layout>;
  using Form = MrForm<Layout>;
  using Past = MrPast<Blocks>;
  constexpr bool words = Layout == MrLayout::words;
  constexpr int far_stages = Memory::far_stages, behind = Memory::behind;
  Memory& memory = *reinterpret_cast<Memory*>(block_memory());
  const int warp = uniform_warp(), lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    for (int s = 0; s < far_stages; ++s) memory.full[s].initialize(words ? mr_narrow_arrivals : 1);
    fence_barrier_initialization();
  }
  __syncthreads();

  // 1. The mover.
  if (warp >= Form::warps) {
    lower_registers<24>();
    if constexpr (words) {
      if (const int input = warp - Form::warps; input < 3)
        mr_backward_narrow_mover<Blocks, true>(args, memory, input, lane);
      else
        mr_backward_narrow_mover<Blocks, false>(args, memory, input, lane);
    } else if (warp == Form::warps) {
      mr_backward_mover(args, memory, lane);
    }
    return;
  }
  raise_registers<Form::octets ? 240 : 232>();
  const MrAddress<Layout, false, Featured> address(warp, lane);
  const MrAddress<Layout, true, Featured> reversed(warp, lane);
  const unsigned past = shared_address(memory.past[warp].tiles), past_store = past + MrTileRows::of_lane(lane);
  constexpr unsigned tensor_bytes = Form::tensor_bytes;
  RingPosition<far_stages> next;
  int far = far_stages - 1;
  // The tiles of q', d_y, of k', v', and of the target's k', v'.
  MrTiles<Memory::near_stages, Layout> near(shared_address(memory.near), Memory::near_stages - 1);
  MrTiles<far_stages, Layout> k_and_v(shared_address(memory.far), far_stages - 1),
      target(shared_address(memory.far), far_stages - 1 - behind);

  for (TileCursor cursor(args.plan, args.plan.range()); cursor.exists();) {
    // 2. A stretch: parameters; no earlier tiles.
    MrParameters parameters;
    ToeplitzFilter<Blocks, true> filter;
    const ChannelWindows windows = args.windows.template as<Layout>();
    const int window = cursor.column * Form::warps + warp;
    parameters.load(args.filter, windows.channel(window, lane / 4), windows.channel(window, lane / 4 + 8));
    filter.load(args.filter, window / windows.of_group(), lane);
    const GroupMask<Layout> of_group(windows, window, lane);
    std::uint32_t ring[Blocks][4] = {}, second_before[2] = {};  // d_c
    HalfLagSums<Blocks> lags;
    lags.clear();
    float d_w[3][featurizer_taps][2] = {}, d_skip[2] = {}, last[3][2][2] = {};
    __syncwarp();
    Past::clear(past_store);
    const int count = 2 * (cursor.last - cursor.begin), warm_up = 2 * (cursor.first - cursor.begin);
    unsigned place = 0;  // of the tile in `past`, its offset
    // Of the tiles before it. Each moves up with a tile, which is one instruction and not two; without octets there are
    // no registers for them.
    unsigned places_before[Blocks];
#pragma unroll
    for (int b = 0; b < Blocks; ++b) places_before[b] = Past::before(0, b + 1);
    unsigned recent = 0;  // bit b: a document begins in the tile b before this one
    const auto clear = [](float(&sums)[featurizer_taps][2]) {
#pragma unroll
      for (auto& of_tap : sums) of_tap[0] = of_tap[1] = 0;
    };
    // 3. Its tiles. The sums begin anew with the range's first tile; those of k and v with the first target. A loop
    // over three parts, because a condition in the loop over tiles would be a selection for each sum.
    int i = 0;
#pragma unroll 1
    for (int part = 0; part < 3; ++part) {
      const int from_target = Blocks - 1, low = warm_up < from_target ? warm_up : from_target,
                high = warm_up < from_target ? from_target : warm_up,
                wanted = part == 0   ? low
                         : part == 1 ? high
                                     : count,
                end = wanted < count ? wanted : count;
      clear(d_w[k_input]);
      clear(d_w[v_input]);
      if (i == 0 || i == warm_up) {
        lags.clear();
        clear(d_w[q_input]);
        d_skip[0] = d_skip[1] = 0;
      }
#pragma unroll 1
      for (; i < end; ++i) {
        const int half = i & 1;
        if (half == 0) {
          far = next.slot;
          memory.full[far].wait(next.parity);
          next.advance();
          near.enter_stage();
          k_and_v.enter_stage();
          target.enter_stage();
        } else {
          near.enter_second_half();
          k_and_v.enter_second_half();
          target.enter_second_half();
        }
        const unsigned starts = __shfl_sync(~0u, memory.starts[far][half], 0);  // known to be the same in all lanes
        recent = recent << 1 | (starts >> 16 != 0 ? 1u : 0u);
        /// The stage `back` before this one, of k' and v'.
        const auto far_before = [&](int back) { return far >= back ? far - back : far - back + far_stages; };
        // Addresses of rows: of the tile, and of two tokens earlier, which may be in the stage before.
        const auto q_rows = MrRows<Layout, false, Featured>::of(address, near.at),
                   k_rows = MrRows<Layout, false, Featured>::of(address, k_and_v.at);
        const auto target_rows = MrRows<Layout, true, Featured>::of(reversed, target.at);
        std::uint32_t d_c_pairs[4];
        const auto first_part = [&]<bool Now>() {
          const auto reach = ReachMasks<false>::of(Now ? starts : 0, lane);
          const unsigned here = starts >> 16;
          // 3a. x = k⊙v, d_c = d_y⊙q.
          TileValues x =
              input_value<Featured, Now, false>(k_rows, parameters.featurizer[k_input], reach) *
              input_value<Featured, Now, false>(k_rows + tensor_bytes, parameters.featurizer[v_input], reach);
          std::uint32_t x_pairs[4];
          round_tile(x_pairs, x);
          of_group.keep(x_pairs);
          stmatrix_x4_transposed(past_store + place, x_pairs);
          {
            const auto rows = MrRows<Layout, true, Featured>::of(reversed, near.at);
            TileValues d_c = input_value<Featured, Now, true>(rows, parameters.featurizer[q_input],
                                                              ReachMasks<true>::of(Now ? starts : 0, lane)) *
                             load_values(rows + tensor_bytes);
            // A token's x is in the other half and the other element of the lane at the other end of the four.
#pragma unroll
            for (int j = 0; j < 4; ++j)
#pragma unroll
              for (int e = 0; e < 2; ++e) d_skip[j % 2] += d_c.at[j][e] * __shfl_xor_sync(~0u, x.at[j ^ 2][1 - e], 3);
#pragma unroll
            for (int j = 0; j < 4; ++j)
#pragma unroll
              for (int e = 0; e < 2; ++e) x.at[j][e] *= parameters.skip[j % 2];
            round_tile(d_c_pairs, d_c);
            of_group.keep(d_c_pairs);
          }
          // 3b. c, and the sums of d_taps.
          std::uint32_t d_c[4], middle[4], second_of_first[4] = {};
          transpose_tile(d_c, d_c_pairs);
          TileSums sum;
          filter.begin(sum, x);
          __syncwarp();
          std::uint32_t halves[2][4], earlier[2][4];
          ldmatrix_x4<false>(halves[0], past_store + place);
          if (Now && here != 0) {
            // The documents that begin in this tile, then its first tokens, which meet the earlier tiles. The second
            // half of the last document's tokens waits for the next tile, as ever.
            const std::uint32_t nothing[4] = {}, whole[4] = {d_c[0], d_c[1], d_c[2], d_c[3]};
            std::uint32_t x_part[4], second[2];
            for_each_start(here, [&](int low, int high) {
              keep_rows(d_c, whole, mr_tile - high, mr_tile - low, lane);
              keep_halves(x_part, halves[0], low, high, lane);
              lags.add(0, d_c, x_part[0], x_part[1]);
              second_half(second, d_c);
              if (high == mr_tile) return;
              middle_tile(middle, second, nothing);
              lags.add(0, middle, x_part[2], x_part[3]);
            });
            const int before = tokens_before(here);
            keep_rows(d_c, whole, mr_tile - before, mr_tile, lane);
            keep_halves(halves[0], halves[0], 0, before, lane);
            middle_tile(middle, second_before, d_c);
            std::uint32_t second_now[2];
            second_half(second_now, d_c);
            middle_tile(second_of_first, second_now, nothing);
            second_before[0] = second[0], second_before[1] = second[1];
            keep_columns(earlier[0], x_pairs, 0, before, lane);
          } else {
            middle_tile(middle, second_before, d_c);
            second_half(second_before, d_c);
#pragma unroll
            for (int j = 0; j < 4; ++j) earlier[0][j] = x_pairs[j];
          }
#pragma unroll
          for (int b = 0; b <= Blocks; ++b) {
            const int now = b % 2, next = 1 - now;
            if (b < Blocks) {
              const unsigned at = past_store + (Form::octets ? places_before[b] : Past::before(place, b + 1));
              ldmatrix_x4<false>(halves[next], at);
              if (b + 1 < Blocks) ldmatrix_x4<true>(earlier[next], at);
              lags.add(b, d_c, halves[now][0], halves[now][1]);
              filter.multiply(sum, earlier[now], b);
              if (Now && here != 0) lags.add(b, second_of_first, halves[now][2], halves[now][3]);
            }
            if (b > 0) lags.add(b - 1, middle, halves[now][2], halves[now][3]);
          }
          if (Now && here != 0) {
            std::uint32_t masked[4];
            for_each_start(here, [&](int low, int high) {
              keep_columns(masked, x_pairs, low, high, lane);
              filter.replace(sum, masked, x, low, high, lane);
            });
            __syncwarp();  // the tokens of the last document stay
            Past::clear(past_store);
            __syncwarp();
            stmatrix_x4_transposed(past_store + place, masked);
          }
          // 3c. d_q and the rows of d_q'. The rows are read once more, which is cheaper than registers for them.
          {
            const LaggedValues q_values = load_lagged<Featured, Now, false>(q_rows, reach);
            const TileValues d_q = filter.values(sum) * load_values(q_rows + tensor_bytes);
            std::uint32_t results[4];
            if constexpr (Featured) {
              round_tile(results, back_to_earlier_rows<Now>(d_q, last[q_input], q_values,
                                                            parameters.featurizer[q_input], d_w[q_input], reach, lane));
              keep_last<false>(last[q_input], d_q);
            } else {
              round_tile(results, d_q);
            }
            __syncwarp();  // all lanes have read the tile
            store_results(q_rows, results);
          }
        };
        const auto second_part = [&]<bool Near>() {
        // 3d. d_x, d_k and d_v of the tile Blocks - 1 before, and the rows of d_k' and d_v'.
#pragma unroll
          for (int b = 1; b < Blocks; ++b)
#pragma unroll
            for (int j = 0; j < 4; ++j) ring[b - 1][j] = ring[b][j];
#pragma unroll
          for (int j = 0; j < 4; ++j) ring[Blocks - 1][j] = d_c_pairs[j];
          const auto word = [&](int back) {  // of the tile `back` before this one
            return memory.starts[far_before((back + 1 - half) / 2)][(half + back) % 2];
          };
          unsigned of_target = 0;
          int reached = mr_tile * (Blocks - 1);
          if constexpr (Near) {
            of_target = word(Blocks - 1);
            const unsigned later = recent & ((1u << (Blocks - 1)) - 1);
            if (later != 0) {
              const int back = 31 - __clz(static_cast<int>(later));
              reached = mr_tile * (Blocks - 2 - back) + tokens_before(word(back) >> 16);
            }
          }
          const auto target_reach = ReachMasks<true>::of(of_target, lane);
          TileValues d_x;
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            d_x.at[j][0] = parameters.skip[j % 2] * low_bf16(ring[0][j]);
            d_x.at[j][1] = parameters.skip[j % 2] * high_bf16(ring[0][j]);
          }
          d_x = convolve_later<Near>(filter, ring, d_x, of_target >> 16, reached, lane);
          LaggedValues raw[2];
          TileValues value[2];
#pragma unroll
          for (int n = 0; n < 2; ++n) {
            raw[n] =
                load_lagged<Featured, Near, true>(target_rows + static_cast<unsigned>(n) * tensor_bytes, target_reach);
            value[n] = value_of<Featured>(raw[n], parameters.featurizer[k_input + n]);
          }
          __syncwarp();  // all lanes have read the tile
#pragma unroll
          for (int n = 0; n < 2; ++n) {
            [[maybe_unused]] const int input = k_input + n;
            const TileValues d = d_x * value[1 - n];
            std::uint32_t results[4];
            if constexpr (Featured) {
              round_tile(results, back_to_earlier_rows<Near, true>(d, last[input], raw[n], parameters.featurizer[input],
                                                                   d_w[input], target_reach, lane));
              keep_last<true>(last[input], d);
            } else {
              round_tile(results, d);
            }
            store_results(target_rows + static_cast<unsigned>(n) * tensor_bytes, results);
          }
        };
        const unsigned near_starts = recent & ((2u << Blocks) - 1);  // bit Blocks: rows before the target
        if (starts >> 15 == 0)
          first_part.template operator()<false>();
        else
          first_part.template operator()<true>();
        if (near_starts == 0)
          second_part.template operator()<false>();
        else
          second_part.template operator()<true>();
        if constexpr (Form::octets) {
#pragma unroll
          for (int b = Blocks - 1; b > 0; --b) places_before[b] = places_before[b - 1];
          places_before[0] = place;
        }
        place = Past::before(place, -1);
        if (half == 0) arrive_done<words ? mr_narrow_threads : 32 * (Form::warps + 1)>(far);
      }
    }
    if (count < Blocks) {  // no tile was the target
      clear(d_w[k_input]);
      clear(d_w[v_input]);
    }
    // 4. The parameters' gradients.
    const std::int64_t slot = std::int64_t{args.plan.range()} + cursor.column;
    float* const to = args.parts + slot * mr_parameters * Form::places;
    const int at = warp * mr_tile + lane / 4;
#pragma unroll
    for (int n = 0; Featured && n < 3; ++n)
#pragma unroll
      for (int j = 0; j < featurizer_taps; ++j)
        write_channel_sums<Form::places>(to, n * featurizer_taps + j, d_w[n][j], at, lane);
    write_channel_sums<Form::places>(to, 3 * featurizer_taps, d_skip, at, lane);
    __syncwarp();
    lags.write(args.lag_parts + (slot * Form::warps + warp) * mr_tile * Blocks,
               reinterpret_cast<float*>(memory.past[warp].tiles), lane);
    __syncwarp();
    cursor.leave_stretch();
  }
#endif
}

}  // namespace

bool has_sm_90a() {
#if CAUSEWAY_SM_90A
  return compute_capability() == 90;
#else
  return false;
#endif
}

// Lower bound: read q, k, v, d_y, write d_q, d_k, d_v; 0.89 ms for L 65536, D 4096 on an H200.
void mr_backward(const Stream& stream, const HyenaBlockBackward& args) {
  const HyenaBlockInputs& in = args.in;
  const std::int64_t reached = reached_rows(in);
  const HaloGradient d_halo(stream, args, mr_stage_tokens);
  const auto launch = [&]<int Blocks, MrLayout Layout, bool Featured> {
    using Memory = MrBackwardMemory<Blocks, Layout>;
    using Form = MrForm<Layout>;
    constexpr bool swizzled = Layout == MrLayout::whole;
    const ChannelWindows windows = ChannelWindows::of(in, Layout);
    const auto map = [&](TensorView x, TensorView halo, std::int64_t part) {
      return RunMap(x, halo, part, reached, mr_stage_tokens, Form::channels, swizzled);
    };
    const auto map_gradient = [&](TensorView x, std::int64_t part) {
      return d_halo.map(x, part, mr_stage_tokens, Form::channels, swizzled);
    };
    const BlockPlan plan = BlockPlan::of(in, Form::places, mr_stage_tokens, (Memory::behind + 1) * mr_stage_tokens,
                                         Memory::warm_up * mr_stage_tokens, (Form::octets ? 1 : 2) * multiprocessors(),
                                         std::int64_t{windows.all} * mr_tile);
    const Tensor parts = parameter_parts(stream, plan, mr_parameters),
                 lag_parts(stream, DType::f32, {plan.blocks + plan.columns, Form::warps, mr_tile * Blocks});
    const MrBackwardArgs a{.q = map(in.q, in.halo, 0),
                           .k = map(in.k, in.halo, 1),
                           .v = map(in.v, in.halo, 2),
                           .d_y = map(args.d_y, {}, 0),
                           .d_q = map_gradient(args.d_q, 0),
                           .d_k = map_gradient(args.d_k, 1),
                           .d_v = map_gradient(args.d_v, 2),
                           .filter = BlockFilter(in),
                           .documents = in.segments,
                           .plan = plan,
                           .windows = windows,
                           .inputs = {RunRows(in.q, reached_halo(in, 0)), RunRows(in.k, reached_halo(in, 1)),
                                      RunRows(in.v, reached_halo(in, 2)), RunRows(args.d_y)},
                           .results = {RunRows(args.d_q, d_halo.rows(0)), RunRows(args.d_k, d_halo.rows(1)),
                                       RunRows(args.d_v, d_halo.rows(2))},
                           .parts = parts.view().row<float>(0),
                           .lag_parts = lag_parts.view().row<float>(0)};
    launch_kernel<mr_backward_kernel<Blocks, Layout, Featured>>(stream, plan.blocks, mr_backward_threads<Layout>,
                                                                sizeof(Memory), a);
    add_parameters(stream, args, plan, mr_parameters, a.parts, {}, windows);
    add_lags(stream, args, plan, lag_parts, windows);
  };
  with_mr_blocks(in, [&]<int Blocks, MrLayout Layout> {
    if (in.featurizer.present())
      launch.template operator()<Blocks, Layout, true>();
    else
      launch.template operator()<Blocks, Layout, false>();
  });
  d_halo.write(stream, args);
}

}  // namespace causeway::cuda::fused_block
