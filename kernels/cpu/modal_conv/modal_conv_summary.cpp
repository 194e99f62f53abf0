#include "kernels/cpu/modal_conv/modal_rate.hpp"
#include "kernels/cpu/modal_conv/modal_tile.hpp"
#include "kernels/cpu/run_summary.hpp"
#include "kernels/expect_modal_conv.hpp"
#include "kernels/modal_conv.hpp"

namespace causeway::cpu {
namespace {

/// Some rows of the run: a panel, or less at the end.
struct PanelRows {
  std::int64_t first, count;
};

/// Common to both summaries: for each tile the tables of its modes and M vectors of state or adjoint.
template <class T>
struct ModalSummary {
  using R = Accumulator<T>;

  ModalSummary(const Stream& stream, const GatedConvInputs& in_, std::int64_t modes, ScanDirection direction_)
      : in(in_),
        M(modes),
        direction(direction_),
        rows(summary_rows(in.segments, direction)),
        groups(in.v.columns()),
        scratch(stream, groups.tiles * tile_size()) {}

  std::int64_t tile_size() const { return ModeTables<R>::size(M) + M; }
  ModeTables<R> tables(std::int64_t tile) const { return {scratch.data() + tile * tile_size(), M}; }
  Vector<R>* sum(std::int64_t tile) const { return scratch.data() + tile * tile_size() + ModeTables<R>::size(M); }
  PanelRows begin_block(std::int64_t, std::int64_t b) const {
    const std::int64_t first = rows.begin + b * modal_panel;
    return {first, std::min(modal_panel, rows.end - first)};
  }

  GatedConvInputs in;
  std::int64_t M;
  ScanDirection direction;
  RunRows rows;
  TileGroups<R> groups;
  VectorScratch<R> scratch;
};

template <class T>
struct StateSummary : ModalSummary<T> {
  using R = Accumulator<T>;

  StateSummary(const Stream& stream, const ModalConvSummary& args_)
      : ModalSummary<T>(stream, args_.in, args_.log_rates.columns(), ScanDirection::left_to_right), args(args_) {}

  void prepare(std::int64_t index) const {
    this->tables(index).template prepare<T>({}, args.log_rates, {}, this->groups.tile(index));
  }
  void add_block(const PanelRows& panel, std::int64_t index) const {
    const Tile tile = this->groups.tile(index);
    const ModeTables<R> tables = this->tables(index);
    Vector<R> x[modal_panel];
    load_product<T>(args.in, panel.first, panel.count, tile, x);
    for (std::int64_t i = 0; i < panel.count; i += modal_piece)
      advance_state(tables, x + i, std::min(modal_piece, panel.count - i), panel.first + i == this->rows.begin,
                    args.log_rates, tile, this->sum(index));
  }
  void finish(std::int64_t index) const { store_matrix<R>(this->sum(index), this->groups.tile(index), args.state); }

  const ModalConvSummary& args;
};

template <class T>
struct AdjointSummary : ModalSummary<T> {
  using R = Accumulator<T>;

  AdjointSummary(const Stream& stream, const ModalConvAdjointSummary& args_)
      : ModalSummary<T>(stream, args_.in, args_.log_rates.columns(), ScanDirection::right_to_left), args(args_) {}

  void prepare(std::int64_t index) const {
    this->tables(index).template prepare<T>(args.residues, args.log_rates, {}, this->groups.tile(index));
  }
  void add_block(const PanelRows& panel, std::int64_t index) const {
    const Tile tile = this->groups.tile(index);
    const ModeTables<R> tables = this->tables(index);
    Vector<R>* const adjoint = this->sum(index);
    Vector<R> dc[modal_panel];
    load_output_gradient<T>(args.in, args.d_y, panel.first, panel.count, tile, dc);
    for (std::int64_t i = (panel.count - 1) / modal_piece * modal_piece; i >= 0; i -= modal_piece) {
      const std::int64_t n = std::min(modal_piece, panel.count - i);
      for (std::int64_t m = 0; m < this->M; ++m) {
        Vector<R> from_piece{};
        for (std::int64_t j = 0; j < n; ++j) from_piece += tables.powers(m)[j + 1] * dc[i + j];
        // The first piece of the walk, the only one that may be short, has no adjoint after it.
        if (panel.first + i + n == this->rows.end)
          adjoint[m] = tables.residue(m) * from_piece;
        else
          adjoint[m] += tables.residue(m) * from_piece - tables.loss(m, n, args.log_rates, tile) * adjoint[m];
      }
    }
  }
  void finish(std::int64_t index) const { store_matrix<R>(this->sum(index), this->groups.tile(index), args.adjoint); }

  const ModalConvAdjointSummary& args;
};

template <class Summary>
void compute(const Summary& summary) {
  summarize(summary.groups, summary.rows, modal_panel, summary.direction, true, summary);
}

/// λ^tokens. Not inlined: the compiler would vectorize the loop around it, and libmvec's exp differs from the scalar
/// one in its last bit, so that the result would depend on the number of modes.
[[gnu::noinline]] double decay_over(double log_rate, double tokens) {
  return exponential(-modal_rate(log_rate) * tokens);
}

template <class R>
void fold(const ModalConvFold& args) {
  fold_summary<R>(args.summary_state, args.carry, true, [&](std::int64_t d) {
    return [log_rates = args.log_rates.row<const R>(d), tokens = static_cast<double>(args.tokens)](std::int64_t m) {
      return static_cast<R>(decay_over(static_cast<double>(log_rates[m]), tokens));
    };
  });
}

}  // namespace

void modal_conv_summary(const Stream& stream, const ModalConvSummary& args) {
  expect_modal_conv(args);
  dispatch(args.in.v.dtype, [&]<class Type> { compute(StateSummary<Type>(stream, args)); });
}

void modal_conv_adjoint_summary(const Stream& stream, const ModalConvAdjointSummary& args) {
  expect_modal_conv(args);
  dispatch(args.in.v.dtype, [&]<class Type> { compute(AdjointSummary<Type>(stream, args)); });
}

void modal_conv_fold(const Stream&, const ModalConvFold& args) {
  expect_modal_conv(args);
  dispatch(args.log_rates.dtype, [&]<class Type> { fold<Accumulator<Type>>(args); });
}

}  // namespace causeway::cpu
