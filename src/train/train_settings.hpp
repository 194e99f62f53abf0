#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/data/packing.hpp"
#include "parallel/layout/shard_layout.hpp"
#include "src/cli/config.hpp"
#include "src/cli/launch.hpp"
#include "src/model/model.hpp"
#include "src/model/optimizer.hpp"
#include "src/train/training_data.hpp"

namespace causeway {

/// The model options of `train`. 0 and "", or -1 where 0 has a meaning, mean the value of the preset, or of the
/// checkpoint from which the run resumes or starts.
struct ModelSettings {
  std::string model, layers;
  std::int64_t layers_count = 0, width = 0, state = 0, expand = 0, conv_taps = 0, dt_rank = 0, vocabulary = 0,
               heads = 0, filter_groups = 0, se_taps = 0, mr_taps = 0, modes = 0, ffn = -1;
  double rope_base = -1, rope_scaling = 0, norm_eps = 0;
  std::string mr_decay, mlp_activation, norm_form;
  bool untied_head = false, out_bias = false, rope_stored = false, no_se_skip = false;
};

/// How packs are divided over ranks and computed. Used by train and score.
struct ComputeSettings {
  int data_parallel = 0, context_parallel = 0;
  std::string layout = "contiguous", strategy = "auto", schedule = "auto", shard = "optimizer", dtype = "f32",
              fp8 = "off", device = "cpu";
};

/// What a training step keeps in memory, and what it sends so that it need not keep it. Used by train and bench step.
struct MemorySettings {
  bool recompute = false;
  std::int64_t recompute_blocks = 1, keep_blocks = 0;
  std::string gradient_dtype = "f32", offload = "none";
  bool offloads(std::string_view what) const { return offload == what || offload == "all"; }
};

/// The watchdog's limits, and the faults to inject. Used by train and score.
struct FaultSettings {
  double watchdog = 1800;           ///< seconds without progress; 0: no limit
  double watchdog_io = 7200;        ///< seconds inside one system call that writes; 0: no limit
  std::vector<std::string> inject;  ///< as parse_fault reads them
};

inline constexpr std::int64_t default_steps = 1000, default_trace_steps = 3;

/// All options of `causeway train`, with their defaults.
struct TrainSettings {
  LaunchOptions launch;
  ModelSettings model;
  ComputeSettings compute;
  MemorySettings memory;
  FaultSettings faults;
  std::vector<std::string> data;
  std::string run;
  std::optional<std::int64_t> asked_steps;  ///< --steps
  std::optional<double> epochs;             ///< --epochs; excludes --steps
  std::int64_t steps = default_steps;       ///< in total, as --steps or --epochs give them
  std::int64_t pack_tokens = 8192, window = 256, accumulate = 1, seed = 0;
  std::string policy = "greedy", long_documents = "cut", deal = "auto", loss_normalisation = "step";
  double learning_rate = 1e-3, learning_rate_floor = 0.1, beta1 = 0.9, beta2 = 0.95, weight_decay = 0.1, clip = 1;
  std::int64_t warmup_steps = 0;
  std::int64_t checkpoint_every = 0, keep_last = 0, keep_every = 0, eval_every = 0, eval_packs = 0, log_every = 10;
  std::string resume, init_from;
  std::vector<std::string> valid_data;
  IniOrigin origin;  ///< of the options that config.ini gave
  bool allow_changed_data = false;
  bool tensorboard = false, dry_run = false;
  std::string trace;  ///< file
  std::int64_t trace_steps = default_trace_steps;
};

/// Throws Error(usage) that names the first wrong option.
void check(const TrainSettings& settings);
/// The preset of --model; without --model the default preset if --layers is given, else `otherwise`; changed by the
/// other options. Whether the result is a valid model is checked by ModelOptions::check.
ModelOptions resolve(const ModelSettings& settings, const ModelOptions& otherwise);
/// The options that give this shape: what config.ini contains. A size that the preset leaves to the program, because it
/// derives from the others, is not set.
ModelSettings settings_of(const ModelOptions& shape, const std::string& model);
PackingOptions packing_of(const TrainSettings& settings);
LabelWeights label_weights_of(const TrainSettings& settings);
LearningRate schedule_of(const TrainSettings& settings);
OptimizerOptions optimizer_options_of(const TrainSettings& settings);
/// Collective; wrong settings throw AgreedError(usage).
Runtime make_runtime(const ComputeSettings& settings, Communicator world, std::shared_ptr<RankProgress> rank_progress);

/// Groups of options, for --help and the parser. `train` has all, `score` the first and the third.
OptionGroup compute_group(ComputeSettings& settings);
OptionGroup model_group(ModelSettings& settings);
OptionGroup fault_group(FaultSettings& settings);

/// Options that several commands have: of packs (`train`, `bench step`, `pack`) and of a step (`train`, `bench step`).
std::vector<Option> packing_options(std::string& policy, std::int64_t& window);
Option accumulate_option(std::int64_t& accumulate);
std::vector<Option> memory_options(MemorySettings& settings);
/// Throws Error(usage) that names the first of these options that is wrong.
void check_step_options(std::int64_t window, std::int64_t accumulate, const MemorySettings& memory,
                        const std::string& shard);
/// What of the parameters a training keeps in memory.
ParameterMemory training_memory_of(const ComputeSettings& compute, const MemorySettings& memory,
                                   std::int64_t accumulate);
/// The options of a training's model beside its shape.
Model::Options training_options_of(const ComputeSettings& compute, const MemorySettings& memory);

}  // namespace causeway
