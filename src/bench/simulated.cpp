#include "src/bench/simulated.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <variant>

#include "kernels/core/dry_run/dry_run.hpp"

namespace causeway {

Network network_of(const Profile& profile) {
  const int hosts_of_leaf = 32;
  const auto way = [](const Link& link) {
    return Network::Way{.latency_s = std::max(0.0, link.latency_s - link.message_s),
                        .bytes_per_s = link.bytes_per_s,
                        .message_s = link.message_s};
  };
  const Machine& near = profile.machine;
  return {.island_ranks = profile.ranks_per_host,
          .leaf_ranks = hosts_of_leaf * profile.ranks_per_host,
          .island = way({near.latency_s, near.message_s, near.bytes_per_s, near.all_bytes_per_s}),
          .network = way(profile.network),
          .across_s = 1e-6};
}

RecordedStrategy record_strategy(const StrategyWorkload& work, int ranks) {
  const Stream stream = dry_run_stream();
  const Segments documents = Segments::equal_documents(work.tokens, work.documents);
  RecordedStrategy recorded{Recording(ranks), Recording(ranks)};
  for (int rank = 0; rank < ranks; ++rank) {
    stream.memory().reset_peak();
    const Sharding sharding(ShardLayout(work.tokens, ranks, work.layout), documents, rank, stream);
    const WorkloadTensors tensors(work, sharding.local_tokens(), stream);
    Communicator forward(recorded.forward.transport(rank)), backward(recorded.backward.transport(rank));
    Saved saved{std::string(work.row.name)};
    bind(work, sharding, forward, stream, tensors).forward(&saved);
    bind(work, sharding, backward, stream, tensors).backward(saved);
    saved.ensure_empty();
    recorded.memory_bytes = std::max(recorded.memory_bytes, stream.memory().peak_bytes());
  }
  return recorded;
}

std::vector<std::string> variants_with_other_messages(const StrategyWorkload& work, const OpStrategy& strategy) {
  std::vector<std::string> variants = strategy.variants;
  if (!work.filter.empty() && work.filter != "li") variants.clear();  // a block with taps has no state
  std::erase_if(variants, [](const std::string& variant) { return variant.starts_with("--method"); });
  return variants.empty() ? std::vector<std::string>{""} : variants;
}

double estimated_communication(const StrategyWorkload& work, int ranks, const Profile& profile) {
  // The rank in the middle has neighbours on both sides.
  const Sharding sharding(ShardLayout(work.tokens, ranks, work.layout),
                          Segments::equal_documents(work.tokens, work.documents), ranks / 2);
  const std::vector calls{shapes_of(work, sharding.local_tokens())};
  for (const Estimate& row : estimates(sharding, calls, machine_of_group(profile, ranks), {}))
    if (row.strategy == work.strategy.name) return row.communicating_s;
  return 0;
}

std::string head_of_simulated_rows() {
  return fmt::format("{:<52} {:>13} {:>9} {:>10} {:>9} {:>7} {:>10} {:>11} {:>10} {:>10} {:>10} {:>7}\n", "",
                     "messages", "a rank", "GB sent", "MB a rank", "balance", "forward ms", "backward ms", "waiting ms",
                     "formula ms", "MB memory", "took s");
}

std::string text_of(const SimulatedRow& row) {
  const auto& [work, simulated, estimated_s, took_s] = row;
  const auto& [forward, backward, memory, recording] = simulated;
  const std::string name = fmt::format("{} {}{} {}", work.name(), work.strategy.name,
                                       work.variant.empty() ? "" : " " + work.variant, name_of(work.layout));
  return fmt::format(
      "{:<52} {:>13} {:>9} {:>10.2f} {:>9.2f} {:>7.3f} {:>10.3f} {:>11.3f} {:>10.3f} {:>10} {:>10.1f} {:>7.1f}\n", name,
      forward.messages() + backward.messages(), forward.most_messages() + backward.most_messages(),
      static_cast<double>(forward.bytes() + backward.bytes()) / 1e9,
      static_cast<double>(forward.most_bytes() + backward.most_bytes()) / 1e6,
      std::max(forward.balance(), backward.balance()), forward.seconds() * 1e3, backward.seconds() * 1e3,
      (forward.mean_waiting_s() + backward.mean_waiting_s()) * 1e3,
      estimated_s > 0 ? fmt::format("{:.3f}", estimated_s * 1e3) : "", static_cast<double>(memory) / 1e6, took_s);
}

nlohmann::ordered_json to_json(const SimulatedRow& row) {
  const auto& [work, simulated, estimated_s, took_s] = row;
  const auto pass = [](const Simulation& simulation) {
    std::int64_t network = 0, starts = 0;
    for (const SimulatedRank& rank : simulation.ranks) {
      network += rank.network_bytes;
      starts = std::max(starts, rank.starts);
    }
    return nlohmann::ordered_json{{"messages", simulation.messages()},
                                  {"most_messages", simulation.most_messages()},
                                  {"bytes_sent", simulation.bytes()},
                                  {"most_bytes_sent", simulation.most_bytes()},
                                  {"network_bytes", network},
                                  {"balance", simulation.balance()},
                                  {"most_exchanges", starts},
                                  {"seconds", simulation.seconds()},
                                  {"mean_waiting_s", simulation.mean_waiting_s()}};
  };
  return {{"operator", work.name()},
          {"strategy", work.strategy.name},
          {"variant", work.variant},
          {"layout", name_of(work.layout)},
          {"forward", pass(simulated.forward)},
          {"backward", pass(simulated.backward)},
          {"estimated_s", estimated_s},
          {"memory_bytes", simulated.memory_bytes},
          {"recording_bytes", simulated.recording_bytes},
          {"took_s", took_s}};
}

}  // namespace causeway
