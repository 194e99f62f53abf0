#include "src/model.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/activation.hpp"
#include "kernels/cross_entropy.hpp"
#include "kernels/embedding.hpp"
#include "kernels/gemm.hpp"
#include "kernels/norm.hpp"

namespace causeway {
namespace {

constexpr double norm_eps = 1e-5;  // Mamba's
/// Tokens whose logits exist at one time: enough rows for an efficient GEMM, few beside a long pack.
constexpr std::int64_t head_tile = 1024;

double one(const RandomStream&, std::int64_t) { return 1; }

ParameterSpec norm_spec(const std::string& name, std::int64_t width) {
  return {.name = name, .shape = {width}, .wide = true, .initial = one};
}

}  // namespace

/// What the forward pass over the blocks leaves for the way back.
struct Model::Trail {
  struct Step {
    Tensor residual;          // [tokens, width], the residual stream as the block's norm read it
    Tensor normalised, rstd;  // the norm's output, absent with recomputation
    Saved saved;              // the mixer's, likewise
  };
  std::vector<Step> steps;
};

Model::Model(const Options& options) : options_(options), parameters_(options.dtype) {
  const ModelOptions& shape = options_.shape;
  shape.check();
  embedding_ = &parameters_.add({.name = "backbone.embedding.weight",
                                 .shape = {shape.vocabulary, shape.width},
                                 .decay = true,
                                 .initial = [](const RandomStream& random, std::int64_t i) {
                                   return 0.02 * random.normal(static_cast<std::uint64_t>(i));
                                 }});
  for (std::size_t i = 0; i < shape.layers.size(); ++i) {
    const std::string prefix = fmt::format("backbone.layers.{}.", i);
    const Parameter& norm = parameters_.add(norm_spec(prefix + "norm.weight", shape.width));
    blocks_.push_back({&norm, make_layer(shape.layers[i], shape, prefix + "mixer.", parameters_)});
  }
  norm_f_ = &parameters_.add(norm_spec("backbone.norm_f.weight", shape.width));
  head_ = embedding_;
  if (!shape.tied_head) {
    const double bound = 1 / std::sqrt(double(shape.width));
    head_ = &parameters_.add({.name = "lm_head.weight",
                              .shape = {shape.vocabulary, shape.width},
                              .decay = true,
                              .initial = [bound](const RandomStream& random, std::int64_t i) {
                                return bound * (2 * random.uniform(static_cast<std::uint64_t>(i)) - 1);
                              }});
  }
}

double Model::train(const Pass& pass, const Batch& batch) {
  const Stream& stream = pass.runtime.stream;
  const std::int64_t tokens = batch.ids.size();
  const DType wide = accumulator_of(options_.dtype);
  const Shape shape{tokens, options_.shape.width};

  Trail trail;
  Tensor d_residual(stream, wide, shape);
  Tensor losses(stream, wide, {tokens});
  {
    const Tensor residual(stream, wide, shape);
    const Tensor last = forward_blocks(pass, batch.ids, residual, &trail, {});
    fill(stream, {.value = 0, .y = d_residual});
    head(pass, last, residual, batch.labels, losses, d_residual);
  }
  backward_blocks(pass, batch.ids, d_residual, trail);
  return sum_in_order(stream, losses);
}

void Model::evaluate(const Pass& pass, const Batch& batch, TensorView token_losses, const Observer& observer) {
  const Tensor residual(pass.runtime.stream, accumulator_of(options_.dtype), {batch.ids.size(), options_.shape.width});
  const Tensor last = forward_blocks(pass, batch.ids, residual, nullptr, observer);
  head(pass, last, residual, batch.labels, token_losses, {});
  if (observer) observer(static_cast<std::int64_t>(blocks_.size()), residual);
}

Tensor Model::forward_blocks(const Pass& pass, TensorView ids, TensorView residual, Trail* trail,
                             const Observer& observer) {
  const Stream& stream = pass.runtime.stream;
  const Shape shape = residual.shape;
  embedding_forward(stream, {.ids = ids, .weight = embedding_->weight, .y = residual});
  Tensor x;  // what the block before has yet to add to the residual stream
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    Tensor normalised(stream, options_.dtype, shape), rstd(stream, residual.dtype, {shape[0]});
    rms_norm_forward(stream, {.x = x,
                              .residual = residual,
                              .weight = blocks_[i].norm->weight,
                              .eps = norm_eps,
                              .y = normalised,
                              .rstd = rstd});
    x = {};
    if (observer) observer(static_cast<std::int64_t>(i), residual);
    if (trail == nullptr) {
      x = blocks_[i].mixer->forward(pass, normalised, nullptr);
      continue;
    }
    Trail::Step step;
    step.residual = Tensor(stream, residual.dtype, shape);
    stream.copy(step.residual.view().data, residual.data, residual.bytes());
    x = blocks_[i].mixer->forward(pass, normalised, options_.recompute ? nullptr : &step.saved);
    if (!options_.recompute) {
      step.normalised = std::move(normalised);
      step.rstd = std::move(rstd);
    }
    trail->steps.push_back(std::move(step));
  }
  return x;
}

void Model::backward_blocks(const Pass& pass, TensorView ids, TensorView d_residual, Trail& trail) {
  const Stream& stream = pass.runtime.stream;
  const Shape shape = d_residual.shape;
  for (std::size_t i = blocks_.size(); i-- > 0; trail.steps.pop_back()) {
    Trail::Step& step = trail.steps.back();
    const Parameter& norm = *blocks_[i].norm;
    if (options_.recompute) {
      step.normalised = Tensor(stream, options_.dtype, shape);
      step.rstd = Tensor(stream, d_residual.dtype, {shape[0]});
      rms_norm_forward(
          stream,
          {.residual = step.residual, .weight = norm.weight, .eps = norm_eps, .y = step.normalised, .rstd = step.rstd});
      blocks_[i].mixer->forward(pass, step.normalised, &step.saved);
    }
    Tensor narrowed;  // the gradient of the mixer's output is the residual stream's, in the compute type
    if (d_residual.dtype != options_.dtype) {
      narrowed = Tensor(stream, options_.dtype, shape);
      scale(stream, {.x = d_residual, .y = narrowed});
    }
    const Tensor d_normalised = blocks_[i].mixer->backward(
        pass, step.normalised, narrowed.present() ? narrowed.view() : d_residual, step.saved);
    rms_norm_backward(stream, {.residual = step.residual,
                               .weight = norm.weight,
                               .rstd = step.rstd,
                               .d_y = d_normalised,
                               .d_residual = d_residual,
                               .d_weight = norm.gradient});
  }
  embedding_backward(stream, {.ids = ids, .d_y = d_residual, .d_weight = embedding_->gradient});
}

void Model::head(const Pass& pass, TensorView last, TensorView residual, TensorView labels, TensorView token_losses,
                 TensorView d_residual) {
  const Stream& stream = pass.runtime.stream;
  const DType wide = residual.dtype, narrow = options_.dtype;
  const std::int64_t tokens = residual.rows(), width = residual.columns(), vocabulary = options_.shape.vocabulary;
  const std::int64_t tile = std::min(head_tile, tokens);
  const Tensor y(stream, narrow, {tile, width}), rstd(stream, wide, {tile}), logits(stream, wide, {tile, vocabulary});
  const Tensor d_logits =
      wide == narrow || !d_residual.present() ? Tensor() : Tensor(stream, narrow, {tile, vocabulary});
  for (std::int64_t begin = 0; begin < tokens; begin += tile) {
    const std::int64_t count = std::min(tile, tokens - begin);
    const auto here = [&](TensorView whole) { return whole.slice_rows(begin, count); };
    const auto part = [&](TensorView scratch) { return scratch.slice_rows(0, count); };
    rms_norm_forward(stream, {.x = here(last),
                              .residual = here(residual),
                              .weight = norm_f_->weight,
                              .eps = norm_eps,
                              .y = part(y),
                              .rstd = part(rstd)});
    gemm(stream, {.a = part(y), .b = head_->weight, .transpose_b = true, .c = part(logits)});
    cross_entropy(stream, {.logits = part(logits),
                           .labels = here(labels),
                           .loss = here(token_losses),
                           .d_logits = d_residual.present() ? part(logits) : TensorView{}});
    if (!d_residual.present()) continue;
    TensorView gradient = part(logits);
    if (d_logits.present()) {
      scale(stream, {.x = gradient, .y = part(d_logits)});
      gradient = part(d_logits);
    }
    gemm(stream, {.a = gradient, .b = part(y), .transpose_a = true, .beta = 1, .c = head_->gradient});
    gemm(stream, {.a = gradient, .b = head_->weight, .c = part(y)});  // y's gradient in its place
    rms_norm_backward(stream, {.residual = here(residual),
                               .weight = norm_f_->weight,
                               .rstd = part(rstd),
                               .d_y = part(y),
                               .d_residual = here(d_residual),
                               .d_weight = norm_f_->gradient});
  }
}

double sum_in_order(const Stream& stream, TensorView values) {
  double sum = 0;
  dispatch(values.dtype, [&]<class T>() {
    std::vector<T> host(static_cast<std::size_t>(values.size()));
    stream.copy(host.data(), values.data, values.bytes());
    stream.wait();
    for (const T value : host) sum += static_cast<double>(value);
  });
  return sum;
}

}  // namespace causeway
