#pragma once

#include <cstdint>

#include "kernels/core/integer.hpp"
#include "kernels/core/kernel.hpp"
#include "kernels/gated_conv.hpp"

namespace causeway {

/// The tokens of a block that suit most filters.
inline constexpr std::int64_t blocked_conv_block = 64;

/// Factors H_k of the blocked convolution, Ŷ_n = Σ_{k=0}^{K} H_k X̂_{n-k}, (H_k)_{ij} = h[k·block + i - j], K =
/// ⌈(taps-1)/block⌉. Two, H_0 and H_1, are exact for taps <= block + 1 only (the paper prints taps <= 2·block).
constexpr std::int64_t blocked_conv_stages(std::int64_t taps, std::int64_t block) {
  return ceil_div(taps - 1, block) + 1;
}

/// hyena_se and hyena_mr: y of GatedConvInputs with an explicit filter, (h∗x)[t,d] = Σ_{j<len} taps[g(d),j] · x[t-j,d],
/// g(d) = d / (D/G), the sum stopping at the start of t's document. By blocks of tokens (arXiv 2503.01868 §3, with as
/// many stages as are exact).
struct BlockedConvForward {
  GatedConvInputs in;
  TensorView halo;  ///< [len-1, D], the rows of k⊙v just before the run, the nearest last; read only where a document
                    ///< reaches back. Absent where none does.
  TensorView taps;  ///< [G, len], v's dtype or its accumulator type; lag 0 first
  std::int64_t block = blocked_conv_block;
  TensorView y;  ///< [tokens, D]
};
extern const Kernel<BlockedConvForward> blocked_conv_forward;

/// GatedConvGradients, and d_taps[g,j] += Σ_{d∈g,t} dc[t,d] · (k⊙v)[t-j,d]. What belongs to rows before the run goes to
/// d_halo.
struct BlockedConvBackward {
  GatedConvInputs in;
  TensorView halo, taps;  ///< as in forward
  std::int64_t block = blocked_conv_block;
  GatedConvGradients gradients;
  TensorView d_halo;  ///< [len-1, D], written (zero where nothing reaches): of the rows of k⊙v; absent where no
                      ///< document reaches back
  TensorView d_taps;  ///< [G, len], accumulator type, added to
};
extern const Kernel<BlockedConvBackward> blocked_conv_backward;

}  // namespace causeway
