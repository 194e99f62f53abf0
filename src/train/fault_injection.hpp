#pragma once

#include <memory>

#include "src/health/fault_settings.hpp"
#include "src/health/faults.hpp"
#include "src/model/model.hpp"

namespace causeway {

/// The faults that --inject-fault asks for on this rank; null where it asks for none. Collective; settings that are
/// wrong on any rank throw AgreedError(usage) on all.
std::shared_ptr<Faults> make_faults(const FaultSettings& settings, Communicator& world);

/// A progress record whose points let `faults`, where not null, occur.
std::shared_ptr<RankProgress> make_rank_progress(const std::shared_ptr<Faults>& faults);

/// Makes the model's layers produce NaN as `faults` ask. Leaves the model unchanged where they contain no nan fault.
void inject_nan(const std::shared_ptr<Faults>& faults, const std::shared_ptr<const RankProgress>& progress,
                Model& model);

}  // namespace causeway
