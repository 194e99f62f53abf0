#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "parallel/transport/communicator.hpp"
#include "src/model/offload/offloaded_adamw.hpp"
#include "src/model/parameters/parameter_set.hpp"

namespace causeway {

struct OptimizerOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double weight_decay = 0.1;
  double clip = 1;  ///< maximum L2 norm of the whole gradient; 0: no clipping
  /// Master weights and moments are in host memory, where the CPU updates them.
  bool offload = false;
};

/// Linear warm-up from 0 to `peak`, then half a cosine down to floor·peak at the last step.
struct LearningRate {
  double peak = 1e-3;
  std::int64_t warmup_steps = 0, steps = 1;
  double floor = 0.1;
  double at(std::int64_t step) const;  ///< `step` counts from 1
};

/// AdamW (arXiv 1711.05101) with its state sharded over all ranks (ZeRO-1, arXiv 1910.02054): a rank has the master
/// weights and moments of its shard of each arena only, whatever it holds of weights and gradients (ShardLevel).
class Optimizer {
 public:
  /// This rank's shard of one arena: [elements a shard] in the accumulator type. Absent for a frozen arena.
  struct Shard {
    Tensor master, exp_avg, exp_avg_sq;
  };

  /// Master weights are copies of the current weights. `parameters` must be allocated for world.size() shards.
  Optimizer(const OptimizerOptions& options, ParameterSet& parameters, Communicator& world, const Stream& stream);

  /// Scales and clips the gradients, which the passes have summed over the ranks, updates this rank's shards, and where
  /// ranks hold whole weights gathers the new ones; `step` counts from 1. Only enqueues: `loss`, `norm` and `factor`
  /// are one f64 each on the device. `loss` (or absent) is the step's loss, the same on every rank. Writes to `norm`
  /// the L2 norm of the scaled gradient, and to `factor` the factor that multiplied the summed gradient. If loss or
  /// norm is not finite, `factor` is NaN and no weight changes. Afterwards the gradients' values are undefined.
  /// `beside_next_pass`: while the stream computes what comes next, weights and moments change (on one GPU, and where
  /// the state is offloaded on one rank or with sharded weights), or new weights are gathered. Whoever uses them or
  /// the gradients calls ParameterSet::await_updates first, as Model's passes do.
  void step(std::int64_t step, double learning_rate, double gradient_scale, TensorView loss, TensorView norm,
            TensorView factor, bool beside_next_pass = false);
  ~Optimizer();
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  const std::vector<Shard>& shards() const { return shards_; }  ///< one for each arena, in the order of the arenas

 private:
  std::size_t largest_arena() const;
  void set_master(const ShardPiece& piece) const;
  void update_on_host(const AdamW& step, bool beside_next_pass);
  AdamW arguments(const AdamW& step, const ShardPiece& piece) const;

  OptimizerOptions options_;
  ParameterSet& parameters_;
  Communicator& world_;
  const Stream& stream_;
  std::vector<Shard> shards_;
  std::vector<ShardPiece> pieces_;  // that are trained
  Tensor background_factor_;        // f64 [1]: lives as long as the background uses it
  std::int64_t background_calls_ = 0;
  std::optional<OffloadedAdamW> offloaded_;  // destroyed before the state that it uses
};

}  // namespace causeway
