#pragma once

#include "parallel/transport/communicator.hpp"
#include "src/model/model_options.hpp"
#include "src/plan/profile.hpp"

namespace causeway {

/// What `bench profile` measures: the machine on which the ranks run, for a model and a pack.
struct CalibrationSettings {
  ModelOptions shape;
  std::int64_t tokens = 8192;  ///< of a pack, one document
  Device device = Device::cpu;
  DType dtype = DType::f32;
  std::string name;
};

/// Throws Error(usage) that names the first wrong option.
void check(const CalibrationSettings& settings);

/// Measures links within a host and, if the ranks are on several hosts, between them; copies, the kernels that the
/// model's operators run by any strategy, a large matrix product and the products of the model, and the memory. Of
/// every figure it takes that of the slowest rank. Collective; the same on every rank. Warns on rank 0 if times do not
/// repeat.
Profile measure_profile(const CalibrationSettings& settings, Communicator& world, const Stream& stream);

/// The lines that are printed of it.
std::string profile_text(const Profile& profile);

}  // namespace causeway
