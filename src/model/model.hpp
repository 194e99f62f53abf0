#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kernels/norm.hpp"
#include "src/model/layer.hpp"
#include "src/model/offload/offloaded_tensors.hpp"

namespace causeway {

/// This rank's tokens of one pack, and the token that follows each of them.
struct Batch {
  TensorView ids;     ///< [local tokens] i32
  TensorView labels;  ///< [local tokens] i32, the next token's id; negative: no loss (last of its document, or masked)
  TensorView weights = {};  ///< [local tokens] f32, of the labels; absent: 1
  double weight_scale = 1;  ///< by which the weights are multiplied
};

/// A language model on packed documents:
///   residual = embedding(ids)                        (T, width), in the accumulator type
///   for each block:
///     residual += mixer(RMSNorm(residual))
///     residual += mlp(RMSNorm(residual))             if the model has MLPs
///   logits = RMSNorm(residual)·W_headᵀ               (T, vocabulary)
/// Each addition is a residual branch: a norm and a sublayer. Parameters are named as in mamba_ssm.
class Model {
 public:
  struct Options {
    ModelOptions shape;
    DType dtype = DType::f32;
    Fp8Level fp8 = Fp8Level::off;
    /// Keep only the input of a block, and run the block again in the backward pass; the last block keeps everything.
    bool recompute = false;
    /// With recompute: keep the input of every N-th block only; the blocks between run forward once more first.
    std::int64_t recompute_blocks = 1;
    /// Where weights are sharded: the last blocks' stay gathered from the forward to the backward pass.
    std::int64_t keep_blocks = 0;
    /// With recompute: the inputs of blocks that are kept are in host memory until the backward pass.
    bool offload_activations = false;
    /// Tokens of a tile within blocks; 0: block_tile(shape).
    std::int64_t block_tile = 0;
  };
  /// Tokens for which an MLP is computed at one time, and the gradients of a mixer's input. Tiles begin at a rank's
  /// first token and depend on the model's shape only, so that sums over tokens have one order in every training of it.
  /// 1,024 to 16,384, and if possible fewer than 1 G values.
  static std::int64_t block_tile(const ModelOptions& shape);
  /// Tokens whose logits exist at one time: 1,024 to 8,192, and if possible fewer than 128 M values.
  static std::int64_t head_tile(const ModelOptions& shape);

  /// Parameters have no memory before parameters().allocate(). Throws Error(usage) if the options do not fit together.
  explicit Model(const Options& options);

  ParameterSet& parameters() { return parameters_; }
  const ParameterSet& parameters() const { return parameters_; }
  const Options& options() const { return options_; }
  /// How passes use the groups of parameters.
  PassShape pass_shape() const;
  /// The operators that all blocks run over the ranks, in the order of the blocks.
  std::vector<OperatorCall> calls() const;

  /// Receives the residual stream [local tokens, width] after `layer` blocks (0: the embedding), or its gradient there.
  using Observer = std::function<void(std::int64_t layer, TensorView residual)>;

  /// Receives each layer's output before it is added to the residual stream (Phase::forward), and the gradient of that
  /// output (Phase::backward), both [local tokens, width], and may change them. Not set in a normal run.
  using LayerHook = std::function<void(const Stream& stream, Phase phase, std::int64_t layer, TensorView values)>;
  void set_layer_hook(LayerHook hook) { layer_hook_ = std::move(hook); }

  /// Forward and backward pass. L is the sum, in nats, of this rank's token losses, each times its weight. Adds
  /// ∂L/∂parameter to the gradients and L to `loss` (one f64). Does not wait for the device. `observer` receives the
  /// gradients of the residual stream, from the last block to the embedding.
  void train(const Pass& pass, const Batch& batch, TensorView loss, const Observer& observer = {});

  /// If the inputs of blocks are offloaded: gets the host memory for passes of up to `tokens` local tokens now, not in
  /// the first of them. Returns its bytes.
  std::int64_t reserve_host_memory(const Stream& stream, std::int64_t tokens);

  /// Tokens whose loss is computed at every position, as if each of them were the next token: exp(-loss) is the
  /// probability that the model gives it.
  struct Candidates {
    std::span<const std::int32_t> ids;
    TensorView losses;  ///< [ids, local tokens], accumulator type, written
  };

  /// Forward pass. Writes the weighted loss in nats of each of this rank's tokens (0 without a label) to `token_losses`
  /// [local tokens], accumulator type. `observer` receives the residual stream.
  void evaluate(const Pass& pass, const Batch& batch, TensorView token_losses, const Observer& observer = {},
                const Candidates& candidates = {});

  /// A rank without a pack, while others evaluate theirs: it sends them its shards of the weights, where they are
  /// sharded. Collective with evaluate over all ranks that share the weights.
  void join_evaluation(const Stream& stream);

  /// Appends `ids` [n >= 1] i32 to the document and writes the logits of the tokens after its last m <= n tokens to
  /// `logits` [m, vocabulary], accumulator type. Prompts and generated tokens are computed in the same way, by the
  /// kernels of training, on this rank only.
  void extend(const Stream& stream, TensorView ids, DocumentState& document, TensorView logits);

  /// The tokens that are appended to one of several documents.
  struct Extension {
    DocumentState& document;
    std::int64_t tokens = 0;  ///< at least one
  };
  /// Appends to several documents in one pass over the weights: `ids` [n] i32 are the extensions' tokens, one extension
  /// after the other. Writes the logits of the token after each document to `logits` [documents, vocabulary]. They
  /// equal those of one document at a time up to the rounding of matrix products of other sizes.
  void extend(const Stream& stream, TensorView ids, std::span<const Extension> documents, TensorView logits);

 private:
  struct ResidualBranch {
    std::size_t block;
    bool is_mixer;  ///< otherwise the block's MLP
    const Parameter* norm;
    std::unique_ptr<Sublayer> sublayer;
    PerTokenSublayer* mlp;   ///< the sublayer if it is an MLP
    std::size_t parameters;  ///< how many parameters the model has up to this branch
  };
  /// The residual stream between two branches: [tokens, width], accumulator type.
  struct ResidualStream {
    explicit ResidualStream(Tensor of) : values(std::move(of)), view(values) {}
    Tensor values;    ///< absent if a branch keeps them
    TensorView view;  ///< of the values, wherever they are
  };
  /// What a forward pass keeps of a branch for the backward pass.
  struct KeptOfBranch {
    std::size_t branch;
    Saved saved;                ///< the sublayer's; empty again after its backward
    Tensor residual = {};       ///< (T, width), the input of the branch's norm; absent while it is offloaded
    TokenRows normalised = {};  ///< (T, width), the norm's output
    Tensor rstd = {};           ///< (T), the norm's
    Tensor added = {};          ///< (T, width), of an MLP that is run again: the mixer's output
    bool reruns = false;        ///< `normalised` and `rstd` are computed again, of an MLP also the residual stream
  };
  struct Activations;
  /// The output of a norm, and the reciprocals of the root mean squares of its input's rows [tokens].
  struct Normalised {
    TokenRows rows;
    Tensor rstd;
  };
  std::string name_of(const ResidualBranch& branch) const;
  bool ends_block(std::size_t i) const { return i + 1 == branches_.size() || branches_[i + 1].is_mixer; }
  /// Whether branch i is run again in the backward pass. The last block is not: the backward pass begins with it.
  bool recomputed(std::size_t i) const { return options_.recompute && branches_[i].block != branches_.back().block; }
  /// Whether a forward pass keeps the residual stream before mixer i: for its backward pass, or because branches are
  /// run again from there.
  bool keeps_input(std::size_t i) const {
    return !recomputed(i) || static_cast<std::int64_t>(branches_[i].block) % options_.recompute_blocks == 0;
  }
  bool offloads() const { return options_.recompute && options_.offload_activations; }
  /// Whether a norm is computed again, tile by tile, where the gradients of its output are: not for a single tile.
  bool reruns_norm(std::int64_t tokens) const { return options_.recompute && tokens > tile_; }
  /// Records the block of branch i as reached, and runs its sublayer.
  Tensor forward_of(const Pass& pass, std::size_t i, const RowsView& normalised, Saved* saved);
  /// Runs branch i, after `x`, the output of the branch before it, has been added to the residual stream; returns the
  /// branch's output. It may keep the residual stream by moving `residual.values` away: then the next norm writes to
  /// new memory.
  using RunBranch = std::function<Tensor(std::size_t i, ResidualStream& residual, Tensor x)>;

  /// From the tokens to the last branch's output, which is not yet added to the residual stream.
  Tensor forward_branches(const Stream& stream, TensorView ids, ResidualStream& residual, const RunBranch& run);
  /// forward_branches on the next tokens of documents; counts them in the documents.
  Tensor extend_branches(const Stream& stream, TensorView ids, std::span<const Extension> documents,
                         ResidualStream& residual);
  /// The norm of branch i: adds the output `x` of the branch before it, if there is one, to the residual stream.
  Normalised normalise(const Stream& stream, std::size_t i, TensorView x, ResidualStream& residual) const;
  /// Keeps the output of a mixer's norm, or notes that it is computed again.
  void keep_norm(Normalised normalised, KeptOfBranch& kept) const;
  /// The norm's arguments that do not depend on tokens.
  RmsNormForward norm_of(std::size_t i) const;
  /// Memory for the output of branch i's norm, as the branch reads it.
  Normalised rows_of_norm(const Stream& stream, std::size_t i, const Shape& shape) const;
  /// Memory for the gradient of any branch's output, as the branches read it: that of the residual stream in the
  /// compute type. Values are absent if that is the residual stream's own type, or if nobody reads them.
  TokenRows rows_of_gradient(const Stream& stream, const Shape& shape) const;
  /// What branch i reads of it; nothing if that is d_residual itself.
  RowsView gradient_of(const Stream& stream, std::size_t i, const TokenRows& d_narrow) const;

  // Tile by tile (model_tiles.cpp).
  /// MLP i with the mixer's output x; returns the MLP's. `kept`: absent: nothing is kept.
  Tensor forward_mlp(const Pass& pass, std::size_t i, ResidualStream& residual, Tensor x, KeptOfBranch* kept);
  /// Backward of branch i. `input`: of an MLP that is run again, the residual stream before the block.
  void backward_branch(const Pass& pass, std::size_t i, TensorView input, KeptOfBranch& kept, TensorView d_residual,
                       const TokenRows& d_narrow);
  /// The logits of the rows whose residual stream is last + residual; overwrites residual.
  void logits_of(const Stream& stream, TensorView last, TensorView residual, TensorView logits) const;
  /// d_narrow: d_residual as rows_of_gradient says.
  void backward_branches(const Pass& pass, TensorView ids, TensorView d_residual, const TokenRows& d_narrow,
                         Activations& activations, const Observer& observer);
  void recompute_block(const Pass& pass, std::size_t last, Activations& activations);
  /// Final norm, head and loss, a tile of tokens at a time, so that there is never a [tokens, vocabulary] tensor. With
  /// `d_residual` also their backward, which writes it and d_narrow (as the last branch reads it) and leaves `residual`
  /// as it was; without it, `last` is added to `residual`.
  void head(const Pass& pass, TensorView last, TensorView residual, const Batch& batch, TensorView token_losses,
            TensorView d_residual, const RowsView& d_narrow, const Candidates& candidates = {});

  Options options_;
  ParameterSet parameters_;
  const Parameter* embedding_;
  std::vector<ResidualBranch> branches_;
  std::int64_t tile_;  ///< tokens of a tile
  double norm_eps_;
  NormForm norm_form_;
  const Parameter* norm_f_;
  const Parameter* head_;  ///< the embedding if the head is tied
  LayerHook layer_hook_;
  std::optional<OffloadedTensors> offloaded_;  ///< made by reserve_host_memory or the first pass that offloads
};

/// The sum of a dense floating-point tensor, in float64, in the elements' order; waits for the stream.
double sum_in_order(const Stream& stream, TensorView values);

}  // namespace causeway
