#include "kernels/attention.hpp"

#include <cmath>

#include "kernels/reorder.hpp"
#include "src/model/dense.hpp"
#include "src/model/layer.hpp"

namespace causeway {
namespace {

/// Keys and values that a new document has room for; twice as many each time it is full.
constexpr std::int64_t first_capacity = 256;

/// Multi-head attention with rotary positions: (q, k, v) = x·Wᵀ, attention in each document, out-projection.
class Attention final : public Operator {
 public:
  Attention(const ModelOptions& options, const std::string& prefix, ParameterSet& parameters)
      : width_(options.width),
        heads_(options.heads),
        rope_base_(options.rope_base),
        projections_(
            parameters.add(dense_spec(prefix + "projections.weight", 3 * width_, width_, deviation_in(width_)))),
        out_proj_(parameters.add(
            dense_spec(prefix + "out_proj.weight", width_, width_, deviation_out(width_, options.layers.size())))) {}

  Tensor forward(const Pass& pass, TensorView x, Saved* saved) override {
    const Stream& stream = pass.runtime.stream;
    Tensor qkv = dense(stream, projections_, x);  // (T, 3·D)
    Tensor y(stream, x.dtype, x.shape);
    pass.strategies().attention->forward(
        pass.strategy_context(),
        {.q = part(qkv, 0), .k = part(qkv, 1), .v = part(qkv, 2), .rope_base = rope_base_, .y = by_heads(y)},
        scope_of(saved, "attention"));
    Tensor out = dense(stream, out_proj_, y);
    if (saved != nullptr) {
      saved->put("qkv", std::move(qkv));
      saved->put("y", std::move(y));
    }
    return out;
  }

  Tensor backward(const Pass& pass, TensorView x, TensorView d_out, Saved& saved) override {
    const Stream& stream = pass.runtime.stream;
    Tensor y = saved.take("y");
    const Tensor qkv = saved.take("qkv");
    const Tensor d_y = dense_backward(stream, out_proj_, y, d_out), d_qkv(stream, x.dtype, qkv.view().shape);
    y = {};
    pass.strategies().attention->backward(pass.strategy_context(),
                                          {.q = part(qkv, 0),
                                           .k = part(qkv, 1),
                                           .v = part(qkv, 2),
                                           .rope_base = rope_base_,
                                           .d_y = by_heads(d_y),
                                           .d_q = part(d_qkv, 0),
                                           .d_k = part(d_qkv, 1),
                                           .d_v = part(d_qkv, 2)},
                                          saved.scope("attention"));
    return dense_backward(stream, projections_, x, d_qkv);
  }

  std::vector<OperatorCall> calls(DType dtype) const override {
    const TensorView x = by_heads(without_data(dtype, {1, width_}));
    return {{"attention", RotaryAttentionForward{.q = x, .k = x, .v = x, .rope_base = rope_base_, .y = x}}};
  }

  /// Remembers keys, turned already, and values.
  Tensor extend(const Stream& stream, TensorView x, DecodeState& state) override {
    const std::int64_t before = state.tokens, count = x.rows();
    const DeviceSegments run = next_run(stream, before, count);
    const Tensor qkv = dense(stream, projections_, x), y(stream, x.dtype, x.shape);
    if (rope_base_ > 0)
      for (const int which : {0, 1})
        rope(stream, {.x = part(qkv, which), .segments = run.view(), .base = rope_base_, .y = part(qkv, which)});
    make_room(stream, x.dtype, before, count, state.memory);
    for (const std::size_t which : {0, 1}) {
      const RowRange rows{.from = 0, .to = before, .count = count};
      copy_rows(stream, {.x = part(qkv, static_cast<int>(which) + 1), .ranges = {&rows, 1}, .y = state.memory[which]});
    }
    const Tensor lse(stream, accumulator_of(x.dtype), {count, heads_});
    attention_forward(stream, {.in = {.q = part(qkv, 0),
                                      .k = state.memory[0].view().slice_rows(0, before + count),
                                      .v = state.memory[1].view().slice_rows(0, before + count),
                                      .key_offset = -before,
                                      .segments = run.view()},
                               .y = by_heads(y),
                               .lse = lse});
    return dense(stream, out_proj_, y);
  }

 private:
  /// A [tokens, D] view as [tokens, H, E].
  TensorView by_heads(TensorView x) const {
    x.shape = {x.rows(), heads_, width_ / heads_};
    return x;
  }
  /// q, k or v of the three side by side.
  TensorView part(TensorView qkv, int which) const { return by_heads(qkv.slice_columns(which * width_, width_)); }

  void make_room(const Stream& stream, DType dtype, std::int64_t used, std::int64_t more,
                 std::vector<Tensor>& cache) const {
    std::int64_t capacity = cache.empty() ? first_capacity : cache[0].view().rows();
    if (!cache.empty() && used + more <= capacity) return;
    while (capacity < used + more) capacity *= 2;
    const RowRange all{.from = 0, .to = 0, .count = used};
    cache.resize(2);
    for (Tensor& kept : cache) {
      Tensor larger(stream, dtype, {capacity, heads_, width_ / heads_});
      if (used > 0) copy_rows(stream, {.x = kept, .ranges = {&all, 1}, .y = larger});
      kept = std::move(larger);
    }
  }

  std::int64_t width_, heads_;
  double rope_base_;
  const Parameter &projections_, &out_proj_;
};

}  // namespace

std::unique_ptr<Operator> make_attention(const ModelOptions& options, const std::string& prefix,
                                         ParameterSet& parameters) {
  return std::make_unique<Attention>(options, prefix, parameters);
}

}  // namespace causeway
