#include "kernels/cpu/modal_conv/modal_rate.hpp"
#include "kernels/cpu/modal_conv/modal_tile.hpp"
#include "kernels/modal_conv.hpp"

namespace causeway::cpu {
namespace {

template <class T>
void summary(const Stream& stream, const ModalConvSummary& args) {
  using R = Accumulator<T>;
  const GatedConvInputs& in = args.in;
  const std::int64_t tokens = in.segments.tokens, M = args.log_rates.columns();
  const std::int64_t begin =
      in.segments.count == 0 ? 0 : std::max<std::int64_t>(0, in.segments.cu_seqlens[in.segments.count - 1]);
  const TileGroups<R> groups(in.v.columns());
  const std::int64_t kept = Modes<R>::size(M) + M;
  const Scratch<R> scratch(stream, groups.tiles * kept);

#pragma omp parallel for schedule(static)
  for (std::int64_t group = 0; group < groups.count; ++group) {
    for (std::int64_t visit = begin; visit == begin || visit < tokens; visit += modal_visit)
      for (std::int64_t index = groups.first_tile(group); index < groups.first_tile(group + 1); ++index) {
        const Tile tile = groups.tile(index);
        Modes<R> modes(scratch.data() + index * kept, M);
        Vector<R>* const s = scratch.data() + index * kept + Modes<R>::size(M);
        if (visit == begin) modes.template prepare<T>({}, args.log_rates, {}, tile);
        const std::int64_t count = std::min(modal_visit, tokens - visit);
        Vector<R> x[modal_visit];
        load_product<T>(in, visit, count, tile, x);
        for (std::int64_t i = 0; i < count; i += modal_piece)
          advance_state(modes, x + i, std::min(modal_piece, count - i), visit + i == begin, args.log_rates, tile, s);
        if (visit + count >= tokens) store_matrix<R>(s, tile, args.state);
      }
  }
}

template <class T>
void adjoint_summary(const Stream& stream, const ModalConvAdjointSummary& args) {
  using R = Accumulator<T>;
  const GatedConvInputs& in = args.in;
  const std::int64_t M = args.log_rates.columns();
  const std::int64_t end = in.segments.count == 0 ? 0 : std::min(in.segments.tokens, in.segments.cu_seqlens[1]);
  const std::int64_t last_visit = end == 0 ? 0 : (end - 1) / modal_visit * modal_visit;
  const TileGroups<R> groups(in.v.columns());
  const std::int64_t kept = Modes<R>::size(M) + M;
  const Scratch<R> scratch(stream, groups.tiles * kept);

#pragma omp parallel for schedule(static)
  for (std::int64_t group = 0; group < groups.count; ++group) {
    for (std::int64_t visit = last_visit; visit >= 0; visit -= modal_visit)
      for (std::int64_t index = groups.first_tile(group); index < groups.first_tile(group + 1); ++index) {
        const Tile tile = groups.tile(index);
        Modes<R> modes(scratch.data() + index * kept, M);
        Vector<R>* const adjoint = scratch.data() + index * kept + Modes<R>::size(M);
        if (visit == last_visit) modes.template prepare<T>(args.residues, args.log_rates, {}, tile);
        const std::int64_t count = std::min(modal_visit, end - visit);
        Vector<R> dc[modal_visit];
        load_output_gradient<T>(in, args.d_y, visit, count, tile, dc);
        for (std::int64_t i = (count - 1) / modal_piece * modal_piece; i >= 0 && count > 0; i -= modal_piece) {
          const std::int64_t n = std::min(modal_piece, count - i);
          for (std::int64_t m = 0; m < M; ++m) {
            Vector<R> through{};
            for (std::int64_t j = 0; j < n; ++j) through += modes.powers(m)[j + 1] * dc[i + j];
            // The first piece worked off, the only short one, finds no adjoint behind it.
            if (visit + i + n == end)
              adjoint[m] = modes.residue(m) * through;
            else
              adjoint[m] += modes.residue(m) * through - modes.loss(m, n, args.log_rates, tile) * adjoint[m];
          }
        }
        if (visit == 0) store_matrix<R>(adjoint, tile, args.adjoint);
      }
  }
}

template <class R>
void fold(const ModalConvFold& args) {
#pragma omp parallel for schedule(static)
  for (std::int64_t d = 0; d < args.log_rates.rows(); ++d) {
    const R *log_rates = args.log_rates.row<const R>(d), *state = args.summary_state.row<const R>(d);
    R* carry = args.carry.row<R>(d);
    for (std::int64_t m = 0; m < args.log_rates.columns(); ++m) {
      const double rate = modal_rate(static_cast<double>(log_rates[m]));
      carry[m] = state[m] + static_cast<R>(exponential(-rate * static_cast<double>(args.tokens))) * carry[m];
    }
  }
}

}  // namespace

void modal_conv_summary(const Stream& stream, const ModalConvSummary& args) {
  expect_gated_inputs(args.in);
  expect_modes(args.in, {}, args.log_rates);
  expect("state", args.state, args.log_rates.dtype, args.log_rates.shape);
  dispatch(args.in.v.dtype, [&]<class Type> { summary<Type>(stream, args); });
}

void modal_conv_adjoint_summary(const Stream& stream, const ModalConvAdjointSummary& args) {
  expect_gated_inputs(args.in);
  expect("residues", args.residues, args.log_rates.dtype, args.log_rates.shape);
  expect_modes(args.in, args.residues, args.log_rates);
  expect("d_y", args.d_y, args.in.v.dtype, args.in.v.shape);
  expect("adjoint", args.adjoint, args.log_rates.dtype, args.log_rates.shape);
  dispatch(args.in.v.dtype, [&]<class Type> { adjoint_summary<Type>(stream, args); });
}

void modal_conv_fold(const Stream&, const ModalConvFold& args) {
  for (const auto& [name, view] : {std::pair{"summary_state", args.summary_state}, std::pair{"carry", args.carry}})
    expect(name, view, args.log_rates.dtype, args.log_rates.shape);
  ensure(args.tokens >= 0, "a fold over {} tokens", args.tokens);
  dispatch(args.log_rates.dtype, [&]<class Type> { fold<Accumulator<Type>>(args); });
}

}  // namespace causeway::cpu
