#include "src/train/train_settings.hpp"

#include <limits>

#include "parallel/choose.hpp"
#include "parallel/transport/device_transport.hpp"
#include "src/health/faults.hpp"
#include "src/runtime/rank_stream.hpp"
#include "src/runtime/strategy_choice.hpp"

namespace causeway {
namespace {

void within(std::string_view option, auto value, decltype(value) low, decltype(value) high) {
  require(value >= low && value <= high, "--{} is {}, expected {} to {}", option, value, low, high);
}

/// Every OPERATOR=NAME that --strategy can contain.
std::vector<std::string> strategy_words() {
  std::vector<std::string> words;
  for (const ListedOperator& op : listed_operators())
    for (const ListedStrategy& strategy : op.strategies) words.push_back(fmt::format("{}={}", op.name, strategy.name));
  return words;
}

}  // namespace

void check(const TrainSettings& settings) {
  constexpr auto most = std::numeric_limits<std::int64_t>::max() / 2;
  require(!settings.run.empty(), "--run is missing: expected the run directory");
  if (settings.asked_steps) within("steps", *settings.asked_steps, std::int64_t{1}, most);
  if (settings.epochs)
    require(*settings.epochs > 0 && *settings.epochs <= 1e6, "--epochs is {}, expected a number above 0, at most 1e6",
            *settings.epochs);
  within("pack-tokens", settings.pack_tokens, std::int64_t{1}, std::int64_t{1} << 40);
  check_step_options(settings.window, settings.accumulate, settings.memory, settings.compute.shard);
  within("warmup-steps", settings.warmup_steps, std::int64_t{0}, most);
  within("learning-rate", settings.learning_rate, 0.0, 1e3);
  within("learning-rate-floor", settings.learning_rate_floor, 0.0, 1.0);
  within("beta1", settings.beta1, 0.0, 0.999999999);
  within("beta2", settings.beta2, 0.0, 0.999999999);
  within("weight-decay", settings.weight_decay, 0.0, 1e3);
  within("clip", settings.clip, 0.0, 1e9);
  within("checkpoint-every", settings.checkpoint_every, std::int64_t{0}, most);
  within("keep-last", settings.keep_last, std::int64_t{0}, most);
  within("keep-every", settings.keep_every, std::int64_t{0}, most);
  require(settings.keep_every == 0 || settings.keep_last > 0,
          "--keep-every is {}, but without --keep-last all checkpoints are kept", settings.keep_every);
  within("eval-every", settings.eval_every, std::int64_t{0}, most);
  within("eval-packs", settings.eval_packs, std::int64_t{0}, most);
  within("log-every", settings.log_every, std::int64_t{1}, most);
  within("trace-steps", settings.trace_steps, std::int64_t{1}, std::int64_t{1000});
  require(settings.trace_steps == default_trace_steps || !settings.trace.empty(),
          "--trace-steps is {}, but --trace is missing", settings.trace_steps);
  require(settings.seed >= 0, "--seed is {}, expected 0 or more", settings.seed);
  require(settings.resume.empty() || settings.init_from.empty() || settings.resume == "auto",
          "--resume {} and --init-from exclude each other", settings.resume);
  require(settings.eval_every == 0 || !settings.valid_data.empty(), "--eval-every is {}, but --valid-data is missing",
          settings.eval_every);
}

ModelOptions resolve(const ModelSettings& settings, const ModelOptions& otherwise) {
  ModelOptions options = otherwise;
  if (!settings.model.empty())
    options = preset_options(settings.model);
  else if (!settings.layers.empty())
    options = preset_options(default_preset);
  if (!settings.layers.empty()) options.layers = parse_layers(settings.layers);
  if (settings.layers_count != 0) {
    within("layers-count", settings.layers_count, std::int64_t{1}, std::int64_t{10'000});
    const std::vector<std::string> pattern = options.layers;
    require(!pattern.empty(), "--layers is empty: expected at least one layer");
    options.layers.clear();
    for (std::int64_t i = 0; i < settings.layers_count; ++i)
      options.layers.push_back(pattern[static_cast<std::size_t>(i) % pattern.size()]);
  }
  const auto choose = [](auto& field, const auto& given, const auto& unset) {
    if (given != unset) field = given;
  };
  choose(options.width, settings.width, 0);
  choose(options.state, settings.state, 0);
  choose(options.expand, settings.expand, 0);
  choose(options.conv_taps, settings.conv_taps, 0);
  choose(options.dt_rank, settings.dt_rank, 0);
  choose(options.vocabulary, settings.vocabulary, 0);
  choose(options.heads, settings.heads, 0);
  choose(options.rope_base, settings.rope_base, -1);
  choose(options.rope_scaling, settings.rope_scaling, 0);
  choose(options.filter_groups, settings.filter_groups, 0);
  choose(options.se_taps, settings.se_taps, 0);
  choose(options.mr_taps, settings.mr_taps, 0);
  choose(options.mr_decay, settings.mr_decay, "");
  choose(options.modes, settings.modes, 0);
  choose(options.ffn, settings.ffn, -1);
  choose(options.mlp_activation, settings.mlp_activation, "");
  choose(options.norm_eps, settings.norm_eps, 0);
  choose(options.norm_form, settings.norm_form, "");
  if (settings.untied_head) options.tied_head = false;
  if (settings.out_bias) options.out_bias = true;
  if (settings.rope_stored) options.rope_stored = true;
  if (settings.no_se_skip) options.se_skip = false;
  return options;
}

ModelSettings settings_of(const ModelOptions& shape, const std::string& model) {
  return {.model = model,
          .layers = layers_text(shape.layers),
          .width = shape.width,
          .state = shape.state,
          .expand = shape.expand,
          .conv_taps = shape.conv_taps,
          .dt_rank = shape.dt_rank,
          .vocabulary = shape.vocabulary,
          .heads = shape.heads,
          .filter_groups = shape.filter_groups,
          .se_taps = shape.se_taps,
          .mr_taps = shape.mr_taps,
          .modes = shape.modes,
          .ffn = shape.ffn,
          .rope_base = shape.rope_base,
          .rope_scaling = shape.rope_scaling,
          .norm_eps = shape.norm_eps,
          .mr_decay = shape.mr_decay,
          .mlp_activation = shape.mlp_activation,
          .norm_form = shape.norm_form,
          .untied_head = !shape.tied_head,
          .out_bias = shape.out_bias,
          .rope_stored = shape.rope_stored,
          .no_se_skip = !shape.se_skip};
}

PackingOptions packing_of(const TrainSettings& settings) {
  return {.policy = settings.policy,
          .pack_tokens = settings.pack_tokens,
          .window = settings.window,
          .long_documents = settings.long_documents == "refuse" ? LongDocuments::refuse : LongDocuments::cut};
}

LabelWeights label_weights_of(const TrainSettings& settings) {
  return settings.loss_normalisation == "pack" ? LabelWeights::normalised_in_pack : LabelWeights::as_given;
}

LearningRate schedule_of(const TrainSettings& settings) {
  return {.peak = settings.learning_rate,
          .warmup_steps = settings.warmup_steps,
          .steps = settings.steps,
          .floor = settings.learning_rate_floor};
}

OptimizerOptions optimizer_options_of(const TrainSettings& settings) {
  return {.beta1 = settings.beta1,
          .beta2 = settings.beta2,
          .weight_decay = settings.weight_decay,
          .clip = settings.clip,
          .offload = settings.memory.offloads("optimizer")};
}

Runtime make_runtime(const ComputeSettings& settings, Communicator world, std::shared_ptr<RankProgress> rank_progress) {
  Device device{};
  StrategyNames strategies;
  Schedule schedule{};
  collectively(world, [&] {
    device = parse_device(settings.device);
    strategies = parse_strategies(settings.strategy, parse_layout(settings.layout));
    schedule = parse_schedule(settings.schedule);
  });
  Stream stream = make_rank_stream(device, world);
  Communicator between_devices(make_device_transport(world.transport(), stream));
  return {.stream = std::move(stream),
          .mesh = Mesh(std::move(between_devices), settings.data_parallel, settings.context_parallel),
          .strategies = std::move(strategies),
          .schedule = schedule,
          .rank_progress = std::move(rank_progress)};
}

std::vector<Option> packing_options(std::string& policy, std::int64_t& window) {
  std::vector<std::string> policies;
  for (const PackingPolicy& known : packing_policies()) policies.emplace_back(known.name);
  return {{"policy", &policy, "", "how documents are packed; causeway pack --report compares", policies},
          {"window", &window, "N", "how many of the next documents greedy and first_fit_decreasing choose from"}};
}

Option accumulate_option(std::int64_t& accumulate) {
  return {"accumulate", &accumulate, "N", "packs per step and data-parallel group, computed in sequence"};
}

OptionGroup fault_group(FaultSettings& settings) {
  return {"Faults",
          {{"watchdog", &settings.watchdog, "SECONDS",
            "if no rank makes progress for so long, report where each rank is and exit with 76; 0: never"},
           {"watchdog-io", &settings.watchdog_io, "SECONDS",
            "the limit of --watchdog while files are written, flushed to the disk, renamed or removed, of which one "
            "system call can take long on a slow file system; 0: none"},
           {"inject-fault", &settings.inject, "KIND:step=N[,rank=R][,phase=P][,layer=L]",
            "make a rank fail on purpose, to test a cluster's set-up. KIND: " + fault_kinds_text() +
                ". P: " + fault_points_text() + ". config.ini does not contain this option"}}};
}

OptionGroup compute_group(ComputeSettings& settings) {
  return {
      "Ranks and precision",
      {{.name = "data-parallel",
        .field = &settings.data_parallel,
        .value = "A",
        .help = "number of groups of ranks; each group works on its own packs",
        .shown_default = "ranks / context-parallel"},
       {.name = "context-parallel",
        .field = &settings.context_parallel,
        .value = "B",
        .help = "number of ranks that share one pack, each with its shard of the tokens",
        .shown_default = "ranks / data-parallel; all ranks if neither is given"},
       {"layout",
        &settings.layout,
        "",
        "which tokens of a pack a rank holds: contiguous: one run of tokens; zigzag: one run from the front and one "
        "from the back, which balances attention",
        {"contiguous", "zigzag"}},
       {.name = "strategy",
        .field = &settings.strategy,
        .value = "auto|OPERATOR=NAME,…",
        .help = "how operators communicate where a pack is cut. auto: the strategy with the lowest estimated time; "
                "train --dry-run shows the estimates, op --list all strategies",
        .suggestions = strategy_words()},
       {"schedule",
        &settings.schedule,
        "",
        "how states travel over the ranks: chain: summaries, from neighbour to neighbour; gather: all summaries at "
        "once, with identical results; relay: without summaries, each rank scans when its neighbour has: ranks wait "
        "once a pass, not once a layer. auto: by an estimate for each pack",
        {"auto", "chain", "gather", "relay"}},
       {"shard",
        &settings.shard,
        "",
        "what each rank holds only its share of. optimizer: the optimizer state; gradients: also the gradients; "
        "parameters: also the weights, of which a block's are gathered while the block before computes. Each takes "
        "less memory than the one before; the results are the same, bit for bit. Scoring has weights only",
        {"optimizer", "gradients", "parameters"}},
       {"dtype",
        &settings.dtype,
        "",
        "type of activations and weights; states and sums are f32, or f64 with f64",
        {"f32", "f64", "bf16"}},
       {"fp8",
        &settings.fp8,
        "",
        "8-bit floats for products with weights. projections: the input projections of mixers, as Evo 2's 1B, 20B and "
        "40B models were trained; all: every dense product of the blocks. Operands are rounded to E4M3, gradients to "
        "E5M2, with a scale for each token or channel",
        {"off", "projections", "all"}},
       {"device", &settings.device, "", "device that computes", {"cpu", "cuda"}}}};
}

OptionGroup model_group(ModelSettings& settings) {
  const auto names_of = [](const auto& table) {
    std::string names;
    for (const auto& row : table) names += fmt::format("{}{}", names.empty() ? "" : ", ", row.name);
    return names;
  };
  const auto option = [](const char* name, Option::Field field, const char* value, std::string help,
                         std::string_view shown_default) {
    return Option{.name = name,
                  .field = field,
                  .value = value,
                  .help = std::move(help),
                  .shown_default = std::string(shown_default)};
  };
  constexpr const char* preset = "the preset's";
  OptionGroup group = {
      "Model",
      {option("model", &settings.model, "PRESET", "one of " + names_of(presets()) + "; the options below change it",
              default_preset),
       option("layers", &settings.layers, "\"NAME NAME*COUNT …\"",
              "the kind of each layer, each one of " + names_of(layers()), preset),
       option("layers-count", &settings.layers_count, "N",
              "number of layers; the pattern of --layers is repeated or cut", preset),
       option("width", &settings.width, "N", "channels of the residual stream", preset),
       option("state", &settings.state, "N", "states of each channel of the selective scan", preset),
       option("expand", &settings.expand, "N", "inner channels of a Mamba block, as a multiple of the width", preset),
       option("conv-taps", &settings.conv_taps, "N", "taps of the short convolution", preset),
       option("dt-rank", &settings.dt_rank, "N", "rank of the projection to the step size",
              "the preset's, else width/16"),
       option("heads", &settings.heads, "N", "attention heads", preset),
       option("rope-base", &settings.rope_base, "X",
              "base of the rotary position embedding of attention; 0: no positions", "the preset's, else 10000"),
       option("rope-scaling", &settings.rope_scaling, "S",
              "divide positions by S before the rotary embedding (linear position interpolation, for contexts longer "
              "than the first training's)",
              "the preset's, else 1"),
       {"rope-stored", &settings.rope_stored, "",
        "store the rotary frequencies of each attention layer in the checkpoint, as the parameter inv_freq, which is "
        "used but not trained"},
       {"out-bias", &settings.out_bias, "", "add a bias to the output projection of se, mr, li and attention"},
       option("filter-groups", &settings.filter_groups, "N",
              "number of filters of se and of mr; each filter serves the same number of channels",
              "the preset's, else one for 16 channels"),
       option("se-taps", &settings.se_taps, "N", "taps of se's filters", "the preset's, else 7"),
       {"no-se-skip", &settings.no_se_skip, "", "se adds no skip to its filter's output, as in published models"},
       option("mr-taps", &settings.mr_taps, "N", "taps of mr's filters", "the preset's, else 128"),
       option("mr-decay", &settings.mr_decay, "strong|normal|weak",
              "range of decay rates of mr's filters: over its taps the slowest decays to exp(-1), exp(-0.1) or "
              "exp(-0.01)",
              "the preset's, else weak"),
       option("modes", &settings.modes, "N", "modes of each channel of li's filters", "the preset's, else 16"),
       option("ffn", &settings.ffn, "N", "inner width of the gated MLP after each mixer; 0: no MLP",
              "the preset's, else 0"),
       option("mlp-activation", &settings.mlp_activation, "gelu_first|swiglu",
              "activation of the MLP's gate: gelu_first: GELU in the first layer and none in the others; swiglu: "
              "SiLU in all",
              "the preset's, else gelu_first"),
       option("norm-eps", &settings.norm_eps, "X", "added to the mean square in RMSNorm",
              "the preset's, else 1e-5 if all layers are mamba and 1e-6 if not"),
       option(
           "norm-form", &settings.norm_form, "inside|outside",
           "where RMSNorm adds --norm-eps: inside the root, x / sqrt(ms + eps), or outside, x / (sqrt(ms) + eps), as "
           "in the published StripedHyena 2 models; ms is the mean square",
           "the preset's, else inside"),
       option("vocabulary", &settings.vocabulary, "N", "number of token ids", preset),
       {"untied-head", &settings.untied_head, "", "use a separate output head instead of the transposed embedding"}}};
  for (const auto& row : presets()) find_option(group, "model").suggestions.emplace_back(row.name);
  for (Option& row : group.options)
    if (row.name != "model") row.part_of = "model";
  return group;
}

}  // namespace causeway
