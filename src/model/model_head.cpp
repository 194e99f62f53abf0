#include <algorithm>
#include <bit>

#include "kernels/core/trace.hpp"
#include "kernels/cross_entropy.hpp"
#include "kernels/gemm.hpp"
#include "kernels/norm.hpp"
#include "src/model/dense/dense.hpp"
#include "src/model/model.hpp"
#include "src/runtime/host_copy.hpp"

/// The end of the model: final norm, output head and loss.
namespace causeway {
namespace {

/// For each id a tensor [count] that holds it everywhere.
std::vector<Tensor> repeated_ids(const Stream& stream, std::span<const std::int32_t> ids, std::int64_t count) {
  std::vector<Tensor> tensors;
  for (const std::int32_t id : ids)
    tensors.push_back(on_device<std::int32_t>(stream, std::vector<std::int32_t>(static_cast<std::size_t>(count), id)));
  return tensors;
}

}  // namespace

void Model::logits_of(const Stream& stream, TensorView last, TensorView residual, TensorView logits) const {
  const Tensor y(stream, options_.dtype, last.shape), rstd(stream, residual.dtype, {last.rows()});
  rms_norm_forward(stream, {.x = last,
                            .residual = residual,
                            .weight = norm_f_->weight,
                            .eps = norm_eps_,
                            .form = norm_form_,
                            .y = y,
                            .rstd = rstd});
  gemm(stream, {.a = y, .b = head_->weight, .transpose_b = true, .c = logits});
}

std::int64_t Model::head_tile(const ModelOptions& shape) {
  constexpr std::uint64_t values = 1 << 27;
  const auto rows = std::bit_floor(values / static_cast<std::uint64_t>(shape.width + shape.vocabulary));
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(rows), 1024, 8192);
}

void Model::head(const Pass& pass, TensorView last, TensorView residual, const Batch& batch, TensorView token_losses,
                 TensorView d_residual, const RowsView& d_narrow, const Candidates& candidates) {
  const Stream& stream = pass.runtime.stream;
  const ProfileRange range(stream, "head");
  const DType wide = residual.dtype, narrow = options_.dtype;
  const std::int64_t tokens = residual.rows(), width = residual.columns(), vocabulary = options_.shape.vocabulary;
  const std::int64_t tile = std::min(head_tile(options_.shape), tokens);
  const Tensor sum = d_residual.present() ? Tensor(stream, wide, {tile, width}) : Tensor();
  const Tensor y(stream, narrow, {tile, width}), rstd(stream, wide, {tile}), logits(stream, wide, {tile, vocabulary});
  const Tensor d_logits =
      wide == narrow || !d_residual.present() ? Tensor() : Tensor(stream, narrow, {tile, vocabulary});
  const std::vector<Tensor> candidate_labels = repeated_ids(stream, candidates.ids, tile);
  for (std::int64_t begin = 0; begin < tokens; begin += tile) {
    const std::int64_t count = std::min(tile, tokens - begin);
    const auto here = [&](TensorView whole) { return whole.slice_rows(begin, count); };
    const auto part = [&](TensorView scratch) { return scratch.slice_rows(0, count); };
    rms_norm_forward(stream, {.x = here(last),
                              .residual = here(residual),
                              .sum = sum.present() ? part(sum) : TensorView{},
                              .weight = norm_f_->weight,
                              .eps = norm_eps_,
                              .form = norm_form_,
                              .y = part(y),
                              .rstd = part(rstd)});
    gemm(stream, {.a = part(y), .b = head_->weight, .transpose_b = true, .c = part(logits)});
    TensorView gradient;  // in the compute type: where that is the type of the logits, it replaces them
    if (d_residual.present()) gradient = part(d_logits.present() ? d_logits : logits);
    cross_entropy(stream, {.logits = part(logits),
                           .labels = here(batch.labels),
                           .loss = here(token_losses),
                           .d_logits = gradient,
                           .weights = batch.weights.present() ? here(batch.weights) : TensorView{},
                           .weight_scale = batch.weight_scale});
    for (std::size_t i = 0; i < candidate_labels.size(); ++i)
      cross_entropy(stream,
                    {.logits = part(logits),
                     .labels = part(candidate_labels[i]),
                     .loss = here(candidates.losses.slice_rows(static_cast<std::int64_t>(i), 1).reshaped({tokens})),
                     .d_logits = {}});
    if (!d_residual.present()) continue;
    add_product(stream, *head_, gradient, part(y));
    gemm(stream, {.a = gradient, .b = head_->weight, .c = part(y)});  // overwrites y with its gradient
    const RowsView narrow_here = d_narrow.slice_rows(begin, count);
    rms_norm_backward(stream, {.residual = part(sum),
                               .weight = norm_f_->weight,
                               .rstd = part(rstd),
                               .eps = norm_eps_,
                               .form = norm_form_,
                               .d_y = part(y),
                               .beta = 0,
                               .d_residual = here(d_residual),
                               .d_narrow = narrow_here.values,
                               .d_weight = norm_f_->gradient,
                               .d_narrow_codes = narrow_here.codes});
  }
}

}  // namespace causeway
