#pragma once

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
  StrategyContext strategy_context() const {
    return {sharding, runtime.mesh.context, runtime.stream, runtime.schedule};
  }
  const OperatorStrategies& strategies() const { return runtime.strategies.chosen(); }
};

/// A mixer or an MLP, with its parameters. A block adds its output to the residual stream. Its input and output are
/// [local tokens, width] in the compute type. A mixer runs operators over the ranks, each by its strategy
/// (parallel/strategy.hpp); everything else that it computes needs this rank's tokens only.
class Sublayer {
 public:
  virtual ~Sublayer() = default;
  /// Puts into `saved` what backward needs; null: nothing is kept (scoring).
  virtual Tensor forward(const Pass& pass, TensorView x, Saved* saved) = 0;
  /// Takes all that forward put into `saved`, adds to the gradients of its parameters and returns d_x. `x` is the
  /// input that forward was given.
  virtual Tensor backward(const Pass& pass, TensorView x, TensorView d_y, Saved& saved) = 0;
  /// Forward on the next n >= 1 tokens [n, width] of one document, by the same kernels, on this rank only. Updates
  /// state.cache to include them; the caller adds n to state.tokens. A prompt is one call with many tokens, a
  /// generated token a call with one.
  virtual Tensor extend(const Stream& stream, TensorView x, DecodeState& state) = 0;
  /// The operators that it runs over the ranks, with their arguments' shapes (parallel/choose.hpp), in order to choose
  /// their strategies; none if each token is computed from itself only.
  virtual std::vector<OperatorCall> calls(DType) const { return {}; }
};

}  // namespace causeway
