/// Profiles that are part of the program. A figure that nobody measured says so in `sources`.

#include <array>

#include "src/plan/profile.hpp"

namespace causeway {
namespace {

/// Hosts of 8 H200s with NVLink, and one port of NDR InfiniBand (400 Gbit/s) a GPU. Kernels in bf16 at T 65,536 and
/// D 4,096, forward and backward, from the tables of kernels/cuda/*/README.md.
Profile h200_ndr400() {
  constexpr double step_clock = 1.17;  // in a long step, of kernels that are bound by the clock
  Profile profile;
  profile.name = "h200-ndr400";
  profile.source = "H200s measured in November 2026; links between hosts as published, not measured";
  profile.device = Device::cuda;
  profile.dtype = DType::bf16;
  profile.ranks_per_host = 8;
  profile.device_bytes = 139.0 * (1 << 30);
  profile.host_bytes = 2e12;
  profile.gemm_flops_per_s = {{DType::f32, 51e12}, {DType::bf16, 759e12}};
  profile.fp8_gemm_flops_per_s = 1.8 * 759e12;
  profile.gemm_in_step = 0.85;
  profile.host_link_bytes_per_s = 50e9;
  profile.host_update_bytes_per_s = 60e9;
  profile.network = {.latency_s = 35e-6, .bytes_per_s = 45e9, .all_bytes_per_s = 45e9};
  Machine& machine = profile.machine;
  machine = {.latency_s = 32e-6,
             .bytes_per_s = 306e9,
             .all_bytes_per_s = 281e9,
             .overlap = 0.66,
             .latency_overlap = 0.05,
             .copy_bytes_per_s = 4.22e12,
             .copy_call_s = 5e-6};
  const auto add = [&](TimedKernel kernel, double forward_s, double backward_s) {
    machine.kernels.push_back({kernel, 10e-6, forward_s});
    if (!has_backward(kernel.kind)) return;
    kernel.backward = true;
    machine.kernels.push_back({kernel, 10e-6, backward_s});
  };
  const auto measured = [&](TimedKernel kernel, double forward_ms, double backward_ms, double of = 65536.0 * 4096) {
    add(kernel, forward_ms * 1e-3 / of, backward_ms * 1e-3 / of);
  };
  measured({KernelKind::causal_conv, 4}, 0.274, 0.424);
  measured({KernelKind::hyena_block, 7, 16, true}, 0.528, 1.024);
  measured({KernelKind::hyena_block, 128, 16, true}, 0.77, 2.55);
  measured({KernelKind::hyena_block, 7, 15, true}, 0.141, 0.282, 32768.0 * 1920);
  measured({KernelKind::hyena_block, 128, 15, true}, 0.278, 1.893, 32768.0 * 1920);
  measured({KernelKind::blocked_conv, 7, 16, true}, 0.53, 1.40);
  measured({KernelKind::blocked_conv, 128, 16, true}, 0.57, 1.82);
  measured({KernelKind::blocked_conv, 7, 16}, 0.35, 0.72);
  measured({KernelKind::blocked_conv, 128, 16}, 0.46, 1.40);
  measured({KernelKind::modal_conv, 16, 1, true}, 2.2, 5.6);
  measured({KernelKind::modal_conv, 16}, 2.0, 4.8);
  measured({KernelKind::modal_summary, 16, 1, true}, 1.0, 1.2);
  measured({KernelKind::modal_summary, 16}, 1.0, 1.2);
  // hyena_block by modes runs three kernels: the featurizer of 3·D channels, the gates and the modes.
  measured({KernelKind::modal_block, 16, 1, true}, 2.2 + 3 * 0.274, 5.6 + 3 * 0.424);
  measured({KernelKind::modal_block_summary, 16, 1, true}, 1.0 + 3 * 0.274, 1.2 + 3 * 0.424);
  add({KernelKind::filter_spectrum, 16}, 10e-12, 20e-12);
  add({KernelKind::fft_conv, 65536, 16}, 27e-12, 45e-12);
  add({KernelKind::shard_transform, 32768}, 14e-12, 14e-12);
  add({KernelKind::rotation}, 5e-12, 5e-12);
  for (const bool gated : {true, false}) {
    measured({KernelKind::selective_scan, 16, 1, gated}, 2.19 * step_clock, 6.40 * step_clock);
    measured({KernelKind::selective_scan, 64, 1, gated}, 0.81 * step_clock, 4.78 * step_clock, 8192.0 * 4096);
  }
  add({KernelKind::scan_summary, 16}, 6.6e-12, 7.4e-12);
  constexpr double pairs = 65536.0 * 65537 / 2 * 4096;
  measured({KernelKind::attention, 128}, 59.9, 207.3, pairs);
  profile.sources = {
      {"device_bytes", "what the driver reports as free on an H200 without other programs"},
      {"host_bytes", "published: a DGX H200 has 2 TB"},
      {"gemm_flops_per_s", "measured: one product of 8192³ (design/anchors.md)"},
      {"gemm_in_step", "measured: a step is bound by 700 W, its clock is 1.68 GHz and not 1.98 (src/train/README.md)"},
      {"copy_bytes_per_s", "measured: a device copy, read + write (design/anchors.md)"},
      {"link", "measured on two H200s over NVLink (parallel/transport/README.md, parallel/cost/README.md)"},
      {"network", "published: NDR has 400 Gbit/s a port; assumed: 90 % of it, and 3 µs more latency than NVLink"},
      {"overlap", "measured on two H200s over NVLink (tests/parallel/test_choose_profiles.cpp)"},
      {"host_link_bytes_per_s", "about that of PCIe 5 x16 (src/model/offload/README.md), predicted"},
      {"host_update_bytes_per_s", "assumed: an eighth of the memory speed of a host with two CPUs; not measured"},
      {"kernels",
       "measured (kernels/cuda/*/README.md); the scan times 1.17 for the clock of a long step; "
       "filter_spectrum, fft_conv, shard_transform, rotation and scan_summary of an earlier version"}};
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
