#include "kernels/core/integer.hpp"
#include "kernels/cpu/openmp.hpp"
#include "kernels/cpu/partial_sums.hpp"
#include "kernels/cpu/selective_scan/selective_scan_tile.hpp"
#include "kernels/selective_scan.hpp"

namespace causeway::cpu {
namespace {

/// Tokens whose d_B and d_C each group sums over its channels, before the groups' sums are added in order.
constexpr std::int64_t window = 32 * scan_block;

/// Temporaries of one block and tile. slope = dΔ/d(delta), x = Δu, ds = ∂loss/∂s; before = h_{t-1} of one state n, zero
/// where a document starts; gB = Σ_n g B, gA = Σ_n g A exp(ΔA) h_{t-1}.
template <class R>
struct BlockWorkspace {
  Panel<R> u, delta, slope, x, z, ds, s, decay, before, gB, gA;
};

/// The values that a tile keeps from block to block; blocks are processed from right to left.
template <class R>
struct TileSums {
  const Vector<R>*A, &bias, &D;
  Vector<R>*adjoint, *dA;  // exp(Δ_{t+1} A) g_{t+1} just after the current block; Σ g Δ exp(ΔA) h_{t-1} after it
  Vector<R>&dD, &dbias;
};

/// One state n over a block: computes h again from the h before the block, then g from right to left. `adjoint` is the
/// one after the block, and becomes the one before it. dB and dC are vectors over channels here. Returns the block's
/// Σ_t g Δ exp(ΔA) h_{t-1}.
template <class R>
Vector<R> scan_block_backward(const TokenBlock& block, const Vector<R>& A, const R* B, const R* C, Vector<R> h,
                              Vector<R>& adjoint, BlockWorkspace<R>& w, Vector<R>* dB, Vector<R>* dC) {
  for (std::int64_t i = 0; i < block.count; ++i) {
    if (block.starts_at(i)) h = Vector<R>{};
    w.before.at[i] = h;
    h = w.decay.at[i] * h + w.x.at[i] * B[i];
    w.s.at[i] += h * C[i];
    dC[i] += w.ds.at[i] * h;
  }
  Vector<R> g = adjoint, dA{};
  for (std::int64_t i = block.count - 1; i >= 0; --i) {
    g += w.ds.at[i] * C[i];
    dB[i] += g * w.x.at[i];
    w.gB.at[i] += g * B[i];
    g *= w.decay.at[i];
    const Vector<R> through = g * w.before.at[i];
    w.gA.at[i] += through * A;
    dA += through * w.delta.at[i];
    if (block.starts_at(i)) g = Vector<R>{};
  }
  adjoint = g;
  return dA;
}

/// Fills u, delta, slope, x, z, ds and the first term of s; sets gB and gA to zero.
template <class T, class R>
void prepare(const SelectiveScanBackward& args, const TokenBlock& block, const Tile& tile, const TileSums<R>& kept,
             BlockWorkspace<R>& w) {
  const SelectiveScanInputs& in = args.in;
  load<T>(in.u, block, tile, w.u);
  load<T>(in.delta, block, tile, w.delta);
  load_gated<T>(args.d_y, in.z, block, tile, w.z, w.ds);
  for (std::int64_t i = 0; i < block.count; ++i)
    w.slope.at[i] =
        in.delta_softplus ? lanewise<R>(w.delta.at[i] + kept.bias, softplus_derivative<R>) : Vector<R>{} + 1;
  step_sizes(kept.bias, in.delta_softplus, block.count, w.delta);
  for (std::int64_t i = 0; i < block.count; ++i) {
    w.x.at[i] = w.delta.at[i] * w.u.at[i];
    w.s.at[i] = kept.D * w.u.at[i];
    w.gB.at[i] = w.gA.at[i] = Vector<R>{};
  }
}

/// Writes d_u, d_delta and d_z of the block; adds to dD and dbias.
template <class T, class R>
void finish(const SelectiveScanBackward& args, const TokenBlock& block, const Tile& tile, const TileSums<R>& kept,
            BlockWorkspace<R>& w) {
  Vector<R> dD{}, dbias{};
  for (std::int64_t i = 0; i < block.count; ++i) {
    dD += w.ds.at[i] * w.u.at[i];
    w.ds.at[i] = w.ds.at[i] * kept.D + w.gB.at[i] * w.delta.at[i];
    w.slope.at[i] *= w.gB.at[i] * w.u.at[i] + w.gA.at[i];
    dbias += w.slope.at[i];
  }
  kept.dD += dD;
  kept.dbias += dbias;
  store<T>(w.ds, block, tile, args.d_u);
  store<T>(w.slope, block, tile, args.d_delta);
  if (!args.in.z.present()) return;
  Panel<R>& dy = w.ds;
  load<T>(args.d_y, block, tile, dy);
  for (std::int64_t i = 0; i < block.count; ++i)
    w.z.at[i] = dy.at[i] * w.s.at[i] * lanewise<R>(w.z.at[i], silu_derivative<R>);
  store<T>(w.z, block, tile, args.d_z);
}

/// The scratch of one call.
template <class R>
struct BackwardScratch {
  BackwardScratch(const Stream& stream, const TileGroups<R>& groups, std::int64_t states)
      : N(states),
        tiles(stream, groups, N, 3, 4),
        workspaces(stream, dtype_of<R>, {groups.count, sizeof(BlockWorkspace<R>) / sizeof(R)}),
        vectors(stream, dtype_of<R>, {groups.count, 1 + 2 * scan_block, N, lanes<R>}),
        rows(stream, dtype_of<R>, {groups.count, 2, N, scan_block}),
        partial(stream, dtype_of<R>, {groups.count, 2, window, N}),
        parameters(Tensor::zeros(stream, DType::f64, {groups.tiles, N + 2, lanes<R>})) {}

  TileSums<R> sums(std::int64_t tile) const {
    return {tiles.array(tile, 0), tiles.single(tile, 0), tiles.single(tile, 1), tiles.array(tile, 1),
            tiles.array(tile, 2), tiles.single(tile, 2), tiles.single(tile, 3)};
  }

  /// Adds dA, dD and dbias of a tile to its `parameters` and sets them to zero.
  void flush(std::int64_t tile) const {
    double* to = parameters.view().template row<double>(tile);
    const auto take = [&](Vector<R>& sum) {
      for (std::int64_t d = 0; d < lanes<R>; ++d) *to++ += static_cast<double>(sum[d]);
      sum = Vector<R>{};
    };
    const TileSums<R> kept = sums(tile);
    for (std::int64_t n = 0; n < N; ++n) take(kept.dA[n]);
    take(kept.dD);
    take(kept.dbias);
  }

  std::int64_t N;
  TileScratch<R> tiles;
  Tensor workspaces;  // for each group
  Tensor vectors;  // for each group: h of a tile; d_B and d_C of a block as vectors over channels, [N][scan_block] each
  Tensor rows;     // for each group: B and C of a block, [N][scan_block] each
  Tensor partial;  // d_B and d_C of a window, summed over a group
  Tensor parameters;  // for each tile: dA, dD and dbias of the windows so far, in float64, since runs may be long
};

/// Tokens [from, to) and the channels of one group: all but the sum of d_B and d_C over the groups.
template <class T, class R>
void backward_group(const SelectiveScanBackward& args, const TileGroups<R>& groups, const BackwardScratch<R>& scratch,
                    std::int64_t group, std::int64_t from, std::int64_t to) {
  const std::int64_t N = scratch.N;
  Vector<R>* const h = static_cast<Vector<R>*>(scratch.vectors.view().data) + group * (1 + 2 * scan_block) * N;
  Vector<R>*const dB = h + N, *const dC = dB + N * scan_block;
  R *const B = scratch.rows.view().template row<R>(group), *const C = B + N * scan_block;
  R *const partial_B = scratch.partial.view().template row<R>(group), *const partial_C = partial_B + window * N;
  BlockWorkspace<R>& w = *reinterpret_cast<BlockWorkspace<R>*>(scratch.workspaces.view().template row<R>(group));
  for (std::int64_t b = (to - 1) / scan_block; b * scan_block >= from; --b) {
    const TokenBlock block(args.in.segments, 0, to, b, ScanDirection::right_to_left);
    load_transposed<T>(args.in.B, block, B);
    load_transposed<T>(args.in.C, block, C);
    std::fill(dB, dB + 2 * N * scan_block, Vector<R>{});
    for (std::int64_t index = groups.first_tile(group); index < groups.first_tile(group + 1); ++index) {
      const Tile tile = groups.tile(index);
      const TileSums<R> kept = scratch.sums(index);
      load_saved_states(args.states.template row<const R>(b), N, tile, h);
      prepare<T>(args, block, tile, kept, w);
      for (std::int64_t n = 0; n < N; ++n) {
        const std::int64_t at = n * scan_block;
        decays(w.delta, kept.A[n], block.count, w.decay);
        kept.dA[n] += scan_block_backward(block, kept.A[n], B + at, C + at, h[n], kept.adjoint[n], w, dB + at, dC + at);
      }
      finish<T>(args, block, tile, kept, w);
    }
    for (std::int64_t i = 0; i < block.count; ++i)
      for (std::int64_t n = 0; n < N; ++n) {
        partial_B[(block.begin - from + i) * N + n] = sum_of_lanes<R>(dB[n * scan_block + i]);
        partial_C[(block.begin - from + i) * N + n] = sum_of_lanes<R>(dC[n * scan_block + i]);
      }
  }
  for (std::int64_t t = groups.first_tile(group); t < groups.first_tile(group + 1); ++t) scratch.flush(t);
}

/// A row of d_B or d_C: adds the groups' sums in order.
template <class T, class R>
void add_groups(const R* partial, std::int64_t groups, std::int64_t stride, std::int64_t states, T* to) {
  for (std::int64_t n = 0; n < states; ++n) to[n] = static_cast<T>(sum_of_parts(partial + n, groups, stride));
}

/// Adds the sums of a tile, its row of BackwardScratch::parameters, to the results.
template <class R>
void add_to_parameters(const SelectiveScanBackward& args, const double* sums, const Tile& tile) {
  const std::int64_t N = args.in.A.columns();
  const auto add = [](const double* sum, R& to) { to = static_cast<R>(static_cast<double>(to) + *sum); };
  for (std::int64_t d = 0; d < tile.width; ++d) {
    for (std::int64_t n = 0; n < N; ++n) add(sums + n * lanes<R> + d, args.d_A.template row<R>(tile.first + d)[n]);
    if (args.d_D.present()) add(sums + N * lanes<R> + d, args.d_D.template row<R>(tile.first + d)[0]);
    if (args.d_delta_bias.present())
      add(sums + (N + 1) * lanes<R> + d, args.d_delta_bias.template row<R>(tile.first + d)[0]);
  }
}

// Lower bound: u, delta, z, d_y read once and d_u, d_delta, d_z written once, h read every 16 tokens: (7 +
// N·4/(16·s))·s bytes for a token and channel of s bytes; N exponentials and about 20N flops.
template <class T>
void backward(const Stream& stream, const SelectiveScanBackward& args) {
  using R = Accumulator<T>;
  const SelectiveScanInputs& in = args.in;
  const std::int64_t tokens = in.segments.tokens, N = in.A.columns();
  const TileGroups<R> groups(in.A.rows());
  const BackwardScratch<R> scratch(stream, groups, N);
  for (std::int64_t t = 0; t < groups.tiles; ++t) {
    load_matrix<R>(in.A, groups.tile(t), scratch.tiles.array(t, 0));
    if (args.adjoint_in.present() && in.segments.continues_to_right())
      load_matrix<R>(args.adjoint_in, groups.tile(t), scratch.tiles.array(t, 1));
    scratch.tiles.single(t, 0) = load_channels<R>(in.delta_bias, groups.tile(t));
    scratch.tiles.single(t, 1) = load_channels<R>(in.D, groups.tile(t));
  }

  const R* const partial = scratch.partial.view().template row<const R>(0);
#pragma omp parallel if (tokens * groups.channels * N > min_parallel_work)
  for (std::int64_t from = (tokens - 1) / window * window; from >= 0 && tokens > 0; from -= window) {
    const std::int64_t to = std::min(from + window, tokens);
#pragma omp for schedule(static)
    for (std::int64_t group = 0; group < groups.count; ++group)
      backward_group<T>(args, groups, scratch, group, from, to);
#pragma omp for schedule(static)
    for (std::int64_t t = from; t < to; ++t) {
      add_groups(partial + (t - from) * N, groups.count, 2 * window * N, N, args.d_B.template row<T>(t));
      add_groups(partial + (window + t - from) * N, groups.count, 2 * window * N, N, args.d_C.template row<T>(t));
    }
  }
  for (std::int64_t t = 0; t < groups.tiles; ++t) {
    add_to_parameters<R>(args, scratch.parameters.view().template row<const double>(t), groups.tile(t));
    if (args.adjoint_out.present() && tokens > 0)
      store_matrix<R>(scratch.tiles.array(t, 1), groups.tile(t), args.adjoint_out);
  }
}

}  // namespace

void selective_scan_backward(const Stream& stream, const SelectiveScanBackward& args) {
  const SelectiveScanInputs& in = args.in;
  const std::int64_t T = in.segments.tokens, D = in.A.rows(), N = in.A.columns();
  expect_inputs(in);
  const DType dtype = in.delta.dtype, accumulator = accumulator_of(dtype);
  expect("states", args.states, accumulator, {ceil_div(T, scan_block), D, N});
  expect_if_present("adjoint_in", args.adjoint_in, accumulator, {D, N});
  expect("d_y", args.d_y, dtype, {T, D});
  expect("d_u", args.d_u, dtype, {T, D});
  expect("d_delta", args.d_delta, dtype, {T, D});
  if (in.z.present()) expect("d_z", args.d_z, dtype, {T, D});
  expect("d_B", args.d_B, dtype, {T, N});
  expect("d_C", args.d_C, dtype, {T, N});
  expect("d_A", args.d_A, accumulator, {D, N});
  expect_if_present("d_D", args.d_D, accumulator, {D});
  expect_if_present("d_delta_bias", args.d_delta_bias, accumulator, {D});
  expect_if_present("adjoint_out", args.adjoint_out, accumulator, {D, N});
  dispatch(dtype, [&]<class Type> { backward<Type>(stream, args); });
}

}  // namespace causeway::cpu
