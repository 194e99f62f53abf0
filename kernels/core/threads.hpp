#pragma once

namespace causeway {

/// The number of threads that CPU kernels called by this thread use from now on. Results do not depend on it.
void set_threads(int threads);

}  // namespace causeway
