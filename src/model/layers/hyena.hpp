#pragma once

#include <cmath>

#include "src/model/dense/dense.hpp"
#include "src/model/layer.hpp"

namespace causeway {

/// The featurizer of StripedHyena 2's mixers, (q, k, v) = causal_conv(projected): 3 taps, no bias, no activation.
class Featurizer {
 public:
  static constexpr std::int64_t taps = 3;

  Featurizer(std::int64_t width, const std::string& prefix, ParameterSet& parameters)
      : width_(width),
        parameter_(parameters.add({.name = prefix + "featurizer.weight",
                                   .shape = {3 * width, 1, taps},
                                   .decay = true,
                                   .initial = initial::uniform(1 / std::sqrt(double(taps)))})) {}

  std::int64_t width() const { return width_; }
  TensorView weight() const { return parameter_.weight.reshaped({3 * width_, taps}); }
  TensorView d_weight() const { return parameter_.gradient.reshaped({3 * width_, taps}); }
  CausalConvForward convolution(TensorView projected, TensorView features) const {
    return {.x = projected, .weight = weight(), .y = features};
  }
  /// q, k and v (T, D), which are side by side in `columns` (T, 3·D); or their gradients.
  GatedConvInputs split(TensorView columns) const {
    return {.q = columns.slice_columns(0, width_),
            .k = columns.slice_columns(width_, width_),
            .v = columns.slice_columns(2 * width_, width_),
            .skip = {},
            .segments = {}};
  }

 private:
  std::int64_t width_;
  const Parameter& parameter_;
};

/// StripedHyena 2's mixer around a gated convolution (arXiv 2503.01868):
///   projected = x·Wᵀ                              x (T, D), projected (T, 3·D)
///   (q, k, v) = featurizer(projected)             q, k, v (T, D)
///   y = q ⊙ (h ∗ (k⊙v) + skip ⊙ (k⊙v))
///   out = y·W_outᵀ + bias                         the bias if options.out_bias
/// se, mr and li differ only in `Filter`, which holds the parameters of h and of skip and has
///   forward(pass, featurizer, projected, y, saved): from projected to y, by the strategies that were chosen for its
///     operators
///   backward(pass, featurizer, projected, d_y, saved): the adjoint, which returns d_projected
///   calls(featurizer, dtype): those operators with their arguments' shapes, in order to choose the strategies
///   initial_state(stream, dtype): its decode state before a document's first token
///   extend(stream, inputs, y, state): y of a document's next tokens, whose segments are inputs.segments, from q, k and
///     v; updates state
template <class Filter>
class Hyena final : public Sublayer {
 public:
  Hyena(const ModelOptions& options, const std::string& prefix, ParameterSet& parameters)
      : projections_(parameters.add(projection_spec(prefix + "projections.weight", 3 * options.width, options.width,
                                                    deviation_in(options.width)))),
        featurizer_(options.width, prefix, parameters),
        filter_(options, prefix + "filter.", parameters),
        out_proj_(parameters.add(dense_spec(prefix + "out_proj.weight", options.width, options.width,
                                            deviation_out(options.width, options.layers.size())))) {
    if (options.out_bias) out_bias_ = &parameters.add(bias_spec(prefix + "out_proj.bias", options.width));
  }

  Tensor forward(const Pass& pass, const RowsView& x, Saved* saved) override {
    const Stream& stream = pass.runtime.stream;
    Tensor projected = dense(stream, projections_, x), values(stream, x.dtype(), x.shape());
    filter_.forward(pass, featurizer_, projected, values, scope_of(saved, "filter"));
    TokenRows y = TokenRows::of(stream, out_proj_, std::move(values));
    Tensor out = pass.only_saved ? Tensor() : dense(stream, out_proj_, y, out_bias_);
    if (saved != nullptr) {
      saved->put("projected", std::move(projected));
      std::move(y).put_into(*saved, "y");
    }
    return out;
  }

  void backward(const Pass& pass, const TiledInput& x, const RowsView& d_out, Saved& saved) override {
    const Stream& stream = pass.runtime.stream;
    TokenRows y = TokenRows::take_from(saved, "y");
    Tensor d_y = dense_backward(stream, out_proj_, y, d_out, out_bias_);
    y = {};
    Tensor projected = saved.take("projected");
    const Tensor d_projected = filter_.backward(pass, featurizer_, projected, d_y, saved.scope("filter"));
    d_y = {};
    projected = {};
    dense_backward(stream, projections_, x, d_projected);
  }

  std::vector<OperatorCall> calls(DType dtype) const override { return filter_.calls(featurizer_, dtype); }

  Tensor extend(const Stream& stream, const RowsView& x, std::span<const NextTokens> documents) override {
    constexpr std::size_t featurizer_rows = 0, filter_state = 1;  // of state.cache
    const Tensor projected = dense(stream, projections_, x), features(stream, x.dtype(), projected.view().shape),
                 y(stream, x.dtype(), x.shape());
    for (const NextTokens& document : documents) {
      DecodeState& state = document.state;
      if (state.cache.empty()) {
        state.cache.push_back(Tensor::zeros(stream, x.dtype(), {Featurizer::taps - 1, projected.view().columns()}));
        state.cache.push_back(filter_.initial_state(stream, x.dtype()));
      }
      CausalConvForward conv = featurizer_.convolution(document.rows(projected), document.rows(features));
      conv.segments = document.segments;
      extend_convolution(stream, conv, state.cache[featurizer_rows]);
      GatedConvInputs in = featurizer_.split(document.rows(features));
      in.segments = document.segments;
      filter_.extend(stream, in, document.rows(y), state.cache[filter_state]);
    }
    return dense(stream, out_proj_, y, out_bias_);
  }

  Ends ends() const override { return {.input = projections_, .output = out_proj_, .output_bias = out_bias_}; }

 private:
  const Parameter& projections_;
  Featurizer featurizer_;
  Filter filter_;
  const Parameter& out_proj_;
  const Parameter* out_bias_ = nullptr;
};

}  // namespace causeway
