#pragma once

#include <functional>

#include "parallel/cost/cost.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// What the ranks of a group do, the same on every rank: the slowest's latency and bandwidth of messages round the
/// ring, all ranks sending at once, and its multiply-adds a second in a blocked convolution of `dtype`. Each is the
/// best of a few tries, which is the figure that repeats from run to run. Takes a few tens of milliseconds, unless
/// messages of 2 MiB, on GPUs of 64 MiB, take longer. Collective; nothing is counted in ranks.traffic(). One rank:
/// messages cost nothing. `between` is called before each try, on ranks that share few cores a long time after the one
/// before.
Machine measure(Communicator& ranks, DType dtype, const Stream& stream, const std::function<void()>& between = {});

/// The slowest of every rank's figures, on all of them.
Machine slowest(const Machine& machine, Communicator& ranks);

}  // namespace causeway
