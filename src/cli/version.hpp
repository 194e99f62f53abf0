#pragma once

#include <span>
#include <string_view>

namespace causeway {

/// One fact about how the program was built. --version prints them; environment.json of a run contains them.
struct BuildFact {
  std::string_view name, value;
};
std::span<const BuildFact> build_facts();

}  // namespace causeway
