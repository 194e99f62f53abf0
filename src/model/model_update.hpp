#pragma once

#include <cstdint>
#include <optional>

#include "kernels/core/event.hpp"
#include "src/model/model.hpp"
#include "src/model/optimizer.hpp"

namespace causeway {

/// The arithmetic of training steps: forward and backward pass of some packs, each with the sum of its gradients over
/// the ranks, and the optimizer's update. `train` and `bench step` both run it: begin(), add() for each pack, update(),
/// wait_for_result(). All are collective.
class ModelUpdate {
 public:
  ModelUpdate(Runtime& runtime, Model& model, Optimizer& optimizer)
      : runtime_(runtime), model_(model), optimizer_(optimizer) {
    model.parameters().sum_after_passes(runtime.one_way_layers > 1);
  }
  /// From now on the update of a step runs beside the next pass where it can: see Optimizer::step. The caller awaits
  /// it before it uses weights or optimizer state other than by Model's passes.
  void update_beside_passes() { beside_passes_ = true; }

  void begin();
  /// Enqueues the forward and backward pass of this rank's part of a pack, which adds to the gradients and to the loss.
  /// `label_weight`: the sum of the weights of its labels.
  void add(const Sharding& sharding, const Batch& batch, double label_weight);
  double label_weight() const { return label_weight_; }  ///< the sum of the weights of this rank's labels in this step
  std::int64_t tokens() const { return tokens_; }        ///< of this rank in this step

  /// What a step reads back from the device.
  struct Result {
    double loss = 0;           ///< the sum over all labels, each times its weight
    double gradient_norm = 0;  ///< of the mean loss
    double clip_factor = 0;    ///< not finite where a gradient is not: no weight has changed then
  };
  /// Enqueues the sum of the loss over the ranks and the update of the weights. `label_weight`: of all ranks, above 0.
  /// The host can prepare the next step now, while the device computes this one.
  void update(std::int64_t number, double learning_rate, double label_weight);
  /// Here a step waits for the device, once.
  Result wait_for_result();

 private:
  Runtime& runtime_;
  Model& model_;
  Optimizer& optimizer_;
  Tensor results_, results_on_host_;  // f64 [3]: as in Result
  std::optional<Event> copied_;       // to the host
  double label_weight_ = 0;
  std::int64_t tokens_ = 0;
  bool beside_passes_ = false;
};

}  // namespace causeway
