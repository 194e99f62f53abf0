#include "parallel/cost/cost.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "kernels/core/error.hpp"

namespace causeway {
namespace {

double waiting_seconds(const Cost& cost, const Machine& machine) {
  const std::int64_t further = std::max<std::int64_t>(0, std::max(cost.messages, cost.busiest_messages) - cost.rounds);
  return static_cast<double>(cost.rounds) * machine.latency_s + static_cast<double>(further) * machine.message_s;
}
double transferring_seconds(const Cost& cost, const Machine& machine) {
  return static_cast<double>(std::max(cost.bytes_sent, cost.busiest_bytes)) /
         (cost.to_all ? machine.all_bytes_per_s : machine.bytes_per_s);
}

}  // namespace

std::string_view name_of(KernelKind kind) {
  switch (kind) {
    case KernelKind::causal_conv:
      return "causal_conv";
    case KernelKind::blocked_conv:
      return "blocked_conv";
    case KernelKind::modal_conv:
      return "modal_conv";
    case KernelKind::modal_summary:
      return "modal_summary";
    case KernelKind::filter_spectrum:
      return "filter_spectrum";
    case KernelKind::fft_conv:
      return "fft_conv";
    case KernelKind::shard_transform:
      return "shard_transform";
    case KernelKind::rotation:
      return "rotation";
    case KernelKind::hyena_block:
      return "hyena_block";
    case KernelKind::modal_block:
      return "modal_block";
    case KernelKind::modal_block_summary:
      return "modal_block_summary";
    case KernelKind::selective_scan:
      return "selective_scan";
    case KernelKind::scan_summary:
      return "scan_summary";
    case KernelKind::attention:
      return "attention";
  }
  return "?";
}

std::string text_of(const TimedKernel& kernel) {
  return fmt::format("{} {}{}{}{}", name_of(kernel.kind), kernel.width,
                     kernel.group > 1 ? fmt::format(" by {} channels", kernel.group) : "", kernel.gated ? " gated" : "",
                     kernel.backward ? " backward" : "");
}

Cost adjoint(Cost cost) {
  for (KernelWork& work : cost.kernels) work.kernel.backward = has_backward(work.kernel.kind);
  return cost;
}

const KernelRate& rate_of(const Machine& machine, const TimedKernel& kernel) {
  const KernelRate* nearest = nullptr;
  std::tuple<bool, bool, double> least;
  for (const KernelRate& rate : machine.kernels) {
    if (rate.kernel.kind != kernel.kind || rate.kernel.backward != kernel.backward) continue;
    const double ratio = static_cast<double>(rate.kernel.width + 1) / static_cast<double>(kernel.width + 1);
    const std::tuple difference(rate.kernel.gated != kernel.gated, rate.kernel.group != kernel.group,
                                std::abs(std::log(ratio)));
    if (nearest != nullptr && difference >= least) continue;
    nearest = &rate;
    least = difference;
  }
  ensure(nearest != nullptr, "no measured time of a kernel like {}", text_of(kernel));
  return *nearest;
}

double computing_seconds(const Cost& cost, const Machine& machine) {
  double sum = cost.copied_bytes / machine.copy_bytes_per_s + cost.copies * machine.copy_call_s;
  for (const KernelWork& work : cost.kernels) {
    const KernelRate& rate = rate_of(machine, work.kernel);
    sum += work.calls * rate.call_s + work.elements * rate.element_s;
  }
  return sum;
}

double communicating_seconds(const Cost& cost, const Machine& machine) {
  return waiting_seconds(cost, machine) + transferring_seconds(cost, machine);
}

double hideable_seconds(const Cost& cost, const Machine& machine) {
  return cost.hidden * (machine.latency_overlap * waiting_seconds(cost, machine) +
                        machine.overlap * transferring_seconds(cost, machine));
}

double seconds(const Cost& cost, const Machine& machine) {
  const double computing = computing_seconds(cost, machine), communicating = communicating_seconds(cost, machine);
  const double hideable = hideable_seconds(cost, machine);
  return std::max(computing, hideable) + communicating - hideable;
}

}  // namespace causeway
