#include "parallel/strategy.hpp"

#include "parallel/strategies/all_to_all_pipeline.hpp"

namespace causeway {

// The functions of the strategies. They are defined in strategies/<family>/<strategy>.cpp.
#define CAUSEWAY_STRATEGY(Forward, Backward)               \
  void forward(const StrategyContext&, Forward, Saved*);   \
  void backward(const StrategyContext&, Backward, Saved&); \
  PassCosts cost(const Sharding&, const Forward&);

// The same for strategies that work in slices of the channels.
#define CAUSEWAY_SLICED_STRATEGY(Forward, Backward)        \
  template <int slices>                                    \
  void forward(const StrategyContext&, Forward, Saved*);   \
  template <int slices>                                    \
  void backward(const StrategyContext&, Backward, Saved&); \
  template <int slices>                                    \
  PassCosts cost(const Sharding&, const Forward&);

namespace convolution {
namespace halo {
CAUSEWAY_STRATEGY(CausalConvForward, CausalConvBackward)
CAUSEWAY_STRATEGY(BlockedConvForward, BlockedConvBackward)
CAUSEWAY_STRATEGY(HyenaBlockForward, HyenaBlockBackward)
}  // namespace halo
namespace halo_overlapped {
CAUSEWAY_STRATEGY(CausalConvForward, CausalConvBackward)
CAUSEWAY_STRATEGY(BlockedConvForward, BlockedConvBackward)
CAUSEWAY_STRATEGY(HyenaBlockForward, HyenaBlockBackward)
}  // namespace halo_overlapped
namespace all_to_all {
CAUSEWAY_SLICED_STRATEGY(CausalConvForward, CausalConvBackward)
CAUSEWAY_SLICED_STRATEGY(BlockedConvForward, BlockedConvBackward)
CAUSEWAY_SLICED_STRATEGY(HyenaBlockForward, HyenaBlockBackward)
}  // namespace all_to_all
}  // namespace convolution
namespace long_convolution {
namespace state_carry {
CAUSEWAY_STRATEGY(ModalConvForward, ModalConvBackward)
}
namespace all_to_all {
CAUSEWAY_SLICED_STRATEGY(ModalConvForward, ModalConvBackward)
CAUSEWAY_SLICED_STRATEGY(FftConvForward, FftConvBackward)
}  // namespace all_to_all
namespace fft {
CAUSEWAY_STRATEGY(ModalConvForward, ModalConvBackward)
CAUSEWAY_STRATEGY(FftConvForward, FftConvBackward)
}  // namespace fft
}  // namespace long_convolution
namespace selective_scan {
namespace state_carry {
CAUSEWAY_STRATEGY(SelectiveScanForward, SelectiveScanBackward)
}
namespace all_to_all {
CAUSEWAY_STRATEGY(SelectiveScanForward, SelectiveScanBackward)
}
}  // namespace selective_scan
namespace attention {
namespace all_to_all {
CAUSEWAY_STRATEGY(RotaryAttentionForward, RotaryAttentionBackward)
}
namespace ring {
CAUSEWAY_STRATEGY(RotaryAttentionForward, RotaryAttentionBackward)
}
namespace all_gather {
CAUSEWAY_STRATEGY(RotaryAttentionForward, RotaryAttentionBackward)
}
}  // namespace attention

#undef CAUSEWAY_SLICED_STRATEGY
#undef CAUSEWAY_STRATEGY

namespace {

/// The rows of causal_conv, of the gated convolutions and of hyena_block: overloads of the same functions. `schedules`:
/// of a state that halo and halo_overlapped carry as well.
template <class Row, bool carries = false>
std::span<const Row> short_filter_strategies() {
  using namespace convolution;
  constexpr std::span<const Schedule> schedules =
      carries ? std::span<const Schedule>(every_schedule) : std::span<const Schedule>();
  static constexpr Row table[] = {
      {"halo", every_layout, schedules, {}, halo::forward, halo::backward, halo::cost},
      {"halo_overlapped",
       every_layout,
       schedules,
       {},
       halo_overlapped::forward,
       halo_overlapped::backward,
       halo_overlapped::cost},
      {"all_to_all", every_layout, {}, {}, all_to_all::forward<1>, all_to_all::backward<1>, all_to_all::cost<1>},
      {"all_to_all_pipelined",
       every_layout,
       {},
       {},
       all_to_all::forward<pipeline_slices>,
       all_to_all::backward<pipeline_slices>,
       all_to_all::cost<pipeline_slices>},
  };
  return table;
}

}  // namespace

std::span<const ConvolutionStrategy> convolution_strategies() { return short_filter_strategies<ConvolutionStrategy>(); }
std::span<const GatedConvolutionStrategy> gated_convolution_strategies() {
  return short_filter_strategies<GatedConvolutionStrategy>();
}
std::span<const HyenaBlockStrategy> hyena_block_strategies() {
  return short_filter_strategies<HyenaBlockStrategy, true>();
}

namespace {

/// The rows all_to_all and all_to_all_pipelined of hyena_li and long_conv: overloads of the same functions.
template <class Row, int slices>
constexpr Row long_filter_all_to_all(std::string_view name, std::span<const Method> methods) {
  using namespace long_convolution::all_to_all;
  return {name, every_layout, {}, methods, forward<slices>, backward<slices>, cost<slices>};
}

}  // namespace

std::span<const ModalConvolutionStrategy> modal_convolution_strategies() {
  using namespace long_convolution;
  using Row = ModalConvolutionStrategy;
  static constexpr Row table[] = {
      {"state_carry", every_layout, every_schedule, {}, state_carry::forward, state_carry::backward, state_carry::cost},
      long_filter_all_to_all<Row, 1>("all_to_all", every_method),
      long_filter_all_to_all<Row, pipeline_slices>("all_to_all_pipelined", every_method),
      {"fft", contiguous_layout, {}, {}, fft::forward, fft::backward, fft::cost},
  };
  return table;
}

std::span<const LongConvolutionStrategy> long_convolution_strategies() {
  using namespace long_convolution;
  using Row = LongConvolutionStrategy;
  static constexpr Row table[] = {
      long_filter_all_to_all<Row, 1>("all_to_all", {}),
      long_filter_all_to_all<Row, pipeline_slices>("all_to_all_pipelined", {}),
      {"fft", contiguous_layout, {}, {}, fft::forward, fft::backward, fft::cost},
  };
  return table;
}

std::span<const SelectiveScanStrategy> selective_scan_strategies() {
  using namespace selective_scan;
  static constexpr SelectiveScanStrategy table[] = {
      {"state_carry", every_layout, every_schedule, {}, state_carry::forward, state_carry::backward, state_carry::cost},
      {"all_to_all", every_layout, {}, {}, all_to_all::forward, all_to_all::backward, all_to_all::cost},
  };
  return table;
}

std::span<const AttentionStrategy> attention_strategies() {
  using namespace attention;
  // The first row is used without a measurement: it has the same work on every rank in both layouts and, with more than
  // two ranks, sends the fewest bytes.
  static constexpr AttentionStrategy table[] = {
      {"all_to_all", every_layout, {}, {}, all_to_all::forward, all_to_all::backward, all_to_all::cost, false},
      {"ring", every_layout, {}, {}, ring::forward, ring::backward, ring::cost},
      {"all_gather", every_layout, {}, {}, all_gather::forward, all_gather::backward, all_gather::cost},
  };
  return table;
}

std::string_view name_of(Method method) {
  switch (method) {
    case Method::automatic:
      return "auto";
    case Method::direct:
      return "direct";
    case Method::fft:
      return "fft";
    case Method::modal:
      return "modal";
  }
  return "?";
}

Method parse_method(std::string_view name) {
  for (const Method method : {Method::automatic, Method::direct, Method::fft, Method::modal})
    if (name == name_of(method)) return method;
  fail(ExitCode::usage, "method is '{}', expected auto, direct, fft or modal", name);
}

std::string_view name_of(KeepSpectra keep) {
  switch (keep) {
    case KeepSpectra::automatic:
      return "auto";
    case KeepSpectra::never:
      return "never";
    case KeepSpectra::always:
      return "always";
  }
  return "?";
}

KeepSpectra parse_keep_spectra(std::string_view name) {
  for (const KeepSpectra keep : {KeepSpectra::automatic, KeepSpectra::never, KeepSpectra::always})
    if (name == name_of(keep)) return keep;
  fail(ExitCode::usage, "keep-spectra is '{}', expected auto, never or always", name);
}

}  // namespace causeway
