#include "src/signals.hpp"

#include <atomic>

namespace causeway {
namespace {

constexpr std::array<int, 3> stop_signals = {SIGTERM, SIGUSR1, SIGUSR2};

// The one place that needs a variable of the process: a signal handler is given nothing else to write to. (Blocking the
// signals and polling a signalfd would do without, if libraries did not start threads of their own, with the signals
// open, before main.)
std::atomic<bool> stop_raised = false;
static_assert(std::atomic<bool>::is_always_lock_free);

}  // namespace

StopSignals::StopSignals() {
  stop_raised = false;
  struct sigaction action {};
  action.sa_handler = [](int) { stop_raised = true; };
  action.sa_flags = SA_RESTART;
  for (std::size_t i = 0; i < stop_signals.size(); ++i) sigaction(stop_signals[i], &action, &before_[i]);
}

StopSignals::~StopSignals() {
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  for (std::size_t i = 0; i < stop_signals.size(); ++i)
    sigaction(stop_signals[i], raised() ? &ignore : &before_[i], nullptr);
}

bool StopSignals::raised() const { return stop_raised; }

}  // namespace causeway
