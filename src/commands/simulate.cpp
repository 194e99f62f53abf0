#include <chrono>

#include "io/file/atomic_file.hpp"
#include "src/bench/operators.hpp"
#include "src/bench/simulated.hpp"
#include "src/cli/command.hpp"
#include "src/cli/option_range.hpp"
#include "src/run/json_fields.hpp"

namespace causeway {
namespace {

constexpr std::int64_t mean_document = 646;  // of PackMamba's packs (src/bench/documents.hpp)

struct SimulateSettings {
  std::int64_t ranks = 1024, tokens = 1 << 20, channels = 4096, document_tokens = mean_document;
  std::string filter, layout = "all", dtype = "bf16", delivery = "in_order";
  std::string profile = std::string(built_in_profiles().front().name);
  double oversubscription = 1;
  std::string json;
};

OptionGroup network_group(SimulateSettings& settings) {
  OptionGroup group{
      "Network",
      {{"profile", &settings.profile, "NAME|FILE",
        "hosts, links and network: a file, with a . or / in its name, or one of the profiles that are part of "
        "the program (causeway plan --help names them). A leaf switch has 32 hosts"},
       {"oversubscription", &settings.oversubscription, "X",
        "bandwidth below a leaf switch over that above it; 1: the tree does not block"},
       {"delivery",
        &settings.delivery,
        "",
        "in_order: a rank's exchanges run one after the other, each until both sides of all its messages are "
        "there, as with NCCL; buffered: a sender does not wait for the receiver",
        {"in_order", "buffered"}},
       {"json", &settings.json, "FILE", "also write the figures to this file"}}};
  for (const BuiltInProfile& known : built_in_profiles())
    find_option(group, "profile").suggestions.emplace_back(known.name);
  return group;
}

CommandLine declare(SimulateSettings& settings) {
  return {
      .usage = "[--ranks N] [options]",
      .description =
          "Runs the exchanges of thousands of ranks in this process, without MPI, GPUs or tensors: every strategy of "
          "every operator, forward and backward, in every layout that it has. Each rank runs the code of training with "
          "a transport that records what the rank sends, expects and waits for. Then all ranks take their steps, each "
          "with a clock of its own, under a model of a network: hosts with links inside (NVLink) on a fat tree. "
          "Computing takes no time.\n\n"
          "A row has the messages and bytes of all ranks and of the rank that sends most, its bytes over the mean "
          "(balance), the milliseconds until the last rank has ended each pass, how long a rank waits in both on "
          "average, what the cost model of --strategy auto says for both, the peak memory of a rank's tensors with "
          "inputs and results, and the seconds that the row took here.\n\n"
          "Ranks that wait forever, messages that no rank receives and lengths that do not match end the command with "
          "an "
          "error that names the ranks. The time and the memory of a row grow with its messages: one takes 0.3 to 0.8 "
          "us of one core, and all_to_all, ring, all_gather and the schedule gather send N^2 of them. With 1,024 ranks "
          "all rows take a few minutes. With 4,096 ranks ring sends 200 million (3 minutes, 0.8 GB), all_gather 300 "
          "million (4 minutes, 3.3 GB), and all rows take most of an hour: choose with --filter.",
      .groups = {{"Ranks and pack",
                  {{"ranks", &settings.ranks, "N", "number of ranks that share one pack"},
                   {.name = "pack-tokens",
                    .field = &settings.tokens,
                    .value = "N",
                    .help = "tokens of the pack",
                    .also = "tokens",
                    .binary_units = true},
                   {.name = "document-tokens",
                    .field = &settings.document_tokens,
                    .value = "N",
                    .help = "mean length of the pack's documents; 0, or the tokens or more: one document fills it",
                    .binary_units = true},
                   {"channels", &settings.channels, "N", "channels of the operators, a multiple of 128"},
                   {"dtype", &settings.dtype, "", "type of activations", {"bf16", "f32", "f64"}},
                   {"layout", &settings.layout, "", "which ranks hold which tokens", {"all", "contiguous", "zigzag"}},
                   {"filter", &settings.filter, "TEXT[,TEXT…]",
                    "only rows with this text, or one of several, in \"operator strategy\""}}},
                 network_group(settings)},
      .examples =
          "causeway simulate --filter halo\n"
          "causeway simulate --ranks 4096 --filter state_carry,halo --json simulated.json\n"
          "causeway simulate --ranks 64 --pack-tokens 64K --document-tokens 0 --oversubscription 4"};
}

void check(const SimulateSettings& settings) {
  require_within("ranks", settings.ranks, 1, std::int64_t{1} << 14);
  require_within("pack-tokens", settings.tokens, 1, std::int64_t{1} << 30);
  require_within("document-tokens", settings.document_tokens, 0, std::int64_t{1} << 30);
  require_within("channels", settings.channels, 128, std::int64_t{1} << 16);
  require(settings.channels % 128 == 0, "--channels is {}, expected a multiple of 128", settings.channels);
  require_within("oversubscription", settings.oversubscription, 1, 1000);
}

ExitCode execute(const SimulateSettings& settings) {
  if (launcher_rank() != 0) return ExitCode::ok;
  check(settings);
  const Profile profile = read_profile(settings.profile);
  if (!settings.json.empty()) {
    require(!same_file(settings.json, settings.profile), "--json is '{}', the profile that is read", settings.json);
    check_target(settings.json, Existing::replaced);
  }
  Network network = network_of(profile);
  network.oversubscription = settings.oversubscription;
  const auto ranks = static_cast<int>(settings.ranks);
  const std::int64_t documents =
      settings.document_tokens == 0 ? 1 : std::max<std::int64_t>(settings.tokens / settings.document_tokens, 1);
  print_answer(fmt::format("{} ranks of {}, {} tokens in {} documents, {} channels, {}\n{}", ranks, profile.name,
                           settings.tokens, documents, settings.channels, settings.dtype, head_of_simulated_rows()),
               0);
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const StrategyWorkload& each : strategy_workloads(parse_dtype(settings.dtype), settings.channels))
    for (const OpStrategy& strategy : each.row.strategies)
      for (const Layout layout : strategy.layouts)
        for (const std::string& variant : variants_with_other_messages(each, strategy)) {
          if (!matches(settings.filter, fmt::format("{} {}", each.name(), strategy.name))) continue;
          if (settings.layout != "all" && parse_layout(settings.layout) != layout) continue;
          StrategyWorkload work = each.with(strategy, variant, settings.tokens, documents);
          work.layout = layout;
          const auto begin = std::chrono::steady_clock::now();
          const SimulatedStrategy simulated(record_strategy(work, ranks), network,
                                            settings.delivery == "in_order" ? Delivery::in_order : Delivery::buffered);
          const SimulatedRow result{work, simulated,
                                    variant.empty() ? estimated_communication(work, ranks, profile) : 0,
                                    std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count()};
          print_answer(text_of(result), 0);
          rows.push_back(to_json(result));
        }
  require(!rows.empty(), "--filter is '{}' and --layout is {}, which no row has; expected part of a name such as '{}'",
          settings.filter, settings.layout, "causal_conv halo");
  if (!settings.json.empty())
    write_text(settings.json, json_document({{"ranks", ranks},
                                             {"tokens", settings.tokens},
                                             {"documents", documents},
                                             {"channels", settings.channels},
                                             {"dtype", settings.dtype},
                                             {"profile", profile.name},
                                             {"oversubscription", settings.oversubscription},
                                             {"delivery", settings.delivery},
                                             {"results", std::move(rows)}}));
  return ExitCode::ok;
}

}  // namespace

Command simulate_command() {
  return make_command<SimulateSettings, declare, execute>(
      "simulate", "simulate the exchanges of thousands of ranks in one process, under a model of a network");
}

}  // namespace causeway
