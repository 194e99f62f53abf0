#include "src/cli/signals.hpp"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <string_view>

namespace causeway {
namespace {

// A global variable, as in io/file/temporary_file.cpp: a signal handler has nothing else to write to. (Blocking the
// signals and reading a signalfd would need none, but libraries start threads before main, in which the signals are not
// blocked.)
std::atomic<bool> stop_raised = false;
static_assert(std::atomic<bool>::is_always_lock_free);

/// For the first INT. write() is one of the few functions that a handler may call.
void stop_at_interrupt(int) {
  constexpr std::string_view says =
      "\nstopping after this step, with a checkpoint; Ctrl-C again ends at once, without one\n";
  const int before = errno;
  stop_raised = true;
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, says.data(), says.size());
  errno = before;
}

}  // namespace

StopSignals::StopSignals() : StopSignals({SIGTERM, SIGUSR1, SIGUSR2}) {
  struct sigaction action {};
  action.sa_handler = stop_at_interrupt;
  action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  signals_.push_back(SIGINT);
}

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
