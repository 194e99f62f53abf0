#include "io/file/atomic_file.hpp"
#include "src/cli/command.hpp"
#include "src/cli/option_range.hpp"
#include "src/plan/report.hpp"
#include "src/run/json_fields.hpp"
#include "src/train/settings/model_settings.hpp"

namespace causeway {
namespace {

struct PlanSettings {
  ModelSettings model;
  std::int64_t pack_tokens = 8192, ranks = 0;
  std::int64_t document_tokens = 0, batch_tokens = 0;
  std::optional<std::int64_t> tokens;
  std::optional<double> price;
  std::string profile = std::string(built_in_profiles().front().name);
  std::int64_t data_parallel = 0, context_parallel = 0;
  std::string layout = "contiguous", shard = "auto", recompute = "auto", offload = "auto";
  std::string fp8 = "off", gradient_dtype = "f32";
  bool search = false;
  std::string json;
};

OptionGroup cluster_group(PlanSettings& settings) {
  OptionGroup group{
      "Cluster",
      {{.name = "ranks",
        .field = &settings.ranks,
        .value = "N",
        .help = "number of ranks, a GPU each",
        .shown_default = "required"},
       {"profile", &settings.profile, "NAME|FILE",
        "speed and memory of its hosts: a file, with a . or / in its name, or one of the profiles that are "
        "part of the program:"},
       {.name = "data-parallel",
        .field = &settings.data_parallel,
        .value = "A",
        .help = "only meshes with so many data groups",
        .shown_default = "any"},
       {.name = "context-parallel",
        .field = &settings.context_parallel,
        .value = "B",
        .help = "only meshes in which so many ranks share a pack",
        .shown_default = "any"},
       {"layout", &settings.layout, "", "which tokens of a pack a rank holds", {"contiguous", "zigzag"}},
       {"shard", &settings.shard, "", "as --shard of train", {"auto", "optimizer", "gradients", "parameters"}},
       {"recompute", &settings.recompute, "", "whether blocks are recomputed", {"auto", "yes", "no"}},
       {"offload", &settings.offload, "", "as --offload of train", {"auto", "none", "optimizer", "activations", "all"}},
       {"search", &settings.search, "", "also show more of the meshes that fit, the fastest first"}}};
  Option& profile = find_option(group, "profile");
  for (const BuiltInProfile& known : built_in_profiles()) {
    profile.help +=
        fmt::format("{} {} ({})", known.name == built_in_profiles().front().name ? "" : ",", known.name, known.summary);
    profile.suggestions.emplace_back(known.name);
  }
  return group;
}

CommandLine declare(PlanSettings& settings) {
  return {
      .usage = "--model PRESET --pack-tokens N --ranks N [options]",
      .description =
          "Predicts a training on a cluster without running it: the memory of a rank by part, the seconds of a step by "
          "part, the strategy of every operator and why, tokens per second, and the node hours and the cost of a whole "
          "training. It needs no GPU and starts no ranks.\n\n"
          "It takes the fastest mesh that fits: data x context ranks (groups of ranks that work on packs of their own, "
          "and ranks that share a pack), what of the model is sharded, recomputation, and what is offloaded. Options "
          "fix any of these; then the plan says what that choice costs. Where nothing fits, the plan shows the mesh "
          "that needs the least, and the exit code is still 0: \"fits\" in --json is false.\n\n"
          "The figures of a cluster are its profile, a JSON file. Strategies are chosen by the functions and the cost "
          "model of train --strategy auto. What is not predicted: stragglers, reading data, checkpoints, evaluations.",
      .groups = {{"Training",
                  {{.name = "pack-tokens",
                    .field = &settings.pack_tokens,
                    .value = "N",
                    .help = "tokens of a pack, which is as long as the longest document",
                    .also = "context",
                    .binary_units = true},
                   {.name = "document-tokens",
                    .field = &settings.document_tokens,
                    .value = "N",
                    .help = "mean length of a pack's documents",
                    .shown_default = "one document fills a pack",
                    .binary_units = true},
                   {.name = "batch-tokens",
                    .field = &settings.batch_tokens,
                    .value = "N",
                    .help = "tokens of a step, at most: a data group then computes several packs a step (--accumulate "
                            "of train), and meshes with more data groups are left out",
                    .shown_default = "one pack for each data group",
                    .binary_units = true},
                   {.name = "tokens",
                    .field = &settings.tokens,
                    .value = "N",
                    .help = "tokens of the whole training, for its time and node hours",
                    .binary_units = true},
                   {"fp8", &settings.fp8, "", "as --fp8 of train", {"off", "projections", "all"}},
                   {"gradient-dtype", &settings.gradient_dtype, "", "as --gradient-dtype of train", {"f32", "bf16"}},
                   {"price", &settings.price, "X",
                    "price of one node (a host with its GPUs) for an hour; with --tokens the cost is printed"}}},
                 cluster_group(settings),
                 {"Output", {{"json", &settings.json, "FILE", "also write the figures to this file"}}},
                 model_group(settings.model)},
      .examples =
          "causeway plan --model sh2-7b --pack-tokens 1M --ranks 1024\n"
          "causeway plan --model sh2-40b --pack-tokens 128K --ranks 1024 --batch-tokens 8M --search\n"
          "causeway plan --model mamba-1.4b --pack-tokens 64K --document-tokens 646 --ranks 8 --tokens 100000M "
          "--price 30 --json plan.json\n"
          "causeway plan --model sh2-7b --pack-tokens 64K --ranks 64 --profile cluster.json"};
}

void check(const PlanSettings& settings) {
  constexpr std::int64_t most_tokens = std::int64_t{1} << 40, most_ranks = 1 << 16, most_documents = 1 << 22;
  require(settings.ranks != 0, "--ranks is missing: expected the number of ranks, 1 to {}", most_ranks);
  require_within("ranks", settings.ranks, 1, most_ranks);
  require_within("pack-tokens", settings.pack_tokens, 1, most_tokens);
  require_within("document-tokens", settings.document_tokens, 0, settings.pack_tokens);
  require(settings.document_tokens == 0 || settings.pack_tokens / settings.document_tokens <= most_documents,
          "--document-tokens is {}: a pack of {} tokens would have more than {} documents", settings.document_tokens,
          settings.pack_tokens, most_documents);
  require_within("batch-tokens", settings.batch_tokens, 0, std::int64_t{1} << 50);
  if (settings.tokens) require_within("tokens", *settings.tokens, 1, std::int64_t{1} << 60);
  if (settings.price)
    require(*settings.price >= 0 && *settings.price <= 1e12, "--price is {}, expected a number from 0 to 1e12",
            *settings.price);
  require_within("data-parallel", settings.data_parallel, 0, settings.ranks);
  require_within("context-parallel", settings.context_parallel, 0, settings.ranks);
}

ExitCode execute(const PlanSettings& settings) {
  if (launcher_rank() != 0) return ExitCode::ok;
  check(settings);
  const Profile profile = read_profile(settings.profile);
  if (!settings.json.empty()) {
    require(!same_file(settings.json, settings.profile), "--json is '{}', the profile that is read", settings.json);
    check_target(settings.json, Existing::replaced);
  }
  PlannedTraining training{.shape = resolve(settings.model, preset_options(default_preset)),
                           .context = settings.pack_tokens,
                           .batch_tokens = settings.batch_tokens,
                           .layout = parse_layout(settings.layout),
                           .fp8 = parse_fp8_level(settings.fp8)};
  if (settings.gradient_dtype == "bf16") training.gradient_reduce_dtype = DType::bf16;
  training.shape.check();
  if (settings.document_tokens > 0)
    training.documents = std::max<std::int64_t>(1, settings.pack_tokens / settings.document_tokens);
  SearchSpace space{.ranks = static_cast<int>(settings.ranks)};
  if (settings.data_parallel > 0) space.data = static_cast<int>(settings.data_parallel);
  if (settings.context_parallel > 0) space.context = static_cast<int>(settings.context_parallel);
  if (settings.shard != "auto") space.shard = parse_shard_level(settings.shard);
  if (settings.recompute != "auto") space.recompute = settings.recompute == "yes";
  if (settings.offload != "auto") space.offload = settings.offload;
  const SearchResult found = search_mesh(training, space, profile, settings.search ? 20 : 3);
  const std::string model = !settings.model.model.empty()   ? settings.model.model
                            : settings.model.layers.empty() ? std::string(default_preset)
                                                            : layers_text(training.shape.layers);
  std::optional<double> tokens;
  if (settings.tokens) tokens = static_cast<double>(*settings.tokens);
  const PlanReport report{model, training, profile, found, tokens, settings.price};
  print_answer(text_of(report));
  if (!settings.json.empty()) write_text(settings.json, json_document(to_json(report)));
  return ExitCode::ok;
}

}  // namespace

Command plan_command() {
  return make_command<PlanSettings, declare, execute>("plan",
                                                      "predict memory, time and cost of a training on a cluster");
}

}  // namespace causeway
