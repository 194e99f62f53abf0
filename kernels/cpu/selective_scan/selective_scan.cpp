#include "kernels/selective_scan.hpp"
#include "kernels/core/integer.hpp"

#include "kernels/cpu/openmp.hpp"
#include "kernels/cpu/selective_scan/selective_scan_tile.hpp"

namespace causeway::cpu {
namespace {

/// One state n over a block: h_t = exp(Δ_t A) ⊙ h_{t-1} + x_t B_t and s_t += C_t h_t, with x = Δu. `state` is h before
/// the block, and becomes h after it.
template <class R>
void scan_block_forward(const TokenBlock& block, const Panel<R>& decay, const Panel<R>& x, const R* B, const R* C,
                        Vector<R>& state, Panel<R>& s) {
  Vector<R> h = state;
  for (std::int64_t i = 0; i < block.count; ++i) {
    if (block.starts_at(i)) h = Vector<R>{};
    h = decay.at[i] * h + x.at[i] * B[i];
    s.at[i] += h * C[i];
  }
  state = h;
}

/// One block of one tile: writes y; `h` is the states before the block, and becomes those after it.
template <class T, class R>
void forward_tile(const SelectiveScanForward& args, const TokenBlock& block, const Tile& tile, const Vector<R>* A,
                  const Vector<R>& bias, const Vector<R>& D, const R* B, const R* C, Vector<R>* h) {
  const SelectiveScanInputs& in = args.in;
  const std::int64_t N = in.A.columns();
  Panel<R> x, delta, decay, s;
  load<T>(in.u, block, tile, x);
  load<T>(in.delta, block, tile, delta);
  step_sizes(bias, in.delta_softplus, block.count, delta);
  for (std::int64_t i = 0; i < block.count; ++i) {
    s.at[i] = D * x.at[i];
    x.at[i] *= delta.at[i];
  }
  for (std::int64_t n = 0; n < N; ++n) {
    decays(delta, A[n], block.count, decay);
    scan_block_forward(block, decay, x, B + n * scan_block, C + n * scan_block, h[n], s);
  }
  if (in.z.present()) {
    Panel<R>& z = delta;
    load<T>(in.z, block, tile, z);
    for (std::int64_t i = 0; i < block.count; ++i) s.at[i] *= lanewise<R>(z.at[i], silu<R>);
  }
  store<T>(s, block, tile, args.y);
}

// Lower bound: u, delta and z read once, y written once, h written every 16 tokens: (4 + N·4/(16·s))·s bytes for a
// token and channel of s bytes. It also takes N exponentials and 6N flops: for N = 16 the exponentials take a core
// several times as long as the memory traffic.
template <class T>
void forward(const Stream& stream, const SelectiveScanForward& args) {
  using R = Accumulator<T>;
  const SelectiveScanInputs& in = args.in;
  const std::int64_t tokens = in.segments.tokens, N = in.A.columns();
  const TileGroups<R> groups(in.A.rows());
  const TileScratch<R> kept(stream, groups, N, 2, 2);                        // arrays: A, h; singles: delta_bias, D
  const Tensor rows(stream, dtype_of<R>, {groups.count, 2, N, scan_block});  // B and C of a block

#pragma omp parallel for schedule(static) if (tokens * groups.channels * N > min_parallel_work)
  for (std::int64_t group = 0; group < groups.count; ++group) {
    const std::int64_t begin = groups.first_tile(group), end = groups.first_tile(group + 1);
    R* const B = rows.view().template row<R>(group);
    R* const C = B + N * scan_block;
    for (std::int64_t t = begin; t < end; ++t) {
      load_matrix<R>(in.A, groups.tile(t), kept.array(t, 0));
      if (args.state_in.present() && in.segments.continues_from_left())
        load_matrix<R>(args.state_in, groups.tile(t), kept.array(t, 1));
      kept.single(t, 0) = load_channels<R>(in.delta_bias, groups.tile(t));
      kept.single(t, 1) = load_channels<R>(in.D, groups.tile(t));
    }
    for (std::int64_t b = 0; b * scan_block < tokens; ++b) {
      const TokenBlock block(in.segments, 0, tokens, b, ScanDirection::left_to_right);
      load_transposed<T>(in.B, block, B);
      load_transposed<T>(in.C, block, C);
      for (std::int64_t t = begin; t < end; ++t) {
        const Tile tile = groups.tile(t);
        if (args.states.present()) store_saved_states(kept.array(t, 1), N, tile, args.states.template row<R>(b));
        forward_tile<T>(args, block, tile, kept.array(t, 0), kept.single(t, 0), kept.single(t, 1), B, C,
                        kept.array(t, 1));
      }
    }
    if (args.state_out.present() && tokens > 0)
      for (std::int64_t t = begin; t < end; ++t) store_matrix<R>(kept.array(t, 1), groups.tile(t), args.state_out);
  }
}

}  // namespace

void selective_scan_forward(const Stream& stream, const SelectiveScanForward& args) {
  const SelectiveScanInputs& in = args.in;
  const std::int64_t T = in.segments.tokens, D = in.A.rows(), N = in.A.columns();
  expect_inputs(in);
  const DType dtype = in.delta.dtype, accumulator = accumulator_of(dtype);
  expect("y", args.y, dtype, {T, D});
  expect_if_present("state_in", args.state_in, accumulator, {D, N});
  expect_if_present("states", args.states, accumulator, {ceil_div(T, scan_block), D, N});
  expect_if_present("state_out", args.state_out, accumulator, {D, N});
  dispatch(dtype, [&]<class Type> { forward<Type>(stream, args); });
}

}  // namespace causeway::cpu
