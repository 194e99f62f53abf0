#pragma once

#include <string_view>

namespace causeway {

/// Orders names as people do: numbers in them by value, so that "node9" comes before "node10". A strict weak ordering,
/// in which only equal names are equivalent; for std::map, std::set and sort.
struct NaturalLess {
  using is_transparent = void;
  bool operator()(std::string_view a, std::string_view b) const;
};

}  // namespace causeway
