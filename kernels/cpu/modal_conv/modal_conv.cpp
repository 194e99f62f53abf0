#include "kernels/modal_conv.hpp"
#include "kernels/core/integer.hpp"

#include "kernels/cpu/modal_conv/modal_tile.hpp"

namespace causeway::cpu {
namespace {

// Floor: q, k, v read once, y written once; 2·(piece/2 + 2·M) flops an element.
template <class T>
void forward(const Stream& stream, const ModalConvForward& args) {
  using R = Accumulator<T>;
  const GatedConvInputs& in = args.in;
  const std::int64_t tokens = in.segments.tokens, M = args.log_rates.columns();
  const TileGroups<R> groups(in.v.columns());
  const std::int64_t kept = Modes<R>::size(M) + 2 * M;  // of a tile: its modes, its state s, residues ∘ s
  const Scratch<R> scratch(stream, groups.tiles * kept);

#pragma omp parallel for schedule(static)
  for (std::int64_t group = 0; group < groups.count; ++group) {
    const std::int64_t first_tile = groups.first_tile(group), last_tile = groups.first_tile(group + 1);
    const auto modes_of = [&](std::int64_t index) { return Modes<R>(scratch.data() + index * kept, M); };
    const auto state_of = [&](std::int64_t index) { return scratch.data() + index * kept + Modes<R>::size(M); };
    for (std::int64_t index = first_tile; index < last_tile; ++index) {
      const Tile tile = groups.tile(index);
      modes_of(index).template prepare<T>(args.residues, args.log_rates, in.skip, tile);
      if (args.state_in.present() && in.segments.continues_from_left())
        load_matrix<R>(args.state_in, tile, state_of(index));
    }
    for (std::int64_t visit = 0; visit < tokens; visit += modal_visit) {
      const std::int64_t count = std::min(modal_visit, tokens - visit);
      for (std::int64_t index = first_tile; index < last_tile; ++index) {
        const Tile tile = groups.tile(index);
        const Modes<R> modes = modes_of(index);
        Vector<R>* const s = state_of(index);
        Vector<R>* const weighted = s + M;
        Vector<R> x[modal_visit], y[modal_visit];
        load_product<T>(in, visit, count, tile, x);
        for (std::int64_t t = visit; t < visit + count; t += modal_piece) {
          if (args.states.present() && t % modal_conv_block == 0)
            store_saved(s, M, tile, args.states.template row<R>(t / modal_conv_block));
          for_each_document(in.segments, t, std::min(t + modal_piece, tokens),
                            [&](std::int64_t first, std::int64_t last, std::int64_t start, std::int64_t end) {
                              const std::int64_t n = last - first;
                              multiply_piece<1>(modes.taps(), x + (first - visit), n, y + (first - visit));
                              if (first != start) {
                                for (std::int64_t m = 0; m < M; ++m) weighted[m] = modes.residue(m) * s[m];
                                add_from_state<true>(modes, weighted, n, y + (first - visit));
                              }
                              if (last != end && last != tokens)
                                advance_state(modes, x + (first - visit), n, first == start, args.log_rates, tile, s);
                            });
        }
        store_gated<T>(y, in.q, visit, count, tile, args.y);
      }
    }
  }
}

}  // namespace

void modal_conv_forward(const Stream& stream, const ModalConvForward& args) {
  const GatedConvInputs& in = args.in;
  const DType accumulator = accumulator_of(in.v.dtype);
  const std::int64_t T = in.segments.tokens, D = in.v.columns(), M = args.log_rates.columns();
  expect_gated_inputs(in);
  expect_modes(in, args.residues, args.log_rates);
  expect("y", args.y, in.v.dtype, {T, D});
  expect_if_present("state_in", args.state_in, accumulator, {D, M});
  expect_if_present("states", args.states, accumulator, {ceil_div(T, modal_conv_block), D, M});
  dispatch(in.v.dtype, [&]<class Type> { forward<Type>(stream, args); });
}

}  // namespace causeway::cpu
