#pragma once

#include <cstdint>
#include <vector>

#include "parallel/transport/communicator.hpp"
#include "src/model/parameter_set.hpp"

namespace causeway {

struct OptimizerOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double weight_decay = 0.1;
  double clip = 1;  ///< largest gradient norm, 0: no clipping
};

/// Linear warm-up to `peak`, then a half cosine down to `floor`·peak at the last step.
struct LearningRate {
  double peak = 1e-3;
  std::int64_t warmup_steps = 0, steps = 1;
  double floor = 0.1;
  double at(std::int64_t step) const;  ///< step from 1
};

/// AdamW with its state sharded over all ranks (ZeRO-1, arXiv 1910.02054): every rank holds all weights and gradients,
/// but masters and moments of its shard of each arena alone.
class Optimizer {
 public:
  /// One shard of an arena: [elements a shard] in the accumulator type. Nothing for a frozen arena.
  struct Shard {
    Tensor master, exp_avg, exp_avg_sq;
  };

  /// Masters start as the weights are now. `parameters` must be allocated for world.size() shards.
  Optimizer(const OptimizerOptions& options, ParameterSet& parameters, Communicator& world, const Stream& stream);

  /// Sums gradients over all ranks, scales, clips, updates, and gives every rank the new weights; `step` counts from 1.
  /// Only enqueues: the numbers that decide stay on the device, one f64 each. `loss` (or absent) is the step's, the
  /// same on every rank; `norm` becomes the scaled gradient's, and `factor` what it was multiplied by: NaN where loss
  /// or norm is not finite, and then no weight has changed. The gradients are used up.
  void step(std::int64_t step, double learning_rate, double gradient_scale, TensorView loss, TensorView norm,
            TensorView factor);

  const std::vector<Shard>& shards() const { return shards_; }  ///< one an arena

 private:
  OptimizerOptions options_;
  ParameterSet& parameters_;
  Communicator& world_;
  const Stream& stream_;
  std::vector<Shard> shards_;
};

}  // namespace causeway
