#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace causeway {

/// The bytes of the first character of `text`, which is not empty; 0 if it starts with no character of UTF-8 (RFC 3629:
/// at most U+10FFFF, no surrogates, no longer form than needed).
inline std::size_t utf8_character_bytes(std::string_view text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<std::uint8_t>(text[i]) : 0u; };
  const auto in = [](unsigned value, unsigned low, unsigned high) { return value >= low && value <= high; };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (!in(lead, 0xc2, 0xf4)) return 0;
  const std::size_t bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  const unsigned low = lead == 0xe0   ? 0xa0
                       : lead == 0xf0 ? 0x90
                                      : 0x80,
                 high = lead == 0xed   ? 0x9f
                        : lead == 0xf4 ? 0x8f
                                       : 0xbf;
  if (!in(byte(1), low, high)) return 0;
  for (std::size_t i = 2; i < bytes; ++i)
    if (!in(byte(i), 0x80, 0xbf)) return 0;
  return bytes;
}

inline bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t bytes = utf8_character_bytes(text);
    if (bytes == 0) return false;
    text.remove_prefix(bytes);
  }
  return true;
}

/// Bytes of Latin-1 (ISO 8859-1: byte b is U+00b) as UTF-8.
inline std::string utf8_of_latin1(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) {
    const auto code = static_cast<std::uint8_t>(byte);
    if (code >= 0x80) text += static_cast<char>(0xc0 | code >> 6);
    text += static_cast<char>(code < 0x80 ? code : 0x80 | (code & 0x3f));
  }
  return text;
}

/// `text` if it is UTF-8; else its bytes taken as Latin-1.
inline std::string as_utf8(std::string text) { return is_utf8(text) ? std::move(text) : utf8_of_latin1(text); }

}  // namespace causeway
