#pragma once

#include <span>
#include <string_view>

namespace causeway {

/// One fact about how this binary was built: --version prints them, a run's environment.json keeps them.
struct BuildFact {
  std::string_view name, value;
};
std::span<const BuildFact> build_facts();

}  // namespace causeway
