#include "src/model/model.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/core/trace.hpp"
#include "kernels/embedding.hpp"
#include "kernels/norm.hpp"
#include "kernels/reorder.hpp"
#include "src/model/gated_mlp.hpp"
#include "src/model/parameters/initial_values.hpp"
#include "src/runtime/host_copy.hpp"

namespace causeway {
namespace {

ParameterSpec norm_spec(const std::string& name, std::int64_t width) {
  return {.name = name, .shape = {width}, .wide = true, .initial = initial::constant(1)};
}

}  // namespace

/// The tensors that a forward pass keeps for the backward pass, branch by branch. With recomputation, of all blocks but
/// the last one only the residual stream at the start of every N-th, N = recompute_blocks, and what each branch
/// received over chunk edges.
struct Model::Activations {
  std::vector<KeptOfBranch> branches;
  std::vector<Received> received;  // of every branch, with recomputation over several ranks

  /// The pass of branch i with its Received. `repeats`: it was run before.
  Pass of_branch(Pass pass, std::size_t i, bool repeats) {
    if (received.empty()) return pass;
    if (repeats) received[i].rewind();
    pass.received = &received[i];
    return pass;
  }
};

Model::Model(const Options& options) : options_(options), parameters_(options.dtype, options.fp8) {
  const ModelOptions& shape = options_.shape;
  shape.check();
  norm_eps_ = shape.eps_of_norms();
  norm_form_ = shape.norm_form == "inside" ? NormForm::inside : NormForm::outside;
  tile_ = options_.block_tile > 0 ? options_.block_tile : block_tile(shape);
  embedding_ = &parameters_.add({.name = "backbone.embedding.weight",
                                 .shape = {shape.vocabulary, shape.width},
                                 .decay = true,
                                 .product = shape.tied_head,  // the head's, to which embedding_backward adds later
                                 .initial = initial::normal(0.02)});
  for (std::size_t i = 0; i < shape.layers.size(); ++i) {
    const std::string prefix = fmt::format("backbone.layers.{}.", i);
    parameters_.begin_group();
    const Parameter& norm = parameters_.add(norm_spec(prefix + "norm.weight", shape.width));
    const auto add = [&](const Parameter& its_norm, std::unique_ptr<Sublayer> sublayer, PerTokenSublayer* mlp) {
      branches_.push_back({i, mlp == nullptr, &its_norm, std::move(sublayer), mlp, parameters_.parameters().size()});
    };
    add(norm, find_layer(shape.layers[i]).make(shape, prefix + "mixer.", parameters_), nullptr);
    if (shape.ffn == 0) continue;
    const Parameter& norm2 = parameters_.add(norm_spec(prefix + "norm2.weight", shape.width));
    std::unique_ptr<PerTokenSublayer> mlp = make_gated_mlp(shape, i, prefix + "mlp.", parameters_);
    PerTokenSublayer* const its_mlp = mlp.get();
    add(norm2, std::move(mlp), its_mlp);
  }
  parameters_.begin_group();
  norm_f_ = &parameters_.add(norm_spec("backbone.norm_f.weight", shape.width));
  head_ = embedding_;
  if (!shape.tied_head)
    head_ = &parameters_.add({.name = "lm_head.weight",
                              .shape = {shape.vocabulary, shape.width},
                              .decay = true,
                              .product = true,
                              .initial = initial::uniform(1 / std::sqrt(double(shape.width)))});
}

std::vector<OperatorCall> Model::calls() const {
  std::vector<OperatorCall> all;
  for (const ResidualBranch& branch : branches_)
    std::ranges::move(branch.sublayer->calls(options_.dtype), std::back_inserter(all));
  return all;
}

PassShape Model::pass_shape() const {
  return {.blocks = options_.shape.layers.size(),
          .tied_head = options_.shape.tied_head,
          .recompute = options_.recompute,
          .recompute_blocks = options_.recompute_blocks,
          .keep_blocks = options_.keep_blocks};
}

void Model::train(const Pass& pass, const Batch& batch, TensorView loss, const Observer& observer) {
  const Stream& stream = pass.runtime.stream;
  pass.runtime.rank_progress->enter(Phase::forward);
  const std::int64_t tokens = batch.ids.size();
  const DType wide = accumulator_of(options_.dtype);
  const Shape shape{tokens, options_.shape.width};
  parameters_.begin_pass(plan_of_training(pass_shape()), stream);

  Activations activations;
  if (options_.recompute && pass.runtime.mesh.context.size() > 1) activations.received.resize(branches_.size());
  const Tensor losses(stream, wide, {tokens}), d_residual(stream, wide, shape);
  const TokenRows d_narrow = rows_of_gradient(stream, shape);
  if (offloads() && !offloaded_) offloaded_.emplace(stream);
  if (offloads()) offloaded_->clear();
  {
    ResidualStream residual(Tensor(stream, wide, shape));
    const auto run = [&](std::size_t i, ResidualStream& before, Tensor x) {
      KeptOfBranch kept{.branch = i, .saved = Saved(name_of(branches_[i]))};
      if (branches_[i].mlp != nullptr) {
        x = forward_mlp(pass, i, before, std::move(x), recomputed(i) ? nullptr : &kept);
        if (!recomputed(i)) activations.branches.push_back(std::move(kept));
        return x;
      }
      Normalised normalised = normalise(stream, i, x, before);
      x = {};
      if (keeps_input(i) && offloads() && recomputed(i))
        offloaded_->leave(std::move(before.values));
      else if (keeps_input(i))
        kept.residual = std::move(before.values);
      x = recomputed(i) ? forward_of(activations.of_branch(pass, i, false), i, normalised.rows, nullptr)
                        : forward_of(pass, i, normalised.rows, &kept.saved);
      if (!recomputed(i)) keep_norm(std::move(normalised), kept);
      if (keeps_input(i)) activations.branches.push_back(std::move(kept));
      return x;
    };
    const Tensor last = forward_branches(stream, batch.ids, residual, run);
    if (offloads()) offloaded_->free_left();
    parameters_.begin_gradients(pass_shape().head_step(), stream);
    head(pass, last, residual.view, batch, losses, d_residual, gradient_of(stream, branches_.size() - 1, d_narrow));
    parameters_.finish_gradients(pass_shape().head(), stream);
  }
  sum_of_elements(stream, {.x = losses, .sum = loss});
  pass.runtime.rank_progress->enter(Phase::backward);
  backward_branches(pass, batch.ids, d_residual, d_narrow, activations, observer);
  parameters_.sum_gradients(stream);
  parameters_.end_pass();
}

std::int64_t Model::reserve_host_memory(const Stream& stream, std::int64_t tokens) {
  if (!offloads()) return 0;
  std::int64_t count = 0;
  for (std::size_t i = 0; i < branches_.size(); ++i)
    count += branches_[i].is_mixer && recomputed(i) && keeps_input(i) ? 1 : 0;
  const std::int64_t bytes = tokens * options_.shape.width * size_of(accumulator_of(options_.dtype));
  if (!offloaded_) offloaded_.emplace(stream);
  offloaded_->reserve(count, bytes);
  return count * OffloadedTensors::capacity(bytes);
}

void Model::evaluate(const Pass& pass, const Batch& batch, TensorView token_losses, const Observer& observer,
                     const Candidates& candidates) {
  const Stream& stream = pass.runtime.stream;
  parameters_.begin_pass(plan_of_forward(pass_shape()), stream);
  ResidualStream residual(Tensor(stream, accumulator_of(options_.dtype), {batch.ids.size(), options_.shape.width}));
  const auto run = [&](std::size_t i, ResidualStream& before, Tensor x) {
    if (branches_[i].mlp != nullptr) return forward_mlp(pass, i, before, std::move(x), nullptr);
    const TokenRows normalised = normalise(stream, i, x, before).rows;
    x = {};
    if (observer) observer(static_cast<std::int64_t>(branches_[i].block), before.view);
    return forward_of(pass, i, normalised, nullptr);
  };
  const Tensor last = forward_branches(stream, batch.ids, residual, run);
  head(pass, last, residual.view, batch, token_losses, {}, TensorView(), candidates);
  parameters_.end_pass();
  if (observer) observer(std::ssize(options_.shape.layers), residual.view);
}

void Model::join_evaluation(const Stream& stream) {
  parameters_.await_updates(stream);
  const PassPlan plan = plan_of_forward(pass_shape());
  parameters_.begin_pass(plan, stream);
  for (const PassStep& step : plan.steps) parameters_.use(step, stream);
  parameters_.end_pass();
}

void Model::extend(const Stream& stream, TensorView ids, DocumentState& document, TensorView logits) {
  const std::int64_t count = ids.size(), asked = logits.rows();
  ensure(count >= 1 && asked >= 1 && asked <= count, "logits of {} tokens are asked for, but {} tokens are appended",
         asked, count);
  ResidualStream residual(Tensor(stream, accumulator_of(options_.dtype), {count, options_.shape.width}));
  const Extension extension{document, count};
  const Tensor last = extend_branches(stream, ids, {&extension, 1}, residual);
  logits_of(stream, last.view().slice_rows(count - asked, asked), residual.view.slice_rows(count - asked, asked),
            logits);
  parameters_.end_pass();
}

void Model::extend(const Stream& stream, TensorView ids, std::span<const Extension> documents, TensorView logits) {
  const std::int64_t width = options_.shape.width;
  std::vector<RowRange> last_rows;  // of each document, to its row of the logits
  std::int64_t count = 0;
  for (const Extension& extension : documents) {
    count += extension.tokens;
    last_rows.push_back({.from = count - 1, .to = std::ssize(last_rows), .count = 1});
  }
  ensure(count == ids.size() && logits.rows() == std::ssize(documents), "{} ids and {} logits for {} tokens of {}",
         ids.size(), logits.rows(), count, documents.size());
  ResidualStream residual(Tensor(stream, accumulator_of(options_.dtype), {count, width}));
  const Tensor last = extend_branches(stream, ids, documents, residual);
  const Tensor last_of_each(stream, options_.dtype, {logits.rows(), width}),
      residual_of_each(stream, residual.view.dtype, {logits.rows(), width});
  copy_rows(stream, {.x = last, .ranges = last_rows, .y = last_of_each});
  copy_rows(stream, {.x = residual.view, .ranges = last_rows, .y = residual_of_each});
  logits_of(stream, last_of_each, residual_of_each, logits);
  parameters_.end_pass();
}

Tensor Model::extend_branches(const Stream& stream, TensorView ids, std::span<const Extension> documents,
                              ResidualStream& residual) {
  parameters_.begin_pass(plan_of_forward(pass_shape()), stream);
  std::vector<DeviceSegments> segments;  // of each document's next tokens, for all sublayers
  for (const auto& [document, tokens] : documents) {
    document.sublayers.resize(branches_.size());
    segments.emplace_back(stream, std::vector{-document.tokens, tokens}, tokens);
  }
  const auto run = [&](std::size_t i, ResidualStream& before, const Tensor& x) {
    std::vector<NextTokens> next;
    std::int64_t row = 0;
    for (std::size_t d = 0; d < documents.size(); ++d) {
      const auto& [document, tokens] = documents[d];
      next.push_back({.state = document.sublayers[i],
                      .segments = segments[d].view(),
                      .before = document.tokens,
                      .first_row = row,
                      .count = tokens});
      row += tokens;
    }
    return branches_[i].sublayer->extend(stream, normalise(stream, i, x, before).rows, next);
  };
  Tensor last = forward_branches(stream, ids, residual, run);
  for (const auto& [document, tokens] : documents) document.tokens += tokens;
  return last;
}

/// "layer 3 mamba", "layer 3 mlp", for profilers.
std::string Model::name_of(const ResidualBranch& branch) const {
  return fmt::format("layer {} {}", branch.block, branch.is_mixer ? options_.shape.layers[branch.block] : "mlp");
}

Tensor Model::forward_of(const Pass& pass, std::size_t i, const RowsView& normalised, Saved* saved) {
  const auto block = static_cast<std::int64_t>(branches_[i].block);
  pass.runtime.rank_progress->record_layer(block);
  Tensor x = branches_[i].sublayer->forward(pass, normalised, saved);
  if (layer_hook_ && ends_block(i) && x.present()) layer_hook_(pass.runtime.stream, Phase::forward, block, x);
  return x;
}

void Model::keep_norm(Normalised normalised, KeptOfBranch& kept) const {
  kept.reruns = reruns_norm(normalised.rstd.view().size());
  if (kept.reruns) return;
  kept.normalised = std::move(normalised.rows);
  kept.rstd = std::move(normalised.rstd);
}

RmsNormForward Model::norm_of(std::size_t i) const {
  RmsNormForward norm;
  norm.weight = branches_[i].norm->weight;
  norm.eps = norm_eps_;
  norm.form = norm_form_;
  return norm;
}

Model::Normalised Model::rows_of_norm(const Stream& stream, std::size_t i, const Shape& shape) const {
  return {.rows = TokenRows::for_products(stream, branches_[i].sublayer->ends().input, options_.dtype, shape),
          .rstd = Tensor(stream, accumulator_of(options_.dtype), {shape[0]})};
}

TokenRows Model::rows_of_gradient(const Stream& stream, const Shape& shape) const {
  TokenRows rows;
  for (const ResidualBranch& branch : branches_) {
    const Sublayer::Ends ends = branch.sublayer->ends();
    const bool codes = multiplies_codes(stream, ends.output), values = !codes || ends.output_bias != nullptr;
    if (values && options_.dtype != accumulator_of(options_.dtype) && !rows.values.present())
      rows.values = Tensor(stream, options_.dtype, shape);
    if (codes && !rows.codes.present()) rows.codes = {stream, shape, Fp8Format::e5m2};
  }
  return rows;
}

RowsView Model::gradient_of(const Stream& stream, std::size_t i, const TokenRows& d_narrow) const {
  const Sublayer::Ends ends = branches_[i].sublayer->ends();
  if (!multiplies_codes(stream, ends.output)) return d_narrow.values;
  return {ends.output_bias != nullptr ? d_narrow.values.view() : TensorView(), d_narrow.codes};
}

Model::Normalised Model::normalise(const Stream& stream, std::size_t i, TensorView x, ResidualStream& residual) const {
  const TensorView before = residual.view;
  Normalised result = rows_of_norm(stream, i, before.shape);
  Tensor sum;
  if (x.present() && !residual.values.present()) sum = Tensor(stream, before.dtype, before.shape);
  RmsNormForward norm = norm_of(i);
  norm.x = x;
  norm.residual = before;
  norm.sum = sum;
  norm.y = result.rows.values;
  norm.y_codes = result.rows.codes;
  norm.rstd = result.rstd;
  rms_norm_forward(stream, norm);
  if (sum.present()) residual = ResidualStream(std::move(sum));
  return result;
}

Tensor Model::forward_branches(const Stream& stream, TensorView ids, ResidualStream& residual, const RunBranch& run) {
  parameters_.await_updates(stream, 1);  // the embedding is the first parameter
  parameters_.use({embedding_group}, stream);
  embedding_forward(stream, {.ids = ids, .weight = embedding_->weight, .y = residual.view});
  const ProfileRange range(stream, "forward");
  Tensor x;  // the output of the branch before, which the next norm adds to the residual stream
  for (std::size_t i = 0; i < branches_.size(); ++i) {
    const ResidualBranch& branch = branches_[i];
    const ProfileRange of_branch(stream, name_of(branch));
    parameters_.await_updates(stream, branch.parameters);
    if (branch.is_mixer) parameters_.use({group_of_block(branch.block)}, stream);
    x = run(i, residual, std::move(x));
  }
  parameters_.await_updates(stream);
  parameters_.use(pass_shape().head_step(), stream);
  return x;
}

void Model::backward_branches(const Pass& pass, TensorView ids, TensorView d_residual, const TokenRows& d_narrow,
                              Activations& activations, const Observer& observer) {
  const Stream& stream = pass.runtime.stream;
  const ProfileRange range(stream, "backward");
  if (offloaded_) offloaded_->start_return();
  for (std::size_t i = branches_.size(); i-- > 0; activations.branches.pop_back()) {
    const ProfileRange of_branch(stream, name_of(branches_[i]));
    const auto block = static_cast<std::int64_t>(branches_[i].block);
    pass.runtime.rank_progress->record_layer(block);
    if (ends_block(i)) {
      if (layer_hook_) layer_hook_(stream, Phase::backward, block, d_residual);
      if (observer) observer(block + 1, d_residual);
      if (recomputed(i))
        recompute_block(pass, i, activations);
      else
        parameters_.use({group_of_block(branches_[i].block)}, stream);
      parameters_.begin_gradients({group_of_block(branches_[i].block)}, stream);
    }
    KeptOfBranch& kept = activations.branches.back();
    const TensorView input = branches_[i].is_mixer ? TensorView{} : activations.branches.end()[-2].residual.view();
    backward_branch(pass, i, input, kept, d_residual, d_narrow);
    if (!activations.received.empty()) activations.received[i] = {};
    if (branches_[i].is_mixer) parameters_.finish_gradients(group_of_block(branches_[i].block), stream);
  }
  if (!options_.shape.tied_head) parameters_.begin_gradients({embedding_group}, stream);  // else the head has begun it
  if (observer) observer(0, d_residual);
  embedding_backward(stream, {.ids = ids, .d_y = d_residual, .d_weight = embedding_->gradient});
  parameters_.finish_gradients(embedding_group, stream);
}

/// Puts the tensors that a forward pass without recomputation keeps of the block that ends with branch `last` in the
/// place of its input. Runs forward from the last block whose input is kept, and keeps the inputs of the blocks
/// between. The same kernels run on the same values, so the bits are the same.
void Model::recompute_block(const Pass& pass, std::size_t last, Activations& activations) {
  const Stream& stream = pass.runtime.stream;
  const ProfileRange range(stream, "forward");
  std::size_t first = last;
  while (!branches_[first].is_mixer) --first;
  const std::size_t from = activations.branches.back().branch;
  if (!activations.branches.back().residual.present()) activations.branches.back().residual = offloaded_->take();
  // The next one returns when the inputs between two kept ones have been released.
  if (offloaded_ && keeps_input(first)) offloaded_->start_return();
  ResidualStream residual{Tensor()};
  residual.view = activations.branches.back().residual;
  Tensor x;
  for (std::size_t i = from; i <= last; ++i) {
    if (branches_[i].mlp != nullptr && i < first) {
      x = forward_mlp(pass, i, residual, std::move(x), nullptr);
      continue;
    }
    if (branches_[i].mlp != nullptr) {  // its tiles are run again where they are used
      activations.branches.push_back(
          {.branch = i, .saved = Saved(name_of(branches_[i])), .added = std::move(x), .reruns = true});
      continue;
    }
    parameters_.use({group_of_block(branches_[i].block)}, stream);
    Normalised normalised = normalise(stream, i, x, residual);
    x = {};
    Pass again = activations.of_branch(pass, i, true);
    again.only_saved = i == last;
    if (i > from)
      activations.branches.push_back(
          {.branch = i, .saved = Saved(name_of(branches_[i])), .residual = std::move(residual.values)});
    if (i < first) {
      x = forward_of(again, i, normalised.rows, nullptr);
      continue;
    }
    KeptOfBranch& kept = activations.branches.back();
    x = forward_of(again, i, normalised.rows, &kept.saved);
    keep_norm(std::move(normalised), kept);
  }
}

double sum_in_order(const Stream& stream, TensorView values) {
  double sum = 0;
  for (const double value : host_values<double>(stream, values)) sum += value;
  return sum;
}

}  // namespace causeway
