#pragma once

#include <span>
#include <vector>

#include "parallel/choose.hpp"
#include "parallel/strategy.hpp"
#include "src/model/decode_state.hpp"
#include "src/runtime/runtime.hpp"

namespace causeway {

/// One pass over one pack: the runtime, and how the pack is cut over the context ranks.
struct Pass {
  Runtime& runtime;
  const Sharding& sharding;
  Received* received = nullptr;  ///< of a sublayer's forward pass that will be computed again, over several ranks
  bool only_saved = false;       ///< forward runs again for what it puts into `saved`: nobody reads its output
  StrategyContext strategy_context() const {
    return {.sharding = sharding,
            .ranks = runtime.mesh.context,
            .stream = runtime.stream,
            .schedule = runtime.schedule,
            .received = received};
  }
  const OperatorStrategies& strategies() const { return runtime.strategies.chosen(); }
};

/// A mixer or an MLP, with its parameters. A block adds its output to the residual stream. Its input and output are
/// [local tokens, width] in the compute type. A mixer runs operators over the ranks, each by its strategy
/// (parallel/strategy.hpp); everything else that it computes needs this rank's tokens only.
class Sublayer {
 public:
  virtual ~Sublayer() = default;
  /// Puts into `saved` what backward needs; null: nothing is kept (scoring). With pass.only_saved it computes no more
  /// than that and returns an absent tensor.
  virtual Tensor forward(const Pass& pass, TensorView x, Saved* saved) = 0;
  /// Takes all that forward put into `saved`, adds to the gradients of its parameters and returns d_x. `x` is the
  /// input that forward was given.
  virtual Tensor backward(const Pass& pass, TensorView x, TensorView d_y, Saved& saved) = 0;
  /// Forward on the next tokens of some documents, by the same kernels, on this rank only. The rows of x [n, width] are
  /// those of the documents, one after the other, each at least one. Updates every state.cache to include them. What is
  /// computed from each token alone (products with weights) is one call for all rows, so that weights are read once;
  /// what depends on the tokens before is a call for each document.
  virtual Tensor extend(const Stream& stream, TensorView x, std::span<const NextTokens> documents) = 0;
  /// The operators that it runs over the ranks, with their arguments' shapes (parallel/choose.hpp), in order to choose
  /// their strategies; none if each token is computed from itself only.
  virtual std::vector<OperatorCall> calls(DType) const { return {}; }
};

/// A sublayer that computes each token from itself only, so that it can run on tiles of tokens.
class PerTokenSublayer : public Sublayer {
 public:
  /// Forward with the output in `y` [tokens, width]; absent: nobody reads it, and it is not computed.
  virtual void forward_to(const Pass& pass, TensorView x, Saved* saved, TensorView y) = 0;
  Tensor forward(const Pass& pass, TensorView x, Saved* saved) final {
    Tensor y;
    if (!pass.only_saved) y = Tensor(pass.runtime.stream, x.dtype, x.shape);
    forward_to(pass, x, saved, y);
    return y;
  }
};

}  // namespace causeway
