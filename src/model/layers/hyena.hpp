#pragma once

#include <cmath>

#include "src/model/dense.hpp"
#include "src/model/layer.hpp"

namespace causeway {

inline constexpr std::int64_t featurizer_taps = 3;

/// StripedHyena 2's block around a gated convolution (arXiv 2503.01868): (q, k, v) = causal_conv(x·Wᵀ), W 3 taps
/// without bias or activation; y = q ⊙ (h ∗ (k⊙v) + skip ⊙ (k⊙v)); out-projection. se, mr and li differ in `Filter`
/// alone, which holds the parameters of h and has
///   forward(pass, inputs, y, saved), backward(pass, inputs, gradients, saved): by the strategy chosen for it
///   call(inputs): the operator it is, for the choice of the strategy
///   start(stream, dtype): what it remembers before a document's first token
///   extend(stream, inputs, y, memory): y of a run, inputs.segments set; `memory` then includes the run
template <class Filter>
class Hyena final : public Operator {
 public:
  Hyena(const ModelOptions& options, const std::string& prefix, ParameterSet& parameters)
      : width_(options.width),
        projections_(
            parameters.add(dense_spec(prefix + "projections.weight", 3 * width_, width_, deviation_in(width_)))),
        featurizer_(parameters.add({.name = prefix + "featurizer.weight",
                                    .shape = {3 * width_, 1, featurizer_taps},
                                    .decay = true,
                                    .initial = initial::uniform(1 / std::sqrt(double(featurizer_taps)))})),
        filter_(options, prefix + "filter.", parameters),
        out_proj_(parameters.add(
            dense_spec(prefix + "out_proj.weight", width_, width_, deviation_out(width_, options.layers.size())))) {}

  Tensor forward(const Pass& pass, TensorView x, Saved* saved) override {
    const Stream& stream = pass.runtime.stream;
    Tensor projected = dense(stream, projections_, x), features = like(stream, projected);  // (T, 3·D)
    pass.strategies().causal_conv->forward(pass.strategy_context(), featurizer(projected, features),
                                           scope_of(saved, "featurizer"));
    Tensor y = like(stream, x);
    filter_.forward(pass, inputs(features), y, scope_of(saved, "filter"));
    Tensor out = dense(stream, out_proj_, y);
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
      const Tensor d_y = dense_backward(stream, out_proj_, y, d_out);
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

  Tensor extend(const Stream& stream, TensorView x, DecodeState& state) override {
    if (state.memory.empty()) {
      state.memory.push_back(Tensor::zeros(stream, x.dtype, {featurizer_taps - 1, 3 * width_}));
      state.memory.push_back(filter_.start(stream, x.dtype));
    }
    const DeviceSegments run = next_run(stream, state.tokens, x.rows());
    const Tensor projected = dense(stream, projections_, x), features = like(stream, projected), y = like(stream, x);
    CausalConvForward conv = featurizer(projected, features);
    conv.segments = run.view();
    extend_convolution(stream, conv, state.memory[0]);
    GatedConvInputs in = inputs(features);
    in.segments = run.view();
    filter_.extend(stream, in, y, state.memory[1]);
    return dense(stream, out_proj_, y);
  }

 private:
  static Tensor like(const Stream& stream, TensorView x) { return Tensor(stream, x.dtype, x.shape); }
  CausalConvForward featurizer(TensorView projected, TensorView features) const {
    return {.x = projected, .weight = featurizer_.weight.reshaped({3 * width_, featurizer_taps}), .y = features};
  }
  /// q, k and v side by side; or their gradients.
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
};

}  // namespace causeway
