#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "src/bench/step/step.hpp"
#include "src/bench/step/step_progress.hpp"
#include "src/model/model_update.hpp"
#include "src/train/data/pack_on_rank.hpp"

namespace causeway {

/// Steps that take this long are all counted, and none is traced.
inline constexpr double long_step_s = 8;

/// A model that trains on passes of random tokens.
class StepRunner {
 public:
  /// Chooses strategies, allocates and initialises; `all`: the passes of a step, of all data groups. Throws AgreedError
  /// where not even the state of the training fits: the system might end other programs. Collective, as all functions
  /// that run steps.
  StepRunner(const StepSettings& settings, const std::vector<StepPass>& all, Runtime& runtime);

  const Model& model() const { return model_; }
  bool on_gpu() const { return runtime_.stream.device() == Device::cuda; }
  std::optional<double> gemm_flops_per_s() const { return gemm_flops_per_s_; }
  double predicted_bytes() const { return predicted_bytes_; }  ///< as RankMemory::tensors

  /// The first pass of a step, on the device.
  PackOnRank first_of(const std::vector<StepPass>& own);
  /// One step, with the calls of Trainer::train_step that compute. `first`: the step's first pass; afterwards that of
  /// the next step, prepared while the device computes.
  void run(const std::vector<StepPass>& own, PackOnRank& first);

  /// The times of some steps, each of the slowest rank; `count`: as StepSettings::steps. Some before them are not
  /// counted: the first one allocates memory and finds algorithms. A GPU measures those of a matrix product when that
  /// occurs for the eighth time (kernels/cuda/gemm.cu), which takes tens of milliseconds: that is the eighth step if a
  /// step has only one of them. If the first step takes long_step_s, no other is left out; and it is counted if it is
  /// the only one.
  std::vector<double> times(const std::vector<StepPass>& own, std::optional<std::int64_t> count);

  const StepTraffic& traffic() const { return traffic_; }  ///< in the steps of the last call of times()

  /// The mean time of each part over some steps.
  StepParts traced_parts(const std::vector<StepPass>& own, std::int64_t steps);
  /// On a GPU the time in which it waits for the host in a step without a trace, which takes `step_s`.
  double seconds_of_host(const std::vector<StepPass>& own, double step_s);

 private:
  void require_memory(const StepSettings& settings, const ParameterMemory& parameters,
                      const std::vector<StepPass>& all);

  Runtime& runtime_;
  Layout layout_;
  Model model_;
  StepProgress progress_;
  std::optional<Optimizer> optimizer_;
  std::optional<ModelUpdate> update_;
  std::optional<double> gemm_flops_per_s_;
  StepTraffic traffic_;
  std::int64_t number_ = 0;
  double predicted_bytes_ = 0;
  Tensor probe_;  // that a GPU computes on while it is held back
};

}  // namespace causeway
