#include "kernels/modal_conv.hpp"
#include "kernels/core/integer.hpp"

#include "kernels/cpu/modal_conv/modal_tile.hpp"
#include "kernels/expect_modal_conv.hpp"

namespace causeway::cpu {
namespace {

// Lower bound: q, k, v read once, y written once; 2·(piece/2 + 2·M) flops an element.
template <class T>
void forward(const Stream& stream, const ModalConvForward& args) {
  using R = Accumulator<T>;
  const GatedConvInputs& in = args.in;
  const std::int64_t tokens = in.segments.tokens, M = args.log_rates.columns();
  const TileGroups<R> groups(in.v.columns());
  const std::int64_t tile_size = ModeTables<R>::size(M) + 2 * M;  // tables, state s, residues ⊙ s
  const VectorScratch<R> scratch(stream, groups.tiles * tile_size);

#pragma omp parallel for schedule(static)
  for (std::int64_t group = 0; group < groups.count; ++group) {
    const std::int64_t first_tile = groups.first_tile(group), last_tile = groups.first_tile(group + 1);
    const auto tables_of = [&](std::int64_t index) { return ModeTables<R>(scratch.data() + index * tile_size, M); };
    const auto state_of = [&](std::int64_t index) {
      return scratch.data() + index * tile_size + ModeTables<R>::size(M);
    };
    for (std::int64_t index = first_tile; index < last_tile; ++index) {
      const Tile tile = groups.tile(index);
      tables_of(index).template prepare<T>(args.residues, args.log_rates, in.skip, tile);
      if (args.state_in.present() && in.segments.continues_from_left())
        load_matrix<R>(args.state_in, tile, state_of(index));
    }
    for (std::int64_t panel = 0; panel < tokens; panel += modal_panel) {
      const std::int64_t count = std::min(modal_panel, tokens - panel);
      for (std::int64_t index = first_tile; index < last_tile; ++index) {
        const Tile tile = groups.tile(index);
        const ModeTables<R> tables = tables_of(index);
        Vector<R>* const s = state_of(index);
        Vector<R>* const weighted = s + M;
        Vector<R> x[modal_panel], y[modal_panel];
        load_product<T>(in, panel, count, tile, x);
        for (std::int64_t t = panel; t < panel + count; t += modal_piece) {
          if (args.states.present() && t % modal_conv_block == 0)
            store_saved_states(s, M, tile, args.states.template row<R>(t / modal_conv_block));
          for_each_document(in.segments, t, std::min(t + modal_piece, tokens),
                            [&](std::int64_t first, std::int64_t last, std::int64_t start, std::int64_t end) {
                              const std::int64_t n = last - first;
                              multiply_toeplitz_rows<1>(tables.taps(), modal_piece, x + (first - panel), n, 0,
                                                        y + (first - panel));
                              if (first != start) {
                                for (std::int64_t m = 0; m < M; ++m) weighted[m] = tables.residue(m) * s[m];
                                add_from_state<true>(tables, weighted, n, y + (first - panel));
                              }
                              if (last != end && (last != tokens || args.state_out.present()))
                                advance_state(tables, x + (first - panel), n, first == start, args.log_rates, tile, s);
                            });
        }
        store_gated<T>(y, in.q, panel, count, tile, args.y);
      }
    }
    if (args.state_out.present() && tokens > 0)
      for (std::int64_t index = first_tile; index < last_tile; ++index)
        store_matrix<R>(state_of(index), groups.tile(index), args.state_out);
  }
}

}  // namespace

void modal_conv_forward(const Stream& stream, const ModalConvForward& args) {
  expect_modal_conv(args);
  dispatch(args.in.v.dtype, [&]<class Type> { forward<Type>(stream, args); });
}

}  // namespace causeway::cpu
