#pragma once

#include <vector>

#include "parallel/choose.hpp"
#include "parallel/strategy.hpp"
#include "src/model/decode_state.hpp"
#include "src/runtime/runtime.hpp"

namespace causeway {

/// One forward/backward of one pack: the runtime and how the pack lies over the context ranks.
struct Pass {
  Runtime& runtime;
  const Sharding& sharding;
  StrategyContext strategy_context() const {
    return {sharding, runtime.mesh.context, runtime.stream, runtime.schedule};
  }
  const OperatorStrategies& strategies() const { return runtime.strategies.chosen(); }
};

/// A layer's mixer: a local kernel between two exchanges, with parameters. [token, channel] in and out, in the compute
/// type.
class Operator {
 public:
  virtual ~Operator() = default;
  /// Puts into `saved` what backward needs; null: nothing is kept (scoring).
  virtual Tensor forward(const Pass& pass, TensorView x, Saved* saved) = 0;
  /// Takes all that forward put into `saved`, adds to the gradients of its parameters and returns d_x. `x` is what
  /// forward was given.
  virtual Tensor backward(const Pass& pass, TensorView x, TensorView d_y, Saved& saved) = 0;
  /// What forward gives for the next tokens [n >= 1, width] of one document, by the same kernels, on this rank alone;
  /// then `state` remembers them too (its count of tokens is the caller's). Any n: a prompt is a long run, a generated
  /// token a run of one.
  virtual Tensor extend(const Stream& stream, TensorView x, DecodeState& state) = 0;
  /// The operators it runs over the ranks, with their arguments' shapes (parallel/choose.hpp), for the choice of their
  /// strategies; none, where its tokens do not meet.
  virtual std::vector<OperatorCall> calls(DType) const { return {}; }
};

}  // namespace causeway
