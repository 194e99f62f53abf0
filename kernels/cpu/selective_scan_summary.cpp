#include "kernels/cpu/selective_scan_tile.hpp"
#include "kernels/selective_scan.hpp"

namespace causeway::cpu {
namespace {

/// Σ Δ of a block, added in float64: over a long shard a float32 sum would lose the digits that exp(A ΣΔ) needs.
template <class R>
void add_step_sizes(const Panel<R>& delta, std::int64_t tokens, double* sum) {
  for (std::int64_t i = 0; i < tokens; ++i)
    for (std::int64_t d = 0; d < lanes<R>; ++d) sum[d] += static_cast<double>(delta.flat()[i * lanes<R> + d]);
}

template <class R>
void store_sum(const double* sum, const Tile& tile, TensorView to) {
  for (std::int64_t d = 0; d < tile.width; ++d) to.as<R>()[static_cast<std::size_t>(tile.first + d)] = static_cast<R>(sum[d]);
}

/// A tile's A and state or adjoint, and a group's B or C of a block.
template <class R>
struct SummaryScratch {
  SummaryScratch(const Stream& stream, const TileGroups<R>& groups, std::int64_t states)
      : tiles(stream, 2 * groups.tiles * states), rows(stream, dtype_of<R>, {groups.count, scan_block, states}) {}
  Scratch<R> tiles;
  Tensor rows;
};

template <class T>
void summary(const Stream& stream, const SelectiveScanSummary& args) {
  using R = Accumulator<T>;
  const SelectiveScanInputs& in = args.in;
  const std::int64_t tokens = in.segments.tokens, N = in.A.columns();
  const std::int64_t begin = in.segments.count == 0 ? 0 : std::max<std::int64_t>(0, in.segments.cu_seqlens[in.segments.count - 1]);
  const TileGroups<R> groups(in.A.rows());
  const SummaryScratch<R> scratch(stream, groups, N);

#pragma omp parallel for schedule(static) if (tokens * groups.channels * N > worth_threads)
  for (std::int64_t group = 0; group < groups.count; ++group) {
    R* const B = scratch.rows.view().template row<R>(group);
    for (std::int64_t index = groups.first_tile(group); index < groups.first_tile(group + 1); ++index) {
      const Tile tile = groups.tile(index);
      Vector<R>* const A = scratch.tiles.data() + 2 * index * N;
      Vector<R>* const h = A + N;
      load_states(in.A.template row<const R>(tile.first), in.A.row_stride, N, tile, A);
      double sum[lanes<R>] = {};
      for (std::int64_t first = begin; first < tokens; first += scan_block) {
        const TokenBlock block(in.segments, first, tokens);
        Panel<R> x, delta, decay;
        load_rows<T>(in.B, block, B);
        load<T>(in.u, block, tile, x);
        load<T>(in.delta, block, tile, delta);
        step_sizes(load_channels<R>(in.delta_bias, tile), in.delta_softplus, block.count, delta);
        add_step_sizes(delta, block.count, sum);
        for (std::int64_t i = 0; i < block.count; ++i) x.at[i] *= delta.at[i];
        for (std::int64_t n = 0; n < N; ++n) {
          decays(delta, A[n], block.count, decay);
          for (std::int64_t i = 0; i < block.count; ++i) h[n] = decay.at[i] * h[n] + x.at[i] * B[i * N + n];
        }
      }
      store_states(h, N, tile, args.state.template row<R>(tile.first), args.state.row_stride);
      store_sum<R>(sum, tile, args.sum_delta);
    }
  }
}

template <class T>
void adjoint_summary(const Stream& stream, const SelectiveScanAdjointSummary& args) {
  using R = Accumulator<T>;
  const SelectiveScanInputs& in = args.in;
  const std::int64_t tokens = in.segments.tokens, N = in.A.columns();
  const std::int64_t end = in.segments.count == 0 ? 0 : std::min(tokens, in.segments.cu_seqlens[1]);
  const TileGroups<R> groups(in.A.rows());
  const SummaryScratch<R> scratch(stream, groups, N);

#pragma omp parallel for schedule(static) if (tokens * groups.channels * N > worth_threads)
  for (std::int64_t group = 0; group < groups.count; ++group) {
    R* const C = scratch.rows.view().template row<R>(group);
    for (std::int64_t index = groups.first_tile(group); index < groups.first_tile(group + 1); ++index) {
      const Tile tile = groups.tile(index);
      Vector<R>* const A = scratch.tiles.data() + 2 * index * N;
      Vector<R>* const g = A + N;  // exp(Δ_{t+1} A) g_{t+1}
      load_states(in.A.template row<const R>(tile.first), in.A.row_stride, N, tile, A);
      double sum[lanes<R>] = {};
      for (std::int64_t first = (end - 1) / scan_block * scan_block; first >= 0 && end > 0; first -= scan_block) {
        const TokenBlock block(in.segments, first, end);
        Panel<R> ds, gate, delta, decay;
        load_rows<T>(in.C, block, C);
        load<T>(args.d_y, block, tile, ds);
        load<T>(in.delta, block, tile, delta);
        step_sizes(load_channels<R>(in.delta_bias, tile), in.delta_softplus, block.count, delta);
        add_step_sizes(delta, block.count, sum);
        if (in.z.present()) {
          load<T>(in.z, block, tile, gate);
          gates(block.count, gate);
          for (std::int64_t i = 0; i < block.count; ++i) ds.at[i] *= gate.at[i];
        }
        for (std::int64_t n = 0; n < N; ++n) {
          decays(delta, A[n], block.count, decay);
          for (std::int64_t i = block.count - 1; i >= 0; --i) g[n] = decay.at[i] * (g[n] + ds.at[i] * C[i * N + n]);
        }
      }
      store_states(g, N, tile, args.adjoint.template row<R>(tile.first), args.adjoint.row_stride);
      store_sum<R>(sum, tile, args.sum_delta);
    }
  }
}

template <class R>
void fold(const SelectiveScanFold& args) {
  const std::int64_t D = args.A.rows(), N = args.A.columns();
#pragma omp parallel for schedule(static) if (D * N > worth_threads)
  for (std::int64_t d = 0; d < D; ++d) {
    const R *A = args.A.row<const R>(d), *state = args.summary_state.row<const R>(d), sum = args.sum_delta.row<const R>(d)[0];
    R* carry = args.carry.row<R>(d);
    for (std::int64_t n = 0; n < N; ++n) carry[n] = state[n] + exponential(A[n] * sum) * carry[n];
  }
}

}  // namespace

void selective_scan_summary(const Stream& stream, const SelectiveScanSummary& args) {
  const std::int64_t D = args.in.A.rows(), N = args.in.A.columns();
  expect_inputs(args.in);
  expect("state", args.state, args.in.A.dtype, {D, N});
  expect("sum_delta", args.sum_delta, args.in.A.dtype, {D});
  dispatch(args.in.u.dtype, [&]<class Type> { summary<Type>(stream, args); });
}

void selective_scan_adjoint_summary(const Stream& stream, const SelectiveScanAdjointSummary& args) {
  const std::int64_t D = args.in.A.rows(), N = args.in.A.columns();
  expect_inputs(args.in);
  expect("d_y", args.d_y, args.in.delta.dtype, {args.in.segments.tokens, D});
  expect("adjoint", args.adjoint, args.in.A.dtype, {D, N});
  expect("sum_delta", args.sum_delta, args.in.A.dtype, {D});
  dispatch(args.in.delta.dtype, [&]<class Type> { adjoint_summary<Type>(stream, args); });
}

void selective_scan_fold(const Stream&, const SelectiveScanFold& args) {
  const std::int64_t D = args.A.rows(), N = args.A.columns();
  for (const auto& [name, view] : {std::pair{"summary_state", args.summary_state}, std::pair{"carry", args.carry}})
    expect(name, view, args.A.dtype, {D, N});
  expect("sum_delta", args.sum_delta, args.A.dtype, {D});
  dispatch(args.A.dtype, [&]<class Type> { fold<Accumulator<Type>>(args); });
}

}  // namespace causeway::cpu
