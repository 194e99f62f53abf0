#pragma once

namespace causeway {

/// The CPU kernels the calling thread runs from now on use this many threads. Results do not depend on it.
void set_threads(int threads);

}  // namespace causeway
