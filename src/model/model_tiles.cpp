/// MLPs, norms and the backward pass of branches, a tile of tokens at a time: what a tile needs does not grow with the
/// tokens. Gradients of weights add up over the tiles, in their order.

#include <algorithm>
#include <bit>

#include "kernels/norm.hpp"
#include "src/model/model.hpp"

namespace causeway {
namespace {

/// Calls of_tile(begin, count) for the tiles of a rank's tokens, of which there may be none.
template <class OfTile>
void for_each_tile(std::int64_t tokens, std::int64_t tile, const OfTile& of_tile) {
  std::int64_t begin = 0;
  do {
    of_tile(begin, std::min(tile, tokens - begin));
    begin += tile;
  } while (begin < tokens);
}

}  // namespace

std::int64_t Model::block_tile(const ModelOptions& shape) {
  constexpr std::uint64_t values = 1 << 30;
  const auto rows = std::bit_floor(values / static_cast<std::uint64_t>(4 * shape.ffn + 3 * shape.width));
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(rows), 1024, 16384);
}

Tensor Model::forward_mlp(const Pass& pass, std::size_t i, ResidualStream& residual, Tensor x, KeptOfBranch* kept) {
  const Stream& stream = pass.runtime.stream;
  const auto block = static_cast<std::int64_t>(branches_[i].block);
  pass.runtime.rank_progress->record_layer(block);
  const TensorView before = residual.view, added = x;
  const std::int64_t tokens = before.rows(), width = before.columns(), tile = std::min(tile_, tokens);
  const bool keeps_all = kept != nullptr && !reruns_norm(tokens);

  Tensor sum, out;
  if (!residual.values.present()) sum = Tensor(stream, before.dtype, before.shape);
  const std::int64_t rows = keeps_all ? tokens : tile;
  Normalised normalised = rows_of_norm(stream, i, {rows, width});
  // A tile's output replaces the mixer's, which the norm has added to the residual stream, unless that is kept.
  if (kept != nullptr && !keeps_all) out = Tensor(stream, options_.dtype, before.shape);
  const TensorView y = kept != nullptr && !keeps_all ? out.view() : added;
  for_each_tile(tokens, tile, [&](std::int64_t begin, std::int64_t count) {
    const auto here = [&](TensorView whole) { return whole.slice_rows(begin, count); };
    const auto part = [&](const auto& of) { return of.slice_rows(keeps_all ? begin : 0, count); };
    const RowsView input = part(normalised.rows);
    RmsNormForward norm = norm_of(i);
    norm.x = here(added);
    norm.residual = here(before);
    if (sum.present()) norm.sum = here(sum);
    norm.y = input.values;
    norm.y_codes = input.codes;
    norm.rstd = part(normalised.rstd.view());
    rms_norm_forward(stream, norm);
    branches_[i].mlp->forward_to(pass, input,
                                 keeps_all ? &PerTokenSublayer::scope_of_tile(kept->saved, begin) : nullptr, here(y));
  });
  if (sum.present()) residual = ResidualStream(std::move(sum));
  if (keeps_all) {
    kept->normalised = std::move(normalised.rows);
    kept->rstd = std::move(normalised.rstd);
    kept->residual = std::move(residual.values);
  }
  if (kept != nullptr && !keeps_all) {
    kept->added = std::move(x);
    kept->reruns = true;
  } else {
    out = std::move(x);
  }
  if (layer_hook_) layer_hook_(stream, Phase::forward, block, out);
  return out;
}

void Model::backward_branch(const Pass& pass, std::size_t i, TensorView input, KeptOfBranch& kept,
                            TensorView d_residual, const TokenRows& d_narrow) {
  const Stream& stream = pass.runtime.stream;
  const ResidualBranch& branch = branches_[i];
  const std::int64_t tokens = d_residual.rows(), width = d_residual.columns(), tile = std::min(tile_, tokens);
  const bool reruns_mlp = kept.reruns && branch.mlp != nullptr;
  const RowsView next_gradient = i > 0 ? gradient_of(stream, i - 1, d_narrow) : TensorView();
  const auto for_each = [&](const TiledInput::Gradient& gradient) {
    Tensor sum;
    Normalised again;
    if (reruns_mlp) sum = Tensor(stream, d_residual.dtype, {tile, width});
    if (kept.reruns) again = rows_of_norm(stream, i, {tile, width});
    for_each_tile(tokens, tile, [&](std::int64_t begin, std::int64_t count) {
      const auto here = [&](TensorView whole) { return whole.slice_rows(begin, count); };
      const auto part = [&](TensorView scratch) { return scratch.slice_rows(0, count); };
      const TensorView residual = reruns_mlp ? part(sum) : here(kept.residual),
                       rstd = kept.reruns ? part(again.rstd) : here(kept.rstd);
      const RowsView normalised =
          kept.reruns ? again.rows.slice_rows(0, count) : kept.normalised.slice_rows(begin, count);
      if (kept.reruns) {
        RmsNormForward norm = norm_of(i);
        norm.residual = residual;
        if (reruns_mlp) {
          norm.x = here(kept.added);
          norm.residual = here(input);
          norm.sum = residual;
        }
        norm.y = normalised.values;
        norm.y_codes = normalised.codes;
        norm.rstd = rstd;
        rms_norm_forward(stream, norm);
      }
      if (reruns_mlp) {
        if (begin + count == tokens) kept.added = {};
        branch.mlp->forward_to(pass, normalised, &PerTokenSublayer::scope_of_tile(kept.saved, begin), {});
      }
      const Tensor d_normalised = gradient(normalised, begin);
      const RowsView next = next_gradient.slice_rows(begin, count);
      rms_norm_backward(stream, {.residual = residual,
                                 .weight = branch.norm->weight,
                                 .rstd = rstd,
                                 .eps = norm_eps_,
                                 .form = norm_form_,
                                 .d_y = d_normalised,
                                 .d_residual = here(d_residual),
                                 .d_narrow = next.values,
                                 .d_weight = branch.norm->gradient,
                                 .d_narrow_codes = next.codes});
    });
  };
  // The gradient of the branch's output is that of the residual stream, in the compute type.
  branch.sublayer->backward(
      pass, {.dtype = options_.dtype, .tokens = tokens, .for_each_tile = for_each},
      options_.dtype == d_residual.dtype ? RowsView(d_residual) : gradient_of(stream, i, d_narrow), kept.saved);
  kept.saved.ensure_empty();
}

}  // namespace causeway
