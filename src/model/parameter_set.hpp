#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "kernels/core/tensor.hpp"
#include "parallel/layout/shard_layout.hpp"
#include "src/model/initial.hpp"

namespace causeway {

/// What a layer asks for: the checkpoint's name of a parameter, its shape and how it starts.
struct ParameterSpec {
  std::string name;
  Shape shape;
  bool wide = false;    ///< kept in the accumulator type: A_log, D, norms, Δ's bias
  bool decay = false;   ///< subject to weight decay
  bool frozen = false;  ///< in the checkpoint beside the weights, but never trained: no gradient, no optimizer state
  Initial initial;      ///< its first values
};

/// One named tensor: views into its arena.
struct Parameter {
  ParameterSpec spec;
  int arena = 0;
  Range flat;           ///< its elements of the arena
  TensorView weight;    ///< compute type, or the accumulator type if wide
  TensorView gradient;  ///< accumulator type; layers add to it; absent where frozen
};

/// All parameters of one (dtype, weight decay, frozen) group, one after the other in a flat buffer: what the gradient
/// reduction, the optimizer and the checkpoint walk. Padded with zeros to a multiple of the number of shards.
struct ParameterArena {
  DType dtype = DType::f32;
  bool decay = false, frozen = false;
  std::int64_t elements = 0;  ///< without padding
  Tensor weights;             ///< [padded]
  Tensor gradients;           ///< [padded], accumulator type; absent where frozen
};

/// The model's parameters. Layers add() theirs while the model is built, allocate() gives all of them memory.
class ParameterSet {
 public:
  explicit ParameterSet(DType dtype) : dtype_(dtype) {}
  ParameterSet(const ParameterSet&) = delete;  // references to its parameters are about
  ParameterSet& operator=(const ParameterSet&) = delete;

  /// The reference stays valid; its views are absent until allocate().
  const Parameter& add(ParameterSpec spec);
  /// `shards`: the number of ranks that share each arena's optimizer state. Who only scores needs no gradients.
  void allocate(const Stream& stream, int shards, bool with_gradients = true);
  void initialise(std::uint64_t seed, const Stream& stream);
  void zero_gradients(const Stream& stream);

  DType dtype() const { return dtype_; }  ///< of the computation
  int shards() const { return shards_; }
  std::int64_t count() const;  ///< numbers in all parameters that are trained
  const std::deque<Parameter>& parameters() const { return parameters_; }
  const std::vector<ParameterArena>& arenas() const { return arenas_; }
  /// The part of an arena that shard `index` owns.
  Range shard(const ParameterArena& arena, int index) const;

 private:
  DType dtype_;
  int shards_ = 1;
  std::deque<Parameter> parameters_;
  std::vector<ParameterArena> arenas_;
};

}  // namespace causeway
