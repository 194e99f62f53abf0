#pragma once

#include "kernels/core/stream.hpp"

namespace causeway {

/// A CPU stream on which nothing is computed: kernels, copies and zeroing return at once. Its tensors have shapes,
/// addresses and an owner that counts them, but nobody writes them, so that a tensor of a MiB or more takes addresses
/// and no memory. For code whose messages are to be seen without its results (parallel/simulation).
Stream dry_run_stream();
bool is_dry_run(const Stream& stream);

}  // namespace causeway
