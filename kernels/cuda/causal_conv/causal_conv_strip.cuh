#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/causal_conv.hpp"
#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/check.cuh"
#include "kernels/cuda/device/documents.cuh"
#include "kernels/cuda/device/elementwise.cuh"
#include "kernels/cuda/device/functions.cuh"
#include "kernels/cuda/device/packet.cuh"

/// causal_conv with at most 16 taps. A thread goes down a strip of tokens with a packet of V neighbouring channels, 16
/// or 8 bytes; a warp has 32 such packets of one strip, so that everything that depends on the token only is uniform in
/// the warp. The last `Taps` rows are in registers: x is read from memory once, and the few rows before a strip from a
/// cache.
///
/// Lower bound (H200, 4.3 TB/s of copies): 2 accesses per element forward, 3 backward; at L 16384, D 4096 in bf16 0.063
/// and 0.094 ms. Two exponential-unit operations per element for silu and its slope take 0.035 ms, and about 15
/// instructions 0.04 ms: both overlap with the memory accesses. Measured at L 65536: 0.343 and 0.705 ms, 1.3 and 1.8
/// times a copy of as many bytes in the same run, independent of the documents.
namespace causeway::cuda {

/// Tokens of a strip. A backward strip and the taps that reach beyond its end are together at most the 64 tokens that
/// DocumentStarts covers.
constexpr int forward_strip = 64, backward_strip = 48;
constexpr int strips_per_block = 4, packets_per_block = 32;
constexpr int prefetch_rows = 4;       ///< rows in flight
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

/// The sliding window of a thread, in registers: the weights of its V channels, lag 0 first, and x of the last Taps
/// tokens, the latest first.
template <class T, int V, int Taps>
struct Window {
  using R = Accumulator<T>;
  R weight[Taps][V], bias[V], x[Taps][V];

  __device__ Window(const CausalConvInputs<T>& in, std::int64_t channel) {
    constexpr int weights_per_read = 16 / sizeof(T);
    if (V * Taps % weights_per_read == 0 && in.dense && in.taps == Taps && channel % V == 0) {
      T all[V * Taps];
#pragma unroll
      for (int i = 0; i < V * Taps / weights_per_read; ++i) {
        const auto part = Packet<T, weights_per_read>::load(in.weight + channel * Taps + i * weights_per_read);
#pragma unroll
        for (int j = 0; j < weights_per_read; ++j) all[i * weights_per_read + j] = part.at[j];
      }
#pragma unroll
      for (int v = 0; v < V; ++v)
#pragma unroll
        for (int j = 0; j < Taps; ++j) weight[j][v] = widened(all[v * Taps + Taps - 1 - j]);
    } else {
#pragma unroll
      for (int v = 0; v < V; ++v)
#pragma unroll
        for (int j = 0; j < Taps; ++j)
          weight[j][v] = j < in.taps ? widened(in.weight[(channel + v) * in.weight_stride + in.taps - 1 - j]) : R(0);
    }
#pragma unroll
    for (int v = 0; v < V; ++v) {
      bias[v] = in.bias != nullptr ? widened(in.bias[(channel + v) * in.bias_stride]) : R(0);
#pragma unroll
      for (int j = 0; j < Taps; ++j) x[j][v] = 0;
    }
  }

  /// Advances by one token.
  __device__ void push(const Packet<T, V>& latest) {
#pragma unroll
    for (int j = Taps - 1; j > 0; --j)
#pragma unroll
      for (int v = 0; v < V; ++v) x[j][v] = x[j - 1][v];
#pragma unroll
    for (int v = 0; v < V; ++v) x[0][v] = widened(latest.at[v]);
  }

  /// Takes the rows before token `begin` that are in its document, and zeros for the others.
  __device__ void fill(const CausalConvInputs<T>& in, std::int64_t begin, std::int64_t document, std::int64_t channel) {
    for (int j = in.taps - 1; j > 0; --j)
      push(begin - j >= document ? Packet<T, V>::load(in.row(begin - j) + channel) : Packet<T, V>::zeros());
  }

  /// bias + Σ_{j<reach} weight_j x[t-j].
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

/// The strip and the first channel of a thread. Neighbouring blocks have neighbouring channels, so that the blocks that
/// run at the same time read whole rows and use all memory channels.
template <int V>
struct StripCoordinates {
  std::int64_t block;  ///< of strips
  std::int64_t strip, channel;

  __device__ explicit StripCoordinates(std::int64_t channels) {
    const unsigned across = static_cast<unsigned>(ceil_div(channels, packets_per_block * V));
    block = blockIdx.x / across;
    strip = block * strips_per_block + threadIdx.y;
    channel = (blockIdx.x % across * packets_per_block + threadIdx.x) * std::int64_t{V};
  }
  static unsigned grid(std::int64_t tokens, std::int64_t strip_tokens, std::int64_t channels) {
    return grid_of(ceil_div(tokens, strip_tokens * strips_per_block) * ceil_div(channels, packets_per_block * V));
  }
};

/// Calls body<V, Taps>(). V is the number of channels of a packet: at most max_width, and 1 if packets are not aligned.
/// Taps is the smallest compiled number that is not below `taps`.
template <class T, int max_width, class Body>
void with_packets_and_taps(std::int64_t taps, std::initializer_list<TensorView> tensors, const Body& body) {
  constexpr int V = std::min(max_width, packet_width<T>);
  const bool packets = aligned(tensors, V * sizeof(T));
  if (taps <= 4)
    packets ? body.template operator()<V, 4>() : body.template operator()<1, 4>();
  else
    packets ? body.template operator()<std::min(V, sizeof(T) > 4 ? 1 : 2), max_register_taps>()
            : body.template operator()<1, max_register_taps>();
}

/// The backward of causal_conv with at most max_register_taps taps; the arguments have been checked.
void causal_conv_strips_backward(const Stream& stream, const CausalConvBackward& args);

}  // namespace causeway::cuda
