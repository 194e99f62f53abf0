#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "src/plan/search.hpp"

namespace causeway {

/// What a plan is shown with, beside the search's result.
struct PlanReport {
  std::string model;  ///< its name or its layers
  const PlannedTraining& training;
  const Profile& profile;
  const SearchResult& found;
  std::optional<double> tokens, price;  ///< of the whole training; of an hour of one host

  std::optional<double> node_hours() const;
  std::optional<double> cost() const;
};

/// A table for people, which ends with a line feed.
std::string text_of(const PlanReport& report);
nlohmann::ordered_json to_json(const PlanReport& report);

}  // namespace causeway
