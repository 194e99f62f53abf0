#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "src/bench/step/step.hpp"

namespace causeway {

/// What `bench step` prints: the step, its comparisons, and a table of its parts, the longest first.
std::string step_text(const StepSettings& settings, const StepMeasurement& measured);

/// The same for programs. Members of `parts` are milliseconds and add up to `step_ms`.
nlohmann::ordered_json step_json(const StepSettings& settings, const StepMeasurement& measured);

}  // namespace causeway
