#pragma once

#include <optional>
#include <string_view>

namespace causeway {

/// The number of threads that CPU kernels called by this thread use from now on. Results do not depend on it.
void set_threads(int threads);

/// That number now: set_threads(), or what the environment asks for (OMP_NUM_THREADS).
int computing_threads();

/// The number that OMP_NUM_THREADS should have had if `asked`, its value, is more than any use: several times the CPUs
/// of the machine. The runtime of OpenMP reads the variable when it is loaded, and crashes if it cannot start so many.
std::optional<int> bounded_threads(std::string_view asked);

/// Throws Error(internal) with the system's reason if it does not let this process start that many threads more, with
/// the stack that OMP_STACKSIZE asks for. The runtime of OpenMP would end the process without an exception.
void require_startable(int threads);

}  // namespace causeway
