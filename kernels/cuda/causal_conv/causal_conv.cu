#include "kernels/causal_conv.hpp"
#include "kernels/core/integer.hpp"

#include <algorithm>

#include "kernels/cuda/causal_conv/causal_conv_long.cuh"
#include "kernels/cuda/device/check.cuh"
#include "kernels/cuda/device/documents.cuh"
#include "kernels/cuda/device/elementwise.cuh"
#include "kernels/cuda/device/functions.cuh"
#include "kernels/cuda/device/packet.cuh"
#include "kernels/expect.hpp"

// A thread takes V neighbouring channels, 16 or 8 bytes, down a strip of tokens; a warp 32 such packets of one strip,
// so that what depends on the token alone is uniform in it. The last `Taps` rows stand in registers: x is read once
// from memory, and the few rows over a strip's edge from a cache.
//
// Floor (H200, 4.3 TB/s of copies): forward 2 accesses an element, backward 3; at L 16384, D 4096 in bf16 0.063 and
// 0.094 ms. Two exponential-unit operations an element for silu and its slope take 0.035 ms, about 15 instructions 0.04
// ms: both hide behind the bytes. Reached at L 65536: 0.343 and 0.705 ms, 1.3 and 1.8 times a copy of as many bytes in
// the same run, whatever the documents.
namespace causeway::cuda {
namespace {

// A backward strip and the taps that reach over its end are together no more than the 64 tokens that DocumentStarts
// sees.
constexpr int forward_strip = 64, backward_strip = 48, strips_a_block = 4, packets_a_block = 32;
constexpr int prefetch_rows = 4;  // rows in flight

template <class T>
struct Inputs {
  const T *x, *halo, *weight, *bias;
  std::int64_t x_stride, halo_stride, weight_stride, bias_stride;
  SegmentsView segments;
  std::int64_t channels;
  int taps;
  bool silu, dense;  // dense: weights of neighbouring channels are read 16 bytes at a time

  template <class Args>
  explicit Inputs(const Args& args)
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

  /// Row t of x, which stands in the halo where t < 0.
  __device__ const T* row(std::int64_t t) const {
    return t >= 0 ? x + t * x_stride : halo + (taps - 1 + t) * halo_stride;
  }
};

/// What a thread keeps of its channels: the weights, lag 0 first, and x of the last tokens, the latest first.
template <class T, int V, int Taps>
struct Window {
  using R = Accumulator<T>;
  R weight[Taps][V], bias[V], x[Taps][V];

  __device__ Window(const Inputs<T>& in, std::int64_t channel) {
    constexpr int chunk = 16 / sizeof(T);
    if (V * Taps % chunk == 0 && in.dense && in.taps == Taps && channel % V == 0) {
      T all[V * Taps];
#pragma unroll
      for (int i = 0; i < V * Taps / chunk; ++i) {
        const auto part = Packet<T, chunk>::load(in.weight + channel * Taps + i * chunk);
#pragma unroll
        for (int j = 0; j < chunk; ++j) all[i * chunk + j] = part.at[j];
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

  __device__ void push(const Packet<T, V>& latest) {
#pragma unroll
    for (int j = Taps - 1; j > 0; --j)
#pragma unroll
      for (int v = 0; v < V; ++v) x[j][v] = x[j - 1][v];
#pragma unroll
    for (int v = 0; v < V; ++v) x[0][v] = widened(latest.at[v]);
  }

  /// Takes the rows before token `begin` that its document holds.
  __device__ void fill(const Inputs<T>& in, std::int64_t begin, std::int64_t document, std::int64_t channel) {
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

/// Which strip and which packet a thread takes; blocks that run at once take whole rows, all of memory's banks.
template <int V>
struct StripPlace {
  std::int64_t block, strip, channel;

  __device__ explicit StripPlace(std::int64_t channels) {
    const unsigned across = static_cast<unsigned>(ceil_div(channels, packets_a_block * V));
    block = blockIdx.x / across;
    strip = block * strips_a_block + threadIdx.y;
    channel = (blockIdx.x % across * packets_a_block + threadIdx.x) * std::int64_t{V};
  }
  static unsigned grid(std::int64_t tokens, std::int64_t strip_tokens, std::int64_t channels) {
    const auto parts = [](std::int64_t count, std::int64_t each) { return ceil_div(count, each); };
    return grid_of(parts(tokens, strip_tokens * strips_a_block) * parts(channels, packets_a_block * V));
  }
};

/// Taps that token begin + k has in its document; of any k at once, so that rows need not wait for each other.
__device__ int reach_of(const DocumentStarts& starts, int k, int taps) {
  const std::int64_t before = starts.begin + k - starts.start_of(k);
  return before >= taps ? taps : static_cast<int>(before) + 1;
}

/// The same token after token, for the backward walk, which has no registers to spare.
class Reach {
 public:
  __device__ Reach(const DocumentStarts& starts, int taps) : bits_(starts.bits), taps_(taps) {
    const std::int64_t before = starts.begin - starts.start_of(0);
    reach_ = before >= taps ? taps : static_cast<int>(before);
  }
  __device__ int next() {
    reach_ = bits_ & 1 ? 1 : min(reach_ + 1, taps_);
    bits_ >>= 1;
    return reach_;
  }

 private:
  std::uint64_t bits_;
  int taps_, reach_;
};

template <class T, int V, int Taps>
__global__ void __launch_bounds__(32 * strips_a_block) forward_strips(Inputs<T> in, T* y, std::int64_t y_stride) {
  const StripPlace<V> at(in.channels);
  const std::int64_t tokens = in.segments.tokens, begin = at.strip * forward_strip, channel = at.channel;
  if (begin >= tokens) return;
  const DocumentStarts starts(in.segments, begin, static_cast<int>(threadIdx.x));
  if (channel >= in.channels) return;
  Window<T, V, Taps> window(in, channel);
  window.fill(in, begin, starts.start_of(0), channel);
  const int count = static_cast<int>(tokens - begin < forward_strip ? tokens - begin : forward_strip);
  for (int first = 0; first < count; first += prefetch_rows) {
    Packet<T, V> rows[prefetch_rows];
#pragma unroll
    for (int i = 0; i < prefetch_rows; ++i)
      rows[i] = Packet<T, V>::load(in.x + (begin + min(first + i, count - 1)) * in.x_stride + channel);
#pragma unroll
    for (int i = 0; i < prefetch_rows; ++i) {
      const int k = first + i;
      if (k >= count) break;
      window.push(rows[i]);
      Accumulator<T> sum[V];
      window.pre_activation(reach_of(starts, k, in.taps), sum);
      if (in.silu)
#pragma unroll
        for (int v = 0; v < V; ++v) sum[v] = silu(sum[v]);
      Packet<T, V>::of(sum).store(y + (begin + k) * y_stride + channel);
    }
  }
}

template <class T>
struct Outputs {
  const T* d_y;
  T* d_x;
  std::int64_t d_y_stride, d_x_stride;
  Accumulator<T>* partial;  // [blocks of tokens][Taps + 1][channels]: d_weight by lag, then d_bias
};

/// Walks Taps - 1 tokens beyond the strip: each token's g goes to d_x of the tokens it reaches, and d_x[t] is complete
/// as soon as g[t + Taps - 1] is there; g over the edge is computed once more.
template <class T, int V, int Taps>
__global__ void __launch_bounds__(32 * strips_a_block, Taps > 4         ? 2
                                                       : sizeof(T) == 2 ? 4
                                                                        : 3)
    backward_strips(Inputs<T> in, Outputs<T> out) {
  using R = Accumulator<T>;
  const StripPlace<V> at(in.channels);
  const std::int64_t tokens = in.segments.tokens, begin = at.strip * backward_strip, channel = at.channel;
  R sums[Taps + 1][V] = {};
  if (begin < tokens) {
    const DocumentStarts starts(in.segments, begin, static_cast<int>(threadIdx.x));
    if (channel < in.channels) {
      const int count = static_cast<int>(tokens - begin < backward_strip ? tokens - begin : backward_strip);
      const int left = static_cast<int>(tokens - begin < 64 ? tokens - begin : 64);
      const T* const from = in.x + begin * in.x_stride + channel;
      const T* const gradient = out.d_y + begin * out.d_y_stride + channel;
      T* const to = out.d_x + begin * out.d_x_stride + channel;
      constexpr int fetched = Taps > 4 ? 2 : prefetch_rows;
      Packet<T, V> rows[fetched], gradients[fetched];
      const auto fetch = [&](int i, int k) {
        rows[i] = Packet<T, V>::load(from + min(k, left - 1) * in.x_stride);
        gradients[i] = Packet<T, V>::load(gradient + min(k, left - 1) * out.d_y_stride);
      };
#pragma unroll
      for (int i = 0; i < fetched; ++i) fetch(i, i);
      Window<T, V, Taps> window(in, channel);
      window.fill(in, begin, starts.start_of(0), channel);
      R d_x[Taps][V] = {};  // of the last tokens, the latest first
      Reach reaches(starts, in.taps);
      for (int first = 0; first < count + Taps - 1; first += fetched) {
#pragma unroll
        for (int i = 0; i < fetched; ++i) {
          const int k = first + i;
          window.push(rows[i]);
          R g[V], sum[V];
#pragma unroll
          for (int v = 0; v < V; ++v) g[v] = widened(gradients[i].at[v]);
          fetch(i, k + fetched);
          const int reach = k < left ? reaches.next() : 0;
          if (in.silu) {
            window.pre_activation(reach, sum);
#pragma unroll
            for (int v = 0; v < V; ++v) g[v] *= silu_slope(sum[v]);
          }
#pragma unroll
          for (int j = Taps - 1; j > 0; --j)
#pragma unroll
            for (int v = 0; v < V; ++v) d_x[j][v] = d_x[j - 1][v];
#pragma unroll
          for (int v = 0; v < V; ++v) d_x[0][v] = 0;
#pragma unroll
          for (int j = 0; j < Taps; ++j)
            if (j < reach)
#pragma unroll
              for (int v = 0; v < V; ++v) d_x[j][v] += window.weight[j][v] * g[v];
          if (k < count) {
#pragma unroll
            for (int j = 0; j < Taps; ++j)
              if (j < reach)
#pragma unroll
                for (int v = 0; v < V; ++v) sums[j][v] += g[v] * window.x[j][v];
#pragma unroll
            for (int v = 0; v < V; ++v) sums[Taps][v] += g[v];
          }
          const int complete = k - (Taps - 1);
          if (complete >= 0 && complete < count) Packet<T, V>::of(d_x[Taps - 1]).store(to + complete * out.d_x_stride);
        }
      }
    }
  }
  // The block's strips in their order.
  __shared__ R shared[strips_a_block][packets_a_block][V];
  for (int j = 0; j <= Taps; ++j) {
    __syncthreads();
#pragma unroll
    for (int v = 0; v < V; ++v) {
      R value = 0;
#pragma unroll
      for (int i = 0; i <= Taps; ++i) value = i == j ? sums[i][v] : value;
      shared[threadIdx.y][threadIdx.x][v] = value;
    }
    __syncthreads();
    if (threadIdx.y != 0 || channel >= in.channels) continue;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      R sum = 0;
      for (int s = 0; s < strips_a_block; ++s) sum += shared[s][threadIdx.x][v];
      out.partial[(at.block * (Taps + 1) + j) * in.channels + channel + v] = sum;
    }
  }
}

/// d_weight += and d_bias += the parts' sums: each of 8 rows of threads takes every eighth part, then the rows are
/// added in their order.
template <class R>
__global__ void add_parts(const R* partial, std::int64_t parts, int lags, std::int64_t channels, int taps, R* d_weight,
                          std::int64_t weight_stride, R* d_bias, std::int64_t bias_stride) {
  const std::int64_t channel = std::int64_t{blockIdx.x} * 32 + threadIdx.x;
  const int lag = static_cast<int>(blockIdx.y);
  __shared__ double shared[8][32];
  double sum = 0;
  if (channel < channels)
    for (std::int64_t part = threadIdx.y; part < parts; part += 8)
      sum += static_cast<double>(partial[(part * lags + lag) * channels + channel]);
  shared[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || channel >= channels) return;
  for (int row = 1; row < 8; ++row) sum += shared[row][threadIdx.x];
  if (lag < taps)
    d_weight[channel * weight_stride + taps - 1 - lag] += static_cast<R>(sum);
  else if (lag == lags - 1 && d_bias != nullptr)
    d_bias[channel * bias_stride] += static_cast<R>(sum);
}

/// d_halo: what the run's first tokens reach before it; g of these few tokens is computed once more.
template <class T, int Taps>
__global__ void halo_gradient(Inputs<T> in, const T* d_y, std::int64_t d_y_stride, T* d_halo,
                              std::int64_t d_halo_stride) {
  using R = Accumulator<T>;
  const std::int64_t channel = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (channel >= in.channels) return;
  const bool any = in.segments.count > 0;
  const std::int64_t start = any ? in.segments.cu_seqlens[0] : 0, end = any ? in.segments.cu_seqlens[1] : 0;
  const std::int64_t stop = end < in.segments.tokens ? end : in.segments.tokens;
  Window<T, 1, Taps> window(in, channel);
  window.fill(in, 0, start, channel);
  R sums[Taps] = {};  // row taps - 1 - i of d_halo at i
  for (int t = 0; t < in.taps - 1 && t < stop; ++t) {
    window.push(Packet<T, 1>::load(in.x + t * in.x_stride + channel));
    const int reach = t - start >= in.taps ? in.taps : static_cast<int>(t - start) + 1;
    R sum[1], g = widened(d_y[t * d_y_stride + channel]);
    window.pre_activation(reach, sum);
    if (in.silu) g *= silu_slope(sum[0]);
#pragma unroll
    for (int i = 1; i < Taps; ++i)
#pragma unroll
      for (int j = 0; j < Taps; ++j)
        if (j == t + i && j < in.taps && -i >= start) sums[i] += window.weight[j][0] * g;
  }
#pragma unroll
  for (int i = 1; i < Taps; ++i)
    if (i < in.taps) d_halo[(in.taps - 1 - i) * d_halo_stride + channel] = narrowed<T>(sums[i]);
}

constexpr int most_taps = 16;  // that stand in registers; more are causal_conv_long's

/// Calls body<V, Taps>() with packets of at most `widest` channels, or one where they do not fit, and Taps no fewer
/// than the weights have.
template <class T, int widest, class Body>
void with_shape(std::int64_t taps, std::initializer_list<TensorView> tensors, const Body& body) {
  constexpr int V = std::min(widest, packet_width<T>);
  const bool packets = aligned(tensors, V * sizeof(T));
  if (taps <= 4)
    packets ? body.template operator()<V, 4>() : body.template operator()<1, 4>();
  else
    packets ? body.template operator()<std::min(V, sizeof(T) > 4 ? 1 : 2), most_taps>()
            : body.template operator()<1, most_taps>();
}

template <class T>
void forward(const Stream& stream, const CausalConvForward& args) {
  const Inputs<T> in(args);
  if (in.segments.tokens == 0 || in.channels == 0) return;
  with_shape<T, 8>(in.taps, {args.x, args.halo, args.y}, [&]<int V, int Taps> {
    const unsigned grid = StripPlace<V>::grid(in.segments.tokens, forward_strip, in.channels);
    forward_strips<T, V, Taps><<<grid, dim3(packets_a_block, strips_a_block), 0, native_of(stream)>>>(
        in, static_cast<T*>(args.y.data), args.y.row_stride);
    cuda_check(cudaGetLastError());
  });
}

template <class T>
void backward(const Stream& stream, const CausalConvBackward& args) {
  using R = Accumulator<T>;
  const Inputs<T> in(args);
  if (in.channels == 0) return;
  const auto queue = native_of(stream);
  const auto* const d_y = static_cast<const T*>(args.d_y.data);
  with_shape<T, 4>(in.taps, {args.x, args.halo, args.d_y, args.d_x}, [&]<int V, int Taps> {
    if (args.d_halo.present() && in.taps > 1) {
      halo_gradient<T, Taps><<<grid_of(in.channels, 128), 128, 0, queue>>>(
          in, d_y, args.d_y.row_stride, static_cast<T*>(args.d_halo.data), args.d_halo.row_stride);
      cuda_check(cudaGetLastError());
    }
    if (in.segments.tokens == 0) return;
    const unsigned grid = StripPlace<V>::grid(in.segments.tokens, backward_strip, in.channels);
    const std::int64_t parts = ceil_div(in.segments.tokens, backward_strip * strips_a_block);
    const Tensor partial(stream, dtype_of<R>, {parts, Taps + 1, in.channels});
    auto* const sums = static_cast<R*>(partial.view().data);
    const Outputs<T> out{d_y, static_cast<T*>(args.d_x.data), args.d_y.row_stride, args.d_x.row_stride, sums};
    backward_strips<T, V, Taps><<<grid, dim3(packets_a_block, strips_a_block), 0, queue>>>(in, out);
    cuda_check(cudaGetLastError());
    R* const d_bias = args.d_bias.present() ? static_cast<R*>(args.d_bias.data) : nullptr;
    add_parts<R><<<dim3(grid_of(in.channels, 32), Taps + 1), dim3(32, 8), 0, queue>>>(
        sums, parts, Taps + 1, in.channels, in.taps, static_cast<R*>(args.d_weight.data), args.d_weight.row_stride,
        d_bias, args.d_bias.row_stride);
    cuda_check(cudaGetLastError());
  });
}

template <class Args>
void expect_inputs(const Args& args) {
  const DType dtype = args.x.dtype;
  const std::int64_t T = args.segments.tokens, D = args.weight.rows(), W = args.weight.columns();
  expect("x", args.x, dtype, {T, D});
  ensure(args.activation != Activation::gelu, "causal_conv with activation {}", name_of(args.activation));
  expect("weight", args.weight, dtype, {D, W});
  expect_if_present("bias", args.bias, dtype, {D});
  expect_if_present("halo", args.halo, dtype, {W - 1, D});
  ensure(args.halo.present() || W == 1 || !args.segments.continues_from_left(),
         "a document begins before the run, but halo is absent");
}

}  // namespace

void causal_conv_forward(const Stream& stream, const CausalConvForward& args) {
  expect_inputs(args);
  expect("y", args.y, args.x.dtype, args.x.shape);
  if (args.weight.columns() > most_taps) return causal_conv_long_forward(stream, args);
  dispatch(args.x.dtype, [&]<class Type> { forward<Type>(stream, args); });
}

void causal_conv_backward(const Stream& stream, const CausalConvBackward& args) {
  expect_inputs(args);
  const DType dtype = args.x.dtype, accumulator = accumulator_of(dtype);
  expect("d_y", args.d_y, dtype, args.x.shape);
  expect("d_x", args.d_x, dtype, args.x.shape);
  expect_if_present("d_halo", args.d_halo, dtype, {args.weight.columns() - 1, args.weight.rows()});
  expect("d_weight", args.d_weight, accumulator, args.weight.shape);
  expect_if_present("d_bias", args.d_bias, accumulator, {args.weight.rows()});
  if (args.weight.columns() > most_taps) return causal_conv_long_backward(stream, args);
  dispatch(dtype, [&]<class Type> { backward<Type>(stream, args); });
}

}  // namespace causeway::cuda
