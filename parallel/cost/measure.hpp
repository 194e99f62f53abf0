#pragma once

#include <functional>
#include <span>

#include "parallel/cost/cost.hpp"
#include "parallel/cost/kernel_runs.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// Measures the ranks of a group; the result is the same on every rank: the latency of the slowest rank's messages; the
/// bytes per second that it sends to a neighbour and to all other ranks, with all ranks sending at once; and how fast
/// it packs rows. Medians of a few runs, so that ranks that share cores with other programs count the time in which
/// they wait for each other. Takes about a tenth of a second, or as long as messages of 2 MiB (on GPUs 64 MiB) take.
/// Collective; nothing is counted in ranks.traffic(). With one rank, messages have no cost. `between` is called before
/// each run: a run may take long if ranks share few cores.
Machine measure_links(Communicator& ranks, const Stream& stream, const std::function<void()>& between = {});

/// Measures the kernels that strategies of these calls run, as far as the machine has no rates of them yet, and adds
/// those of the slowest rank. Each is timed twice at two sizes, at most the given shape, until its time repeats, for at
/// most about half a second in all. Collective, like measure_links.
void measure_kernels(Machine& machine, Communicator& ranks, const Stream& stream,
                     std::span<const OperatorArguments> calls, const TimedShape& shape,
                     const std::function<void()>& between = {});

/// Combines all ranks' figures: of every figure the slowest. All ranks must have measured the same kernels. Collective.
Machine slowest(const Machine& machine, Communicator& ranks);

}  // namespace causeway
