#include "src/model/gated_mlp.hpp"

#include "kernels/activation.hpp"
#include "src/model/dense/dense.hpp"

namespace causeway {
namespace {

Activation activation_of(const ModelOptions& options, std::size_t block) {
  if (options.mlp_activation == "swiglu") return Activation::silu;
  return block == 0 ? Activation::gelu : Activation::none;
}

/// F = options.ffn.
class GatedMlp final : public PerTokenSublayer {
 public:
  GatedMlp(const ModelOptions& options, std::size_t block, const std::string& prefix, ParameterSet& parameters)
      : inner_(options.ffn),
        activation_(activation_of(options, block)),
        fc1_(parameters.add(dense_spec(prefix + "fc1.weight", 2 * inner_, options.width, deviation_in(options.width)))),
        fc2_(parameters.add(dense_spec(prefix + "fc2.weight", options.width, inner_,
                                       deviation_out(options.width, options.layers.size())))) {}

  void forward_to(const Pass& pass, const RowsView& x, Saved* saved, TensorView y) override {
    const Stream& stream = pass.runtime.stream;
    Tensor ab = dense(stream, fc1_, x);  // (T, 2·F): a, b
    if (y.present()) multiply_by(stream, fc2_, gate(stream, ab), y);
    if (saved != nullptr) saved->put("ab", std::move(ab));
  }

  Tensor backward_of(const Pass& pass, const RowsView& x, const RowsView& d_out, Saved& saved) override {
    const Stream& stream = pass.runtime.stream;
    Tensor ab = saved.take("ab");
    // gated is computed again rather than kept.
    if (!multiplies_codes(stream, fc1_) && !multiplies_codes(stream, fc2_)) {
      Tensor gated(stream, ab.view().dtype, {ab.view().rows(), inner_});
      multiply_by_adjoint(stream, fc2_, d_out, gated);
      // The gradients of a and b replace a and b; gated replaces its gradient.
      gated_activation_backward(
          stream,
          {.a = a(ab), .b = b(ab), .activation = activation_, .d_y = gated, .d_a = a(ab), .d_b = b(ab), .y = gated});
      add_product(stream, fc2_, d_out, gated);
      gated = {};
      return dense_backward(stream, fc1_, x, ab);
    }
    Fp8Copy d_codes;
    {
      const Tensor d_gated = dense_backward(stream, fc2_, gate(stream, ab), d_out);
      GatedActivationBackward args{.a = a(ab), .b = b(ab), .activation = activation_, .d_y = d_gated};
      if (multiplies_codes(stream, fc1_)) {
        d_codes = {stream, ab.view().shape, Fp8Format::e5m2};
        args.d_codes = d_codes;
      } else {
        args.d_a = args.a;
        args.d_b = args.b;
      }
      gated_activation_backward(stream, args);
    }
    if (!d_codes.present()) return dense_backward(stream, fc1_, x, ab);
    ab = {};
    return dense_backward(stream, fc1_, x, RowsView({}, d_codes));
  }

  /// Each token is computed from itself only, so there is no state.
  Tensor extend(const Stream& stream, const RowsView& x, std::span<const NextTokens>) override {
    const Tensor ab = dense(stream, fc1_, x);
    return dense(stream, fc2_, gate(stream, ab));
  }

  Ends ends() const override { return {.input = fc1_, .output = fc2_}; }

 private:
  TensorView a(TensorView ab) const { return ab.slice_columns(0, inner_); }
  TensorView b(TensorView ab) const { return ab.slice_columns(inner_, inner_); }
  TokenRows gate(const Stream& stream, TensorView ab) const {
    TokenRows y = TokenRows::for_products(stream, fc2_, ab.dtype, {ab.rows(), inner_});
    gated_activation_forward(stream,
                             {.a = a(ab), .b = b(ab), .activation = activation_, .y = y.values, .y_codes = y.codes});
    return y;
  }

  std::int64_t inner_;
  Activation activation_;
  const Parameter &fc1_, &fc2_;
};

}  // namespace

std::unique_ptr<PerTokenSublayer> make_gated_mlp(const ModelOptions& options, std::size_t block,
                                                 const std::string& prefix, ParameterSet& parameters) {
  return std::make_unique<GatedMlp>(options, block, prefix, parameters);
}

}  // namespace causeway
