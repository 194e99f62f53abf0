#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "src/plan/profile.hpp"
#include "src/runtime/strategy_choice.hpp"
#include "src/train/memory_plan.hpp"

namespace causeway {

/// The training whose cost is predicted: what a mesh does not change.
struct PlannedTraining {
  ModelOptions shape;
  std::int64_t context = 8192;    ///< tokens of a pack
  std::int64_t documents = 1;     ///< of equal length in a pack
  std::int64_t batch_tokens = 0;  ///< of a step; 0: one pack for each data group
  Layout layout = Layout::contiguous;
  Fp8Level fp8 = Fp8Level::off;
  std::optional<DType> gradient_reduce_dtype = {};  ///< as ParameterMemory has it
};

/// How the ranks share the work, and what a rank keeps in memory.
struct PlannedMesh {
  int data = 1, context = 1;  ///< groups; ranks that share a pack
  ShardLevel shard = ShardLevel::optimizer;
  bool recompute = false;
  std::int64_t recompute_blocks = 1;
  bool offload_optimizer = false, offload_activations = false;

  int ranks() const { return data * context; }
  bool operator==(const PlannedMesh&) const = default;
};
std::string text_of(const PlannedMesh& mesh);     ///< "32 x 32, shard parameters, recompute"
std::string options_of(const PlannedMesh& mesh);  ///< the options of `causeway train` that give it
std::string offload_of(const PlannedMesh& mesh);  ///< the value of --offload

/// Packs that each data group computes in a step.
std::int64_t accumulate_of(const PlannedTraining& training, const PlannedMesh& mesh);

/// The operators' strategies on a number of ranks, and their time in a pass: the same for every mesh with these.
struct PlannedOperators {
  std::vector<StrategyChoice> choices;
  /// Seconds of a pass on the rank with the most work: of its computation, and of the communication that it waits for.
  struct Seconds {
    double computing = 0, exposed = 0;
  };
  Seconds forward, backward, repeated;
};
/// As `--strategy auto` chooses them, with the same functions, for these figures of a machine.
PlannedOperators plan_operators(const PlannedTraining& training, const Profile& profile, int context_ranks,
                                bool recompute);

/// Parts in the order in which they are shown.
using Parts = std::vector<std::pair<std::string, double>>;
double sum_of(const Parts& parts);

/// The part of a device's and of a host's memory that a plan uses: predictions are exact to about 5 %.
constexpr double usable_memory = 0.95;

struct Prediction {
  PlannedMesh mesh;
  RankMemory memory;
  double device_bytes = 0, host_bytes = 0;  ///< needed on a rank's device, and on a host by all of its ranks
  bool fits = false;                        ///< into the usable part of both
  std::vector<StrategyChoice> strategies;
  Parts step_s;
  double step_tokens = 0, tokens_per_s = 0;
  double model_flops_utilisation = 0;  ///< as train reports it: model FLOPs over the rate of one large product

  double seconds() const { return sum_of(step_s); }
  /// Hosts that the ranks fill, for the time that so many tokens take.
  double node_hours(double tokens, const Profile& profile) const;
};

/// Predicts a step, without any tensor or rank. `operators`: plan_operators of the mesh.
Prediction predict(const PlannedTraining& training, const PlannedMesh& mesh, const Profile& profile,
                   const PlannedOperators& operators);

/// The tensors of a rank, in bytes: their sum is what `train` reports as memory_bytes.
Parts tensor_parts(const RankMemory& memory);
/// What a rank takes of its host's memory beside them.
Parts host_parts(const RankMemory& memory);

}  // namespace causeway
