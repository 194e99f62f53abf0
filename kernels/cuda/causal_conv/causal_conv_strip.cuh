#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/causal_conv.hpp"
#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/check.cuh"
#include "kernels/cuda/device/documents.cuh"
#include "kernels/cuda/device/elementwise.cuh"
#include "kernels/cuda/device/functions.cuh"
#include "kernels/cuda/device/packet.cuh"
#include "kernels/cuda/device/tensor_core.cuh"

/// causal_conv with at most 16 taps. A thread goes down a strip of tokens with a packet of V neighbouring channels, 16
/// or 8 bytes; a warp has 32 such packets of one strip, so that everything that depends on the token only is uniform in
/// the warp. The last `Taps` rows are in registers: x is read from memory once, and the few rows before a strip from a
/// cache. The next rows are on their way to a queue in shared memory, which needs no registers and no barrier: each
/// thread reads what it asked for.
///
/// Lower bound (H200, 4.3 TB/s of copies): 2 accesses per element forward, 3 backward; at L 16384, D 4096 in bf16 0.063
/// and 0.094 ms. The multiprocessors issue an instruction per element in 2.3 µs there: 4 taps and silu take 11 forward
/// and 29 backward, and twice as many in groups of rows that hold a document's start. Two exponential-unit operations
/// per element take 0.035 ms. Measured: README.md.
namespace causeway::cuda {

constexpr int lanes = 32, warps = 4, threads = lanes * warps;  ///< of a block
constexpr int group_rows = 4;          ///< rows that a thread computes in one go: the window's registers rotate once
constexpr int queued_groups = 4;       ///< groups of the queue: three in flight, one that is being read
constexpr int max_register_taps = 16;  ///< more taps are for causal_conv_long

/// The arguments of both directions in device code.
template <class T>
struct CausalConvInputs {
  const T *x, *halo, *weight, *bias;
  std::int64_t x_stride, halo_stride, weight_stride, bias_stride;
  SegmentsView segments;
  std::int64_t channels;
  int taps;
  bool silu;
  bool dense;  ///< whether the weights can be read 16 bytes at a time

  template <class Args>
  explicit CausalConvInputs(const Args& args)
      : x(static_cast<const T*>(args.x.data)),
        halo(static_cast<const T*>(args.halo.data)),
        weight(static_cast<const T*>(args.weight.data)),
        bias(args.bias.present() ? static_cast<const T*>(args.bias.data) : nullptr),
        x_stride(args.x.row_stride),
        halo_stride(args.halo.row_stride),
        weight_stride(args.weight.row_stride),
        bias_stride(args.bias.row_stride),
        segments(args.segments),
        channels(args.weight.rows()),
        taps(static_cast<int>(args.weight.columns())),
        silu(args.activation == Activation::silu),
        dense(args.weight.dense() && reinterpret_cast<std::uintptr_t>(args.weight.data) % 16 == 0) {}

  /// Row t of x; it is in the halo if t < 0.
  __device__ const T* row(std::int64_t t) const {
    return t >= 0 ? x + t * x_stride : halo + (taps - 1 + t) * halo_stride;
  }
};

/// What the weights are multiplied by, so that the convolution is the exponent of silu: 2^(scale · c) = e^-c.
template <class R, bool Silu>
inline constexpr R weight_scale = Silu ? R(-log2_e) : R(1);

/// silu(c), or c, from `scaled` = weight_scale · c.
template <bool Silu, class R>
__device__ R activated(R scaled) {
  if constexpr (!Silu) return scaled;
  constexpr R scale = weight_scale<R, Silu>;
  return scaled * reciprocal(scale * exponential_base_2(scaled) + scale);
}

/// d_y times the slope of the activation at c, divided by weight_scale; `scaled` = weight_scale · c. With
/// τ = σ(c) / scale the slope σ (1 + c (1 - σ)) is scale · τ (1 - scaled · (τ + ln 2)).
template <bool Silu, class R>
__device__ R scaled_gradient(R d_y, R scaled) {
  if constexpr (!Silu) return d_y;
  constexpr R scale = weight_scale<R, Silu>;
  const R tau = reciprocal(scale * exponential_base_2(scaled) + scale);
  return d_y * (tau * (1 - scaled * (tau + R(ln_2))));
}

/// A packet as one word, because elements of 16 bits would each take a register.
template <class T, int V>
using PacketWord = typename WordOf<sizeof(T) * V>::type;

/// Starts an asynchronous copy of a word to shared memory. A copy of 2 bytes is done at once.
template <class Word>
__device__ void copy_word_async(Word* to, const void* from) {
  const auto at = static_cast<unsigned>(__cvta_generic_to_shared(to));
  if constexpr (sizeof(Word) == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(from) : "memory");
  else if constexpr (sizeof(Word) > 2)
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(at), "l"(from), "n"(sizeof(Word)) : "memory");
  else
    *to = *static_cast<const Word*>(from);
}

/// What a thread reads first: the weights and the bias of its V channels, and the Taps - 1 rows before its strip. No
/// value is used here, so that all reads overlap with the search for the strip's documents.
template <class T, int V, int Taps>
struct FirstReads {
  T weight[V * Taps], bias[V];             ///< lag 0 last; zeros beyond the taps of the weights
  PacketWord<T, V> before[Taps - 1] = {};  ///< the nearest row first

  __device__ FirstReads(const CausalConvInputs<T>& in, std::int64_t begin, std::int64_t channel) {
    constexpr int weights_per_read = 16 / sizeof(T);
#pragma unroll
    for (int j = 1; j < Taps; ++j)
      if (j < in.taps && (begin >= j || in.halo != nullptr))
        before[j - 1] = *reinterpret_cast<const PacketWord<T, V>*>(in.row(begin - j) + channel);
    if (V * Taps % weights_per_read == 0 && in.dense && in.taps == Taps && channel % V == 0) {
#pragma unroll
      for (int i = 0; i < V * Taps / weights_per_read; ++i) {
        const auto part = Packet<T, weights_per_read>::load(in.weight + channel * Taps + i * weights_per_read);
#pragma unroll
        for (int j = 0; j < weights_per_read; ++j) weight[i * weights_per_read + j] = part.at[j];
      }
    } else {
#pragma unroll
      for (int v = 0; v < V; ++v)
#pragma unroll
        for (int j = 0; j < Taps; ++j)
          weight[v * Taps + Taps - 1 - j] =
              j < in.taps ? in.weight[(channel + v) * in.weight_stride + in.taps - 1 - j] : narrowed<T>(0);
    }
#pragma unroll
    for (int v = 0; v < V; ++v) bias[v] = in.bias != nullptr ? in.bias[(channel + v) * in.bias_stride] : narrowed<T>(0);
  }
};

/// The sliding window of a thread, in registers: the weights of its V channels times `scale`, lag 0 first, and x of the
/// last Taps tokens, the latest first.
template <class T, int V, int Taps>
struct Window {
  using R = Accumulator<T>;
  R weight[Taps][V], bias[V], x[Taps][V] = {};

  /// Before the first token of a strip, which `in_document` earlier tokens of its document precede.
  __device__ Window(const FirstReads<T, V, Taps>& first, std::int64_t in_document, R scale) {
#pragma unroll
    for (int v = 0; v < V; ++v) {
      bias[v] = scale * widened(first.bias[v]);
#pragma unroll
      for (int j = 0; j < Taps; ++j) weight[j][v] = scale * widened(first.weight[v * Taps + Taps - 1 - j]);
    }
#pragma unroll
    for (int j = Taps - 1; j > 0; --j) push(j <= in_document ? first.before[j - 1] : PacketWord<T, V>{});
  }

  /// Advances by one token.
  __device__ void push(PacketWord<T, V> word) {
    const auto latest = std::bit_cast<Packet<T, V>>(word);
#pragma unroll
    for (int j = Taps - 1; j > 0; --j)
#pragma unroll
      for (int v = 0; v < V; ++v) x[j][v] = x[j - 1][v];
#pragma unroll
    for (int v = 0; v < V; ++v) x[0][v] = widened(latest.at[v]);
  }

  /// bias + Σ_{j<reach} weight_j x[t-j], times the scale of the weights.
  __device__ void pre_activation(int reach, R (&sum)[V]) const {
#pragma unroll
    for (int v = 0; v < V; ++v) sum[v] = bias[v];
#pragma unroll
    for (int j = 0; j < Taps; ++j)
      if (j < reach)
#pragma unroll
        for (int v = 0; v < V; ++v) sum[v] += weight[j][v] * x[j][v];
  }
};

/// The reaches of the tokens of a strip, from its first token on: for each token the number of taps whose token is in
/// the same document. The same in all lanes of a warp.
class Reaches {
 public:
  /// `starts`: from the strip's first token on.
  __device__ Reaches(const DocumentStarts& starts, int taps) : bits_(starts.bits) {
    next_start_ = static_cast<int>(starts.first) + __popcll(bits_);
    reach_ = static_cast<int>(min(starts.begin - starts.start_of(0), std::int64_t{taps}));
  }
  /// Finds the starts of the 64 tokens from `begin` on, if all tokens before them are done. A warp calls it together.
  __device__ void continue_at(const SegmentsView& segments, std::int64_t begin) {
    bits_ = document_start_bits(segments, next_start_, begin, static_cast<int>(threadIdx.x));
    next_start_ += __popcll(bits_);
  }
  /// Whether all of the next `tokens` tokens have the reach `taps`.
  __device__ bool whole(int tokens, int taps) const {
    return reach_ + 1 >= taps && (static_cast<unsigned>(bits_) & ((1u << tokens) - 1)) == 0;
  }
  /// Goes on by `tokens` tokens for which whole() is true.
  __device__ void skip(int tokens, int taps) {
    reach_ = taps;
    bits_ >>= tokens;
  }
  /// The reach of the next token.
  __device__ int next(int taps) {
    reach_ = bits_ & 1 ? 1 : min(reach_ + 1, taps);
    bits_ >>= 1;
    return reach_;
  }

 private:
  std::uint64_t bits_;  ///< bit k: whether the next token but k is the first of its document
  int next_start_;      ///< the index in cu_seqlens of the first start after these bits
  int reach_;           ///< of the token before
};

/// Adds the sum of the parts of element (lag, channel) to d_weight or d_bias. Lags between the real number of taps and
/// the compiled one are ignored.
template <class R>
struct WeightTarget {
  int lags, taps;  ///< lags: rows of the parts, the last of them for d_bias
  R* d_weight;
  std::int64_t weight_stride;
  R* d_bias;
  std::int64_t bias_stride;

  WeightTarget(const CausalConvBackward& args, int lags_of_parts)
      : lags(lags_of_parts),
        taps(static_cast<int>(args.weight.columns())),
        d_weight(static_cast<R*>(args.d_weight.data)),
        weight_stride(args.d_weight.row_stride),
        d_bias(args.d_bias.present() ? static_cast<R*>(args.d_bias.data) : nullptr),
        bias_stride(args.d_bias.row_stride) {}

  __device__ void add(int lag, std::int64_t channel, double sum) const {
    if (lag < taps)
      d_weight[channel * weight_stride + taps - 1 - lag] += static_cast<R>(sum);
    else if (lag == lags - 1 && d_bias != nullptr)
      d_bias[channel * bias_stride] += static_cast<R>(sum);
  }
};

/// Warps that a row takes.
template <int V>
__host__ __device__ std::int64_t columns_of(std::int64_t channels) {
  return (channels + lanes * V - 1) / (lanes * V);
}

/// Tokens of a strip: √tokens / root, so that strips and their number grow together; less if the device would not be
/// full, but not below `shortest`, a multiple of 16. Depends on the shape only.
inline std::int64_t strip_tokens(std::int64_t tokens, std::int64_t columns, double root, std::int64_t shortest) {
  constexpr std::int64_t full = 2048;  // warps
  const auto wanted = static_cast<std::int64_t>(std::sqrt(static_cast<double>(tokens)) / root);
  return std::max(shortest, round_up(std::min(wanted, ceil_div(tokens * columns, full)), 16));
}

/// Calls body<V, Taps, Used, Silu>(). V is the number of channels of a packet: `bytes` bytes, but less with 16 taps, or
/// 1 if packets are not aligned. Taps is 4 or max_register_taps, and at least the number of taps of the weights. Used
/// is the number of taps of the fast path.
template <class T, int bytes, class Body>
void with_packets_and_taps(const CausalConvInputs<T>& in, std::initializer_list<TensorView> tensors, const Body& body) {
  constexpr int V = bytes / static_cast<int>(sizeof(T)), V_of_many_taps = std::min(V, sizeof(T) > 4 ? 1 : 2);
  const bool packets = aligned(tensors, bytes);
  const auto with_activation = [&]<int width, int Taps, int Used> {
    in.silu ? body.template operator()<width, Taps, Used, true>()
            : body.template operator()<width, Taps, Used, false>();
  };
  const auto with_width = [&]<int widest, int Taps, int Used> {
    packets ? with_activation.template operator()<widest, Taps, Used>()
            : with_activation.template operator()<1, Taps, Used>();
  };
  if (in.taps == 3)
    with_width.template operator()<V, 4, 3>();
  else if (in.taps <= 4)
    with_width.template operator()<V, 4, 4>();
  else
    with_width.template operator()<V_of_many_taps, max_register_taps, max_register_taps>();
}

/// The backward of causal_conv with at most max_register_taps taps; the arguments have been checked.
void causal_conv_strips_backward(const Stream& stream, const CausalConvBackward& args);

/// Whether causal_conv_product_backward() can compute this on the current device.
bool has_product_kernel(const CausalConvBackward& args);
/// The backward with d_y_product, which it computes and adds to d_y on the way; the arguments have been checked.
void causal_conv_product_backward(const Stream& stream, const CausalConvBackward& args);

}  // namespace causeway::cuda
