#pragma once

#include <string>

#include "parallel/transport/communicator.hpp"
#include "src/op/table.hpp"

namespace causeway {

/// One way to run one operator on made-up tensors.
struct StrategyWorkload {
  const OpRow& row;
  const OpStrategy& strategy;
  std::string variant;  ///< one of strategy.variants, or "" for its own choice
  Layout layout = Layout::contiguous;
  DType dtype = DType::f32;
  std::int64_t tokens = 0, documents = 1;  ///< documents as equal as may be
  std::int64_t channels = 64;              ///< a multiple of 16, of 128 above 1024
};

/// What a pass took the slowest rank, medians over a few; of communication seconds and what was sent, the largest
/// rank's, forward and backward together.
struct StrategyMeasurement {
  double forward_s = 0, backward_s = 0, exposed_s = 0, hidden_s = 0;
  std::int64_t bytes_sent = 0, messages_sent = 0;
  std::int64_t memory_bytes = 0;  ///< a rank's high-water mark of tensors, its inputs and results among them
};

/// Runs forward and backward once to warm up, then until it has done so `repetitions` times and for `least_seconds`;
/// with neither, the first pass is what is measured. Collective, the same on every rank. Each computes on its `stream`,
/// whose memory's peak it resets. The strategy talks over `ranks`; what keeps the ranks in step goes over `control`,
/// since waiting there is no communication of the strategy's.
StrategyMeasurement measure_strategy(const StrategyWorkload& work, Communicator& control, Communicator& ranks,
                                     const Stream& stream, int repetitions, double least_seconds);

}  // namespace causeway
