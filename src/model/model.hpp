#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "src/model/layer.hpp"

namespace causeway {

/// One pack as a rank trains on it: its own tokens and what follows each of them.
struct Batch {
  TensorView ids;     ///< [local tokens] i32
  TensorView labels;  ///< [local tokens] i32, the next token's id; negative: no loss (a document's end, or masked)
};

/// One document that grows, as the model remembers it; empty at first. Its size does not depend on how long the
/// document is, except for attention's keys and values.
struct GrowingDocument {
  std::int64_t tokens = 0;
  std::vector<DecodeState> steps;
};

/// A language model on packed sequences: embedding → blocks → RMSNorm → head. A block adds mixer(RMSNorm(residual)) to
/// the residual stream, which is kept in the accumulator type, and then, where the model has one,
/// mlp(RMSNorm(residual)). Parameters are named as in mamba_ssm.
class Model {
 public:
  struct Options {
    ModelOptions shape;
    DType dtype = DType::f32;
    bool recompute = false;  ///< keep only each block's input and run the block again on the way back
    std::int64_t recompute_blocks =
        1;  ///< more: keep every so-manieth block's input, run those between once more first
  };
  /// Parameters have no memory until `parameters().allocate()`.
  explicit Model(const Options& options);

  ParameterSet& parameters() { return parameters_; }
  const ParameterSet& parameters() const { return parameters_; }
  const Options& options() const { return options_; }
  /// Every operator that its blocks run over the ranks, block by block.
  std::vector<OperatorCall> calls() const;

  /// Receives the residual stream [local tokens, width] after `layer` blocks (0: the embedding), or its gradient there.
  using Observer = std::function<void(std::int64_t layer, TensorView residual)>;

  /// Receives each layer's output before it is added to the residual stream (Phase::forward), and the gradient of that
  /// output (Phase::backward), both [local tokens, width], and may change them. Not set in a normal run.
  using LayerHook = std::function<void(const Stream& stream, Phase phase, std::int64_t layer, TensorView values)>;
  void set_layer_hook(LayerHook hook) { layer_hook_ = std::move(hook); }

  /// Runs the pack forth and back, adds ∂(Σ token losses)/∂parameter over this rank's tokens to the gradients, and that
  /// sum, in nats, to `loss`, one f64. Waits for nothing. `observer` sees gradients, from the last block's output on.
  void train(const Pass& pass, const Batch& batch, TensorView loss, const Observer& observer = {});

  /// Writes each of this rank's token losses (0 without a label) to `token_losses` [local tokens], accumulator type.
  void evaluate(const Pass& pass, const Batch& batch, TensorView token_losses, const Observer& observer = {});

  /// Appends `ids` [n >= 1] i32 to the document and writes the logits of what follows its last m <= n tokens to
  /// `logits` [m, vocabulary], accumulator type. A prompt and a token after it take the same way: the kernels of
  /// training, on this rank alone.
  void extend(const Stream& stream, TensorView ids, GrowingDocument& document, TensorView logits);

 private:
  /// What adds to the residual stream: a mixer, or an MLP.
  struct Step {
    std::size_t block;
    bool first;  ///< of its block
    const Parameter* norm;
    std::unique_ptr<Operator> op;
  };
  struct Trail;
  std::string name_of(const Step& step) const;
  bool ends_block(std::size_t i) const { return i + 1 == steps_.size() || steps_[i + 1].first; }
  /// Records the layer that step i belongs to as reached, and runs the step's operator.
  Tensor forward_of(const Pass& pass, std::size_t i, TensorView normalised, Saved* saved);
  /// Runs step i on its normalised input. `residual` is the stream that the norm read, `rstd` what it divided by.
  using RunStep = std::function<Tensor(std::size_t i, TensorView residual, Tensor normalised, Tensor rstd)>;

  /// From the tokens to the last step's output; `residual` does not hold that yet.
  Tensor forward_steps(const Stream& stream, TensorView ids, TensorView residual, const RunStep& run,
                       const Observer& observer) const;
  void backward_steps(const Pass& pass, TensorView ids, TensorView d_residual, Trail& trail, const Observer& observer);
  void recompute_inputs(const Pass& pass, std::size_t until, Trail& trail);
  void recompute_block(const Pass& pass, std::size_t last, Trail& trail);
  /// Final norm, head and loss, a tile of tokens at a time so that no [tokens, vocabulary] tensor ever exists. With
  /// `d_residual` also their backward.
  void head(const Pass& pass, TensorView last, TensorView residual, TensorView labels, TensorView token_losses,
            TensorView d_residual);

  Options options_;
  ParameterSet parameters_;
  const Parameter* embedding_;
  std::vector<Step> steps_;
  double norm_eps_;
  const Parameter* norm_f_;
  const Parameter* head_;  ///< the embedding where tied
  LayerHook layer_hook_;
};

/// Σ of a dense floating tensor, in float64, in order.
double sum_in_order(const Stream& stream, TensorView values);

}  // namespace causeway
