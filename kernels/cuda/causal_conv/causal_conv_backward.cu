#include "kernels/cuda/causal_conv/causal_conv_strip.cuh"
#include "kernels/cuda/device/sums.cuh"

namespace causeway::cuda {
namespace {

/// The reaches of consecutive tokens, in few registers, because the backward kernel uses nearly all registers.
class ReachSequence {
 public:
  __device__ ReachSequence(const DocumentStarts& starts, int taps) : bits_(starts.bits), taps_(taps) {
    const std::int64_t before = starts.begin - starts.start_of(0);
    reach_ = before >= taps ? taps : static_cast<int>(before);
  }
  /// The reach of the next token.
  __device__ int next() {
    reach_ = bits_ & 1 ? 1 : min(reach_ + 1, taps_);
    bits_ >>= 1;
    return reach_;
  }

 private:
  std::uint64_t bits_;
  int taps_, reach_;
};

/// The tensors that the backward kernel reads and writes in addition to its inputs.
template <class T>
struct BackwardTensors {
  const T* d_y;
  T* d_x;
  std::int64_t d_y_stride, d_x_stride;
  Accumulator<T>* parts;  ///< [blocks of strips, Taps + 1, channels]: d_weight by lag, then d_bias
};

/// With g = d_y times the slope of the activation: the g of each token is added to d_x of the tokens that it reaches,
/// and d_x[t] is complete after g[t + Taps - 1]. Therefore a thread also computes g of the Taps - 1 tokens after its
/// strip, which the next strip computes again.
/// block: 4 consecutive strips of 48 tokens by 32 packets of V channels; one part of d_weight and d_bias
/// warp: one strip by 32 packets
/// thread: one packet of V channels, token after token
/// shared memory: one lag of d_weight for each strip, to add the strips in their order
/// registers: the Window, Taps rows of d_x, the sums of d_weight and d_bias, 2 or 4 rows of x and d_y in flight
template <class T, int V, int Taps>
__global__ void __launch_bounds__(32 * strips_per_block, Taps > 4         ? 2
                                                         : sizeof(T) == 2 ? 4
                                                                          : 3)
    backward_strips(CausalConvInputs<T> in, BackwardTensors<T> out) {
  using R = Accumulator<T>;
  const StripCoordinates<V> at(in.channels);
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
      constexpr int rows_in_flight = Taps > 4 ? 2 : prefetch_rows;
      Packet<T, V> rows[rows_in_flight], gradients[rows_in_flight];
      const auto fetch = [&](int i, int k) {
        rows[i] = Packet<T, V>::load(from + min(k, left - 1) * in.x_stride);
        gradients[i] = Packet<T, V>::load(gradient + min(k, left - 1) * out.d_y_stride);
      };
#pragma unroll
      for (int i = 0; i < rows_in_flight; ++i) fetch(i, i);
      // 1. The weights, and the rows before the strip.
      Window<T, V, Taps> window(in, channel);
      window.fill(in, begin, starts.start_of(0), channel);
      R d_x[Taps][V] = {};  // of the last Taps tokens, the latest first
      ReachSequence reaches(starts, in.taps);
      // 2. The tokens of the strip and Taps - 1 more.
      for (int first = 0; first < count + Taps - 1; first += rows_in_flight) {
#pragma unroll
        for (int i = 0; i < rows_in_flight; ++i) {
          const int k = first + i;
          window.push(rows[i]);
          R g[V], sum[V];
#pragma unroll
          for (int v = 0; v < V; ++v) g[v] = widened(gradients[i].at[v]);
          fetch(i, k + rows_in_flight);
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
  // 3. The sums of the block's strips, added in their order, one lag after the other.
  __shared__ R shared[strips_per_block][packets_per_block][V];
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
      for (int s = 0; s < strips_per_block; ++s) sum += shared[s][threadIdx.x][v];
      out.parts[(at.block * (Taps + 1) + j) * in.channels + channel + v] = sum;
    }
  }
}

/// d_halo, from the first Taps - 1 tokens of the run. Their g is computed again.
/// thread: one channel
/// registers: the Window and the rows of d_halo
template <class T, int Taps>
__global__ void halo_gradient(CausalConvInputs<T> in, const T* d_y, std::int64_t d_y_stride, T* d_halo,
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

/// Adds the sum of the parts of element (lag, channel) to d_weight or d_bias. Lags between the real number of taps and
/// the compiled one are ignored.
template <class R>
struct WeightTarget {
  int lags, taps;  ///< lags: rows of the parts, the last of them for d_bias
  R* d_weight;
  std::int64_t weight_stride;
  R* d_bias;
  std::int64_t bias_stride;

  __device__ void add(int lag, std::int64_t channel, double sum) const {
    if (lag < taps)
      d_weight[channel * weight_stride + taps - 1 - lag] += static_cast<R>(sum);
    else if (lag == lags - 1 && d_bias != nullptr)
      d_bias[channel * bias_stride] += static_cast<R>(sum);
  }
};

template <class T>
void backward(const Stream& stream, const CausalConvBackward& args) {
  using R = Accumulator<T>;
  const CausalConvInputs<T> in(args);
  if (in.channels == 0) return;
  const auto queue = native_of(stream);
  const auto* const d_y = static_cast<const T*>(args.d_y.data);
  with_packets_and_taps<T, 4>(in.taps, {args.x, args.halo, args.d_y, args.d_x}, [&]<int V, int Taps> {
    if (args.d_halo.present() && in.taps > 1) {
      halo_gradient<T, Taps><<<grid_of(in.channels, 128), 128, 0, queue>>>(
          in, d_y, args.d_y.row_stride, static_cast<T*>(args.d_halo.data), args.d_halo.row_stride);
      cuda_check(cudaGetLastError());
    }
    if (in.segments.tokens == 0) return;
    const unsigned grid = StripCoordinates<V>::grid(in.segments.tokens, backward_strip, in.channels);
    const std::int64_t count = ceil_div(in.segments.tokens, backward_strip * strips_per_block);
    const Tensor partial(stream, dtype_of<R>, {count, Taps + 1, in.channels});
    auto* const parts = static_cast<R*>(partial.view().data);
    const BackwardTensors<T> out{d_y, static_cast<T*>(args.d_x.data), args.d_y.row_stride, args.d_x.row_stride, parts};
    backward_strips<T, V, Taps><<<grid, dim3(packets_per_block, strips_per_block), 0, queue>>>(in, out);
    cuda_check(cudaGetLastError());
    add_parts_by_warps(stream, parts, count, Taps + 1, in.channels,
                       WeightTarget<R>{.lags = Taps + 1,
                                       .taps = in.taps,
                                       .d_weight = static_cast<R*>(args.d_weight.data),
                                       .weight_stride = args.d_weight.row_stride,
                                       .d_bias = args.d_bias.present() ? static_cast<R*>(args.d_bias.data) : nullptr,
                                       .bias_stride = args.d_bias.row_stride});
  });
}

}  // namespace

void causal_conv_strips_backward(const Stream& stream, const CausalConvBackward& args) {
  dispatch(args.x.dtype, [&]<class Type> { backward<Type>(stream, args); });
}

}  // namespace causeway::cuda
