#pragma once

#include "parallel/cost/cost.hpp"
#include "parallel/cost/operator_arguments.hpp"

/// The kernels that strategies of an operator run, for costs and for the measurement of their rates.
namespace causeway {

inline TimedKernel kernel_of(const CausalConvForward& args) {
  return {.kind = KernelKind::causal_conv, .width = args.weight.columns()};
}
inline std::int64_t group_of(std::int64_t channels, std::int64_t groups) { return groups > 0 ? channels / groups : 1; }
inline bool gated(const GatedConvInputs& in) { return in.q.present() || in.k.present(); }

inline TimedKernel kernel_of(const BlockedConvForward& args) {
  return {.kind = KernelKind::blocked_conv,
          .width = args.taps.columns(),
          .group = group_of(args.in.v.columns(), args.taps.rows()),
          .gated = gated(args.in)};
}
inline TimedKernel kernel_of(const ModalConvForward& args) {
  return {.kind = KernelKind::modal_conv, .width = args.residues.columns(), .gated = gated(args.in)};
}
inline TimedKernel summary_of(const ModalConvForward& args) {
  return {.kind = KernelKind::modal_summary, .width = args.residues.columns(), .gated = gated(args.in)};
}
inline TimedKernel spectrum_of(const ModalConvForward& args) {
  return {.kind = KernelKind::filter_spectrum, .width = args.residues.columns()};
}
/// The convolution of whole documents by Fourier transforms, of any operator with a long filter.
inline TimedKernel fft_kernel(std::int64_t longest_document, std::int64_t channels, std::int64_t groups) {
  return {.kind = KernelKind::fft_conv, .width = longest_document, .group = group_of(channels, groups)};
}
/// The part on each rank of a Fourier transform over ranks.
inline TimedKernel transform_kernel(std::int64_t tokens) {
  return {.kind = KernelKind::shard_transform, .width = tokens};
}
/// The twist, twiddle factors and butterflies of such a transform.
inline TimedKernel rotation_kernel() { return {.kind = KernelKind::rotation}; }
/// Featurizer, gates and filter in one, by taps or by modes.
inline TimedKernel kernel_of(const HyenaBlockForward& args) {
  const HyenaBlockInputs& in = args.in;
  if (in.modal()) return {.kind = KernelKind::modal_block, .width = in.residues.columns(), .gated = true};
  return {.kind = KernelKind::hyena_block,
          .width = in.taps.columns(),
          .group = group_of(in.q.columns(), in.taps.rows()),
          .gated = true};
}
inline TimedKernel summary_of(const HyenaBlockForward& args) {
  return {.kind = KernelKind::modal_block_summary, .width = args.in.residues.columns(), .gated = true};
}
inline TimedKernel kernel_of(const SelectiveScanForward& args) {
  return {.kind = KernelKind::selective_scan, .width = args.in.A.columns(), .gated = args.in.z.present()};
}
inline TimedKernel summary_of(const SelectiveScanForward& args) {
  return {.kind = KernelKind::scan_summary, .width = args.in.A.columns()};
}
inline TimedKernel kernel_of(const RotaryAttentionForward& args) {
  return {.kind = KernelKind::attention, .width = args.q.shape[2]};
}
inline TimedKernel ungated(TimedKernel kernel) {
  kernel.gated = false;
  return kernel;
}

}  // namespace causeway
