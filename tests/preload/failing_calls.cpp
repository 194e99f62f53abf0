/// A library for LD_PRELOAD: system calls on some files fail, or take long, as on a broken or slow file system.
/// CAUSEWAY_TEST_CALLS has rules, separated by commas: CALL:PART_OF_THE_PATH:ERRNO[:MILLISECONDS]. A call whose path
/// contains the part first sleeps, and then fails with that errno unless it is 0. CALL is open, stat, read, flock,
/// fsync or remove.

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

namespace {

std::string_view next_part(std::string_view& text, char separator) {
  const std::size_t end = std::min(text.find(separator), text.size());
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return part;
}

/// Applies the rules; true: the call must fail, with errno set.
bool fails(std::string_view call, std::string_view path) {
  const char* const set = std::getenv("CAUSEWAY_TEST_CALLS");
  for (std::string_view rules = set == nullptr ? "" : set; !rules.empty();) {
    std::string_view rule = next_part(rules, ',');
    if (next_part(rule, ':') != call) continue;
    if (const std::string_view part = next_part(rule, ':'); path.find(part) == path.npos) continue;
    const int error = std::atoi(std::string(next_part(rule, ':')).c_str());
    if (const int milliseconds = std::atoi(std::string(rule).c_str()); milliseconds > 0)
      ::usleep(static_cast<useconds_t>(milliseconds) * 1000);
    if (error == 0) continue;
    errno = error;
    return true;
  }
  return false;
}

bool fails_on(std::string_view call, int file) {
  char path[4096];
  const ssize_t length = ::readlink(("/proc/self/fd/" + std::to_string(file)).c_str(), path, sizeof path);
  return length > 0 && fails(call, {path, static_cast<std::size_t>(length)});
}

template <class Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

// The prototypes of the C library have attributes (nonnull) that make checks of null pointers warn; there are none
// here.
extern "C" {

#define PATH_CALL(result, name, call, bad, parameters, arguments, path) \
  result name parameters {                                              \
    static auto* const next = real<result parameters>(#name);           \
    return fails(call, path) ? (bad) : next arguments;                  \
  }
#define FILE_CALL(result, name, call, parameters, arguments, file) \
  result name parameters {                                         \
    static auto* const next = real<result parameters>(#name);      \
    return fails_on(call, file) ? -1 : next arguments;             \
  }
#define OPEN_CALL(name)                                                \
  int name(const char* path, int flags, ...) {                         \
    va_list rest;                                                      \
    va_start(rest, flags);                                             \
    const auto mode = va_arg(rest, mode_t);                            \
    va_end(rest);                                                      \
    static auto* const next = real<int(const char*, int, ...)>(#name); \
    return fails("open", path) ? -1 : next(path, flags, mode);         \
  }

OPEN_CALL(open)
OPEN_CALL(open64)
PATH_CALL(FILE*, fopen, "open", nullptr, (const char* path, const char* mode), (path, mode), path)
PATH_CALL(FILE*, fopen64, "open", nullptr, (const char* path, const char* mode), (path, mode), path)
PATH_CALL(DIR*, opendir, "open", nullptr, (const char* path), (path), path)
PATH_CALL(int, stat, "stat", -1, (const char* path, struct stat* out), (path, out), path)
PATH_CALL(int, stat64, "stat", -1, (const char* path, struct stat64* out), (path, out), path)
PATH_CALL(int, lstat, "stat", -1, (const char* path, struct stat* out), (path, out), path)
PATH_CALL(int, lstat64, "stat", -1, (const char* path, struct stat64* out), (path, out), path)
PATH_CALL(int, rename, "remove", -1, (const char* from, const char* to), (from, to), from)
PATH_CALL(int, unlink, "remove", -1, (const char* path), (path), path)
PATH_CALL(int, unlinkat, "remove", -1, (int folder, const char* path, int flags), (folder, path, flags), path)
FILE_CALL(ssize_t, read, "read", (int file, void* out, size_t count), (file, out, count), file)
FILE_CALL(ssize_t, pread, "read", (int file, void* out, size_t count, off_t at), (file, out, count, at), file)
FILE_CALL(ssize_t, pread64, "read", (int file, void* out, size_t count, off64_t at), (file, out, count, at), file)
FILE_CALL(int, flock, "flock", (int file, int operation), (file, operation), file)
FILE_CALL(int, fsync, "fsync", (int file), (file), file)

}  // extern "C"
