#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "kernels/core/tensor.hpp"
#include "parallel/layout/shard_layout.hpp"
#include "src/model/initial_values.hpp"

namespace causeway {

/// A parameter as a layer declares it: its name in checkpoints, its shape and its initial values.
struct ParameterSpec {
  std::string name;
  Shape shape;
  bool wide = false;     ///< kept in the accumulator type: A_log, D, norms, Δ's bias
  bool decay = false;    ///< subject to weight decay
  bool frozen = false;   ///< stored in the checkpoint but never trained: no gradient, no optimizer state
  bool product = false;  ///< its gradient is a sum of matrix products: layers add to it by add_product() (dense.hpp)
  InitialValues initial;
};

/// One named tensor: views into its arena.
struct Parameter {
  ParameterSpec spec;
  int arena = 0;
  Range flat;           ///< its elements in the arena
  TensorView weight;    ///< compute type, or the accumulator type if wide
  TensorView gradient;  ///< accumulator type; layers add to it; absent if frozen
  /// The gradient is zero but not written yet: the next product overwrites it.
  mutable bool gradient_unwritten = false;
};

/// All parameters with the same dtype, weight decay and frozen, one after the other in a flat buffer. The gradient
/// reduction, the optimizer and the checkpoint go over arenas. Padded with zeros to a multiple of the number of shards.
struct ParameterArena {
  DType dtype = DType::f32;
  bool decay = false, frozen = false;
  std::int64_t elements = 0;  ///< without padding
  Tensor weights;             ///< [padded]
  Tensor gradients;           ///< [padded], accumulator type; absent if frozen
};

/// The model's parameters. Layers add() theirs while the model is built; allocate() then gives all of them memory.
class ParameterSet {
 public:
  explicit ParameterSet(DType dtype) : dtype_(dtype) {}
  ParameterSet(const ParameterSet&) = delete;  // there are references to its parameters
  ParameterSet& operator=(const ParameterSet&) = delete;

  /// The reference stays valid; its views are absent until allocate().
  const Parameter& add(ParameterSpec spec);
  /// `shards`: the number of ranks over which the optimizer state of each arena is divided. Scoring and generating need
  /// no gradients.
  void allocate(const Stream& stream, int shards, bool with_gradients = true);
  /// Writes every parameter's initial values, which depend on `seed` and the parameter's name only.
  void initialise(std::uint64_t seed, const Stream& stream);
  /// Before the first pass of a step. Leaves the gradients of `product` parameters unwritten.
  void zero_gradients(const Stream& stream);
  /// The same, but only when the next pass begins its backward part, which calls begin_gradients: until then the
  /// gradients may still be in use.
  void zero_gradients_later() { zero_later_ = true; }
  void begin_gradients(const Stream& stream);
  /// After the last pass: writes zeros to the gradients that are still unwritten.
  void finish_gradients(const Stream& stream);

  /// Notes that the first `count` parameters are updated by the calls of adamw in the background up to the `call`-th.
  /// Both grow from note to note; the last note is of all parameters.
  void note_update(std::size_t count, std::int64_t call) { updates_.push_back({count, call}); }
  /// Work enqueued on `stream` from now on sees the new weights of the first `count` parameters; with all of them, also
  /// the optimizer's state, and it may write gradients.
  void await_updates(const Stream& stream, std::size_t count) const;
  void await_updates(const Stream& stream) const { await_updates(stream, parameters_.size()); }

  DType dtype() const { return dtype_; }  ///< of the computation
  int shards() const { return shards_; }
  std::int64_t count() const;  ///< elements of all trained parameters
  const std::deque<Parameter>& parameters() const { return parameters_; }
  const std::vector<ParameterArena>& arenas() const { return arenas_; }
  /// The part of an arena that shard `index` owns.
  Range shard(const ParameterArena& arena, int index) const;

 private:
  DType dtype_;
  int shards_ = 1;
  std::deque<Parameter> parameters_;
  std::vector<ParameterArena> arenas_;
  bool zero_later_ = false;
  struct Update {
    std::size_t count;
    std::int64_t call;
  };
  mutable std::deque<Update> updates_;  // that nothing has waited for yet
};

}  // namespace causeway
