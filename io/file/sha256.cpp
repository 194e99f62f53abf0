#include "io/file/sha256.hpp"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <vector>

#include "io/file/descriptor.hpp"
#include "kernels/core/error.hpp"

namespace causeway {
namespace {

struct DigestTraits {
  using type = EVP_MD_CTX*;
  static type null() { return nullptr; }
  static void close(type digest) noexcept { EVP_MD_CTX_free(digest); }
};

class Sha256 {
 public:
  Sha256() : digest_(EVP_MD_CTX_new()) {
    check(digest_.get() != nullptr && EVP_DigestInit_ex(digest_.get(), EVP_sha256(), nullptr) == 1);
  }
  void add(const void* bytes, std::size_t count) { check(EVP_DigestUpdate(digest_.get(), bytes, count) == 1); }
  std::string hexadecimal() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> result{};
    unsigned length = 0;
    check(EVP_DigestFinal_ex(digest_.get(), result.data(), &length) == 1);
    std::string text;
    for (unsigned i = 0; i < length; ++i) text += fmt::format("{:02x}", result[i]);
    return text;
  }

 private:
  static void check(bool worked) { ensure(worked, "OpenSSL cannot compute SHA-256"); }
  Handle<DigestTraits> digest_;
};

/// Opens the file; returns it and its size.
std::pair<Descriptor, std::int64_t> open_regular(const std::string& path) {
  // O_NONBLOCK: opening a pipe must not wait for its writer; it throws below.
  Descriptor file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file && (errno == ENOENT || errno == ENOTDIR)) fail(ExitCode::corrupt, "{}: is missing", path);
  if (!file && errno == ELOOP) fail(ExitCode::corrupt, "{}: is a link to elsewhere, expected the file itself", path);
  posix_check(file.get(), path, "open");
  struct stat status {};
  posix_check(::fstat(file.get(), &status), path, "read its size");
  if (!S_ISREG(status.st_mode)) fail(ExitCode::corrupt, "{}: is not a regular file", path);
  return {std::move(file), status.st_size};
}

}  // namespace

Fingerprint fingerprint_of(const std::string& path, const std::function<void()>& between) {
  const auto [file, size] = open_regular(path);
  Sha256 digest;
  std::int64_t bytes = 0;
  for (std::vector<char> buffer(std::size_t{1} << 20);;) {
    if (between) between();
    const ssize_t count = ::read(file.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    posix_check(static_cast<int>(count), path, "read");
    if (count == 0) break;
    digest.add(buffer.data(), static_cast<std::size_t>(count));
    bytes += count;
  }
  return {bytes, digest.hexadecimal()};
}

std::int64_t size_of_file(const std::string& path) { return open_regular(path).second; }

std::string sha256_of(const std::string& bytes) {
  Sha256 digest;
  digest.add(bytes.data(), bytes.size());
  return digest.hexadecimal();
}

}  // namespace causeway
