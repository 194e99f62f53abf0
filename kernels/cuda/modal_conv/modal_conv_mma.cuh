#pragma once

#include <cstdint>

#include "kernels/cuda/device/bulk_copy.cuh"
#include "kernels/cuda/device/elementwise.cuh"
#include "kernels/cuda/device/functions.cuh"
#include "kernels/cuda/device/parameter_rows.cuh"
#include "kernels/cuda/device/start_reader.cuh"
#include "kernels/cuda/device/warp_instructions.cuh"
#include "kernels/hyena_block.hpp"
#include "kernels/modal_conv.hpp"

/// modal_conv with 16 modes in bf16 on tensor cores, on sm_90a: arguments of the kernels, and how the work is cut.
/// With x = k⊙v, which is exact here, y = q ⊙ (h∗x + skip x), h_t = Σ_m residue_m λ_m^t.
///
/// A *unit* is 256 tokens of a channel, 16 tiles of 16 tokens, by one warp. For channels on tensor cores:
///   S = X Bᵀ, B = λ^(15-token)    what each tile adds to the 16 states; then a scan over the tiles;
///   Y = X Tᵀ + s Cᵀ               T: the first 16 taps; s: the states that enter the tiles.
/// Lane (g, j) = (lane / 4, lane % 4). Operand A [16 tiles, 16 tokens or modes]: row g is tile 2 g, row g + 8 tile
/// 2 g + 1. Outputs are in mirrored order, column `place` is token 15 - place, so that C is B transposed. Operands are
/// in two parts of bf16, high + low, and a product is three: 2^-17. States and carries are float32.
namespace causeway::cuda::modal_mma {

inline constexpr int block_channels = 64, computing_warps = 8, warp_channels = 8, mode_count = 16, tile_tokens = 16,
                     unit_tokens = 256;
inline constexpr unsigned tensor_bytes = unit_tokens * block_channels * 2;  ///< of a unit, in shared memory
inline constexpr int tap_words = 22;                                ///< pairs (h[lag], h[lag - 1]), lag -6 to 15
inline constexpr int meeting_threads = 32 * (computing_warps + 1);  ///< that meet at barriers
inline constexpr int block_threads = 32 * (computing_warps + 4);    ///< the mover's warpgroup gives its registers away

/// What depends on a channel's parameters, computed once a launch. In order of *places*: those of lane j are the modes
/// 2 j, 2 j + 1, 2 j + 8, 2 j + 9.
struct ChannelConstants {
  std::uint32_t power[2][32][4];     ///< [high, low part][lane][2 (mode half) + token half]: operands of the sums
  float decay[3][mode_count];        ///< λ^16, λ^32, λ^64
  float out[mode_count];             ///< residue λ
  std::uint32_t taps[2][tap_words];  ///< [high, low part]; lag 0 includes skip
};
static_assert(sizeof(ChannelConstants) % 16 == 0);

/// Copies a column's constants to shared memory, by all threads of a block.
template <int threads = block_threads>
__device__ inline void copy_constants(ChannelConstants (&to)[block_channels], const ChannelConstants* from) {
  const auto* words = reinterpret_cast<const uint4*>(from);
  for (int i = static_cast<int>(threadIdx.x); i < static_cast<int>(sizeof(to) / 16); i += threads)
    reinterpret_cast<uint4*>(to)[i] = words[i];
}

/// Place of mode m, and the mode of place p.
__host__ __device__ inline int place_of(int m) { return m % 8 / 2 * 4 + m / 8 * 2 + m % 2; }
__host__ __device__ inline int mode_at(int p) { return p / 4 * 2 + p % 4 / 2 * 8 + p % 2; }

struct Filter {
  ParameterRows<float> residues, log_rates;  ///< [D, 16]
  ParameterRows<bf16> skip;                  ///< [D], or absent
  std::int64_t channels;

  __device__ double rate(std::int64_t channel, int m) const { return modal_rate(double{log_rates(channel, m)}); }
};

/// The cut: each column of 64 channels in equal ranges of units, one a block of threads. For the state that enters a
/// range, the ranges before it are summed in parts by a pass of its own, which begins with a part's last document.
inline constexpr int range_parts = 2;
struct UnitPlan {
  int columns, units, ranges;

  __host__ __device__ int begin(int range) const { return static_cast<int>(std::int64_t{units} * range / ranges); }
  /// Parts of all ranges, in order.
  __host__ __device__ int part_begin(int part) const {
    const int range = part / range_parts, from = begin(range), count = begin(range + 1) - from;
    return from + count * (part % range_parts) / range_parts;
  }
  __host__ __device__ int parts() const { return ranges * range_parts; }
};

struct ForwardArgs {
  TensorMap q, k, v, y;  ///< boxes of 256 tokens by 64 channels, 128-byte swizzle
  const ChannelConstants* constants;
  Filter filter;
  SegmentsView documents;
  UnitPlan plan;
  Rows<const float> state_in;  ///< [D, 16]; absent: zero
  Rows<float> states;          ///< [units, D 16], by places: s before each unit, written if the unit is one of
  int states_from;             ///< [states_from, units); row 0 is that unit's
  Rows<float> state_out;       ///< [D, 16], or absent: s after the last unit
  float* parts;                ///< [parts, D, 16]: s after a part, from a zero start
  int* part_starts;            ///< [parts]: whether a document begins in the part
  Rows<const float> entering;  ///< `states` of an earlier launch, then no parts are needed; or absent
};

inline constexpr int sums_of_channel = 160;
struct BackwardArgs {
  TensorMap q, d_y, k, v, d_k, d_v;  ///< as in the forward
  const ChannelConstants* constants;
  Filter filter;
  SegmentsView documents;
  UnitPlan plan;
  Rows<const float> states;      ///< of the forward
  Rows<const float> adjoint_in;  ///< [D, 16]: ∂loss/∂s after the last unit; absent: zero
  Rows<float> adjoint_out;       ///< [D, 16], or absent: ∂loss/∂(s before the run)
  float* parts;                  ///< [parts, D, 16]: the adjoint before a part, from a zero start
  int* part_starts;              ///< [parts]
  int first_part;                ///< that the launch for parts computes
  float* sums;                   ///< [ranges, channels of whole columns, sums_of_channel], zero before: W [lane][4] and
                                 ///< A1, A2, as lanes have them
};

/// Whether a call goes to these kernels. It depends on shapes, types and which gates there are alone, because the
/// backward reads states that the forward has written. Tensors whose rows do not suit bulk copies are copied.
bool suits(const GatedConvInputs& in, TensorView log_rates);
void forward(const Stream& stream, const ModalConvForward& args);
void backward(const Stream& stream, const ModalConvBackward& args);

bool suits(const ModalConvSummary& args);
bool suits(const ModalConvAdjointSummary& args);
void summary(const Stream& stream, const ModalConvSummary& args);
void adjoint_summary(const Stream& stream, const ModalConvAdjointSummary& args);
/// hyena_block with modes, in one pass forward.
bool suits(const HyenaBlockForward& args);
void forward(const Stream& stream, const HyenaBlockForward& args);
/// Backward, in those two passes and one for the featurizer.
bool suits(const HyenaBlockBackward& args);
void backward(const Stream& stream, const HyenaBlockBackward& args);
/// The state that a run passes on, likewise; of whole units.
bool suits(const HyenaBlockSummary& args);
void summary(const Stream& stream, const HyenaBlockSummary& args);

/// Whether the kernels below were compiled and the current device runs them.
bool has_kernels();
/// Computes the constants of whole columns of channels; beyond D they are zero.
void prepare(const Stream& stream, const Filter& filter, ChannelConstants* to, int channels);
/// y and the states; or the sums of the parts before `end_part`.
void launch_forward(const Stream& stream, const ForwardArgs& args);
void launch_forward_parts(const Stream& stream, const ForwardArgs& args, int end_part);
/// Both, with the inputs of hyena_block before the featurizer.
void launch_block_forward(const Stream& stream, const ForwardArgs& run, const HyenaBlockInputs& in);
void launch_block_forward_parts(const Stream& stream, const ForwardArgs& run, const HyenaBlockInputs& in, int end_part);
/// d_k, d_v, adjoint_out and the parameters' parts; or the sums of the parts from args.first_part.
void launch_backward(const Stream& stream, const BackwardArgs& args);
void launch_backward_parts(const Stream& stream, const BackwardArgs& args);
/// s before token `to` [D, 16], from that before token `from` by places; less than 256 tokens of the last unit.
void write_state(const Stream& stream, const GatedConvInputs& in, const Filter& filter, const float* state,
                 std::int64_t from, std::int64_t to, TensorView out);
/// Adds the parts of all ranges to the parameters' gradients.
void add_parameters(const Stream& stream, const BackwardArgs& of, TensorView d_residues, TensorView d_log_rates,
                    TensorView d_skip);

/// The state that enters a range; for range = ranges, the one after the parts.
__device__ inline float entering_state(const ForwardArgs& args, int range, std::int64_t channel, int m) {
  const std::int64_t at = channel * mode_count + m, size = args.filter.channels * mode_count;
  if (channel >= args.filter.channels) return 0;
  if (args.entering.data != nullptr) return args.entering(args.plan.begin(range), channel * mode_count + place_of(m));
  float s = args.state_in.data != nullptr ? args.state_in(channel, m) : 0.0f;
  if (range == 0) return s;
  const double rate = args.filter.rate(channel, m);
#pragma unroll 1
  for (int part = 0; part < range * range_parts; ++part) {
    const double tokens =
        static_cast<double>(args.plan.part_begin(part + 1) - args.plan.part_begin(part)) * unit_tokens;
    const float sum = args.parts[part * size + at];
    s = args.part_starts[part] != 0 ? sum : static_cast<float>(::exp(-rate * tokens)) * s + sum;
  }
  return s;
}

/// The adjoint that enters a range from the right; for range = -1, the one before the parts.
__device__ inline float entering_adjoint(const BackwardArgs& args, int range, std::int64_t channel, int m) {
  const std::int64_t at = channel * mode_count + m, size = args.filter.channels * mode_count;
  if (channel >= args.filter.channels) return 0;
  float G = args.adjoint_in.data != nullptr ? args.adjoint_in(channel, m) : 0.0f;
  if (range == args.plan.ranges - 1) return G;
  const double rate = args.filter.rate(channel, m);
#pragma unroll 1
  for (int part = args.plan.parts() - 1; part >= (range + 1) * range_parts; --part) {
    const double tokens =
        static_cast<double>(args.plan.part_begin(part + 1) - args.plan.part_begin(part)) * unit_tokens;
    const float sum = args.parts[part * size + at];
    G = args.part_starts[part] != 0 ? sum : static_cast<float>(::exp(-rate * tokens)) * G + sum;
  }
  return G;
}

}  // namespace causeway::cuda::modal_mma
