#include "io/data/complement.hpp"

#include <array>
#include <string_view>

namespace causeway {
namespace {

constexpr std::string_view letters = "ACGTURYKMBVDHSWN", complements = "TGCAAYRMKVBHDSWN";
static_assert(letters.size() == complements.size());

constexpr std::array<std::int32_t, 256> complement_table() {
  std::array<std::int32_t, 256> table{};
  for (std::size_t byte = 0; byte < table.size(); ++byte) table[byte] = static_cast<std::int32_t>(byte);
  constexpr std::size_t lower = 'a' - 'A';
  for (std::size_t i = 0; i < letters.size(); ++i) {
    const auto letter = static_cast<std::size_t>(letters[i]);
    table[letter] = complements[i];
    table[letter + lower] = complements[i] + static_cast<std::int32_t>(lower);
  }
  return table;
}

}  // namespace

std::int32_t complement_of(std::int32_t token) {
  static constexpr std::array<std::int32_t, 256> table = complement_table();
  return token >= 0 && token < 256 ? table[static_cast<std::size_t>(token)] : token;
}

}  // namespace causeway
