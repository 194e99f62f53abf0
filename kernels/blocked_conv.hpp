#pragma once

#include <cstdint>

#include "kernels/core/integer.hpp"
#include "kernels/core/kernel.hpp"
#include "kernels/gated_conv.hpp"

namespace causeway {

/// Tokens of a block: a good choice for most filters.
inline constexpr std::int64_t blocked_conv_block = 64;

/// How many Toeplitz factors H_k the blocked convolution needs to be exact: Ŷ_n = Σ_{k=0}^{K} H_k X̂_{n-k} with
/// (H_k)_{ij} = h[k·block + i - j] and K = ⌈(taps-1)/block⌉. The two factors H_0 and H_1 are exact only for
/// taps <= block + 1; the paper (arXiv 2503.01868) prints taps <= 2·block.
constexpr std::int64_t blocked_conv_stages(std::int64_t taps, std::int64_t block) {
  return ceil_div(taps - 1, block) + 1;
}

/// hyena_se and hyena_mr: y of GatedConvInputs with an explicit filter of `len` taps for each of G groups of channels,
/// (h∗x)[t,d] = Σ_{j<len} taps[g(d),j] · x[t-j,d], g(d) = d / (D/G). The sum stops at the start of t's document.
/// Computed in blocks of tokens (arXiv 2503.01868 §3), with as many factors as are exact. Sums are in the accumulator
/// type. Throws Error(internal) if shapes or dtypes do not fit, if G does not divide D, or if a document begins before
/// the run and `halo` is absent.
struct BlockedConvForward {
  GatedConvInputs in;
  TensorView halo;  ///< [len-1, D], v's dtype: the rows of k⊙v just before the run, the nearest one last. Read only as
                    ///< far as the run's first document reaches back. May be absent if it does not.
  TensorView taps;                          ///< [G, len], v's dtype or its accumulator type; lag 0 first
  std::int64_t block = blocked_conv_block;  ///< tokens
  TensorView y;                             ///< [tokens, D], v's dtype
};
extern const Kernel<BlockedConvForward> blocked_conv_forward;

/// GatedConvGradients, and d_taps[g,j] += Σ_{d∈g,t} dc[t,d] · (k⊙v)[t-j,d]. Gradients of rows before the run are
/// returned in d_halo.
struct BlockedConvBackward {
  GatedConvInputs in;
  TensorView halo, taps;  ///< as in forward
  std::int64_t block = blocked_conv_block;
  GatedConvGradients gradients;
  TensorView d_halo;  ///< [len-1, D], v's dtype: the gradient of the halo's rows of k⊙v; written, zero in rows that no
                      ///< document reaches. May be absent if no document reaches back
  TensorView d_taps;  ///< [G, len], accumulator type, added to
};
extern const Kernel<BlockedConvBackward> blocked_conv_backward;

}  // namespace causeway
