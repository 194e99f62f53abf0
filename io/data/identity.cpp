#include "io/data/identity.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <vector>

#include "io/data/dataset.hpp"
#include "kernels/core/error.hpp"

namespace causeway {

static_assert(std::endian::native == std::endian::little, "the digests are of little-endian numbers");

void IdentityDigest::add_tokens(std::span<const std::int32_t> tokens) {
  tokens_.add(tokens.data(), tokens.size_bytes());
}

void IdentityDigest::add_boundaries(std::span<const std::int64_t> cu_seqlens) {
  boundaries_.add(cu_seqlens.data(), cu_seqlens.size_bytes());
}

void IdentityDigest::add_loss_mask(std::span<const std::uint8_t> values) {
  std::vector<std::uint8_t> counts(values.size());
  std::ranges::transform(values, counts.begin(), [](std::uint8_t value) { return value == 0 ? 0 : 1; });
  loss_mask_.add(counts.data(), counts.size());
}

void IdentityDigest::add_loss_weights(std::span<const float> values) {
  std::vector<float> numbers(values.size());
  std::ranges::transform(values, numbers.begin(), [](float value) { return value + 0.0F; });  // -0 becomes 0
  loss_weights_.add(numbers.data(), numbers.size() * sizeof(float));
}

std::string IdentityDigest::finish() {
  const std::string tokens = tokens_.hexadecimal(), boundaries = boundaries_.hexadecimal();
  std::string text = fmt::format("causeway-dataset-identity 1 {} {} {}", tokens, boundaries,
                                 lists_.loss_mask ? loss_mask_.hexadecimal() : "none");
  if (lists_.loss_weights) text += fmt::format(" {}", loss_weights_.hexadecimal());
  return sha256_of(text);
}

std::string computed_identity(const Dataset& data, const std::function<void(std::int64_t)>& progress) {
  constexpr std::int64_t at_once = std::int64_t{1} << 18;
  IdentityDigest digest(data.label_lists());
  digest.add_boundaries(data.cu_seqlens());
  std::vector<std::int32_t> tokens;
  std::vector<std::uint8_t> mask;
  std::vector<float> weights;
  for (std::int64_t begin = 0; begin < data.tokens(); begin += at_once) {
    if (progress) progress(begin);
    tokens.resize(static_cast<std::size_t>(std::min(at_once, data.tokens() - begin)));
    data.read_tokens(begin, tokens);
    digest.add_tokens(tokens);
    if (data.has_loss_mask()) {
      mask.resize(tokens.size());
      data.read_loss_mask(begin, mask);
      digest.add_loss_mask(mask);
    }
    if (data.has_loss_weights()) {
      weights.resize(tokens.size());
      data.read_loss_weights(begin, weights);
      digest.add_loss_weights(weights);
    }
  }
  return digest.finish();
}

std::string identity_of(const Dataset& data, const std::function<void(std::int64_t)>& progress) {
  const std::optional<std::string> stated = data.stated_identity();
  return stated ? *stated : computed_identity(data, progress);
}

void verify_identity(const Dataset& data) {
  const std::optional<std::string> stated = data.stated_identity();
  if (!stated) return;
  const std::string found = computed_identity(data);
  if (found != *stated)
    fail(ExitCode::corrupt,
         "{}: attribute identity is {}, but the tokens, boundaries, loss mask and weights have {}: the file "
         "was changed after it was made",
         data.path(), *stated, found);
}

std::string outline_of(const Dataset& data) {
  const std::optional<std::string> stated = data.stated_identity();
  return fmt::format("{} documents, {} tokens{}", data.documents(), data.tokens(),
                     stated ? ", identity " + short_identity(*stated) : "");
}

std::string short_identity(const std::string& identity) { return identity.substr(0, 16); }

}  // namespace causeway
