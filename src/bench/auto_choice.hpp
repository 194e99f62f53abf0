#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string_view>
#include <vector>

#include "parallel/choose.hpp"

namespace causeway {

/// The strategies' estimates for an operator and a pack, and the times measured of each strategy's fastest variant.
struct AutoChoice {
  std::string op;
  std::int64_t tokens, documents;
  std::vector<Estimate> estimated;
  std::map<std::string_view, double> measured = {};

  const Estimate& estimate_of(std::string_view strategy) const;
  void add(std::string_view strategy, double seconds);
};

/// What `--strategy auto` takes beside the fastest strategy, as a table and as JSON. Rows of which the chosen strategy
/// was not measured are left out.
std::string text_of(std::span<const AutoChoice> choices);
nlohmann::ordered_json to_json(std::span<const AutoChoice> choices);
nlohmann::ordered_json to_json(const Machine& machine);

}  // namespace causeway
