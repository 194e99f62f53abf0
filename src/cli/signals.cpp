#include "src/cli/signals.hpp"

#include <atomic>

namespace causeway {
namespace {

// The only global variable: a signal handler has nothing else to write to. (Blocking the signals and reading a signalfd
// would need none, but libraries start threads before main, in which the signals are not blocked.)
std::atomic<bool> stop_raised = false;
static_assert(std::atomic<bool>::is_always_lock_free);

}  // namespace

StopSignals::StopSignals(std::initializer_list<int> signals) : signals_(signals) {
  stop_raised = false;
  struct sigaction action {};
  action.sa_handler = [](int) { stop_raised = true; };
  action.sa_flags = SA_RESTART;
  for (const int signal : signals_) sigaction(signal, &action, nullptr);
}

StopSignals::~StopSignals() {
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  for (const int signal : signals_) sigaction(signal, &ignore, nullptr);
}

bool StopSignals::raised() const { return stop_raised; }

}  // namespace causeway
