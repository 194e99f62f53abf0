#include "src/output/standard_streams.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "io/file/descriptor.hpp"
#include "kernels/core/error.hpp"
#include "src/output/safe_text.hpp"

namespace causeway {

void prepare_standard_streams() noexcept {
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(standard, F_GETFD) < 0 && errno == EBADF)  // open() takes the lowest free number, which is this one
      (void)::open("/dev/null", standard == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  for (const int signal : {SIGPIPE, SIGXFSZ}) std::signal(signal, SIG_IGN);
}

void write_log(std::string_view text) noexcept { (void)write_all(STDERR_FILENO, text); }

void write_error(std::string_view text) {
  if (!text.empty()) write_log(fmt::format("causeway: {}\n", one_line(text)));
}

void write_result(std::string_view text) {
  if (write_all(STDOUT_FILENO, text)) return;
  if (errno == EPIPE) throw Error(ExitCode::io, "");
  fail(ExitCode::io, "cannot write to standard output: {}", std::strerror(errno));
}

}  // namespace causeway
