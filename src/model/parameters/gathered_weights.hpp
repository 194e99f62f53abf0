#pragma once

#include <functional>
#include <map>
#include <vector>

#include "parallel/transport/communicator.hpp"
#include "src/model/parameters/parameter_layout.hpp"
#include "src/model/parameters/pass_plan.hpp"

namespace causeway {

/// Whole weights of the groups that a pass uses now and next, gathered from the shards of all ranks: those of the next
/// step are on their way while this one computes. Their memory comes from the stream's pool, which after the first step
/// asks the system for none.
class GatheredWeights {
 public:
  /// Called before a group's shards are sent.
  using BeforeGathering = std::function<void(std::size_t group, const Stream& stream)>;

  /// The layout's arenas hold only this rank's shards of the weights. Layout and ranks must outlive this object.
  GatheredWeights(ParameterLayout& layout, Communicator& ranks, BeforeGathering before_gathering = {})
      : layout_(layout), ranks_(ranks), before_gathering_(std::move(before_gathering)) {}

  /// Collective, as are all others: the ranks run the same plans. Starts to gather the first step's groups.
  void begin_pass(PassPlan plan, const Stream& stream);
  /// The next step of the plan begins, which is `step`: the weights of its groups have data from here on, for work on
  /// the stream. Drops what is not needed any more, and starts to gather what the step after it needs.
  void use(const PassStep& step, const Stream& stream);
  void end_pass();

 private:
  struct Group {
    std::vector<Tensor> buffers;  // of each arena; absent where the group has no elements
    Pending pending;              // destroyed first, which waits
  };
  void start(std::size_t group, const Stream& stream);
  void bind(std::size_t group);
  void drop(std::size_t group);
  bool needed(std::size_t group) const;

  ParameterLayout& layout_;
  Communicator& ranks_;
  BeforeGathering before_gathering_;
  PassPlan plan_;
  std::size_t at_ = 0;  // of the plan: the next step
  std::map<std::size_t, Group> held_;
};

}  // namespace causeway
