#include "io/file/sha256.hpp"

#include <openssl/evp.h>

#include <array>
#include <vector>

#include "io/file/untrusted_file.hpp"
#include "kernels/core/error.hpp"

namespace causeway {
namespace {

void check(bool worked) { ensure(worked, "OpenSSL cannot compute SHA-256"); }

}  // namespace

struct Sha256::DigestTraits {
  using type = EVP_MD_CTX*;
  static type null() { return nullptr; }
  static void close(type digest) noexcept { EVP_MD_CTX_free(digest); }
};

struct Sha256::State {
  Handle<DigestTraits> digest{EVP_MD_CTX_new()};
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  check(state_->digest.get() != nullptr && EVP_DigestInit_ex(state_->digest.get(), EVP_sha256(), nullptr) == 1);
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::add(const void* bytes, std::size_t count) {
  check(EVP_DigestUpdate(state_->digest.get(), bytes, count) == 1);
}

std::string Sha256::hexadecimal() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> result{};
  unsigned length = 0;
  check(EVP_DigestFinal_ex(state_->digest.get(), result.data(), &length) == 1);
  std::string text;
  for (unsigned i = 0; i < length; ++i) text += fmt::format("{:02x}", result[i]);
  return text;
}

Fingerprint fingerprint_of(const std::string& path, const std::function<void()>& between) {
  const Descriptor file = open_untrusted(path).first;
  Sha256 digest;
  std::int64_t bytes = 0;
  for (std::vector<char> buffer(std::size_t{1} << 20);;) {
    if (between) between();
    const std::size_t count = read_some(file, buffer.data(), buffer.size(), path);
    if (count == 0) break;
    digest.add(buffer.data(), count);
    bytes += static_cast<std::int64_t>(count);
  }
  return {bytes, digest.hexadecimal()};
}

std::string sha256_of(const std::string& bytes) {
  Sha256 digest;
  digest.add(bytes.data(), bytes.size());
  return digest.hexadecimal();
}

}  // namespace causeway
