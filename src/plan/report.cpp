#include "src/plan/report.hpp"

#include <cmath>

#include "kernels/core/integer.hpp"
#include "src/cli/number_format.hpp"
#include "src/output/safe_text.hpp"

namespace causeway {
namespace {

std::string row(std::string_view name, const std::string& text) { return fmt::format("{:<13}{}\n", name, text); }

double parameters_of(const ModelOptions& shape) {
  return static_cast<double>(Model({.shape = shape}).parameters().count());
}

std::string time_text(double seconds) { return seconds < 60 ? short_time(seconds) : duration(seconds); }

/// Lines of a table of parts. Parts that are 0 are left out.
std::string parts_text(const Parts& parts, double whole, std::string (*text)(double)) {
  std::string lines;
  for (const auto& [name, value] : parts)
    if (value > 0)
      lines += whole > 0 ? fmt::format("  {:<24}{:>12}{:>8.1f} %\n", name, text(value), 100 * value / whole)
                         : fmt::format("  {:<24}{:>12}\n", name, text(value));
  return lines;
}

std::string fit_text(const Prediction& best, const Profile& profile) {
  std::string text = best.fits ? "yes" : "NO";
  if (profile.device == Device::cuda)
    text += fmt::format(": a rank takes {} of {}", binary_bytes(best.device_bytes), binary_bytes(profile.device_bytes));
  return text + fmt::format("{} a host {} of {}", profile.device == Device::cuda ? "," : ":",
                            binary_bytes(best.host_bytes), binary_bytes(profile.host_bytes));
}

std::string memory_text(const RankMemory& memory) {
  Parts host = host_parts(memory);
  for (auto& [name, bytes] : host) name = "host: " + name;
  return fmt::format("\nmemory of a rank\n{}{}", parts_text(tensor_parts(memory), memory.tensors(), binary_bytes),
                     parts_text(host, 0, binary_bytes));
}

nlohmann::ordered_json object_of(const Parts& parts) {
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  for (const auto& [name, value] : parts) object[name] = value;
  return object;
}

nlohmann::ordered_json mesh_json(const PlannedTraining& training, const PlannedMesh& mesh) {
  return {{"data", mesh.data},
          {"context", mesh.context},
          {"shard", name_of(mesh.shard)},
          {"recompute", mesh.recompute},
          {"recompute_blocks", mesh.recompute_blocks},
          {"offload", offload_of(mesh)},
          {"accumulate", accumulate_of(training, mesh)}};
}

}  // namespace

std::optional<double> PlanReport::node_hours() const {
  if (!tokens) return std::nullopt;
  return found.best.node_hours(*tokens, profile);
}

std::optional<double> PlanReport::cost() const {
  const std::optional<double> hours = node_hours();
  if (!hours || !price) return std::nullopt;
  return *hours * *price;
}

std::string text_of(const PlanReport& report) {
  const PlannedTraining& training = report.training;
  const Prediction& best = report.found.best;
  const int ranks = best.mesh.ranks(), hosts = ceil_div(ranks, report.profile.ranks_per_host);
  const std::int64_t accumulate = accumulate_of(training, best.mesh);
  std::string text;
  text += row("model", fmt::format("{}, {} layers of width {}, {} parameters", one_line(report.model, 80),
                                   training.shape.layers.size(), training.shape.width,
                                   shortened(parameters_of(training.shape))));
  text += row("packs", fmt::format("{} tokens, {}", grouped(training.context),
                                   training.documents == 1 ? "one document"
                                                           : fmt::format("{} documents", grouped(training.documents))));
  text += row("machine",
              fmt::format("{}: {} rank{} on {} host{}, {} in {}", one_line(report.profile.name, 80), grouped(ranks),
                          ranks == 1 ? "" : "s", grouped(hosts), hosts == 1 ? "" : "s",
                          report.profile.device == Device::cuda ? "GPUs" : "CPUs", name_of(report.profile.dtype)));
  text += row("fits", fit_text(best, report.profile));
  text += row("mesh", fmt::format("{} (data x context)", text_of(best.mesh)));
  text += row("options", fmt::format("{}{}", options_of(best.mesh),
                                     accumulate > 1 ? fmt::format(" --accumulate {}", accumulate) : ""));
  text += row("step", fmt::format("{} for {} tokens: {} tokens/s, {} a rank, MFU {:.2f}", time_text(best.seconds()),
                                  grouped(std::llround(best.step_tokens)), shortened(best.tokens_per_s),
                                  shortened(best.tokens_per_s / ranks), best.model_flops_utilisation));
  if (const auto hours = report.node_hours())
    text += row("training", fmt::format("{} tokens take {}: {} node hours{}", shortened(*report.tokens),
                                        duration(*report.tokens / best.tokens_per_s), shortened(*hours),
                                        report.cost() ? fmt::format(", cost {}", shortened(*report.cost())) : ""));
  text += memory_text(best.memory);
  text += fmt::format("\nseconds of a step\n{}", parts_text(best.step_s, best.seconds(), short_time));
  text += fmt::format("\nstrategies of {} context rank{}\n", best.mesh.context, best.mesh.context == 1 ? "" : "s");
  for (const StrategyChoice& choice : best.strategies)
    text += fmt::format("  {:<16}{:<24}{}\n", choice.op, choice.strategy, choice.why);
  if (!report.found.runners_up.empty()) text += "\nother meshes that fit\n";
  for (const Prediction& other : report.found.runners_up)
    text += fmt::format("  {:>9} tokens/s ({:>4.2f})  {:>9}  {}\n", shortened(other.tokens_per_s),
                        other.tokens_per_s / best.tokens_per_s, binary_bytes(other.device_bytes), text_of(other.mesh));
  for (const std::string& warning : report.found.warnings) text += fmt::format("warning: {}\n", warning);
  return text;
}

nlohmann::ordered_json to_json(const PlanReport& report) {
  const PlannedTraining& training = report.training;
  const Prediction& best = report.found.best;
  nlohmann::ordered_json strategies = nlohmann::ordered_json::object(), reasons = nlohmann::ordered_json::object(),
                         others = nlohmann::ordered_json::array();
  for (const StrategyChoice& choice : best.strategies) {
    strategies[choice.op] = choice.strategy;
    reasons[choice.op] = choice.why;
  }
  for (const Prediction& other : report.found.runners_up)
    others.push_back({{"mesh", mesh_json(training, other.mesh)},
                      {"tokens_per_s", other.tokens_per_s},
                      {"seconds", other.seconds()},
                      {"device_bytes", other.device_bytes},
                      {"host_bytes", other.host_bytes}});
  nlohmann::ordered_json json{{"format", "causeway-plan"},
                              {"version", 1},
                              {"model", report.model},
                              {"parameters", parameters_of(training.shape)},
                              {"context", training.context},
                              {"documents", training.documents},
                              {"ranks", best.mesh.ranks()},
                              {"profile", report.profile.name},
                              {"fits", best.fits},
                              {"memory", object_of(tensor_parts(best.memory))},
                              {"host_memory", object_of(host_parts(best.memory))},
                              {"device_bytes", best.device_bytes},
                              {"host_bytes", best.host_bytes},
                              {"step_s", object_of(best.step_s)},
                              {"seconds", best.seconds()},
                              {"step_tokens", best.step_tokens},
                              {"mesh", mesh_json(training, best.mesh)},
                              {"strategies", std::move(strategies)},
                              {"reasons", std::move(reasons)},
                              {"tokens_per_s", best.tokens_per_s},
                              {"mfu", best.model_flops_utilisation}};
  if (report.tokens) {
    json["tokens"] = *report.tokens;
    json["training_s"] = *report.tokens / best.tokens_per_s;
    json["node_hours"] = *report.node_hours();
  }
  if (report.cost()) json["cost"] = *report.cost();
  json["runners_up"] = std::move(others);
  json["warnings"] = report.found.warnings;
  return json;
}

}  // namespace causeway
