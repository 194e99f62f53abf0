#pragma once

#include <cstdint>
#include <string>
#include <vector>

/// Tokens that are values of options. Errors are Error(usage) with the option's name.
namespace causeway {

/// Decimal token ids with blanks or commas between them. Throws for an id that is not below `vocabulary`.
std::vector<std::int32_t> parse_ids(const std::string& text, std::int64_t vocabulary, const std::string& option);

/// The tokens that are the bytes of `text`, in its order. Throws for a byte that is there twice or is not below
/// `vocabulary`.
std::vector<std::int32_t> tokens_of_bytes(const std::string& text, std::int64_t vocabulary, const std::string& option);

}  // namespace causeway
