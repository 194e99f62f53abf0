#pragma once

#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/blocked_conv.hpp"
#include "kernels/causal_conv.hpp"
#include "kernels/fft_conv.hpp"
#include "kernels/hyena_block.hpp"
#include "kernels/modal_conv.hpp"
#include "kernels/selective_scan.hpp"
#include "parallel/cost/cost.hpp"
#include "parallel/cost/rotary_attention.hpp"
#include "parallel/exchange/carry.hpp"
#include "parallel/layout/sharding.hpp"
#include "parallel/received.hpp"
#include "parallel/saved.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// How hyena_li applies its filter on a rank that holds whole documents: tap by tap, by FFT, or as the recurrence of
/// its modes. All are exact.
enum class Method : std::uint8_t { automatic, direct, fft, modal };

std::string_view name_of(Method method);
Method parse_method(std::string_view name);  ///< throws Error(usage)

/// Whether a forward pass by FFT keeps its spectra for backward (FftConvForward::spectra): of long_conv, and of
/// hyena_li with Method::fft, on GPUs. Results have the same bits either way. `automatic` keeps them if they take at
/// most an eighth of the memory that the GPU then has free.
enum class KeepSpectra : std::uint8_t { automatic, never, always };

std::string_view name_of(KeepSpectra keep);
KeepSpectra parse_keep_spectra(std::string_view name);  ///< throws Error(usage)

/// Where a strategy runs: the sharding of the pack, the ranks that share the pack, the stream. A strategy with several
/// schedules or methods uses those given here; with `automatic` it chooses.
struct StrategyContext {
  const Sharding& sharding;
  Communicator& ranks;
  const Stream& stream;
  Schedule schedule = Schedule::automatic;
  Method method = Method::automatic;
  /// Set in a forward pass that will be computed again; strategies that send few rows use it.
  Received* received = nullptr;
  KeepSpectra keep_spectra = KeepSpectra::automatic;

  /// Whether an exchange is left out, because this pass repeats one.
  bool repeats() const { return received != nullptr && received->repeats(); }
  /// To be called with what an exchange wrote, or would have written.
  void pass_received(TensorView x) const {
    if (received != nullptr && x.size() > 0) received->pass(stream, x);
  }
};

inline constexpr Layout every_layout[] = {Layout::contiguous, Layout::zigzag};
inline constexpr Layout contiguous_layout[] = {Layout::contiguous};
inline constexpr Schedule every_schedule[] = {Schedule::chain, Schedule::gather, Schedule::relay};
inline constexpr Method every_method[] = {Method::direct, Method::fft, Method::modal};

/// One way to run an operator over ranks. A strategy takes the kernel's argument structs with this rank's rows as
/// tokens, and fills in `segments`, halos and states itself. Forward puts into `saved` what backward takes; if `saved`
/// is null it keeps nothing (scoring). Gradients of parameters are this rank's part: the caller sums them over the
/// ranks.
template <class Forward, class Backward>
struct Strategy {
  std::string_view name;
  std::span<const Layout> layouts;      ///< on which it works
  std::span<const Schedule> schedules;  ///< among which a user can choose; empty: there is only one
  std::span<const Method> methods;      ///< likewise
  void (*forward)(const StrategyContext&, Forward, Saved*);
  void (*backward)(const StrategyContext&, Backward, Saved&);
  /// The costs of both passes. Uses only shapes and dtypes of the arguments: the views may have no data.
  PassCosts (*cost)(const Sharding&, const Forward&);
  /// Whether backward reads the inputs of forward. If not, it takes what it needs from `saved`, over several ranks, and
  /// reads only their shapes and dtypes.
  bool backward_reads_inputs = true;
};

using ConvolutionStrategy = Strategy<CausalConvForward, CausalConvBackward>;
using GatedConvolutionStrategy = Strategy<BlockedConvForward, BlockedConvBackward>;
using ModalConvolutionStrategy = Strategy<ModalConvForward, ModalConvBackward>;
using LongConvolutionStrategy = Strategy<FftConvForward, FftConvBackward>;
using HyenaBlockStrategy = Strategy<HyenaBlockForward, HyenaBlockBackward>;
using SelectiveScanStrategy = Strategy<SelectiveScanForward, SelectiveScanBackward>;
using AttentionStrategy = Strategy<RotaryAttentionForward, RotaryAttentionBackward>;

std::span<const ConvolutionStrategy> convolution_strategies();             ///< causal_conv
std::span<const GatedConvolutionStrategy> gated_convolution_strategies();  ///< hyena_se, hyena_mr
std::span<const ModalConvolutionStrategy> modal_convolution_strategies();  ///< hyena_li
std::span<const LongConvolutionStrategy> long_convolution_strategies();    ///< long_conv
std::span<const HyenaBlockStrategy> hyena_block_strategies();
std::span<const SelectiveScanStrategy> selective_scan_strategies();
std::span<const AttentionStrategy> attention_strategies();

/// The row called `name`, or the first row for "auto". Throws Error(usage), with the list of known names, if there is
/// no such row.
template <class Strategy>
const Strategy& find_strategy(std::span<const Strategy> table, std::string_view op, std::string_view name) {
  if (name == "auto") return table.front();
  std::string known;
  for (const Strategy& row : table) {
    if (row.name == name) return row;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", row.name);
  }
  fail(ExitCode::usage, "strategy of {} is '{}', expected one of: auto, {}", op, name, known);
}

}  // namespace causeway
