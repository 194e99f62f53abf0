#include "io/file/temporary_file.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <tuple>
#include <utility>

#include "io/file/descriptor.hpp"
#include "kernels/core/error.hpp"

namespace causeway {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t longest_suffix = 100, longest_host = 40;
constexpr std::string_view mark = ".tmp-";

/// The paths of this process's temporary files, for the signal handler, which can read nothing but global variables.
/// Who exchanges a pointer for null owns the text.
std::array<std::atomic<const char*>, 64> registered;
static_assert(std::atomic<const char*>::is_always_lock_free);

/// Returns the path's slot; -1 if none is free: that file is left to the next writer.
int add_to_list(const std::string& path) {
  const char* const text = ::strdup(path.c_str());
  for (std::size_t slot = 0; slot < registered.size(); ++slot) {
    const char* empty = nullptr;
    if (registered[slot].compare_exchange_strong(empty, text)) return static_cast<int>(slot);
  }
  std::free(const_cast<char*>(text));
  return -1;
}

void remove_from_list(int slot) {
  if (slot >= 0) std::free(const_cast<char*>(registered[static_cast<std::size_t>(slot)].exchange(nullptr)));
}

std::uint32_t checksum(std::string_view text) {
  return static_cast<std::uint32_t>(
      ::crc32(0, reinterpret_cast<const Bytef*>(text.data()), static_cast<uInt>(text.size())));
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// The host's name as a part of a file name.
std::string host_word() {
  std::array<char, 256> name{};
  std::string host = ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
  std::ranges::replace_if(
      host, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '.'; }, '_');
  return host.empty() ? "_" : host.substr(0, longest_host);
}

/// A number of the space in which process numbers mean something: this start of the kernel, this container. Nothing
/// where the system does not tell.
std::optional<std::uint32_t> process_space() {
  const std::string start = first_line("/proc/sys/kernel/random/boot_id");
  std::error_code error;
  const fs::path numbers = fs::read_symlink("/proc/self/ns/pid", error);
  if (start.empty() || error) return std::nullopt;
  return checksum(start + numbers.string());
}

/// A process as /proc shows it.
struct ProcessState {
  bool ended = false;       ///< a zombie: it waits to be noticed by its parent
  std::uint64_t start = 0;  ///< clock ticks from the start of the system to that of the process
};

std::optional<ProcessState> process_state(const std::string& process) {
  const std::string line = first_line("/proc/" + process + "/stat");
  // "PID (NAME) STATE …": the name may contain anything; the start time is the 20th word after the state.
  const std::size_t name_end = line.rfind(')');
  if (name_end == std::string::npos || name_end + 2 >= line.size()) return std::nullopt;
  ProcessState found{.ended = std::strchr("ZX", line[name_end + 2]) != nullptr};
  std::size_t at = name_end + 2;
  for (int word = 0; word < 19 && at < line.size(); ++word) at = std::min(line.find(' ', at), line.size() - 1) + 1;
  std::from_chars(line.data() + at, line.data() + line.size(), found.start);
  return found;
}

/// Who writes a temporary file, as its name says: HOST-PID-SPACE-START-ATTEMPT.
struct Writer {
  std::string host;
  std::int64_t process = 0;
  std::uint32_t space = 0;
  std::uint64_t start = 0;
};

template <class T>
bool read_number(std::string_view word, T& into, int base) {
  const auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), into, base);
  return error == std::errc() && stop == word.data() + word.size();
}

std::optional<Writer> writer_of(std::string_view name) {
  const std::size_t begin = name.rfind(mark);
  if (begin == name.npos) return std::nullopt;
  name.remove_prefix(begin + mark.size());
  std::array<std::string_view, 5> words;
  for (std::size_t word = 0; word < words.size(); ++word) {
    const std::size_t end = std::min(name.find('-'), name.size());
    words[word] = name.substr(0, end);
    name.remove_prefix(std::min(end + 1, name.size()));
  }
  Writer writer{.host = std::string(words[0])};
  int attempt = 0;
  const bool good = name.empty() && read_number(words[1], writer.process, 10) && writer.process > 0 &&
                    read_number(words[2], writer.space, 16) && read_number(words[3], writer.start, 16) &&
                    read_number(words[4], attempt, 10);
  return good ? std::optional(writer) : std::nullopt;
}

bool is_running(const Writer& writer) {
  if (::kill(static_cast<pid_t>(writer.process), 0) < 0 && errno == ESRCH) return false;
  const std::optional<ProcessState> state = process_state(std::to_string(writer.process));
  return !state || (!state->ended && (writer.start == 0 || state->start == writer.start));
}

/// The time at which this system started, in seconds since 1970.
std::int64_t system_start() {
  timespec running{};
  ::clock_gettime(CLOCK_BOOTTIME, &running);
  return std::time(nullptr) - running.tv_sec;
}

void remove_abandoned(const std::string& target) {
  const fs::path stem = name_beside(target, mark, longest_suffix);
  const std::string name = stem.filename().string();
  const fs::path folder = stem.has_parent_path() ? stem.parent_path() : fs::path(".");
  std::error_code error, ignored;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    if (entry->path().filename().string().starts_with(name) && is_abandoned(entry->path().string()))
      fs::remove_all(entry->path(), ignored);
}

/// Calls `create` with a name beside `target` that says who writes it, until it can create something. Returns the path
/// and its slot in the list.
std::pair<std::string, int> create_beside(const std::string& target, bool (*create)(const char* path)) {
  remove_abandoned(target);
  const std::uint64_t start = process_state("self").value_or(ProcessState{}).start;
  for (int attempt = 0;; ++attempt) {
    const std::string path = name_beside(target,
                                         fmt::format("{}{}-{}-{:08x}-{:x}-{}", mark, host_word(), ::getpid(),
                                                     process_space().value_or(0), start, attempt),
                                         longest_suffix);
    const int slot = add_to_list(path);
    if (create(path.c_str())) return {path, slot};
    const int error = errno;
    remove_from_list(slot);
    errno = error;
    if (error != EEXIST || attempt == 1000) posix_check(-1, target, "create");
  }
}

void remove_and_end(int signal) {
  remove_temporary_files();
  std::signal(signal, SIG_DFL);
  std::raise(signal);  // it is delivered when this handler returns, and ends the process
}

}  // namespace

std::string name_beside(const std::string& path, std::string_view suffix, std::size_t room) {
  const std::size_t slash = path.rfind('/'), begin = slash == path.npos ? 0 : slash + 1;
  const std::string folder = path.substr(0, begin), name = path.substr(begin);
  const long limit = ::pathconf(folder.empty() ? "." : folder.c_str(), _PC_NAME_MAX);
  const auto most = static_cast<std::size_t>(std::max(limit, limit < 0 ? 255L : 16L));
  room = std::max(room, suffix.size());
  if (name.size() + room <= most) return path + std::string(suffix);
  const std::string sum = fmt::format("~{:08x}", checksum(name));
  std::size_t kept = most > room + sum.size() ? most - room - sum.size() : 0;
  const auto continues = [&] { return (static_cast<unsigned char>(name[kept]) & 0xc0) == 0x80; };
  while (kept > 0 && continues()) --kept;  // not within a character of UTF-8
  return folder + name.substr(0, kept) + sum + std::string(suffix);
}

bool is_abandoned(const std::string& temporary) {
  const std::optional<Writer> writer = writer_of(fs::path(temporary).filename().string());
  const std::optional<std::uint32_t> here = process_space();
  if (!writer || !here || writer->host != host_word()) return false;
  if (writer->space == *here) return !is_running(*writer);
  // Another container of this host, or an earlier start of it.
  constexpr std::int64_t clocks_differ_s = 60;
  struct stat status {};
  return ::lstat(temporary.c_str(), &status) == 0 && status.st_mtime + clocks_differ_s < system_start();
}

TemporaryFile::TemporaryFile(const std::string& target) {
  const auto create = [](const char* path) {
    return Descriptor(::open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)).get() >= 0;
  };
  std::tie(path_, slot_) = create_beside(target, create);
}

TemporaryFile::~TemporaryFile() {
  if (path_.empty()) return;
  ::unlink(path_.c_str());
  remove_from_list(slot_);
}

void TemporaryFile::rename_to(const std::string& target, bool replace) {
  int result = -1;
  if (replace) {
    result = ::rename(path_.c_str(), target.c_str());
  } else {
    result = ::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, target.c_str(), RENAME_NOREPLACE);
    require(result == 0 || errno != EEXIST, "{}: exists, and was made since this command began", target);
    // Some file systems have no such call.
    if (result < 0 && (errno == EINVAL || errno == ENOSYS)) result = ::rename(path_.c_str(), target.c_str());
  }
  posix_check(result, target, "rename the finished file to it");
  remove_from_list(slot_);
  path_.clear();
}

AtomicFolder::AtomicFolder(const std::string& target) {
  int slot = -1;
  std::tie(path_, slot) = create_beside(target, [](const char* path) { return ::mkdir(path, 0777) == 0; });
  slots_.push_back(slot);
}

AtomicFolder::~AtomicFolder() {
  std::error_code ignored;
  if (!path_.empty()) fs::remove_all(path_, ignored);
  for (const int slot : slots_) remove_from_list(slot);
}

std::string AtomicFolder::file(const std::string& name) {
  const std::string path = (fs::path(path_) / name).string();
  slots_.push_back(add_to_list(path));
  return path;
}

void AtomicFolder::rename_to(const std::string& target, bool replace) {
  std::error_code ignored;
  if (replace && fs::exists(target, ignored)) return exchange_folders(path_, target);  // the destructor removes it
  const int result = ::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, target.c_str(), RENAME_NOREPLACE);
  require(result == 0 || errno != EEXIST, "{}: exists, and was made since this command began", target);
  // Some file systems have no such call; rename(2) refuses a folder that is not empty.
  if (result < 0 && (errno == EINVAL || errno == ENOSYS))
    posix_check(::rename(path_.c_str(), target.c_str()), target, "rename the finished folder to it");
  else
    posix_check(result, target, "rename the finished folder to it");
  path_.clear();
}

void exchange_folders(const std::string& fresh, const std::string& target) {
#ifdef RENAME_EXCHANGE
  if (::renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) return;
  if (errno != EINVAL && errno != ENOSYS && errno != ENOTSUP) posix_check(-1, target, "replace");
#endif
  const std::string old = target + ".old";
  posix_check(::rename(target.c_str(), old.c_str()), old, "rename the folder that is replaced to it");
  posix_check(::rename(fresh.c_str(), target.c_str()), target, "rename the finished folder to it");
  posix_check(::rename(old.c_str(), fresh.c_str()), old, "rename the folder that was replaced");
}

void remove_temporary_files() noexcept {
  for (auto& slot : registered) {
    const char* const path = slot.load();
    if (path != nullptr && ::unlink(path) == 0) slot = nullptr;
  }
  for (auto& slot : registered)  // folders, which are empty now
    if (const char* const path = slot.exchange(nullptr)) ::rmdir(path);
}

void remove_temporary_files_at_signals() {
  constexpr std::array kept = {SIGKILL,  SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT, SIGCHLD, SIGURG,
                               SIGWINCH, SIGILL,  SIGTRAP, SIGABRT, SIGBUS,  SIGFPE,  SIGSEGV, SIGSYS};
  for (int signal = 1; signal <= SIGRTMAX; ++signal) {
    if (std::ranges::find(kept, signal) != kept.end()) continue;
    struct sigaction before {};
    if (::sigaction(signal, nullptr, &before) < 0 || before.sa_handler != SIG_DFL) continue;
    struct sigaction action {};
    action.sa_handler = remove_and_end;
    ::sigaction(signal, &action, nullptr);
  }
}

}  // namespace causeway
