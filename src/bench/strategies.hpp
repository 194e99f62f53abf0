#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "parallel/transport/communicator.hpp"
#include "src/bench/auto_choice.hpp"
#include "src/op/table.hpp"

namespace causeway {

/// One way to run one operator on random tensors.
struct StrategyWorkload {
  const OpRow& row;
  std::string filter;          ///< of hyena_block, which has three: se, mr or li; otherwise ""
  const OpStrategy& strategy;  ///< not read by estimate_strategies
  std::string variant;         ///< one of strategy.variants, or "": the strategy chooses
  Layout layout = Layout::contiguous;
  DType dtype = DType::f32;
  std::int64_t tokens = 0, documents = 1;  ///< documents of equal length
  std::int64_t channels = 64;              ///< a multiple of 16, of 128 above 1024

  std::string name() const;  ///< the operator's, and after a slash the filter's
  bool has(const OpInput& input) const;
  /// The same operator by another strategy on another pack.
  StrategyWorkload with(const OpStrategy& by, const std::string& its_variant, std::int64_t pack_tokens,
                        std::int64_t pack_documents) const;
};

/// The operators that are measured, each with one of its strategies.
std::vector<StrategyWorkload> strategy_workloads(DType dtype, std::int64_t channels);

/// The tensors of a workload on one rank, filled with random values; those of a dry run stay as they are.
class WorkloadTensors {
 public:
  WorkloadTensors(const StrategyWorkload& work, std::int64_t local_tokens, const Stream& stream);
  WorkloadTensors(const WorkloadTensors&) = delete;  // the views refer to the attributes
  WorkloadTensors& operator=(const WorkloadTensors&) = delete;
  const OpTensors& views() const { return views_; }

 private:
  std::map<std::string, Tensor, std::less<>> inputs_, gradients_;
  Tensor y_, d_y_;
  OpAttributes attributes_;
  OpTensors views_{.attributes = attributes_};
};
/// The workload's strategy on these tensors. All arguments but `work` must outlive the result.
BoundOperator bind(const StrategyWorkload& work, const Sharding& sharding, Communicator& ranks, const Stream& stream,
                   const WorkloadTensors& tensors);
/// The operator's arguments on a rank, without data, for estimates.
OperatorArguments shapes_of(const StrategyWorkload& work, std::int64_t local_tokens);

/// Medians over the repetitions, of the slowest rank. Communication and bytes are of the rank with the most, forward
/// and backward together.
struct StrategyMeasurement {
  double forward_s = 0, backward_s = 0, exposed_s = 0, hidden_s = 0;
  std::int64_t bytes_sent = 0, messages_sent = 0;
  std::int64_t memory_bytes = 0;  ///< peak memory of a rank's tensors, inputs and results included
};

/// Runs forward and backward once to warm up, then at least `repetitions` times and for at least `least_seconds`; on a
/// GPU each time four forward and four backward passes, whose mean counts. If both are 0, the first run is measured.
/// Resets the peak of the stream's memory. The strategy communicates over `ranks`; the barriers between runs use
/// `control`, so that they do not count. Collective; the result is the same on every rank.
StrategyMeasurement measure_strategy(const StrategyWorkload& work, Communicator& control, Communicator& ranks,
                                     const Stream& stream, int repetitions, double least_seconds);

/// A measurement beside what `--strategy auto` estimates, as a line and as an entry of the JSON.
std::string text_of(const StrategyWorkload& work, const StrategyMeasurement& measured, const Estimate& estimate);
nlohmann::ordered_json to_json(const StrategyWorkload& work, const StrategyMeasurement& measured,
                               const Estimate& estimate);

/// What `--strategy auto` estimates for this operator and pack: a row for every strategy. Adds the rates of the
/// operator's kernels to `machine`, as far as it does not have them yet. Collective.
std::vector<Estimate> estimate_strategies(const StrategyWorkload& work, Machine& machine, Communicator& ranks,
                                          const Stream& stream);

/// What `bench strategies` measures.
struct StrategyBenchSettings {
  DType dtype = DType::f32;
  std::string filter;                     ///< only strategies whose names, after the operator's, match it
  std::int64_t tokens = 0, channels = 0;  ///< 0: the built-in sizes
  double least_seconds = 0;               ///< of each row
};
struct StrategyBench {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();  ///< a measurement each
  std::vector<AutoChoice> choices;                                ///< one for each operator and pack
  Machine machine;
};
/// Measures every operator with every strategy, on one document and on a pack of documents. Calls `report` with the
/// line above the measurements, and with the line of each. Collective; `control` as above.
StrategyBench bench_strategies(const StrategyBenchSettings& settings, Communicator& control, Communicator& ranks,
                               const Stream& stream, const std::function<void(const std::string& line)>& report);

}  // namespace causeway
