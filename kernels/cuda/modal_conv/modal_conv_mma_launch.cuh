#pragma once

#include <algorithm>

#include "kernels/activation.hpp"
#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/launch.cuh"
#include "kernels/cuda/modal_conv/modal_conv_mma.cuh"

/// What the calls on tensor cores share on the host: maps, the plan, workspaces.
namespace causeway::cuda::modal_mma {

/// Whether the kernels suit shapes and types.
inline bool suit(TensorView v, TensorView log_rates) {
  return v.dtype == DType::bf16 && log_rates.columns() == mode_count && v.columns() > 0 && v.columns() % 8 == 0 &&
         v.rows() > 0 && v.rows() < std::int64_t{1} << 30 && has_kernels();
}

/// A tensor as bulk copies can access it: itself, or a dense copy.
class MappedTensor {
 public:
  MappedTensor(const Stream& stream, TensorView x) : of_(x) {
    if (!can_be_mapped(x)) copy_ = Tensor(stream, x.dtype, x.shape);
  }
  static MappedTensor input(const Stream& stream, TensorView x) {
    MappedTensor made(stream, x);
    if (made.copy_.present()) scale(stream, {.x = x, .y = made.copy_});
    return made;
  }
  TensorMap map() const { return tensor_map(copy_.present() ? copy_.view() : of_, unit_tokens, block_channels, true); }
  /// For a result, after the launch that writes it.
  void write_back(const Stream& stream) const {
    if (copy_.present()) scale(stream, {.x = copy_, .y = of_});
  }

 private:
  TensorView of_;
  Tensor copy_;
};

inline Filter filter_of(const GatedConvInputs& in, TensorView residues, TensorView log_rates) {
  return {.residues = ParameterRows<float>(residues),
          .log_rates = ParameterRows<float>(log_rates),
          .skip = ParameterRows<bf16>(in.skip),
          .channels = in.v.columns()};
}

inline UnitPlan plan_of(std::int64_t tokens, std::int64_t channels) {
  const std::int64_t columns = ceil_div(channels, block_channels), units = ceil_div(tokens, unit_tokens);
  return {.columns = static_cast<int>(columns),
          .units = static_cast<int>(units),
          .ranges = static_cast<int>(std::clamp<std::int64_t>(multiprocessors() / columns, 1, units))};
}

/// The constants, and the states or adjoints of the parts.
struct Workspace {
  Tensor constants, parts, starts;

  Workspace(const Stream& stream, const UnitPlan& plan, const Filter& filter)
      : constants(stream, DType::u8, {plan.columns * block_channels, std::int64_t{sizeof(ChannelConstants)}}),
        parts(stream, DType::f32, {plan.parts(), filter.channels, mode_count}),
        starts(stream, DType::i32, {plan.parts()}) {
    prepare(stream, filter, constants.view().row<ChannelConstants>(0), plan.columns * block_channels);
  }
};

}  // namespace causeway::cuda::modal_mma
