#include "kernels/core/integer.hpp"
#include "kernels/cpu/selective_scan/selective_scan_tile.hpp"
#include "kernels/selective_scan.hpp"

namespace causeway::cpu {
namespace {

/// A tile's A, state or adjoint, and delta_bias; its ΣΔ, and a group's B or C of a block. ΣΔ is added up in float64:
/// over a long run a float32 sum would lose the digits that exp(A ΣΔ) needs.
template <class R>
struct SummaryMemory {
  SummaryMemory(const Stream& stream, const TileGroups<R>& groups, const SelectiveScanInputs& in)
      : kept(stream, groups, in.A.columns(), 2, 1),
        steps(Tensor::zeros(stream, DType::f64, {groups.tiles, lanes<R>})),
        rows(stream, dtype_of<R>, {groups.count, in.A.columns(), scan_block}) {
    for (std::int64_t t = 0; t < groups.tiles; ++t) {
      load_matrix<R>(in.A, groups.tile(t), kept.array(t, 0));
      kept.single(t, 0) = load_channels<R>(in.delta_bias, groups.tile(t));
    }
  }

  void add_steps(std::int64_t tile, const Panel<R>& delta, std::int64_t tokens) const {
    double* const sum = steps.view().template row<double>(tile);
    for (std::int64_t i = 0; i < tokens; ++i)
      for (std::int64_t d = 0; d < lanes<R>; ++d) sum[d] += static_cast<double>(delta.at[i][d]);
  }
  void store(const TileGroups<R>& groups, TensorView state, TensorView sum_delta) const {
    for (std::int64_t t = 0; t < groups.tiles; ++t) {
      const Tile tile = groups.tile(t);
      store_matrix<R>(kept.array(t, 1), tile, state);
      for (std::int64_t d = 0; d < tile.width; ++d)
        sum_delta.row<R>(tile.first + d)[0] = static_cast<R>(steps.view().template row<const double>(t)[d]);
    }
  }

  TileScratch<R> kept;
  Tensor steps, rows;
};

/// Calls body(group's B or C, block, tile's index) for each block of [begin, end), rightwards or leftwards, and each
/// tile.
template <class T, class R, class Body>
void for_each_block(const SelectiveScanInputs& in, TensorView states, std::int64_t begin, std::int64_t end,
                    bool leftwards, const TileGroups<R>& groups, const SummaryMemory<R>& memory, const Body& body) {
  const std::int64_t blocks = ceil_div(end - begin, scan_block);
#pragma omp parallel for schedule(static) if ((end - begin) * in.A.size() > worth_threads)
  for (std::int64_t group = 0; group < groups.count; ++group)
    for (std::int64_t b = 0; b < blocks; ++b) {
      const TokenBlock block(in.segments, begin, end, leftwards ? blocks - 1 - b : b, leftwards);
      R* const row = memory.rows.view().template row<R>(group);
      load_transposed<T>(states, block, row);
      for (std::int64_t t = groups.first_tile(group); t < groups.first_tile(group + 1); ++t) body(row, block, t);
    }
}

template <class T>
void summary(const Stream& stream, const SelectiveScanSummary& args) {
  using R = Accumulator<T>;
  const SelectiveScanInputs& in = args.in;
  const std::int64_t end = in.segments.tokens;
  const std::int64_t begin =
      in.segments.count == 0 ? end : std::max<std::int64_t>(0, in.segments.cu_seqlens[in.segments.count - 1]);
  const TileGroups<R> groups(in.A.rows());
  const SummaryMemory<R> memory(stream, groups, in);
  for_each_block<T>(in, in.B, begin, end, false, groups, memory,
                    [&](const R* B, const TokenBlock& block, std::int64_t t) {
                      Panel<R> x, delta, decay;
                      load<T>(in.u, block, groups.tile(t), x);
                      load<T>(in.delta, block, groups.tile(t), delta);
                      step_sizes(memory.kept.single(t, 0), in.delta_softplus, block.count, delta);
                      memory.add_steps(t, delta, block.count);
                      for (std::int64_t i = 0; i < block.count; ++i) x.at[i] *= delta.at[i];
                      for (std::int64_t n = 0; n < in.A.columns(); ++n) {
                        decays(delta, memory.kept.array(t, 0)[n], block.count, decay);
                        Vector<R> h = memory.kept.array(t, 1)[n];
                        for (std::int64_t i = 0; i < block.count; ++i)
                          h = decay.at[i] * h + x.at[i] * B[n * scan_block + i];
                        memory.kept.array(t, 1)[n] = h;
                      }
                    });
  memory.store(groups, args.state, args.sum_delta);
}

template <class T>
void adjoint_summary(const Stream& stream, const SelectiveScanAdjointSummary& args) {
  using R = Accumulator<T>;
  const SelectiveScanInputs& in = args.in;
  const std::int64_t end = in.segments.count == 0 ? 0 : std::min(in.segments.tokens, in.segments.cu_seqlens[1]);
  const TileGroups<R> groups(in.A.rows());
  const SummaryMemory<R> memory(stream, groups, in);
  for_each_block<T>(in, in.C, 0, end, true, groups, memory, [&](const R* C, const TokenBlock& block, std::int64_t t) {
    Panel<R> ds, z, delta, decay;
    load_gated<T>(args.d_y, in.z, block, groups.tile(t), z, ds);
    load<T>(in.delta, block, groups.tile(t), delta);
    step_sizes(memory.kept.single(t, 0), in.delta_softplus, block.count, delta);
    memory.add_steps(t, delta, block.count);
    for (std::int64_t n = 0; n < in.A.columns(); ++n) {
      decays(delta, memory.kept.array(t, 0)[n], block.count, decay);
      Vector<R> g = memory.kept.array(t, 1)[n];  // exp(Δ_{t+1} A) g_{t+1}
      for (std::int64_t i = block.count - 1; i >= 0; --i) g = decay.at[i] * (g + ds.at[i] * C[n * scan_block + i]);
      memory.kept.array(t, 1)[n] = g;
    }
  });
  memory.store(groups, args.adjoint, args.sum_delta);
}

template <class R>
void fold(const SelectiveScanFold& args) {
  const std::int64_t D = args.A.rows(), N = args.A.columns();
#pragma omp parallel for schedule(static) if (D * N > worth_threads)
  for (std::int64_t d = 0; d < D; ++d) {
    const R *A = args.A.row<const R>(d), *state = args.summary_state.row<const R>(d),
            sum = args.sum_delta.row<const R>(d)[0];
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
  dispatch(args.in.delta.dtype, [&]<class Type> { summary<Type>(stream, args); });
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
  expect("summary_state", args.summary_state, args.A.dtype, {D, N});
  expect("carry", args.carry, args.A.dtype, {D, N});
  expect("sum_delta", args.sum_delta, args.A.dtype, {D});
  dispatch(args.A.dtype, [&]<class Type> { fold<Accumulator<Type>>(args); });
}

}  // namespace causeway::cpu
