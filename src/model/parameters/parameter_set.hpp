#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <vector>

#include "src/model/parameters/gathered_weights.hpp"
#include "src/model/parameters/gradient_sums.hpp"
#include "src/model/parameters/shard_level.hpp"

namespace causeway {

/// What of the parameters gets memory.
struct ParameterMemory {
  ShardLevel level = ShardLevel::optimizer;
  bool gradients = true;        ///< scoring and generating need none
  bool several_passes = false;  ///< a step adds the gradients of several passes
  /// The type in which gradients are sent to other ranks; without a value that of their sums.
  std::optional<DType> gradient_reduce_dtype = {};
  bool offload_optimizer = false;  ///< the optimizer's state, which is not allocated here, is in host memory
};

/// The model's parameters. Layers add() theirs, group after group, while the model is built; allocate() then gives all
/// of them memory. A pass calls begin_pass, then use() for each step of its plan; its backward part begin_gradients and
/// finish_gradients for each group, then sum_gradients; and end_pass. Between them a parameter's views have data,
/// wherever the elements are: layers do not know what is sharded.
class ParameterSet {
 public:
  explicit ParameterSet(DType dtype, Fp8Level fp8 = Fp8Level::off) : dtype_(dtype), fp8_(fp8) {
    layout_.groups.push_back({});
  }
  ParameterSet(const ParameterSet&) = delete;  // there are references to its parameters
  ParameterSet& operator=(const ParameterSet&) = delete;

  /// The reference stays valid; its views are absent until allocate().
  const Parameter& add(ParameterSpec spec);
  /// What is added from here on belongs to the next group: parameters whose weights are used together.
  void begin_group();
  /// Memory on one rank, for all passes or, with several `shards`, for tests of the layout. Each rank's shards are kept
  /// by `ranks` otherwise, which must outlive this object; all of its ranks then run the same passes.
  void allocate(const Stream& stream, int shards = 1, bool with_gradients = true);
  void allocate(const Stream& stream, Communicator& ranks, const ParameterMemory& memory);
  /// Writes every parameter's initial values, which depend on `seed` and the parameter's name only.
  void initialise(std::uint64_t seed, const Stream& stream);

  /// A pass with these steps begins.
  void begin_pass(PassPlan plan, const Stream& stream);
  /// The plan's next step, which is `step`, begins: the weights of its groups have data.
  void use(const PassStep& step, const Stream& stream);
  /// Before and after the kernels that add to a group's gradients.
  void begin_gradients(const PassStep& groups, const Stream& stream);
  void finish_gradients(std::size_t group, const Stream& stream) { gradients_->finish(group, stream); }
  /// After the backward part: the gradients of all groups are finished.
  void sum_gradients(const Stream& stream) { gradients_->end_pass(stream); }
  void end_pass();

  /// Before the first pass of a step. Leaves the gradients of `product` parameters unwritten.
  void zero_gradients(const Stream& stream) { gradients_->zero(stream); }
  /// The same, but only when the next pass begins its backward part: until then the gradients may still be in use.
  void zero_gradients_later() { gradients_->begin_step(); }
  /// After the last pass: writes zeros to the gradients that are still unwritten.
  void finish_gradients(const Stream& stream) { gradients_->finish_all(stream); }
  /// See GradientSums.
  void sum_after_passes(bool after) { gradients_->sum_after_passes(after); }
  /// Shows every parameter whose gradient of a pass is finished; null: no longer.
  void observe_gradients(GradientSums::Observer observer) { gradients_->observe(std::move(observer)); }

  /// Notes that the first `count` parameters are being updated; `await` makes a stream wait for that, and for all that
  /// was noted before. `count` grows from note to note; the last note is of all parameters.
  void note_update(std::size_t count, std::function<void(const Stream&)> await) {
    updates_.push_back({count, std::move(await)});
  }
  /// Work enqueued on `stream` from now on sees the new weights of the first `count` parameters; with all of them, also
  /// the optimizer's state, and it may write gradients.
  void await_updates(const Stream& stream, std::size_t count) const;
  void await_updates(const Stream& stream) const { await_updates(stream, layout_.parameters.size()); }

  DType dtype() const { return dtype_; }  ///< of the computation
  int shards() const { return layout_.shards; }
  std::int64_t count() const;  ///< elements of all trained parameters
  const std::deque<Parameter>& parameters() const { return layout_.parameters; }
  const std::vector<ParameterArena>& arenas() const { return layout_.arenas; }
  std::size_t groups() const { return layout_.groups.size(); }
  /// How many parameters the model has up to the end of this group.
  std::size_t parameters_up_to(std::size_t group) const { return static_cast<std::size_t>(layout_.groups[group].end); }
  bool shards_weights() const { return gathered_.has_value(); }  ///< ranks hold only their shards of them

  /// This rank's pieces of all arenas, and of one piece: the weights, and after the last pass the summed gradients.
  std::vector<ShardPiece> pieces() const { return layout_.pieces(); }
  /// Those of one group.
  std::vector<ShardPiece> pieces_of(std::size_t group) const;
  TensorView weights_of(const ShardPiece& piece) const;
  TensorView gradients_of(const ShardPiece& piece) const { return gradients_->sum(piece); }
  /// After the optimizer has changed this rank's weights: where ranks hold whole weights, gathers them, group by group.
  /// `beside_next_pass`: awaits none of them, but notes them as updates.
  void publish_weights(const Stream& stream, bool beside_next_pass);

  /// Some elements of a parameter, by their numbers in it, and their place in this rank's memory.
  struct Part {
    Range elements;
    Range shard;         ///< in this rank's shard of the arena
    TensorView weights;  ///< [elements]
  };
  Part owned(const Parameter& parameter) const;  ///< those that this rank owns; can be none
  Part held(const Parameter& parameter) const;   ///< those whose weights this rank holds all the time

 private:
  Pending start_gather_of_group(std::size_t group, const Stream& stream);
  void make_arenas(const ParameterMemory& memory, const Stream& stream);
  TensorView weights_at(const ParameterArena& arena, Range flat, Range shard) const;
  bool holds_whole(const ParameterArena& arena) const { return arena.weights.view().size() == arena.padded(); }

  DType dtype_;
  Fp8Level fp8_;
  ParameterLayout layout_;
  Communicator* ranks_ = nullptr;  // null: this rank only
  std::optional<GatheredWeights> gathered_;
  std::optional<GradientSums> gradients_;
  struct Update {
    std::size_t count;
    std::function<void(const Stream&)> await;
  };
  mutable std::deque<Update> updates_;  // that nothing has waited for yet
};

}  // namespace causeway
