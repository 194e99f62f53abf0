#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "src/infer/prompts.hpp"

namespace causeway {

/// What a model drew after a prompt.
struct Continuation {
  const Prompt& prompt;
  std::int64_t sample = 1;  ///< its number among those of the prompt, from 1
  std::span<const std::int32_t> tokens;
  std::optional<std::int32_t> stop;  ///< the token that ended it, which is not among `tokens`
};

enum class TokenText : std::uint8_t { bytes, ids };
enum class ContinuationFormat : std::uint8_t { raw, fasta, jsonl };

/// The text of one token in the raw format: its byte; or its id, with a blank before all but the first.
std::string text_of_token(std::int32_t token, TokenText as, bool first);

/// A continuation as text:
///   raw    its tokens, and a line end
///   fasta  ">NAME sample=N", and its bytes on one line; bytes that cannot be printed, or are no UTF-8, as \x0a
///   jsonl  an object on a line: name, sample, prompt_tokens, tokens (their number), stop (the id, or null), and text,
///          or ids where the tokens are no UTF-8 text; in ASCII
std::string text_of(const Continuation& continuation, ContinuationFormat format, TokenText as);

}  // namespace causeway
