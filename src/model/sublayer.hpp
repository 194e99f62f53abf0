#pragma once

#include <fmt/format.h>

#include <functional>
#include <span>
#include <vector>

#include "parallel/choose.hpp"
#include "parallel/strategy.hpp"
#include "src/model/decode_state.hpp"
#include "src/model/dense/token_rows.hpp"
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
            .received = received,
            .keep_spectra = KeepSpectra::never};  // no memory that was not predicted
  }
  const OperatorStrategies& strategies() const { return runtime.strategies.chosen(); }
};

/// The input x of a sublayer in its backward pass, [local tokens, width]. It exists for a tile of tokens at a time.
struct TiledInput {
  /// Returns the gradient of a tile of x, which begins at token `first`.
  using Gradient = std::function<Tensor(const RowsView& x, std::int64_t first)>;

  DType dtype = DType::f32;
  std::int64_t tokens = 0;
  std::function<void(const Gradient&)> for_each_tile;  ///< calls it for all tiles, in their order, if only an empty one
};

/// A mixer or an MLP, with its parameters. A block adds its output to the residual stream. Its input and output are
/// [local tokens, width] in the compute type; of its input and of its output's gradient, the forms that its first and
/// its last product read (ends()). A mixer runs operators over the ranks, each by its strategy (parallel/strategy.hpp);
/// everything else that it computes needs this rank's tokens only.
class Sublayer {
 public:
  virtual ~Sublayer() = default;
  /// Puts into `saved` what backward needs; null: nothing is kept (scoring). With pass.only_saved it computes no more
  /// than that and returns an absent tensor.
  virtual Tensor forward(const Pass& pass, const RowsView& x, Saved* saved) = 0;
  /// Takes all that forward put into `saved` and adds to the gradients of its parameters. `x` is the input that forward
  /// was given, and receives its gradient once; d_y is not read after that has begun, but for the rows of the tile.
  virtual void backward(const Pass& pass, const TiledInput& x, const RowsView& d_y, Saved& saved) = 0;
  /// Forward on the next tokens of some documents, by the same kernels, on this rank only. The rows of x [n, width] are
  /// those of the documents, one after the other, each at least one. Updates every state.cache to include them. What is
  /// computed from each token alone (products with weights) is one call for all rows, so that weights are read once;
  /// what depends on the tokens before is a call for each document.
  virtual Tensor extend(const Stream& stream, const RowsView& x, std::span<const NextTokens> documents) = 0;
  /// The operators that it runs over the ranks, with their arguments' shapes (parallel/choose.hpp), in order to choose
  /// their strategies; none if each token is computed from itself only.
  virtual std::vector<OperatorCall> calls(DType) const { return {}; }

  /// The weight that is all that reads its input; the weight and the bias (null: none) that are all that read its
  /// output's gradient.
  struct Ends {
    const Parameter &input, &output;
    const Parameter* output_bias = nullptr;
  };
  virtual Ends ends() const = 0;
};

/// A sublayer that computes each token from itself only, so that it can run on tiles of tokens. What it keeps of a tile
/// is in a scope of its own, scope_of_tile().
class PerTokenSublayer : public Sublayer {
 public:
  /// Forward with the output in `y` [tokens, width]; absent: nobody reads it, and it is not computed.
  virtual void forward_to(const Pass& pass, const RowsView& x, Saved* saved, TensorView y) = 0;
  Tensor forward(const Pass& pass, const RowsView& x, Saved* saved) final {
    Tensor y;
    if (!pass.only_saved) y = Tensor(pass.runtime.stream, x.dtype(), x.shape());
    forward_to(pass, x, saved == nullptr ? nullptr : &scope_of_tile(*saved, 0), y);
    return y;
  }
  /// Backward of a tile: as Sublayer::backward, but it returns d_x.
  virtual Tensor backward_of(const Pass& pass, const RowsView& x, const RowsView& d_y, Saved& saved) = 0;
  void backward(const Pass& pass, const TiledInput& x, const RowsView& d_y, Saved& saved) final {
    x.for_each_tile([&](const RowsView& tile, std::int64_t first) {
      return backward_of(pass, tile, d_y.slice_rows(first, tile.rows()), scope_of_tile(saved, first));
    });
  }

  static Saved& scope_of_tile(Saved& saved, std::int64_t first) { return saved.scope(fmt::format("tile {}", first)); }
};

}  // namespace causeway
