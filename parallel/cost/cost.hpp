#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace causeway {

/// The kernels whose time a cost counts by elements. A kernel of a pass has about the same time per element for any
/// number of tokens and channels.
enum class KernelKind : std::uint8_t {
  causal_conv,
  blocked_conv,
  modal_conv,
  modal_summary,
  filter_spectrum,
  fft_conv,
  shard_transform,
  rotation,
  hyena_block,
  modal_block,
  modal_block_summary,
  selective_scan,
  scan_summary,
  attention,
};

inline constexpr KernelKind last_kernel_kind = KernelKind::attention;
std::string_view name_of(KernelKind kind);  ///< "selective_scan"

/// What a kernel's time per element depends on. An element is a token of a channel; of attention, a pair of a query and
/// a key of a channel; of shard_transform, rotation and filter_spectrum, a complex point of a channel.
struct TimedKernel {
  KernelKind kind = KernelKind::causal_conv;
  std::int64_t width = 0;  ///< taps, modes, states, elements of a head; of fft_conv tokens of the longest document
  std::int64_t group = 1;  ///< channels that share a filter
  bool gated = false;      ///< with q and k, or z
  bool backward = false;   ///< the kernel of the backward pass

  bool operator==(const TimedKernel&) const = default;
};
/// Whether the backward pass has a kernel of its own; a Fourier transform and a rotation are their own adjoints.
inline bool has_backward(KernelKind kind) {
  return kind != KernelKind::shard_transform && kind != KernelKind::rotation;
}
std::string text_of(const TimedKernel& kernel);  ///< "selective_scan 16 gated backward"

/// Seconds of a kernel: call_s for each call, and element_s for each element.
struct KernelRate {
  TimedKernel kernel;
  double call_s = 0, element_s = 0;
};

/// Elements that one kernel computes in a pass, in `calls` calls.
struct KernelWork {
  TimedKernel kernel;
  double elements = 0, calls = 1;
};

/// The cost of one pass of an operator with one strategy, on the rank with the most work.
struct Cost {
  std::vector<KernelWork> kernels;
  double copied_bytes = 0;  ///< read and written where rows are packed, unpacked, gated or converted
  double copies = 0;        ///< calls for them
  std::int64_t bytes_sent =
      0;                    ///< by the formula of strategies/README.md, exactly: tests compare the transport's counter
  bool to_all = false;      ///< the bytes go to all other ranks at the same time, not to a neighbour
  std::int64_t rounds = 0;  ///< exchanges of which each waits for the previous one
  std::int64_t messages = 0;  ///< of the rank that sends most of them, in all rounds
  /// Where ranks receive more than they send: bytes and messages that occupy the busiest rank, which in each round are
  /// those that it sends or those that it receives, whichever are more.
  std::int64_t busiest_bytes = 0, busiest_messages = 0;
  double hidden = 0;  ///< the fraction of the communication that overlaps with computation, 0 to 1
};
struct PassCosts {
  Cost forward, backward;
  Cost repeated;  ///< the forward pass again, in a step with recomputation (received.hpp)
};
/// The same work by the kernels of the backward pass, and the same communication.
Cost adjoint(Cost cost);

/// The speed of a machine: measured (measure.hpp), or of a profile.
struct Machine {
  double latency_s = 3e-6;         ///< of an exchange of one message, its calls included
  double message_s = 1e-6;         ///< that every further message of an exchange adds, beside its bytes
  double bytes_per_s = 1e10;       ///< that one rank sends to a neighbour while all do
  double all_bytes_per_s = 1e10;   ///< that one rank sends to all other ranks at the same time while all do
  double overlap = 1;              ///< the part of a long exchange that proceeds while the rank computes, 0 to 1
  double latency_overlap = 1;      ///< the same of a message's latency: what enqueues it is not hidden
  double copy_bytes_per_s = 1e10;  ///< of a rank's memory, read + written, while all ranks copy
  double copy_call_s = 1e-6;       ///< of a copy without bytes
  std::vector<KernelRate> kernels = {};
  bool repeats = true;  ///< false: a kernel's time was not the same again while it was measured
};

/// The rate of the kernel with this kind and pass that is most similar: of the same group and gates if there is one,
/// and among these of the nearest width. Throws Error(internal) if the machine has none of this kind and pass.
const KernelRate& rate_of(const Machine& machine, const TimedKernel& kernel);

double computing_seconds(const Cost& cost, const Machine& machine);      ///< kernels and copies
double communicating_seconds(const Cost& cost, const Machine& machine);  ///< hidden or exposed
/// The part of the communication that can proceed while the rank computes.
double hideable_seconds(const Cost& cost, const Machine& machine);
/// max(computing, hideable) + communicating - hideable.
double seconds(const Cost& cost, const Machine& machine);

}  // namespace causeway
