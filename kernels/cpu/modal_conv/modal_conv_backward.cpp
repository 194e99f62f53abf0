#include "kernels/composed/modal_states.hpp"
#include "kernels/core/integer.hpp"
#include "kernels/cpu/modal_conv/modal_rate.hpp"
#include "kernels/cpu/modal_conv/modal_tile.hpp"
#include "kernels/expect_modal_conv.hpp"
#include "kernels/modal_conv.hpp"

namespace causeway::cpu {
namespace {

constexpr std::int64_t pieces_a_block = modal_conv_block / modal_piece;

/// A piece [first, last) of a document [start, end), in run rows.
struct DocumentPiece {
  std::int64_t first, last, start, end;
  std::int64_t count() const { return last - first; }
  bool starts_document() const { return first == start; }  ///< no state enters
  bool ends_document() const { return last == end; }       ///< no adjoint enters
};

/// The values that a tile keeps from panel to panel. The members are in this order in its scratch.
template <class R>
struct TileState {
  TileState(Vector<R>* memory, std::int64_t M)
      : modes(memory, M),
        adjoint(memory + ModeTables<R>::size(M)),
        states(adjoint + M),
        weighted(states + pieces_a_block * M),
        d_residues(weighted + M),
        d_exponents(d_residues + M) {}
  static std::int64_t size(std::int64_t M) { return ModeTables<R>::size(M) + (pieces_a_block + 4) * M; }

  ModeTables<R> modes;
  Vector<R>* adjoint;      ///< [M]: λ G just after the current piece
  Vector<R>* states;       ///< [pieces_a_block, M]: s just before each multiple of modal_piece tokens of a block
  Vector<R>* weighted;     ///< [M]: residues ⊙ s, a temporary
  Vector<R>* d_residues;   ///< [M]: Σ dc s over this panel, from states that enter its pieces
  Vector<R>* d_exponents;  ///< [M]: Σ λ G s_{t-1} over this panel, likewise
};

/// The size of a tile's sums over all panels, in float64: [M] d_residues, [M] d_exponents, [modal_piece] Σ_t dc_t
/// x_{t-lag} within pieces.
inline std::int64_t sums_size(std::int64_t M) { return 2 * M + modal_piece; }

/// Adds the lanes of a vector to sums in float64, and sets the vector to zero.
template <class R>
void add_to(double* to, Vector<R>& from) {
  for (std::int64_t d = 0; d < lanes<R>; ++d) to[d] += static_cast<double>(from[d]);
  from = Vector<R>{};
}

/// Moves the adjoint from the end of a piece to its start, and adds the piece's terms of the parameter gradients that
/// depend on the state s before the piece (null: no such state) or on the adjoint after it.
template <class R>
void cross_piece(TileState<R>& tile_state, const DocumentPiece& piece, const Vector<R>* x, const Vector<R>* dc,
                 const Vector<R>* s, TensorView log_rates, const Tile& tile) {
  const ModeTables<R>& modes = tile_state.modes;
  const std::int64_t n = piece.count();
  Vector<R> dc_weighted[modal_piece], x_weighted[modal_piece];  // multiplied by the exponent of λ in their term
  for (std::int64_t i = 0; i < n; ++i) {
    dc_weighted[i] = dc[i] * static_cast<R>(i + 1);
    x_weighted[i] = x[i] * static_cast<R>(n - 1 - i);
  }
  for (std::int64_t m = 0; m < modes.count; ++m) {
    const Vector<R>* const power = modes.powers(m);
    if (!piece.ends_document()) {
      Vector<R> later{};  // Σ_j (n-1-j) λ^{n-1-j} x_j
      for (std::int64_t j = 0; j < n; ++j) later += power[n - 1 - j] * x_weighted[j];
      if (s != nullptr) later += power[n] * s[m] * static_cast<R>(n);
      tile_state.d_exponents[m] += tile_state.adjoint[m] * later;
    }
    if (s == nullptr) continue;
    Vector<R> through{}, counted{};  // Σ_i λ^{i+1} dc_i, Σ_i (i+1) λ^{i+1} dc_i
    for (std::int64_t i = 0; i < n; ++i) {
      through += power[i + 1] * dc[i];
      counted += power[i + 1] * dc_weighted[i];
    }
    tile_state.d_residues[m] += s[m] * through;
    tile_state.d_exponents[m] += modes.residue(m) * s[m] * counted;
    const Vector<R> own = modes.residue(m) * through;
    if (piece.ends_document())
      tile_state.adjoint[m] = own;
    else
      tile_state.adjoint[m] += own - modes.loss(m, n, log_rates, tile) * tile_state.adjoint[m];
  }
}

/// The rows of a panel of tokens, of one tile, on the thread's stack.
template <class R>
struct Panel {
  Panel(std::int64_t first, std::int64_t tokens) : begin(first), count(tokens) {}

  std::int64_t begin, count;                    ///< the panel's tokens, in run rows
  Vector<R> x[modal_panel], dc[modal_panel];    ///< inputs of the filter, and gradients of its outputs
  Vector<R> c[modal_panel], d_kv[modal_panel];  ///< outputs of the filter again, where q needs them; gradients of x
  Vector<R> products[modal_piece] = {};         ///< by lag: Σ_t dc_t x_{t-lag} within pieces

  std::int64_t end() const { return begin + count; }
};

/// Computes the states between the pieces of a block again, from the one that the forward pass saved at its start.
template <class R>
void restore_states(const ModalConvBackward& args, const Panel<R>& panel, std::int64_t begin, std::int64_t end,
                    const Tile& tile, TileState<R>& tile_state) {
  const std::int64_t M = tile_state.modes.count;
  load_saved_states(args.states.template row<const R>(begin / modal_conv_block), M, tile, tile_state.states);
  for (std::int64_t t = begin; t + modal_piece < end; t += modal_piece) {
    Vector<R>* const s = tile_state.states + ((t - begin) / modal_piece + 1) * M;
    std::copy(s - M, s, s);
    for_each_document(args.in.segments, t, t + modal_piece,
                      [&](std::int64_t first, std::int64_t last, std::int64_t start, std::int64_t document_end) {
                        if (last != document_end)
                          advance_state(tile_state.modes, panel.x + (first - panel.begin), last - first, first == start,
                                        args.log_rates, tile, s);
                      });
  }
}

/// Backward of one piece, after all later ones of the tile. `s`: the state before the piece; null: no such state.
template <class R>
void backward_piece(const ModalConvBackward& args, const DocumentPiece& piece, const Vector<R>* s, const Tile& tile,
                    TileState<R>& tile_state, Panel<R>& panel) {
  const ModeTables<R>& modes = tile_state.modes;
  const std::int64_t at = piece.first - panel.begin, n = piece.count();
  const Vector<R>*const x = panel.x + at, *const dc = panel.dc + at;
  if (args.in.q.present()) {
    multiply_toeplitz_rows<1>(modes.taps(), modal_piece, x, n, 0, panel.c + at);
    if (s != nullptr) {
      for (std::int64_t m = 0; m < modes.count; ++m) tile_state.weighted[m] = modes.residue(m) * s[m];
      add_from_state<true>(modes, tile_state.weighted, n, panel.c + at);
    }
  }
  multiply_toeplitz_rows<-1>(modes.taps(), modal_piece, dc, n, 0, panel.d_kv + at);
  if (!piece.ends_document()) add_from_state<false>(modes, tile_state.adjoint, n, panel.d_kv + at);
  for (std::int64_t lag = 0; lag < n; lag += 8) {
    Vector<R>(&sum)[8] = *reinterpret_cast<Vector<R>(*)[8]>(panel.products + lag);
    correlate<8>(dc, x, lag, 0, n, 0, sum);
  }
  cross_piece(tile_state, piece, x, dc, s, args.log_rates, tile);
}

/// Backward of the panel's block [begin, end) of tokens, piece after piece from the right.
template <class R>
void backward_block(const ModalConvBackward& args, std::int64_t begin, std::int64_t end, const Tile& tile,
                    TileState<R>& tile_state, Panel<R>& panel) {
  restore_states(args, panel, begin, end, tile, tile_state);
  for (std::int64_t t = begin + (end - begin - 1) / modal_piece * modal_piece; t >= begin; t -= modal_piece) {
    DocumentPiece pieces[modal_piece];
    std::int64_t found = 0;
    for_each_document(args.in.segments, t, std::min(t + modal_piece, end),
                      [&](std::int64_t first, std::int64_t last, std::int64_t start, std::int64_t document_end) {
                        pieces[found++] = {first, last, start, document_end};
                      });
    // Only a piece at a multiple of modal_piece can continue a document.
    const Vector<R>* const before = tile_state.states + (t - begin) / modal_piece * tile_state.modes.count;
    for (std::int64_t i = found - 1; i >= 0; --i)
      backward_piece(args, pieces[i], pieces[i].starts_document() ? nullptr : before, tile, tile_state, panel);
  }
}

/// Backward of a panel of one tile, after all later ones. Adds the panel's sums to the tile's, in float64.
template <class T, class R = Accumulator<T>>
void backward_panel(const ModalConvBackward& args, std::int64_t begin, std::int64_t count, const Tile& tile,
                    TileState<R>& tile_state, double* sums) {
  const GatedConvInputs& in = args.in;
  const GatedConvGradients& out = args.gradients;
  Panel<R> panel(begin, count);
  load_product<T>(in, begin, count, tile, panel.x);
  load_output_gradient<T>(in, out.d_y, begin, count, tile, panel.dc);
  for (std::int64_t block = (count - 1) / modal_conv_block * modal_conv_block; block >= 0; block -= modal_conv_block)
    backward_block(args, begin + block, std::min(begin + block + modal_conv_block, panel.end()), tile, tile_state,
                   panel);
  if (in.q.present()) store_gated<T>(panel.c, out.d_y, begin, count, tile, out.d_q);
  store_product_gradient<T>(panel.d_kv, in, out, begin, count, tile);
  const std::int64_t M = tile_state.modes.count;
  for (std::int64_t m = 0; m < M; ++m) {
    add_to<R>(sums + m * lanes<R>, tile_state.d_residues[m]);
    add_to<R>(sums + (M + m) * lanes<R>, tile_state.d_exponents[m]);
  }
  for (std::int64_t lag = 0; lag < modal_piece; ++lag) add_to<R>(sums + (2 * M + lag) * lanes<R>, panel.products[lag]);
}

/// The gradients of residues, log rates and skip from the tiles' sums [tiles, sums_size(M), lanes].
template <class R>
void add_parameter_gradients(const ModalConvBackward& args, TensorView sums) {
  const std::int64_t channels = args.in.v.columns(), M = args.log_rates.columns();
#pragma omp parallel for schedule(static)
  for (std::int64_t c = 0; c < channels; ++c) {
    const double* const sum = sums.template row<const double>(c / lanes<R>) + c % lanes<R>;
    for (std::int64_t m = 0; m < M; ++m) {
      const double rate = modal_rate(static_cast<double>(args.log_rates.row<const R>(c)[m])),
                   residue = static_cast<double>(args.residues.row<const R>(c)[m]);
      double within = 0, counted = 0;  // Σ_lag λ^lag p_lag, Σ_lag lag λ^lag p_lag
      for (std::int64_t lag = 0; lag < modal_piece; ++lag) {
        const double term = std::exp(-rate * static_cast<double>(lag)) * sum[(2 * M + lag) * lanes<R>];
        within += term;
        counted += static_cast<double>(lag) * term;
      }
      args.d_residues.row<R>(c)[m] += static_cast<R>(sum[m * lanes<R>] + within);
      args.d_log_rates.row<R>(c)[m] += static_cast<R>(-rate * (sum[(M + m) * lanes<R>] + residue * counted));
    }
    if (args.in.skip.present()) args.gradients.d_skip.row<R>(c)[0] += static_cast<R>(sum[2 * M * lanes<R>]);
  }
}

// Lower bound: q, k, v, d_y read once, d_q, d_k, d_v written once; 2·(3·piece/2 + 6·M) flops an element.
template <class T>
void backward(const Stream& stream, const ModalConvBackward& args) {
  using R = Accumulator<T>;
  const SegmentsView& segments = args.in.segments;
  const std::int64_t tokens = segments.tokens, M = args.log_rates.columns();
  const TileGroups<R> groups(args.in.v.columns());
  const VectorScratch<R> scratch(stream, groups.tiles * TileState<R>::size(M));
  const Tensor sums = Tensor::zeros(stream, DType::f64, {groups.tiles, sums_size(M), lanes<R>});

#pragma omp parallel for schedule(static)
  for (std::int64_t group = 0; group < groups.count; ++group) {
    const std::int64_t first_tile = groups.first_tile(group), last_tile = groups.first_tile(group + 1);
    const auto state_of = [&](std::int64_t tile) {
      return TileState<R>(scratch.data() + tile * TileState<R>::size(M), M);
    };
    for (std::int64_t index = first_tile; index < last_tile; ++index) {
      const Tile tile = groups.tile(index);
      TileState<R> tile_state = state_of(index);
      tile_state.modes.template prepare<T>(args.residues, args.log_rates, args.in.skip, tile);
      if (args.adjoint_in.present() && segments.continues_to_right())
        load_matrix<R>(args.adjoint_in, tile, tile_state.adjoint);
    }
    for (std::int64_t panel = (tokens - 1) / modal_panel * modal_panel; panel >= 0 && tokens > 0; panel -= modal_panel)
      for (std::int64_t index = first_tile; index < last_tile; ++index) {
        TileState<R> tile_state = state_of(index);
        backward_panel<T>(args, panel, std::min(modal_panel, tokens - panel), groups.tile(index), tile_state,
                          sums.view().template row<double>(index));
      }
    if (args.adjoint_out.present() && tokens > 0)
      for (std::int64_t index = first_tile; index < last_tile; ++index)
        store_matrix<R>(state_of(index).adjoint, groups.tile(index), args.adjoint_out);
  }
  add_parameter_gradients<R>(args, sums);
}

}  // namespace

void modal_conv_backward(const Stream& stream, const ModalConvBackward& args) {
  expect_modal_conv(args);
  ModalConvBackward with_states = args;
  const Tensor states = args.states.present() ? Tensor() : composed::modal_states(stream, args);
  if (states.present()) with_states.states = states;
  dispatch(args.in.v.dtype, [&]<class Type> { backward<Type>(stream, with_states); });
}

}  // namespace causeway::cpu
