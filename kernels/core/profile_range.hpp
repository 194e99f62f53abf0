#pragma once

#include <string>

namespace causeway {

/// Gives a name, for profilers, to the work that the host enqueues during this object's lifetime: an NVTX range, which
/// Nsight Systems shows above the kernels. Ranges can be nested. It does nothing in a build without CUDA and costs
/// almost nothing if no profiler is attached.
class ProfileRange {
 public:
  explicit ProfileRange(const std::string& name);
  ~ProfileRange();
  ProfileRange(const ProfileRange&) = delete;
  ProfileRange& operator=(const ProfileRange&) = delete;
};

}  // namespace causeway
