#pragma once

#include <string_view>
#include <variant>

#include "kernels/blocked_conv.hpp"
#include "kernels/causal_conv.hpp"
#include "kernels/fft_conv.hpp"
#include "kernels/hyena_block.hpp"
#include "kernels/modal_conv.hpp"
#include "kernels/selective_scan.hpp"
#include "parallel/cost/rotary_attention.hpp"

namespace causeway {

/// The arguments of an operator that has a table of strategies. Estimates need shapes and dtypes only: the views may
/// have no data.
using OperatorArguments = std::variant<CausalConvForward, BlockedConvForward, ModalConvForward, FftConvForward,
                                       HyenaBlockForward, SelectiveScanForward, RotaryAttentionForward>;

/// A call of an operator by a layer or from a file, with the operator's name as --strategy spells it.
struct OperatorCall {
  std::string_view op;
  OperatorArguments arguments;
};

inline TensorView without_data(DType dtype, Shape shape) { return view_of(nullptr, dtype, shape); }

}  // namespace causeway
