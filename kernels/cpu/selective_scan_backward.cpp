#include "kernels/cpu/selective_scan_tile.hpp"
#include "kernels/selective_scan.hpp"

namespace causeway::cpu {
namespace {

/// Tokens whose d_B and d_C the groups sum into one buffer before the groups' sums are added up.
constexpr std::int64_t window = 8 * scan_block;

/// What a block's backward reads and sums up for one tile, [token][channel].
template <class R>
struct Workspace {
  Panel<R> u, delta, x, slope, ds, dy, z, s;  // x = Δu, slope = dΔ/d(delta), ds = ∂loss/∂s
  Panel<R> decay, before;                     // of one state: exp(ΔA) and h_{t-1}, zero where a document starts
  Panel<R> gB, gA;                            // Σ_n g B and Σ_n g A exp(ΔA) h_{t-1}
};

/// One state n of a block. Forward again from the block's first h, then g backwards; `adjoint` is exp(Δ_{t+1} A) g_{t+1} at the
/// block's right edge and becomes that at its left edge. dB and dC are vectors over channels still; returns Σ_t g Δ exp(ΔA) h_{t-1}.
template <class R>
Vector<R> scan_block_backward(const TokenBlock& block, const Vector<R>& A, const R* B, const R* C, std::int64_t stride, Vector<R> h,
                              Vector<R>& adjoint, Workspace<R>& w, Vector<R>* dB, Vector<R>* dC) {
  for (std::int64_t i = 0; i < block.count; ++i) {
    if (block.starts_at(i)) h = Vector<R>{};
    w.before.at[i] = h;
    h = w.decay.at[i] * h + w.x.at[i] * B[i * stride];
    w.s.at[i] += h * C[i * stride];
    dC[i * stride] += w.ds.at[i] * h;
  }
  Vector<R> g = adjoint, dA{};
  for (std::int64_t i = block.count - 1; i >= 0; --i) {
    g += w.ds.at[i] * C[i * stride];
    dB[i * stride] += g * w.x.at[i];
    w.gB.at[i] += g * B[i * stride];
    g *= w.decay.at[i];
    const Vector<R> through = g * w.before.at[i];
    w.gA.at[i] += through * A;
    dA += through * w.delta.at[i];
    if (block.starts_at(i)) g = Vector<R>{};
  }
  adjoint = g;
  return dA;
}

/// Fills u, delta, x, slope, ds, dy, z and s's first term; clears the sums.
template <class T, class R>
void prepare(const SelectiveScanBackward& args, const TokenBlock& block, const Tile& tile, Workspace<R>& w) {
  const SelectiveScanInputs& in = args.in;
  load<T>(in.u, block, tile, w.u);
  load<T>(in.delta, block, tile, w.delta);
  load<T>(args.d_y, block, tile, w.dy);
  const Vector<R> bias = load_channels<R>(in.delta_bias, tile), D = load_channels<R>(in.D, tile);
  for (std::int64_t i = 0; i < block.count; ++i) w.slope.at[i] = w.delta.at[i] + bias;
  softplus_slopes(in.delta_softplus, block.count, w.slope);
  step_sizes(bias, in.delta_softplus, block.count, w.delta);
  if (in.z.present()) load<T>(in.z, block, tile, w.z);
  if (in.z.present()) load<T>(in.z, block, tile, w.ds);
  if (in.z.present()) gates(block.count, w.ds);
  for (std::int64_t i = 0; i < block.count; ++i) {
    w.ds.at[i] = in.z.present() ? w.dy.at[i] * w.ds.at[i] : w.dy.at[i];
    w.x.at[i] = w.delta.at[i] * w.u.at[i];
    w.s.at[i] = D * w.u.at[i];
    w.gB.at[i] = w.gA.at[i] = Vector<R>{};
  }
}

/// d_u, d_delta and d_z of the block from its sums over n. dD and dbias are added to.
template <class T, class R>
void finish(const SelectiveScanBackward& args, const TokenBlock& block, const Tile& tile, Workspace<R>& w, Vector<R>& dD, Vector<R>& dbias) {
  const Vector<R> D = load_channels<R>(args.in.D, tile);
  Vector<R> block_dD{}, block_dbias{};
  for (std::int64_t i = 0; i < block.count; ++i) {
    block_dD += w.ds.at[i] * w.u.at[i];
    w.ds.at[i] = w.ds.at[i] * D + w.gB.at[i] * w.delta.at[i];            // d_u
    w.slope.at[i] *= w.gB.at[i] * w.u.at[i] + w.gA.at[i];                // d_delta
    block_dbias += w.slope.at[i];
  }
  dD += block_dD;
  dbias += block_dbias;
  store<T>(w.ds, block, tile, args.d_u);
  store<T>(w.slope, block, tile, args.d_delta);
  if (!args.in.z.present()) return;
  R* z = w.z.flat();
  const R *dy = w.dy.flat(), *s = w.s.flat();
#pragma omp simd
  for (std::int64_t i = 0; i < block.count * lanes<R>; ++i) {
    const R open = sigmoid(z[i]);
    z[i] = dy[i] * s[i] * open * (1 + z[i] * (1 - open));
  }
  store<T>(w.z, block, tile, args.d_z);
}

template <class R>
R sum_of(const Vector<R>& vector) {
  R sum = 0;
  for (std::int64_t d = 0; d < lanes<R>; ++d) sum += vector[d];
  return sum;
}

/// Adds a tile's parameter gradient to the caller's.
template <class R>
void add_channels(const Vector<R>& from, const Tile& tile, TensorView to) {
  if (!to.present()) return;
  for (std::int64_t d = 0; d < tile.width; ++d) to.as<R>()[static_cast<std::size_t>(tile.first + d)] += from[d];
}

template <class T>
void backward(const Stream& stream, const SelectiveScanBackward& args) {
  using R = Accumulator<T>;
  const SelectiveScanInputs& in = args.in;
  const std::int64_t tokens = in.segments.tokens, N = in.A.columns();
  const TileGroups<R> groups(in.A.rows());
  // A tile keeps A, the adjoint and dA (N vectors each), dD and dbias; a group one tile's h, the panels, B and C as numbers, dB and dC
  // of a block as vectors over channels, and their sums over the group of a window.
  const std::int64_t kept = 3 * N + 2;
  const Scratch<R> tiles(stream, groups.tiles * kept);
  const Scratch<R> states(stream, groups.count * N), sums(stream, groups.count * 2 * scan_block * N);
  const Scratch<R> workspaces(stream, groups.count * static_cast<std::int64_t>(sizeof(Workspace<R>) / sizeof(Vector<R>)));
  const Tensor rows(stream, dtype_of<R>, {groups.count, 2, scan_block, N});
  const Tensor partial(stream, dtype_of<R>, {groups.count, 2, window, N});

#pragma omp parallel for schedule(static) if (groups.channels * N > worth_threads)
  for (std::int64_t index = 0; index < groups.tiles; ++index) {
    const Tile tile = groups.tile(index);
    Vector<R>* kept_here = tiles.data() + index * kept;
    load_states(in.A.template row<const R>(tile.first), in.A.row_stride, N, tile, kept_here);
    if (args.adjoint_in.present() && in.segments.continues_to_right())
      load_states(args.adjoint_in.template row<const R>(tile.first), args.adjoint_in.row_stride, N, tile, kept_here + N);
  }

  const auto group_window = [&](std::int64_t group, std::int64_t from, std::int64_t to) {
    R* const B = rows.view().template row<R>(group);
    R* const C = B + scan_block * N;
    Vector<R>* const h = states.data() + group * N;
    Vector<R>* const dB = sums.data() + group * 2 * scan_block * N;
    Vector<R>* const dC = dB + scan_block * N;
    Workspace<R>& w = reinterpret_cast<Workspace<R>*>(workspaces.data())[group];
    for (std::int64_t first = from + (to - from - 1) / scan_block * scan_block; first >= from; first -= scan_block) {
      const TokenBlock block(in.segments, first, tokens);
      load_rows<T>(in.B, block, B);
      load_rows<T>(in.C, block, C);
      std::fill(dB, dB + 2 * scan_block * N, Vector<R>{});
      for (std::int64_t index = groups.first_tile(group); index < groups.first_tile(group + 1); ++index) {
        const Tile tile = groups.tile(index);
        Vector<R>* const A = tiles.data() + index * kept;
        Vector<R>*const adjoint = A + N, *const dA = adjoint + N, *const dD = dA + N, *const dbias = dD + 1;
        load_states(args.states.template row<const R>(first / scan_block) + tile.first * N, N, N, tile, h);
        prepare<T>(args, block, tile, w);
        for (std::int64_t n = 0; n < N; ++n) {
          decays(w.delta, A[n], block.count, w.decay);
          dA[n] += scan_block_backward(block, A[n], B + n, C + n, N, h[n], adjoint[n], w, dB + n, dC + n);
        }
        finish<T>(args, block, tile, w, *dD, *dbias);
      }
      R* const partial_B = partial.view().template row<R>(group) + (first - from) * N;
      R* const partial_C = partial_B + window * N;
      for (std::int64_t i = 0; i < block.count * N; ++i) {
        partial_B[i] = sum_of<R>(dB[i]);
        partial_C[i] = sum_of<R>(dC[i]);
      }
    }
  };
  const auto add_groups = [&](std::int64_t from, std::int64_t t) {
    for (const int which : {0, 1}) {
      T* const to = (which == 0 ? args.d_B : args.d_C).template row<T>(t);
      const R* const first = partial.view().template row<const R>(0) + (which * window + t - from) * N;
      for (std::int64_t n = 0; n < N; ++n) {
        R sum = 0;
        for (std::int64_t group = 0; group < groups.count; ++group) sum += first[group * 2 * window * N + n];
        to[n] = static_cast<T>(sum);
      }
    }
  };
#pragma omp parallel if (tokens * groups.channels * N > worth_threads)
  for (std::int64_t from = (tokens - 1) / window * window; from >= 0 && tokens > 0; from -= window) {
    const std::int64_t to = std::min(from + window, tokens);
#pragma omp for schedule(static)
    for (std::int64_t group = 0; group < groups.count; ++group) group_window(group, from, to);
#pragma omp for schedule(static)
    for (std::int64_t t = from; t < to; ++t) add_groups(from, t);
  }

  for (std::int64_t index = 0; index < groups.tiles; ++index) {
    const Tile tile = groups.tile(index);
    const Vector<R>* const dA = tiles.data() + index * kept + 2 * N;
    for (std::int64_t d = 0; d < tile.width; ++d)
      for (std::int64_t n = 0; n < N; ++n) args.d_A.template row<R>(tile.first + d)[n] += dA[n][d];
    add_channels<R>(dA[N], tile, args.d_D);
    add_channels<R>(dA[N + 1], tile, args.d_delta_bias);
  }
}

}  // namespace

void selective_scan_backward(const Stream& stream, const SelectiveScanBackward& args) {
  const SelectiveScanInputs& in = args.in;
  const std::int64_t T = in.segments.tokens, D = in.A.rows(), N = in.A.columns();
  expect_inputs(in);
  const DType dtype = in.u.dtype, accumulator = accumulator_of(dtype);
  expect("states", args.states, accumulator, {(T + scan_block - 1) / scan_block, D, N});
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
  dispatch(dtype, [&]<class Type> { backward<Type>(stream, args); });
}

}  // namespace causeway::cpu
