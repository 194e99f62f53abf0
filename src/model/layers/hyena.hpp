#pragma once

#include <cmath>

#include "src/model/dense.hpp"
#include "src/model/layer.hpp"

namespace causeway {

inline constexpr std::int64_t featurizer_taps = 3;

/// StripedHyena 2's mixer around a gated convolution (arXiv 2503.01868):
///   projected = x·Wᵀ                              x (T, D), projected (T, 3·D)
///   (q, k, v) = causal_conv(projected)            the featurizer: 3 taps, no bias, no activation; q, k, v (T, D)
///   y = q ⊙ (h ∗ (k⊙v) + skip ⊙ (k⊙v))
///   out = y·W_outᵀ + bias                         the bias if options.out_bias
/// se, mr and li differ only in `Filter`, which holds the parameters of h and of skip and has
///   forward(pass, inputs, y, saved), backward(pass, inputs, gradients, saved): y and its adjoint, by the strategy
///     that was chosen for the filter's operator
///   call(inputs): that operator with its arguments' shapes, in order to choose the strategy
///   initial_state(stream, dtype): its decode state before a document's first token
///   extend(stream, inputs, y, state): y of a document's next tokens, whose segments are inputs.segments; updates state
template <class Filter>
class Hyena final : public Sublayer {
 public:
  Hyena(const ModelOptions& options, const std::string& prefix, ParameterSet& parameters)
      : width_(options.width),
        projections_(
            parameters.add(projection_spec(prefix + "projections.weight", 3 * width_, width_, deviation_in(width_)))),
        featurizer_(parameters.add({.name = prefix + "featurizer.weight",
                                    .shape = {3 * width_, 1, featurizer_taps},
                                    .decay = true,
                                    .initial = initial::uniform(1 / std::sqrt(double(featurizer_taps)))})),
        filter_(options, prefix + "filter.", parameters),
        out_proj_(parameters.add(
            dense_spec(prefix + "out_proj.weight", width_, width_, deviation_out(width_, options.layers.size())))) {
    if (options.out_bias) out_bias_ = &parameters.add(bias_spec(prefix + "out_proj.bias", width_));
  }

  Tensor forward(const Pass& pass, TensorView x, Saved* saved) override {
    const Stream& stream = pass.runtime.stream;
    Tensor projected = dense(stream, projections_, x), features = like(stream, projected);  // (T, 3·D): q, k, v
    pass.strategies().causal_conv->forward(pass.strategy_context(), featurizer(projected, features),
                                           scope_of(saved, "featurizer"));
    Tensor y = like(stream, x);
    filter_.forward(pass, inputs(features), y, scope_of(saved, "filter"));
    Tensor out = pass.only_saved ? Tensor() : dense(stream, out_proj_, y, out_bias_);
    if (saved != nullptr) {
      saved->put("projected", std::move(projected));
      saved->put("features", std::move(features));
      saved->put("y", std::move(y));
    }
    return out;
  }

  Tensor backward(const Pass& pass, TensorView x, TensorView d_out, Saved& saved) override {
    const Stream& stream = pass.runtime.stream;
    Tensor y = saved.take("y"), features = saved.take("features");
    const Tensor projected = saved.take("projected");
    Tensor d_features = like(stream, features);
    {
      const Tensor d_y = dense_backward(stream, out_proj_, y, d_out, out_bias_);
      y = {};
      const GatedConvInputs gradients = inputs(d_features);
      filter_.backward(pass, inputs(features),
                       {.d_y = d_y, .d_q = gradients.q, .d_k = gradients.k, .d_v = gradients.v, .d_skip = {}},
                       saved.scope("filter"));
      features = {};
    }
    const Tensor d_projected = like(stream, projected);
    const CausalConvForward conv = featurizer(projected, {});
    pass.strategies().causal_conv->backward(pass.strategy_context(),
                                            {.x = conv.x,
                                             .weight = conv.weight,
                                             .d_y = d_features,
                                             .d_x = d_projected,
                                             .d_weight = featurizer_.gradient.reshaped(conv.weight.shape)},
                                            saved.scope("featurizer"));
    d_features = {};
    return dense_backward(stream, projections_, x, d_projected);
  }

  std::vector<OperatorCall> calls(DType dtype) const override {
    const TensorView x = without_data(dtype, {1, width_}), features = without_data(dtype, {1, 3 * width_});
    CausalConvForward conv;
    conv.x = conv.y = features;
    conv.weight = without_data(dtype, {3 * width_, featurizer_taps});
    return {{"causal_conv", conv}, filter_.call({.q = x, .k = x, .v = x, .skip = {}, .segments = {}})};
  }

  Tensor extend(const Stream& stream, TensorView x, std::span<const NextTokens> documents) override {
    constexpr std::size_t featurizer_rows = 0, filter_state = 1;  // of state.cache
    const Tensor projected = dense(stream, projections_, x), features = like(stream, projected), y = like(stream, x);
    for (const NextTokens& document : documents) {
      DecodeState& state = document.state;
      if (state.cache.empty()) {
        state.cache.push_back(Tensor::zeros(stream, x.dtype, {featurizer_taps - 1, 3 * width_}));
        state.cache.push_back(filter_.initial_state(stream, x.dtype));
      }
      CausalConvForward conv = featurizer(document.rows(projected), document.rows(features));
      conv.segments = document.segments;
      extend_convolution(stream, conv, state.cache[featurizer_rows]);
      GatedConvInputs in = inputs(document.rows(features));
      in.segments = document.segments;
      filter_.extend(stream, in, document.rows(y), state.cache[filter_state]);
    }
    return dense(stream, out_proj_, y, out_bias_);
  }

 private:
  static Tensor like(const Stream& stream, TensorView x) { return Tensor(stream, x.dtype, x.shape); }
  CausalConvForward featurizer(TensorView projected, TensorView features) const {
    return {.x = projected, .weight = featurizer_.weight.reshaped({3 * width_, featurizer_taps}), .y = features};
  }
  /// q, k and v (T, D), which are side by side in `features` (T, 3·D); or their gradients.
  GatedConvInputs inputs(TensorView features) const {
    return {.q = features.slice_columns(0, width_),
            .k = features.slice_columns(width_, width_),
            .v = features.slice_columns(2 * width_, width_),
            .skip = {},
            .segments = {}};
  }

  std::int64_t width_;
  const Parameter &projections_, &featurizer_;
  Filter filter_;
  const Parameter& out_proj_;
  const Parameter* out_bias_ = nullptr;
};

}  // namespace causeway
