#include "kernels/cpu/openmp.hpp"
#include "kernels/cpu/run_summary.hpp"
#include "kernels/cpu/selective_scan/selective_scan_tile.hpp"
#include "kernels/selective_scan.hpp"

namespace causeway::cpu {
namespace {

/// A block, and its B or C as [N][scan_block].
template <class R>
struct SharedBlock {
  TokenBlock block;
  const R* rows;
};

/// Common to both summaries: for each tile A, N vectors of state or adjoint, delta_bias and ΣΔ; for each group B or C
/// of a block. ΣΔ is summed in float64: over a long run a float32 sum would lose the digits that exp(A ΣΔ) needs.
template <class T>
struct ScanSummary {
  using R = Accumulator<T>;

  /// `B_or_C` is the matrix whose rows the summary needs.
  ScanSummary(const Stream& stream, const SelectiveScanInputs& in_, TensorView B_or_C_, ScanDirection direction_)
      : in(in_),
        B_or_C(B_or_C_),
        direction(direction_),
        rows(summary_rows(in.segments, direction)),
        groups(in.A.rows()),
        kept(stream, groups, in.A.columns(), 2, 1),
        steps(Tensor::zeros(stream, DType::f64, {groups.tiles, lanes<R>})),
        transposed(stream, dtype_of<R>, {groups.count, in.A.columns(), scan_block}) {}

  void prepare(std::int64_t tile) const {
    load_matrix<R>(in.A, groups.tile(tile), kept.array(tile, 0));
    kept.single(tile, 0) = load_channels<R>(in.delta_bias, groups.tile(tile));
  }
  SharedBlock<R> begin_block(std::int64_t group, std::int64_t b) const {
    const TokenBlock block(in.segments, rows.begin, rows.end, b, direction);
    R* const to = transposed.view().template row<R>(group);
    load_transposed<T>(B_or_C, block, to);
    return {block, to};
  }
  /// Δ of a block, which is added to ΣΔ too.
  void load_steps(const TokenBlock& block, std::int64_t tile, Panel<R>& delta) const {
    load<T>(in.delta, block, groups.tile(tile), delta);
    step_sizes(kept.single(tile, 0), in.delta_softplus, block.count, delta);
    double* const sum = steps.view().template row<double>(tile);
    for (std::int64_t i = 0; i < block.count; ++i)
      for (std::int64_t d = 0; d < lanes<R>; ++d) sum[d] += static_cast<double>(delta.at[i][d]);
  }
  void store(std::int64_t index, TensorView state, TensorView sum_delta) const {
    const Tile tile = groups.tile(index);
    store_matrix<R>(kept.array(index, 1), tile, state);
    for (std::int64_t d = 0; d < tile.width; ++d)
      sum_delta.row<R>(tile.first + d)[0] = static_cast<R>(steps.view().template row<const double>(index)[d]);
  }

  SelectiveScanInputs in;
  TensorView B_or_C;
  ScanDirection direction;
  RunRows rows;
  TileGroups<R> groups;
  TileScratch<R> kept;  // arrays: A, state or adjoint; single: delta_bias
  Tensor steps, transposed;
};

template <class T>
struct StateSummary : ScanSummary<T> {
  using R = Accumulator<T>;

  StateSummary(const Stream& stream, const SelectiveScanSummary& args_)
      : ScanSummary<T>(stream, args_.in, args_.in.B, ScanDirection::left_to_right), args(args_) {}

  void add_block(const SharedBlock<R>& shared, std::int64_t tile) const {
    const auto& [block, B] = shared;
    Panel<R> x, delta, decay;
    load<T>(args.in.u, block, this->groups.tile(tile), x);
    this->load_steps(block, tile, delta);
    for (std::int64_t i = 0; i < block.count; ++i) x.at[i] *= delta.at[i];
    for (std::int64_t n = 0; n < args.in.A.columns(); ++n) {
      decays(delta, this->kept.array(tile, 0)[n], block.count, decay);
      Vector<R> h = this->kept.array(tile, 1)[n];
      for (std::int64_t i = 0; i < block.count; ++i) h = decay.at[i] * h + x.at[i] * B[n * scan_block + i];
      this->kept.array(tile, 1)[n] = h;
    }
  }
  void finish(std::int64_t tile) const { this->store(tile, args.state, args.sum_delta); }

  const SelectiveScanSummary& args;
};

template <class T>
struct AdjointSummary : ScanSummary<T> {
  using R = Accumulator<T>;

  AdjointSummary(const Stream& stream, const SelectiveScanAdjointSummary& args_)
      : ScanSummary<T>(stream, args_.in, args_.in.C, ScanDirection::right_to_left), args(args_) {}

  void add_block(const SharedBlock<R>& shared, std::int64_t tile) const {
    const auto& [block, C] = shared;
    Panel<R> ds, z, delta, decay;
    load_gated<T>(args.d_y, args.in.z, block, this->groups.tile(tile), z, ds);
    this->load_steps(block, tile, delta);
    for (std::int64_t n = 0; n < args.in.A.columns(); ++n) {
      decays(delta, this->kept.array(tile, 0)[n], block.count, decay);
      Vector<R> g = this->kept.array(tile, 1)[n];  // exp(Δ_{t+1} A) g_{t+1}
      for (std::int64_t i = block.count - 1; i >= 0; --i) g = decay.at[i] * (g + ds.at[i] * C[n * scan_block + i]);
      this->kept.array(tile, 1)[n] = g;
    }
  }
  void finish(std::int64_t tile) const { this->store(tile, args.adjoint, args.sum_delta); }

  const SelectiveScanAdjointSummary& args;
};

template <class Summary>
void compute(const Summary& summary) {
  const std::int64_t work = (summary.rows.end - summary.rows.begin) * summary.in.A.size();
  summarize(summary.groups, summary.rows, scan_block, summary.direction, work > min_parallel_work, summary);
}

template <class R>
void fold(const SelectiveScanFold& args) {
  fold_summary<R>(args.summary_state, args.carry, args.carry.size() > min_parallel_work, [&](std::int64_t d) {
    return [A = args.A.row<const R>(d), sum = args.sum_delta.row<const R>(d)[0]](std::int64_t n) {
      return exponential(A[n] * sum);
    };
  });
}

}  // namespace

void selective_scan_summary(const Stream& stream, const SelectiveScanSummary& args) {
  const std::int64_t D = args.in.A.rows(), N = args.in.A.columns();
  expect_inputs(args.in);
  expect("state", args.state, args.in.A.dtype, {D, N});
  expect("sum_delta", args.sum_delta, args.in.A.dtype, {D});
  dispatch(args.in.delta.dtype, [&]<class Type> { compute(StateSummary<Type>(stream, args)); });
}

void selective_scan_adjoint_summary(const Stream& stream, const SelectiveScanAdjointSummary& args) {
  const std::int64_t D = args.in.A.rows(), N = args.in.A.columns();
  expect_inputs(args.in);
  expect("d_y", args.d_y, args.in.delta.dtype, {args.in.segments.tokens, D});
  expect("adjoint", args.adjoint, args.in.A.dtype, {D, N});
  expect("sum_delta", args.sum_delta, args.in.A.dtype, {D});
  dispatch(args.in.delta.dtype, [&]<class Type> { compute(AdjointSummary<Type>(stream, args)); });
}

void selective_scan_fold(const Stream&, const SelectiveScanFold& args) {
  const std::int64_t D = args.A.rows(), N = args.A.columns();
  expect("summary_state", args.summary_state, args.A.dtype, {D, N});
  expect("carry", args.carry, args.A.dtype, {D, N});
  expect("sum_delta", args.sum_delta, args.A.dtype, {D});
  dispatch(args.A.dtype, [&]<class Type> { fold<Accumulator<Type>>(args); });
}

}  // namespace causeway::cpu
