#pragma once

#include "src/plan/profile.hpp"

namespace causeway::test {

/// A machine with round figures, and rates for every kernel.
inline Profile small_profile() {
  Profile profile;
  profile.name = "small";
  profile.source = "made up";
  profile.sources = {{"kernels", "made up"}};
  profile.device = Device::cuda;
  profile.dtype = DType::bf16;
  profile.ranks_per_host = 4;
  profile.device_bytes = 80e9;
  profile.host_bytes = 1e12;
  profile.gemm_flops_per_s = {{DType::f32, 5e13}, {DType::bf16, 5e14}};
  profile.gemm_in_step = 0.8;
  profile.host_link_bytes_per_s = 2e10;
  profile.host_update_bytes_per_s = 3e10;
  profile.network = {.latency_s = 2e-5, .message_s = 2e-6, .bytes_per_s = 1e10, .all_bytes_per_s = 5e9};
  profile.machine = {.latency_s = 1e-5,
                     .message_s = 1e-6,
                     .bytes_per_s = 2e11,
                     .all_bytes_per_s = 1e11,
                     .overlap = 0.5,
                     .latency_overlap = 0.1,
                     .copy_bytes_per_s = 2e12,
                     .copy_call_s = 5e-6};
  for (int i = 0; i <= static_cast<int>(last_kernel_kind); ++i)
    for (const bool backward : {false, true}) {
      TimedKernel kernel{.kind = static_cast<KernelKind>(i), .width = 16, .group = 16, .gated = true};
      kernel.backward = backward;
      const double pair = kernel.kind == KernelKind::attention ? 1e-3 : 1;
      profile.machine.kernels.push_back({kernel, 1e-5, (backward ? 2e-11 : 1e-11) * pair});
    }
  return profile;
}

}  // namespace causeway::test
