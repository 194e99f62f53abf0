#include "kernels/selective_scan.hpp"

#include "kernels/cpu/selective_scan_tile.hpp"

namespace causeway::cpu {
namespace {

/// h_t = exp(Δ_t A) ∘ h_{t-1} + Δ_t u_t B_t and s_t += C_t h_t over a block, one state n: `h` enters and leaves.
template <class R>
void scan_block_forward(const TokenBlock& block, const Panel<R>& decay, const Panel<R>& x, const R* B, const R* C, std::int64_t stride,
                        Vector<R>& state, Panel<R>& s) {
  Vector<R> h = state;
  for (std::int64_t i = 0; i < block.count; ++i) {
    if (block.starts_at(i)) h = Vector<R>{};
    h = decay.at[i] * h + x.at[i] * B[i * stride];
    s.at[i] += h * C[i * stride];
  }
  state = h;
}

template <class T>
void forward(const Stream& stream, const SelectiveScanForward& args) {
  using R = Accumulator<T>;
  const SelectiveScanInputs& in = args.in;
  const std::int64_t tokens = in.segments.tokens, N = in.A.columns();
  const TileGroups<R> groups(in.A.rows());
  // A tile's A and h; a group's B and C.
  const Scratch<R> states(stream, 2 * groups.tiles * N);
  const Tensor rows(stream, dtype_of<R>, {groups.count, 2, scan_block, N});

#pragma omp parallel for schedule(static) if (tokens * groups.channels * N > worth_threads)
  for (std::int64_t group = 0; group < groups.count; ++group) {
    const std::int64_t begin = groups.first_tile(group), end = groups.first_tile(group + 1);
    R* const B = rows.view().template row<R>(group);
    R* const C = B + scan_block * N;
    for (std::int64_t t = begin; t < end; ++t) {
      const Tile tile = groups.tile(t);
      Vector<R>* A = states.data() + 2 * t * N;
      load_states(in.A.template row<const R>(tile.first), in.A.row_stride, N, tile, A);
      if (args.state_in.present() && in.segments.continues_from_left())
        load_states(args.state_in.template row<const R>(tile.first), args.state_in.row_stride, N, tile, A + N);
    }
    for (std::int64_t first = 0; first < tokens; first += scan_block) {
      const TokenBlock block(in.segments, first, tokens);
      load_rows<T>(in.B, block, B);
      load_rows<T>(in.C, block, C);
      for (std::int64_t t = begin; t < end; ++t) {
        const Tile tile = groups.tile(t);
        const Vector<R>* A = states.data() + 2 * t * N;
        Vector<R>* h = states.data() + (2 * t + 1) * N;
        if (args.states.present())
          store_states(h, N, tile, args.states.template row<R>(first / scan_block) + tile.first * N, N);
        Panel<R> u, delta, decay, s;
        load<T>(in.u, block, tile, u);
        load<T>(in.delta, block, tile, delta);
        step_sizes(load_channels<R>(in.delta_bias, tile), in.delta_softplus, block.count, delta);
        const Vector<R> D = load_channels<R>(in.D, tile);
        for (std::int64_t i = 0; i < block.count; ++i) {
          s.at[i] = D * u.at[i];
          u.at[i] *= delta.at[i];
        }
        for (std::int64_t n = 0; n < N; ++n) {
          decays(delta, A[n], block.count, decay);
          scan_block_forward(block, decay, u, B + n, C + n, N, h[n], s);
        }
        if (in.z.present()) {
          Panel<R>& z = delta;
          load<T>(in.z, block, tile, z);
          gates(block.count, z);
          for (std::int64_t i = 0; i < block.count; ++i) s.at[i] *= z.at[i];
        }
        store<T>(s, block, tile, args.y);
      }
    }
  }
}

}  // namespace

void selective_scan_forward(const Stream& stream, const SelectiveScanForward& args) {
  const SelectiveScanInputs& in = args.in;
  const std::int64_t T = in.segments.tokens, D = in.A.rows(), N = in.A.columns();
  expect_inputs(in);
  const DType accumulator = accumulator_of(in.u.dtype);
  expect("y", args.y, in.u.dtype, {T, D});
  expect_if_present("state_in", args.state_in, accumulator, {D, N});
  expect_if_present("states", args.states, accumulator, {(T + scan_block - 1) / scan_block, D, N});
  dispatch(in.u.dtype, [&]<class Type> { forward<Type>(stream, args); });
}

}  // namespace causeway::cpu
