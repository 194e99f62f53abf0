/// Profiles that are part of the program. A figure that nobody measured says so in `sources`.

#include <array>

#include "src/plan/profile.hpp"

namespace causeway {
namespace {

/// Hosts of 8 H200s with NVLink, and one port of NDR InfiniBand (400 Gbit/s) a GPU. Measured in bf16 by
/// `causeway bench profile --tokens 64K` for sh2-7b, mamba-1.4b and sh2-1b on one H200, and on two for the links.
Profile h200_ndr400() {
  Profile profile;
  profile.name = "h200-ndr400";
  profile.source = "measured by causeway bench profile on one and two H200s on 30 November 2026; network as published";
  profile.device = Device::cuda;
  profile.dtype = DType::bf16;
  profile.ranks_per_host = 8;
  profile.device_bytes = 139.0 * (1 << 30);
  profile.host_bytes = 2e12;
  profile.gemm_flops_per_s = {{DType::f32, 51e12}, {DType::bf16, 777e12}};
  profile.fp8_gemm_flops_per_s = 1.8 * 777e12;
  profile.gemm_in_step = 0.85;
  profile.host_link_bytes_per_s = 50e9;
  profile.host_update_bytes_per_s = 60e9;
  profile.network = {.latency_s = 39e-6, .message_s = 1e-6, .bytes_per_s = 45e9, .all_bytes_per_s = 45e9};
  Machine& machine = profile.machine;
  machine = {.latency_s = 36e-6,
             .message_s = 1e-6,
             .bytes_per_s = 280e9,
             .all_bytes_per_s = 280e9,
             .overlap = 0.79,
             .latency_overlap = 0.07,
             .copy_bytes_per_s = 4.22e12,
             .copy_call_s = 5.5e-6};
  // Microseconds of a call and picoseconds of an element, forward and backward.
  const auto add = [&](TimedKernel kernel, double forward_us, double forward_ps, double backward_us,
                       double backward_ps) {
    machine.kernels.push_back({kernel, forward_us * 1e-6, forward_ps * 1e-12});
    if (!has_backward(kernel.kind)) return;
    kernel.backward = true;
    machine.kernels.push_back({kernel, backward_us * 1e-6, backward_ps * 1e-12});
  };
  add({KernelKind::causal_conv, 3}, 8, 1.00, 15, 1.55);
  add({KernelKind::causal_conv, 4}, 6, 1.02, 13, 1.54);
  add({KernelKind::hyena_block, 7, 16, true}, 11, 1.97, 35, 3.93);
  add({KernelKind::hyena_block, 128, 16, true}, 28, 3.02, 135, 10.3);
  add({KernelKind::hyena_block, 7, 15, true}, 15, 1.98, 33, 4.66);
  add({KernelKind::hyena_block, 128, 15, true}, 42, 4.59, 218, 27.5);
  add({KernelKind::modal_conv, 16, 1, true}, 30, 3.50, 83, 13.4);
  add({KernelKind::modal_conv, 16}, 28, 2.85, 70, 11.8);
  add({KernelKind::modal_summary, 16, 1, true}, 24, 1.50, 26, 2.40);
  add({KernelKind::modal_summary, 16}, 24, 1.50, 26, 2.40);
  add({KernelKind::filter_spectrum, 16}, 19, 16.2, 50, 23.6);
  add({KernelKind::fft_conv, 65536, 16}, 29, 24.4, 37, 47.1);
  add({KernelKind::shard_transform, 65536}, 1, 22.2, 0, 0);
  add({KernelKind::rotation}, 6, 3.91, 0, 0);
  add({KernelKind::selective_scan, 16, 1, true}, 9, 9.69, 53, 26.0);
  add({KernelKind::selective_scan, 16}, 9, 9.10, 52, 25.4);
  add({KernelKind::scan_summary, 16}, 19, 6.20, 20, 6.96);
  add({KernelKind::attention, 128}, 121, 0.0066, 435, 0.0259);
  // Of tables of kernels/cuda/*/README.md: T 65,536 and D 4,096, the scan of 64 states 1.17 times as long as alone.
  for (const bool gated : {true, false}) add({KernelKind::selective_scan, 64, 1, gated}, 10, 28.2, 50, 167);
  add({KernelKind::blocked_conv, 7, 16, true}, 10, 1.97, 35, 5.2);
  add({KernelKind::blocked_conv, 128, 16, true}, 10, 2.12, 35, 6.8);
  add({KernelKind::blocked_conv, 7, 16}, 10, 1.30, 35, 2.7);
  add({KernelKind::blocked_conv, 128, 16}, 10, 1.71, 35, 5.2);
  add({KernelKind::modal_block, 16, 1, true}, 38, 3.70, 98, 15.5);
  add({KernelKind::modal_block_summary, 16, 1, true}, 32, 2.00, 41, 3.60);
  profile.sources = {
      {"device_bytes", "what the driver reports as free on an H200 without other programs"},
      {"host_bytes", "published: a DGX H200 has 2 TB"},
      {"gemm_flops_per_s", "measured: one product of 8192³; fp8 from steps of sh2-7b, whose products take 1/1.8"},
      {"gemm_in_step", "measured under load for the products of mamba-1.4b and sh2-1b: 0.850 and 0.847"},
      {"copy_bytes_per_s", "measured: a device copy, read + write (design/anchors.md)"},
      {"link", "measured on two H200s over NVLink, without multicast; assumed: 1 µs for a further message"},
      {"network",
       "published: NDR has 400 Gbit/s a port; assumed: 90 % of it, 3 µs more latency than NVLink, "
       "and 1 µs for a further message"},
      {"overlap", "measured on two H200s over NVLink"},
      {"latency_overlap", "measured on two H200s over NVLink"},
      {"host_link_bytes_per_s", "about that of PCIe 5 x16 (src/model/offload/README.md), predicted"},
      {"host_update_bytes_per_s", "assumed: an eighth of the memory speed of a host with two CPUs; not measured"},
      {"kernels",
       "measured between large products, as in a step; of modal_conv seconds an element by the traces of steps of "
       "sh2-7b's first 8 layers and of sh2-1b on 1 December 2026, without gates in proportion; 64 states, blocked_conv "
       "and modal_block (1 December 2026, 65,536 tokens of 4,096 channels: 0.97 to 1.09 and 4.23 to 4.27 ms) alone, of "
       "tables"}};
  return profile;
}

/// The same with H100s, which have the same processors, less memory and slower memory.
Profile h100_ndr400() {
  constexpr double memory_speed = 3.35 / 4.8;
  Profile profile = h200_ndr400();
  profile.name = "h100-ndr400";
  profile.source = "h200-ndr400 with the published memory of an H100; not measured";
  profile.device_bytes = 79.0 * (1 << 30);
  profile.machine.copy_bytes_per_s *= memory_speed;
  for (KernelRate& rate : profile.machine.kernels)
    if (rate.kernel.kind != KernelKind::attention && rate.kernel.kind != KernelKind::selective_scan)
      rate.element_s /= memory_speed;
  profile.sources["device_bytes"] = "published: 80 GB (NVIDIA H100 SXM data sheet); 1 GB for the driver";
  profile.sources["host_bytes"] = "published: a DGX H100 has 2 TB";
  profile.sources["copy_bytes_per_s"] = "that of an H200 times 3.35 / 4.8, the published speeds of the memories";
  profile.sources["kernels"] = "those of an H200; all but attention and scan as much slower as the memory is";
  for (const char* member : {"gemm_flops_per_s", "gemm_in_step", "link", "overlap"})
    profile.sources[member] = "that of an H200";
  return profile;
}

constexpr std::array table = {
    BuiltInProfile{"h200-ndr400", "hosts of 8 H200s with NVLink, NDR InfiniBand with a port for each GPU", h200_ndr400},
    BuiltInProfile{"h100-ndr400", "the same with H100s, derived from their memory's speed", h100_ndr400},
};

}  // namespace

std::span<const BuiltInProfile> built_in_profiles() { return table; }

}  // namespace causeway
