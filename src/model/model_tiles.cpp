/// The backward pass of branches, and MLPs, whose norm and products are computed for a tile of tokens at a time: what a
/// tile needs does not grow with the tokens. Gradients of weights add up over the tiles, in their order.

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

Saved& scope_of_tile(Saved& saved, std::int64_t begin) { return saved.scope(fmt::format("tile {}", begin)); }

}  // namespace

std::int64_t Model::mlp_tile(const ModelOptions& shape) {
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
  const bool keeps_all = kept != nullptr && !reruns_mlp(i, tokens);

  Tensor sum, out;
  if (!residual.values.present()) sum = Tensor(stream, before.dtype, before.shape);
  const std::int64_t rows = keeps_all ? tokens : tile;
  Normalised normalised{.values = Tensor(stream, options_.dtype, {rows, width}),
                        .rstd = Tensor(stream, before.dtype, {rows})};
  // A tile's output replaces the mixer's, which the norm has added to the residual stream, unless that is kept.
  if (kept != nullptr && !keeps_all) out = Tensor(stream, options_.dtype, before.shape);
  const TensorView y = out.present() ? out.view() : added;
  for_each_tile(tokens, tile, [&](std::int64_t begin, std::int64_t count) {
    const auto here = [&](TensorView whole) { return whole.slice_rows(begin, count); };
    const auto part = [&](TensorView of) { return keeps_all ? here(of) : of.slice_rows(0, count); };
    RmsNormForward norm = norm_of(i);
    norm.x = here(added);
    norm.residual = here(before);
    if (sum.present()) norm.sum = here(sum);
    norm.y = part(normalised.values);
    norm.rstd = part(normalised.rstd);
    rms_norm_forward(stream, norm);
    branches_[i].mlp->forward_to(pass, part(normalised.values),
                                 keeps_all ? &scope_of_tile(kept->saved, begin) : nullptr, here(y));
  });
  if (sum.present()) residual = ResidualStream(std::move(sum));
  if (keeps_all) {
    kept->normalised = std::move(normalised.values);
    kept->rstd = std::move(normalised.rstd);
    kept->residual = std::move(residual.values);
  }
  if (out.present())
    kept->added = std::move(x);
  else
    out = std::move(x);
  if (layer_hook_) layer_hook_(stream, Phase::forward, block, out);
  return out;
}

void Model::norm_backward(const Stream& stream, std::size_t i, TensorView residual, TensorView rstd,
                          TensorView d_normalised, TensorView d_residual, TensorView d_narrow) const {
  rms_norm_backward(stream, {.residual = residual,
                             .weight = branches_[i].norm->weight,
                             .rstd = rstd,
                             .eps = norm_eps_,
                             .form = norm_form_,
                             .d_y = d_normalised,
                             .d_residual = d_residual,
                             .d_narrow = i > 0 ? d_narrow : TensorView{},
                             .d_weight = branches_[i].norm->gradient});
}

void Model::backward_mixer(const Pass& pass, std::size_t i, KeptOfBranch& kept, TensorView d_residual,
                           TensorView d_narrow) {
  // The gradient of the branch's output is that of the residual stream, in the compute type.
  const Tensor d_normalised =
      branches_[i].sublayer->backward(pass, kept.normalised, d_narrow.present() ? d_narrow : d_residual, kept.saved);
  kept.saved.ensure_empty();
  norm_backward(pass.runtime.stream, i, kept.residual, kept.rstd, d_normalised, d_residual, d_narrow);
}

void Model::backward_mlp(const Pass& pass, std::size_t i, TensorView input, KeptOfBranch& kept, TensorView d_residual,
                         TensorView d_narrow) {
  const Stream& stream = pass.runtime.stream;
  PerTokenSublayer& mlp = *branches_[i].mlp;
  const std::int64_t tokens = d_residual.rows(), width = d_residual.columns(), tile = std::min(tile_, tokens);
  const bool reruns = kept.added.present();
  Tensor sum;
  Normalised again;
  if (reruns) {
    sum = Tensor(stream, d_residual.dtype, {tile, width});
    again = {.values = Tensor(stream, options_.dtype, {tile, width}), .rstd = Tensor(stream, d_residual.dtype, {tile})};
  }
  for_each_tile(tokens, tile, [&](std::int64_t begin, std::int64_t count) {
    const auto here = [&](TensorView whole) { return whole.slice_rows(begin, count); };
    const auto part = [&](const Tensor& scratch) { return scratch.view().slice_rows(0, count); };
    Saved& saved = scope_of_tile(kept.saved, begin);
    if (reruns) {
      RmsNormForward norm = norm_of(i);
      norm.x = here(kept.added);
      norm.residual = here(input);
      norm.sum = part(sum);
      norm.y = part(again.values);
      norm.rstd = part(again.rstd);
      rms_norm_forward(stream, norm);
      if (begin + count == tokens) kept.added = {};
      mlp.forward_to(pass, norm.y, &saved, {});
    }
    const TensorView residual = reruns ? part(sum) : here(kept.residual),
                     normalised = reruns ? part(again.values) : here(kept.normalised),
                     rstd = reruns ? part(again.rstd) : here(kept.rstd);
    // The gradient of the branch's output is that of the residual stream, in the compute type.
    const TensorView narrow = d_narrow.present() ? here(d_narrow) : TensorView{};
    const Tensor d_normalised = mlp.backward(pass, normalised, narrow.present() ? narrow : here(d_residual), saved);
    norm_backward(stream, i, residual, rstd, d_normalised, here(d_residual), narrow);
  });
  kept.saved.ensure_empty();
}

}  // namespace causeway
