#include "io/file/run_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <thread>

#include "kernels/core/error.hpp"

namespace causeway {

RunLock::RunLock(const std::string& run, std::chrono::seconds patience) : asked_(true) {
  const std::string path = (std::filesystem::path(run) / "lock").string();
  const auto until = std::chrono::steady_clock::now() + patience;
  file_ = Descriptor(
      posix_check(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW, 0666), path, "open"));
  while (::flock(file_.get(), LOCK_EX | LOCK_NB) < 0) {
    if (errno == EINTR) continue;
    if (means_no_locks(errno)) {
      warning_ = fmt::format(
          "{}: is not locked, because the file system has no locks ({}): a second training in this "
          "folder would not be noticed",
          run, std::strerror(errno));
      file_ = Descriptor();
      return;
    }
    if (errno != EWOULDBLOCK) posix_check(-1, path, "lock");
    require(std::chrono::steady_clock::now() < until, "{}: another process trains in this folder (it holds {})", run,
            path);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
}

}  // namespace causeway
