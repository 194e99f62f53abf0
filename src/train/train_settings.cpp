#include "src/train/train_settings.hpp"

#include <limits>

#include "parallel/transport/device_transport.hpp"
#include "src/health/faults.hpp"
#include "src/runtime/rank_stream.hpp"
#include "src/runtime/strategy_choice.hpp"

namespace causeway {
namespace {

void within(std::string_view option, auto value, decltype(value) low, decltype(value) high) {
  require(value >= low && value <= high, "--{} is {}, expected {} to {}", option, value, low, high);
}

}  // namespace

void check(const TrainSettings& settings) {
  constexpr auto most = std::numeric_limits<std::int64_t>::max() / 2;
  require(!settings.run.empty(), "--run is missing: expected the folder of the run");
  within("steps", settings.steps, std::int64_t{1}, most);
  within("pack-tokens", settings.pack_tokens, std::int64_t{1}, std::int64_t{1} << 40);
  within("window", settings.window, std::int64_t{1}, std::int64_t{1} << 24);
  within("accumulate", settings.accumulate, std::int64_t{1}, std::int64_t{1} << 20);
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
  within("recompute-blocks", settings.recompute_blocks, std::int64_t{1}, std::int64_t{10'000});
  require(settings.recompute_blocks == 1 || settings.recompute, "--recompute-blocks is {}, but --recompute is missing",
          settings.recompute_blocks);
  require(settings.seed >= 0, "--seed is {}, expected 0 or more", settings.seed);
  require(settings.resume.empty() || settings.init_from.empty() || settings.resume == "auto",
          "--resume {} and --init-from exclude each other", settings.resume);
  require(settings.eval_every == 0 || !settings.valid_data.empty(), "--eval-every is {}, but --valid-data is missing",
          settings.eval_every);
}

ModelOptions resolve(const ModelSettings& settings, const ModelOptions& unnamed) {
  ModelOptions options = unnamed;
  if (!settings.model.empty())
    options = preset_options(settings.model);
  else if (!settings.layers.empty())
    options = preset_options(default_preset);
  if (!settings.layers.empty()) options.layers = parse_layers(settings.layers);
  if (settings.layers_count != 0) {
    within("layers-count", settings.layers_count, std::int64_t{1}, std::int64_t{10'000});
    const std::vector<std::string> pattern = options.layers;
    require(!pattern.empty(), "--layers names no layer");
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
  choose(options.filter_groups, settings.filter_groups, 0);
  choose(options.se_taps, settings.se_taps, 0);
  choose(options.mr_taps, settings.mr_taps, 0);
  choose(options.mr_decay, settings.mr_decay, "");
  choose(options.modes, settings.modes, 0);
  choose(options.ffn, settings.ffn, -1);
  choose(options.mlp_activation, settings.mlp_activation, "");
  choose(options.norm_eps, settings.norm_eps, 0);
  if (settings.untied_head) options.tied_head = false;
  return options;
}

PackingOptions packing_of(const TrainSettings& settings) {
  return {.policy = settings.policy,
          .pack_tokens = settings.pack_tokens,
          .window = settings.window,
          .long_documents = settings.long_documents == "refuse" ? LongDocuments::refuse : LongDocuments::cut};
}

LearningRate schedule_of(const TrainSettings& settings) {
  return {.peak = settings.learning_rate,
          .warmup_steps = settings.warmup_steps,
          .steps = settings.steps,
          .floor = settings.learning_rate_floor};
}

OptimizerOptions optimizer_options_of(const TrainSettings& settings) {
  return {
      .beta1 = settings.beta1, .beta2 = settings.beta2, .weight_decay = settings.weight_decay, .clip = settings.clip};
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

OptionGroup fault_group(FaultSettings& settings) {
  return {"Faults",
          {{"watchdog", &settings.watchdog, "SECONDS",
            "end with 76 and say where each rank stands, once none has made progress for so long; 0: never"},
           {"inject-fault", &settings.inject, "KIND:step=N[,rank=R][,phase=P][,layer=L]",
            "let a rank fail on purpose, to try out a cluster's set-up: " + fault_kinds_text() +
                "; phases: " + fault_points_text() + "; config.ini does not keep it"}}};
}

OptionGroup compute_group(ComputeSettings& settings) {
  return {"Ranks and numbers",
          {{"data-parallel", &settings.data_parallel, "A",
            "groups of ranks that work on different packs; 0: as many as --context-parallel leaves"},
           {"context-parallel", &settings.context_parallel, "B",
            "ranks that share one pack, each holding its shard of the tokens; 0: as many as --data-parallel leaves, "
            "all if that is 0 too"},
           {"layout",
            &settings.layout,
            "",
            "which tokens a rank holds: one run, or one from the front and one from the back",
            {"contiguous", "zigzag"}},
           {"strategy", &settings.strategy, "auto|OPERATOR=NAME,…",
            "how operators cross the ranks' edges; auto takes the ones thought fastest, train --dry-run says why, op "
            "--list "
            "shows them"},
           {"schedule",
            &settings.schedule,
            "",
            "how states are carried over the ranks: from neighbour to neighbour, or all gathered; the same bits",
            {"auto", "chain", "gather"}},
           {"dtype",
            &settings.dtype,
            "",
            "type of activations and weights; states and sums are f32, or f64 with f64",
            {"f32", "f64", "bf16"}},
           {"device", &settings.device, "", "where to compute", {"cpu", "cuda"}}}};
}

OptionGroup model_group(ModelSettings& settings) {
  const auto names_of = [](const auto& table) {
    std::string names;
    for (const auto& row : table) names += fmt::format("{}{}", names.empty() ? "" : ", ", row.name);
    return names;
  };
  return {
      "Model",
      {{"model", &settings.model, "PRESET", "one of: " + names_of(presets()) + "; the options below change it"},
       {"layers", &settings.layers, "\"NAME NAME*COUNT …\"", "the kind of each layer, of: " + names_of(layers())},
       {"layers-count", &settings.layers_count, "N", "that many layers, the pattern repeated or cut"},
       {"width", &settings.width, "N", "channels of the residual stream"},
       {"state", &settings.state, "N", "states a channel of the selective scan"},
       {"expand", &settings.expand, "N", "inner channels of a Mamba block, in widths"},
       {"conv-taps", &settings.conv_taps, "N", "taps of the short convolution"},
       {"dt-rank", &settings.dt_rank, "N", "rank of the step size's projection, else width/16"},
       {"heads", &settings.heads, "N", "heads of attention"},
       {"rope-base", &settings.rope_base, "X",
        "base of attention's rotary positions; 0: no positions; -1: the preset's, else 10000"},
       {"filter-groups", &settings.filter_groups, "N",
        "filters of se and mr, each for as many channels; else the preset's, or one for 16 channels"},
       {"se-taps", &settings.se_taps, "N", "taps of se's filters, else 7"},
       {"mr-taps", &settings.mr_taps, "N", "taps of mr's filters, else the preset's, or 128"},
       {"mr-decay", &settings.mr_decay, "strong|normal|weak",
        "how far apart mr's filters decay: the slowest by exp(-1), exp(-0.1) or exp(-0.01) over its taps, else weak"},
       {"modes", &settings.modes, "N", "modes a channel of li's filters, else 16"},
       {"ffn", &settings.ffn, "N",
        "inner width of the gated MLP after each mixer; 0: none; -1: the preset's, else none"},
       {"mlp-activation", &settings.mlp_activation, "gelu_first|swiglu",
        "of the MLP's gate: GELU in the first layer and none after it (else this), or SiLU everywhere"},
       {"norm-eps", &settings.norm_eps, "X",
        "added to the mean square in RMSNorm; 0: 1e-5 where every layer is mamba, else 1e-6"},
       {"vocabulary", &settings.vocabulary, "N", "token ids the model knows"},
       {"untied-head", &settings.untied_head, "", "an output head of its own instead of the embedding's transpose"}}};
}

}  // namespace causeway
