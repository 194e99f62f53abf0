#pragma once

#include <string>

namespace causeway {

/// Names what the host enqueues while it lives, for profilers: an NVTX range, which Nsight Systems shows above its
/// kernels. Nests. Nothing in a build without CUDA, next to nothing where no profiler listens.
class ProfileRange {
 public:
  explicit ProfileRange(const std::string& name);
  ~ProfileRange();
  ProfileRange(const ProfileRange&) = delete;
  ProfileRange& operator=(const ProfileRange&) = delete;
};

}  // namespace causeway
