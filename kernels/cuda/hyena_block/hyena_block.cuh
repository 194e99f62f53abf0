#pragma once

#include <cstdint>

#include "kernels/cuda/device/bulk_copy.cuh"
#include "kernels/cuda/device/elementwise.cuh"
#include "kernels/cuda/device/parameter_rows.cuh"
#include "kernels/hyena_block.hpp"

/// hyena_block with taps in one pass over memory, bf16, on sm_90 and newer. Beside the formula of
/// kernels/hyena_block.hpp: everything between the loads of q', k', v' (the inputs before the featurizer) and the
/// results is in float32 and rounded once; with more than 7 taps k⊙v and the taps are rounded to bf16 for the tensor
/// cores.
///
/// Lower bound (H200, 4.2 TB/s of copies; L 65536, D 4096): 4 accesses per element forward, 0.51 ms; 7 backward,
/// 0.89 ms. Measured: README.md.
namespace causeway::composed {
/// For the calls that have no kernel here.
void hyena_block_forward(const Stream& stream, const HyenaBlockForward& args);
void hyena_block_backward(const Stream& stream, const HyenaBlockBackward& args);
void hyena_block_summary(const Stream& stream, const HyenaBlockSummary& args);
}  // namespace causeway::composed

namespace causeway::cuda::modal_mma {
/// With modes, of modal_conv/, whose parts they share.
bool suits(const HyenaBlockForward& args);
void forward(const Stream& stream, const HyenaBlockForward& args);
bool suits(const HyenaBlockBackward& args);
void backward(const Stream& stream, const HyenaBlockBackward& args);
bool suits(const HyenaBlockSummary& args);
void summary(const Stream& stream, const HyenaBlockSummary& args);
}  // namespace causeway::cuda::modal_mma

namespace causeway::cuda::fused_block {

inline constexpr int featurizer_taps = 3;  ///< most taps of the featurizer
inline constexpr int block_taps = 7;       ///< most taps of the kernels without tensor cores ("SE")
inline constexpr int most_reach = featurizer_taps - 1 + block_taps - 1;  ///< of those kernels
inline constexpr int tensor_core_taps = 129;                             ///< most taps of the kernels with them ("MR")
inline constexpr int block_parameters = 3 * featurizer_taps + block_taps;

/// The parameters in device code.
struct BlockFilter {
  ParameterRows<bf16> featurizer;  ///< [3 D, W]
  ParameterRows<bf16> taps;        ///< [G, len]
  ParameterRows<bf16> skip;        ///< [D], or absent
  std::int64_t channels, groups;
  int width, length;  ///< W, 0 without a featurizer; len

  explicit BlockFilter(const HyenaBlockInputs& in)
      : featurizer(in.featurizer),
        taps(in.taps),
        skip(in.skip),
        channels(in.q.columns()),
        groups(in.taps.rows()),
        width(in.featurizer.present() ? static_cast<int>(in.featurizer.columns()) : 0),
        length(static_cast<int>(in.taps.columns())) {}
};

/// How many rows of the halo the run's first document reaches. The others are never read.
std::int64_t reached_rows(const HyenaBlockInputs& in);

/// Those rows of a part of the halo: 0, 1 or 2 for q, k or v; absent if there are none.
TensorView reached_halo(const HyenaBlockInputs& in, std::int64_t part);

/// Bulk copies of a tensor's rows and of the rows before the run, which are in the halo. Row 0 is the run's first.
struct RunMap {
  TensorMap run, before;
  int reached;  ///< rows of `before`; 0 if it is not to be accessed

  /// part: 0, 1 or 2 for q, k or v. `halo` may be absent.
  RunMap(TensorView of_run, TensorView halo, std::int64_t part, std::int64_t reached_rows, int box_rows,
         int box_columns, bool swizzle);
  /// Of rows before the run, zeros if there is no halo.
  __device__ void load(void* to, int column, int row, SharedBarrier& full) const {
    if (row >= 0 || reached == 0)
      load_box(to, run, column, row, full);
    else
      load_box(to, before, column, row + reached, full);
  }
  /// Of rows before the run, nothing if there is no halo. A bulk copy to memory must not begin before the first row:
  /// HaloGradient has as many rows as the tiles.
  __device__ void store(const void* from, int column, int row) const {
    if (row >= 0)
      store_box(run, from, column, row);
    else if (reached > 0)
      store_box(before, from, column, row + reached);
  }
};

/// Whole tiles of rows for the gradient of the rows before a run.
class HaloGradient {
 public:
  /// tokens: of a tile.
  HaloGradient(const Stream& stream, const HyenaBlockBackward& args, int tokens);
  RunMap map(TensorView of_run, std::int64_t part, int box_rows, int box_columns, bool swizzle) const;
  /// The rows of q, k or v (part 0, 1, 2); absent if no gradient is wanted.
  TensorView rows(std::int64_t part) const;
  /// Writes d_halo: the rows that the run's first document reaches, and zeros.
  void write(const Stream& stream, const HyenaBlockBackward& args) const;

 private:
  Tensor rows_;  // absent if no gradient is wanted
};

/// Whether the current device runs code for sm_90a, and the backward on tensor cores was compiled for it.
bool has_sm_90a();
/// Whether there are kernels for these types, shapes and places in memory, on the current device.
bool suits_se(const HyenaBlockForward& args);
bool suits_se(const HyenaBlockBackward& args);
bool suits_mr(const HyenaBlockForward& args);
bool suits_mr(const HyenaBlockBackward& args);
/// By multiply-adds, with at most 7 taps and groups of any size.
void se_forward(const Stream& stream, const HyenaBlockForward& args);
void se_backward(const Stream& stream, const HyenaBlockBackward& args);
/// On tensor cores, with at most 129 taps and groups of at least 15 channels. The backward takes an absent featurizer
/// for the identity: it is the backward of the gated convolution alone (blocked_conv/).
void mr_forward(const Stream& stream, const HyenaBlockForward& args);
void mr_backward(const Stream& stream, const HyenaBlockBackward& args);

}  // namespace causeway::cuda::fused_block
