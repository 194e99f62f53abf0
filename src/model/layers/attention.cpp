#include "kernels/attention.hpp"

#include <cmath>

#include "kernels/reorder.hpp"
#include "src/model/dense/dense.hpp"
#include "src/model/layer.hpp"

namespace causeway {
namespace {

/// Tokens for which a new document's key/value cache has memory; doubled each time that it is full.
constexpr std::int64_t first_capacity = 256;

/// The tensors of DecodeState::cache: [capacity, H, E] each. Keys are rotated (RoPE) already.
constexpr std::size_t cached_keys = 0, cached_values = 1;

/// The rotary frequencies of the pairs of a head of `channels`: [channels/2], base^(-2i/channels) at first. Published
/// models store them in float32. RopeAngles says how they are used.
ParameterSpec inv_freq_spec(const std::string& name, std::int64_t channels, double base) {
  return {.name = name,
          .shape = {channels / 2},
          .wide = true,
          .frozen = true,
          .initial = [=](const RandomStream&, std::int64_t i) {
            return std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(channels));
          }};
}

/// Multi-head causal attention with rotary position embeddings (RoPE, arXiv 2104.09864), in each document separately:
///   (q, k, v) = x·Wᵀ                               x (T, D), q, k, v (T, H, E) with D = H·E
///   y = softmax(rope(q)·rope(k)ᵀ / √E + mask)·v    the mask leaves the document's tokens up to the query
///   out = y·W_outᵀ + bias                          the bias if options.out_bias
class Attention final : public Sublayer {
 public:
  Attention(const ModelOptions& options, const std::string& prefix, ParameterSet& parameters)
      : width_(options.width),
        heads_(options.heads),
        rope_{.base = options.rope_base, .scaling = options.rope_scaling, .inv_freq = {}},
        projections_(
            parameters.add(projection_spec(prefix + "projections.weight", 3 * width_, width_, deviation_in(width_)))),
        out_proj_(parameters.add(
            dense_spec(prefix + "out_proj.weight", width_, width_, deviation_out(width_, options.layers.size())))) {
    if (options.out_bias) out_bias_ = &parameters.add(bias_spec(prefix + "out_proj.bias", width_));
    if (options.rope_stored)
      inv_freq_ = &parameters.add(inv_freq_spec(prefix + "inv_freq", width_ / heads_, options.rope_base));
  }

  Tensor forward(const Pass& pass, const RowsView& x, Saved* saved) override {
    const Stream& stream = pass.runtime.stream;
    Tensor qkv = dense(stream, projections_, x);  // (T, 3·D)
    Tensor y(stream, x.dtype(), x.shape());
    pass.strategies().attention->forward(pass.strategy_context(),
                                         {.q = part(qkv, 0),
                                          .k = part(qkv, 1),
                                          .v = part(qkv, 2),
                                          .rope = angles(),
                                          .rotate_in_place = true,
                                          .y = by_heads(y)},
                                         scope_of(saved, "attention"));
    if (!keeps_inputs(pass)) qkv = {};
    Tensor out = pass.only_saved ? Tensor() : dense(stream, out_proj_, y, out_bias_);
    if (saved != nullptr) {
      saved->put("qkv", std::move(qkv));
      saved->put("y", std::move(y));
    }
    return out;
  }

  void backward(const Pass& pass, const TiledInput& x, const RowsView& d_out, Saved& saved) override {
    const Stream& stream = pass.runtime.stream;
    Tensor y = saved.take("y");
    const Tensor qkv = saved.take("qkv");
    const auto input = [&](int which) {
      return qkv.present() ? part(qkv, which) : by_heads(without_data(x.dtype, {x.tokens, width_}));
    };
    const Tensor d_y = dense_backward(stream, out_proj_, y, d_out, out_bias_),
                 d_qkv(stream, x.dtype, {x.tokens, 3 * width_});
    pass.strategies().attention->backward(pass.strategy_context(),
                                          {.q = input(0),
                                           .k = input(1),
                                           .v = input(2),
                                           .rope = angles(),
                                           .rotate_in_place = true,
                                           .y = by_heads(y),
                                           .d_y = by_heads(d_y),
                                           .d_q = part(d_qkv, 0),
                                           .d_k = part(d_qkv, 1),
                                           .d_v = part(d_qkv, 2)},
                                          saved.scope("attention"));
    y = {};
    dense_backward(stream, projections_, x, d_qkv);
  }

  std::vector<OperatorCall> calls(DType dtype) const override {
    const TensorView x = by_heads(without_data(dtype, {1, width_}));
    return {{"attention", RotaryAttentionForward{.q = x, .k = x, .v = x, .rope = angles(), .y = x}}};
  }

  Tensor extend(const Stream& stream, const RowsView& x, std::span<const NextTokens> documents) override {
    const Tensor qkv = dense(stream, projections_, x), y(stream, x.dtype(), x.shape());
    for (const NextTokens& document : documents) extend_one(stream, document.rows(qkv), document.rows(y), document);
    return dense(stream, out_proj_, y, out_bias_);
  }

  Ends ends() const override { return {.input = projections_, .output = out_proj_, .output_bias = out_bias_}; }

 private:
  /// Attention of the next tokens of one document, of which qkv and y are the rows.
  void extend_one(const Stream& stream, TensorView qkv, TensorView y, const NextTokens& document) const {
    const auto& [state, segments, before, first_row, count] = document;
    const TensorView q = part(qkv, 0), k = part(qkv, 1), v = part(qkv, 2);
    if (rope_.base > 0)
      for (const TensorView rotated : {q, k})
        rope(stream, {.x = rotated, .segments = segments, .angles = angles(), .y = rotated});
    grow_cache(stream, qkv.dtype, before, count, state.cache);
    const TensorView keys = state.cache[cached_keys], values = state.cache[cached_values];
    const RowRange appended{.from = 0, .to = before, .count = count};
    copy_rows(stream, {.x = k, .ranges = {&appended, 1}, .y = keys});
    copy_rows(stream, {.x = v, .ranges = {&appended, 1}, .y = values});
    const Tensor lse(stream, accumulator_of(qkv.dtype), {count, heads_});
    attention_forward(stream, {.in = {.q = q,
                                      .k = keys.slice_rows(0, before + count),
                                      .v = values.slice_rows(0, before + count),
                                      .key_offset = -before,
                                      .segments = segments},
                               .y = by_heads(y),
                               .lse = lse});
  }

  /// The angles of this layer; its stored frequencies have memory only after the set's allocate().
  RopeAngles angles() const {
    RopeAngles all = rope_;
    if (inv_freq_ != nullptr) all.inv_freq = inv_freq_->weight;
    return all;
  }
  /// A [T, D] view as [T, H, E]; its rows can be part of wider ones.
  TensorView by_heads(TensorView x) const {
    x.shape = {x.rows(), heads_, width_ / heads_};
    return x;
  }
  /// Whether the strategy's backward reads qkv. It does on one rank.
  static bool keeps_inputs(const Pass& pass) {
    return pass.runtime.mesh.context.size() == 1 || pass.strategies().attention->backward_reads_inputs;
  }
  /// q, k or v (0, 1, 2) of qkv (T, 3·D), in which the three are side by side.
  TensorView part(TensorView qkv, int which) const { return by_heads(qkv.slice_columns(which * width_, width_)); }

  /// Makes the cache large enough for `more` tokens after the first `used`, which stay.
  void grow_cache(const Stream& stream, DType dtype, std::int64_t used, std::int64_t more,
                  std::vector<Tensor>& cache) const {
    std::int64_t capacity = cache.empty() ? first_capacity : cache[0].view().rows();
    if (!cache.empty() && used + more <= capacity) return;
    while (capacity < used + more) capacity *= 2;
    const RowRange kept{.from = 0, .to = 0, .count = used};
    cache.resize(2);
    for (Tensor& cached : cache) {
      Tensor larger(stream, dtype, {capacity, heads_, width_ / heads_});
      if (used > 0) copy_rows(stream, {.x = cached, .ranges = {&kept, 1}, .y = larger});
      cached = std::move(larger);
    }
  }

  std::int64_t width_, heads_;
  RopeAngles rope_;
  const Parameter &projections_, &out_proj_;
  const Parameter *out_bias_ = nullptr, *inv_freq_ = nullptr;
};

}  // namespace

std::unique_ptr<Sublayer> make_attention(const ModelOptions& options, const std::string& prefix,
                                         ParameterSet& parameters) {
  return std::make_unique<Attention>(options, prefix, parameters);
}

}  // namespace causeway
