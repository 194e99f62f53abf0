#include "parallel/strategy.hpp"

namespace causeway {

// Defined in strategies/<family>/<strategy>.cpp.
namespace convolution::halo {
void forward(const StrategyContext&, CausalConvForward, Saved*);
void backward(const StrategyContext&, CausalConvBackward, Saved&);
}  // namespace convolution::halo
namespace selective_scan::state_carry {
void forward(const StrategyContext&, SelectiveScanForward, Saved*);
void backward(const StrategyContext&, SelectiveScanBackward, Saved&);
}  // namespace selective_scan::state_carry

std::span<const ConvolutionStrategy> convolution_strategies() {
  static constexpr ConvolutionStrategy table[] = {
      {"halo", every_layout, {}, convolution::halo::forward, convolution::halo::backward},
  };
  return table;
}

std::span<const SelectiveScanStrategy> selective_scan_strategies() {
  static constexpr SelectiveScanStrategy table[] = {
      {"state_carry", every_layout, every_schedule, selective_scan::state_carry::forward, selective_scan::state_carry::backward},
  };
  return table;
}

}  // namespace causeway
