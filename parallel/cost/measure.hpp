#pragma once

#include <functional>

#include "parallel/cost/cost.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// Measures the ranks of a group; the result is the same on every rank: the latency and bandwidth of the slowest rank's
/// messages in a ring, with all ranks sending at once, and its multiply-adds per second in a blocked convolution of
/// `dtype`. Messages: the best of a few runs, which varies least. The rate is measured until it repeats, for at most
/// about a second (RepeatedSeconds). Takes about a tenth of a second, or as long as messages of 2 MiB (on GPUs 64 MiB)
/// take. Collective; nothing is counted in ranks.traffic(). With one rank, messages
/// have no cost. `between` is called before each run: a run may take long if ranks share few cores.
Machine measure(Communicator& ranks, DType dtype, const Stream& stream, const std::function<void()>& between = {});

/// Combines all ranks' figures: the largest latency, the lowest bandwidth and rate. Collective.
Machine slowest(const Machine& machine, Communicator& ranks);

}  // namespace causeway
