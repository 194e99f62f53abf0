#include "src/bench/step/step_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "src/cli/number_format.hpp"
#include "src/output/safe_text.hpp"

namespace causeway {
namespace {

constexpr double one_part = 5e-4;  // of a step: what is below is one line

/// The preset, or the layers where no preset is named.
std::string model_name(const StepSettings& settings, const ModelOptions& shape) {
  if (!settings.model.model.empty()) return settings.model.model;
  return settings.model.layers.empty() ? std::string(default_preset) : layers_text(shape.layers);
}

std::vector<std::pair<std::string, double>> longest_first(const StepParts& parts) {
  std::vector<std::pair<std::string, double>> ordered(parts.begin(), parts.end());
  std::ranges::stable_sort(ordered, [](const auto& a, const auto& b) { return a.second > b.second; });
  return ordered;
}

std::string row(std::string_view name, const std::string& text) { return fmt::format("{:<16}{}\n", name, text); }

std::string comparison_text(const StepMeasurement& measured, const StepComparison& other) {
  return fmt::format("{} tokens/s in {} pass{} a step; packed is {:.2f} times as fast",
                     grouped(static_cast<std::int64_t>(other.tokens_per_s())), grouped(other.count.passes),
                     other.count.passes == 1 ? "" : "es", measured.tokens_per_s() / other.tokens_per_s());
}

std::string parts_text(const StepMeasurement& measured) {
  std::string text = fmt::format("{:<40}{:>11}{:>10}\n", "part of a step", "ms", "share");
  const auto line = [&](std::string_view name, double seconds) {
    text += fmt::format("{:<40}{:>11.3f}{:>8.1f} %\n", name, seconds * 1e3, 100 * seconds / measured.step_s);
  };
  double small = 0;
  for (const auto& [name, seconds] : longest_first(measured.parts))
    if (seconds >= one_part * measured.step_s)
      line(name, seconds);
    else
      small += seconds;
  if (small > 0) line(fmt::format("parts below {:g} %", 100 * one_part), small);
  return text;
}

}  // namespace

std::string step_text(const StepSettings& settings, const StepMeasurement& measured) {
  const StepCount& count = measured.count;
  const auto milliseconds = [](double seconds) { return fmt::format("{:.3f} ms", seconds * 1e3); };
  std::string text =
      row("model", one_line(fmt::format("{}: {}, width {}, {} parameters", model_name(settings, measured.shape),
                                        layers_text(measured.shape.layers), measured.shape.width,
                                        shortened(static_cast<double>(measured.parameters)))));
  text += row("runs on", fmt::format("{}, {}, {} rank{}", settings.compute.device, settings.compute.dtype,
                                     measured.ranks, measured.ranks == 1 ? "" : "s"));
  text += row("documents", fmt::format("{} with {} tokens, in {} pack{} of {}: {:.1f} % full", grouped(count.documents),
                                       grouped(count.tokens), count.passes, count.passes == 1 ? "" : "s",
                                       grouped(settings.tokens), 100 * measured.fill()));
  text += row("step", fmt::format("{}, the median of {} ({} to {})", milliseconds(measured.step_s),
                                  measured.steps_s.size(), milliseconds(std::ranges::min(measured.steps_s)),
                                  milliseconds(std::ranges::max(measured.steps_s))));
  text += row("tokens/s", grouped(static_cast<std::int64_t>(measured.tokens_per_s())));
  if (measured.mfu)
    text += row("MFU", fmt::format("{:.3f} of {:.0f} TFLOP/s, the rate of a large product here", *measured.mfu,
                                   *measured.gemm_flops_per_s / 1e12));
  text += row("memory",
              fmt::format("{}{}; predicted: {}", binary_bytes(static_cast<double>(measured.memory_bytes)),
                          measured.ranks == 1 ? "" : " on the largest rank", binary_bytes(measured.predicted_bytes)));
  if (measured.one_at_a_time) text += row("one at a time", comparison_text(measured, *measured.one_at_a_time));
  if (measured.padded)
    text += row("padded",
                comparison_text(measured, *measured.padded) +
                    fmt::format(" ({:.1f} % padding)", 100 - 100 * static_cast<double>(measured.padded->count.tokens) /
                                                                 static_cast<double>(measured.padded->count.places)));
  return measured.parts.empty() ? text : text + '\n' + parts_text(measured);
}

nlohmann::ordered_json step_json(const StepSettings& settings, const StepMeasurement& measured) {
  const auto or_null = [](const std::optional<double>& value) {
    return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json();
  };
  nlohmann::ordered_json parts, steps;
  for (const double seconds : measured.steps_s) steps.push_back(seconds * 1e3);
  for (const auto& [name, seconds] : longest_first(measured.parts)) parts[name] = seconds * 1e3;
  nlohmann::ordered_json json{{"model", model_name(settings, measured.shape)},
                              {"layers", layers_text(measured.shape.layers)},
                              {"width", measured.shape.width},
                              {"parameters", measured.parameters},
                              {"ranks", measured.ranks},
                              {"data_parallel", measured.data_groups},
                              {"layout", settings.compute.layout},
                              {"strategies", measured.strategies},
                              {"recompute", settings.memory.recompute},
                              {"gradient_dtype", settings.memory.gradient_dtype},
                              {"offload", settings.memory.offload},
                              {"pack_tokens", settings.tokens},
                              {"packs", measured.count.passes},
                              {"tokens", measured.count.tokens},
                              {"documents", measured.count.documents},
                              {"fill", measured.fill()},
                              {"steps", measured.steps_s.size()},
                              {"step_ms", measured.step_s * 1e3},
                              {"fastest_ms", std::ranges::min(measured.steps_s) * 1e3},
                              {"slowest_ms", std::ranges::max(measured.steps_s) * 1e3},
                              {"steps_ms", std::move(steps)},
                              {"tokens_per_s", measured.tokens_per_s()},
                              {"mfu", or_null(measured.mfu)},
                              {"gemm_flops_per_s", or_null(measured.gemm_flops_per_s)},
                              {"memory_bytes", measured.memory_bytes},
                              {"predicted_memory_bytes", measured.predicted_bytes},
                              {"exposed_ms", measured.traffic.exposed_s * 1e3},
                              {"hidden_ms", measured.traffic.hidden_s * 1e3},
                              {"bytes_sent", measured.traffic.bytes_sent},
                              {"parts", std::move(parts)},
                              {"traced_ms", measured.traced_s * 1e3},
                              {"parts_scale", measured.parts_scale}};
  const auto add = [&](const std::string& name, const std::optional<StepComparison>& other) {
    if (!other) return;
    json[name + "_tokens_per_s"] = other->tokens_per_s();
    json[name + "_step_ms"] = other->step_s * 1e3;
    json[name + "_passes"] = other->count.passes;
    json[name + "_places"] = other->count.places;
    json["packed_over_" + name] = measured.tokens_per_s() / other->tokens_per_s();
  };
  add("one_at_a_time", measured.one_at_a_time);
  add("padded", measured.padded);
  return json;
}

}  // namespace causeway
