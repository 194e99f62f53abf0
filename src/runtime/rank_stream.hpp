#pragma once

#include "kernels/core/stream.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// A stream on `device` for this rank. On "cuda" each rank first takes one of the GPUs of its host. Collective; throws
/// the same AgreedError on every rank where a rank has no such device.
Stream make_rank_stream(Device device, Communicator& ranks);

}  // namespace causeway
