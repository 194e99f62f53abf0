#pragma once

#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "parallel/exchange/flat_parts.hpp"
#include "src/model/parameters/parameter_layout.hpp"

namespace causeway {

/// The gradients of a step: whole ones, to which the layers of a pass add, and this rank's shard of their sums. A sum
/// is over the ranks in their order within a pass, then over the passes: ((pass 0's sum) + pass 1's) + …. A group's are
/// summed as soon as they are finished, while the next group's backward pass computes, or after the pass. Where whole
/// gradients have a buffer of their own all the time, and a step has one pass, the sum replaces this rank's part there.
/// With one rank passes add to one buffer.
class GradientSums {
 public:
  /// Called with a parameter whose gradient of a pass is finished and not yet summed.
  using Observer = std::function<void(const Parameter&)>;

  /// `ranks`: null for one rank. `layout` and `ranks` must outlive this object. `reduce_dtype`: as of SumOfParts.
  GradientSums(ParameterLayout& layout, Communicator* ranks, std::optional<DType> reduce_dtype)
      : layout_(layout), ranks_(ranks), reduce_dtype_(reduce_dtype) {}
  void observe(Observer observer) { observer_ = std::move(observer); }
  /// From the next pass on, sums start when a pass ends, if whole gradients have a buffer all the time. So ranks that
  /// are at different layers, as in a relay, do not wait for each other's gradients within a pass.
  void sum_after_passes(bool after) { after_passes_ = after; }

  /// The next pass is the first of a step: the sums before it do not count.
  void begin_step();
  /// Writes zeros to whole gradients now, but leaves those of `product` parameters unwritten.
  void zero(const Stream& stream);
  /// In the backward pass of a group: before its first kernel that adds to gradients, and after the last one.
  void begin(std::size_t group, const Stream& stream);
  void finish(std::size_t group, const Stream& stream);
  void end_pass(const Stream& stream);
  /// Writes zeros to the whole gradients that are still unwritten.
  void finish_all(const Stream& stream);

  /// This rank's part of the sums.
  TensorView sum(const ShardPiece& piece) const;

 private:
  struct InFlight {
    std::vector<Tensor> buffers;  // of a group, in each arena; empty if the sums do not read them
    SumOfParts sums;
  };
  bool keeps_whole() const;
  void zero_whole(const Stream& stream);
  void zero_unwritten(Range parameters, const Stream& stream) const;
  void start_sum(std::size_t group, const Stream& stream);
  void finish_in_flight(const Stream& stream);

  ParameterLayout& layout_;
  Communicator* ranks_;
  std::optional<DType> reduce_dtype_;
  Observer observer_;
  bool first_pass_ = true;
  bool zero_due_ = false;                                // before the next backward pass adds to whole gradients
  std::map<std::size_t, std::vector<Tensor>> of_group_;  // its whole gradients, between begin and finish
  bool after_passes_ = false;
  std::vector<std::size_t> waiting_;  // groups whose sums start when the pass ends
  std::optional<InFlight> in_flight_;
};

}  // namespace causeway
