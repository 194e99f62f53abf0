#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "io/data/dataset.hpp"
#include "io/file/sha256.hpp"

namespace causeway {

/// The identity of a dataset's content: equal for equal tokens, document boundaries, loss masks and loss weights.
/// Names, file names, the width of stored tokens, chunks and compression do not count. It is the SHA-256 (FIPS 180-4),
/// as hexadecimal digits, of the text "causeway-dataset-identity 1 TOKENS BOUNDARIES MASK". Each of the words TOKENS,
/// BOUNDARIES and MASK is the SHA-256 of
///   TOKENS      the tokens, as u32, little-endian
///   BOUNDARIES  cu_seqlens, as i64, little-endian
///   MASK        a byte for each token: 0 where the loss mask is 0, else 1; without a loss mask the word is "none"
/// With loss weights a fifth word follows: the SHA-256 of the weights as f32, little-endian, -0 as 0.
class IdentityDigest {
 public:
  explicit IdentityDigest(LabelLists lists) : lists_(lists) {}

  void add_tokens(std::span<const std::int32_t> tokens);
  void add_boundaries(std::span<const std::int64_t> cu_seqlens);
  void add_loss_mask(std::span<const std::uint8_t> values);
  void add_loss_weights(std::span<const float> values);
  std::string finish();

 private:
  Sha256 tokens_, boundaries_, loss_mask_, loss_weights_;
  LabelLists lists_;
};

/// Reads the whole dataset once. `progress`, if given, is called regularly with the number of tokens read, and may
/// throw to stop.
std::string computed_identity(const Dataset& data, const std::function<void(std::int64_t)>& progress = {});

/// The identity that the file states, or the computed one if it states none.
std::string identity_of(const Dataset& data, const std::function<void(std::int64_t)>& progress = {});

/// Reads the whole dataset once. Throws Error(corrupt) if the file states another identity than its content has.
void verify_identity(const Dataset& data);

/// What tells datasets of different content apart without reading it: "7 documents, 90 tokens, identity
/// 0123456789abcdef" (of a file that states none, without it).
std::string outline_of(const Dataset& data);

/// The first digits of an identity, for messages.
std::string short_identity(const std::string& identity);

}  // namespace causeway
