#include <memory>
#include <nlohmann/json.hpp>

#include "io/data/dataset.hpp"
#include "io/data/packing.hpp"
#include "io/file/atomic_file.hpp"
#include "src/cli/command.hpp"
#include "src/cli/launch.hpp"
#include "src/run/json_fields.hpp"
#include "src/train/settings/step_options.hpp"

namespace causeway {
namespace {

struct PackSettings {
  std::vector<std::string> data;
  std::int64_t pack_tokens = 4096;
  std::string policy = "greedy";
  std::int64_t window = PackingOptions{}.window;
  std::string long_documents = "cut";
  bool report = false, force = false;
  std::string json;
};

CommandLine declare(PackSettings& settings) {
  std::string explained;
  for (const PackingPolicy& policy : packing_policies())
    explained += fmt::format("\n  {:<22}{}", policy.name, policy.summary);
  CommandLine line{
      .usage = "--data FILE --pack-tokens N [--report]",
      .description =
          "Reports how a dataset would be packed: the number of packs, their padding, and the number of documents "
          "cut. It reads only the lengths of documents and makes no packs; training packs while it runs, with the "
          "same code.\n\nPolicies:" +
          explained,
      .groups = {{"Packing",
                  {{"data", &settings.data, "FILE",
                    "a dataset made by causeway import; several are packed one after the other"},
                   {.name = "pack-tokens",
                    .field = &settings.pack_tokens,
                    .value = "N",
                    .help = "tokens of a pack",
                    .binary_units = true},
                   {"long-documents",
                    &settings.long_documents,
                    "",
                    "what happens to a document longer than a pack: it is cut, or the command ends with an error",
                    {"cut", "refuse"}},
                   {"report", &settings.report, "", "report all policies, not only --policy"}}},
                 {"Output",
                  {{"json", &settings.json, "FILE",
                    "also write the figures to this file; causeway export makes a table of it, scripts/plot a "
                    "picture"},
                   {"force", &settings.force, "", "replace that file if it exists"}}}},
      .examples = "causeway pack --data reads.h5 --pack-tokens 16384 --report"};
  insert_after(line.groups.front(), "pack-tokens", packing_options(settings.policy, settings.window));
  return line;
}

/// The datasets' documents, one dataset after the other.
PieceSource documents_of(const std::vector<Dataset>& datasets) {
  return [&datasets, index = std::size_t{0}, source = PieceSource()]() mutable -> std::optional<Piece> {
    for (; index < datasets.size(); ++index, source = nullptr) {
      if (!source) source = causeway::documents_of(datasets[index].cu_seqlens(), static_cast<std::int32_t>(index));
      if (const auto piece = source()) return piece;
    }
    return std::nullopt;
  };
}

Existing existing(const PackSettings& settings) { return settings.force ? Existing::replaced : Existing::refused; }

void write_json(const PackSettings& settings, const nlohmann::ordered_json& report) {
  for (const std::string& data : settings.data)
    require(!same_file(settings.json, data), "--json is '{}', a dataset that is read", settings.json);
  write_text(settings.json, json_document(report));
}

ExitCode execute(const PackSettings& settings) {
  if (launcher_rank() != 0) return ExitCode::ok;
  require(!settings.data.empty(), "--data is missing: expected a dataset, as causeway import writes it");
  if (!settings.json.empty()) check_target(settings.json, existing(settings));
  std::vector<Dataset> datasets;
  for (const std::string& path : settings.data) datasets.emplace_back(path);
  std::string text = fmt::format("{:<22}{:>10}{:>12}{:>16}{:>12}{:>16}{:>10}\n", "policy", "packs", "padding",
                                 "documents/pack", "at most", "emptiest pack", "cut");
  nlohmann::ordered_json report{{"topic", "packing"},
                                {"data", settings.data},
                                {"pack_tokens", settings.pack_tokens},
                                {"window", settings.window}};
  for (const PackingPolicy& policy : packing_policies()) {
    if (!settings.report && policy.name != settings.policy) continue;
    const PackingStatistics found = measure_packing(
        {.policy = policy.name,
         .pack_tokens = settings.pack_tokens,
         .window = settings.window,
         .long_documents = settings.long_documents == "cut" ? LongDocuments::cut : LongDocuments::refuse},
        documents_of(datasets));
    const double pieces = found.packs == 0 ? 0 : static_cast<double>(found.pieces) / static_cast<double>(found.packs);
    text += fmt::format("{:<22}{:>10}{:>10.2f} %{:>16.2f}{:>12}{:>9} tokens{:>10}\n", policy.name, found.packs,
                        100 * found.padding_rate(), pieces, found.most_pieces, found.least_tokens, found.documents_cut);
    report["results"].push_back({{"policy", policy.name},
                                 {"packs", found.packs},
                                 {"tokens", found.tokens},
                                 {"padding", found.padding_rate()},
                                 {"documents_per_pack", pieces},
                                 {"most_documents", found.most_pieces},
                                 {"least_tokens", found.least_tokens},
                                 {"documents_cut", found.documents_cut}});
  }
  if (!settings.json.empty()) write_json(settings, report);
  print_answer(text);
  return ExitCode::ok;
}

}  // namespace

Command pack_command() {
  return make_command<PackSettings, declare, execute>(
      "pack", "report how full the packs of a dataset would be under each policy");
}

}  // namespace causeway
