#include "kernels/cuda/causal_conv/causal_conv_long.cuh"

#include <algorithm>

#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/documents.cuh"
#include "kernels/cuda/device/elementwise.cuh"
#include "kernels/cuda/device/functions.cuh"
#include "kernels/cuda/device/sums.cuh"

// A warp computes 8 consecutive tokens of 32 channels. It loops over the lags that at least one of these tokens
// reaches. For each lag it reads one row and one weight, from a cache, and keeps the last 8 rows in a ring of
// registers. The backward first writes g = d_y times the slope of the activation for all tokens to scratch memory. For
// d_x and d_halo it loops over lags towards later tokens; for d_weight a warp has 8 lags and goes over a part of the
// tokens. The weights are transposed to [taps, channels] before, so that neighbouring lanes read neighbouring weights.
//
// Lower bound: one multiply-add per element and tap forward; backward four with an activation, three without. Bytes as
// in causal_conv_strip.cuh, and those of g twice.
namespace causeway::cuda {
namespace {

constexpr int warps = 4, lanes = 32;
constexpr int lane_sums = 8;  ///< tokens of a lane, or lags of d_weight

/// The arguments of both directions in device code.
template <class T>
struct LongConvInputs {
  using R = Accumulator<T>;
  Rows<const T> x, halo;
  const T* bias;
  std::int64_t bias_stride;
  const R* weight;  ///< [taps, channels], lag 0 first
  SegmentsView segments;
  std::int64_t channels, taps;
  bool silu;

  template <class Args>
  LongConvInputs(const Args& args, const R* by_lag)
      : x(args.x),
        halo(args.halo),
        bias(args.bias.present() ? static_cast<const T*>(args.bias.data) : nullptr),
        bias_stride(args.bias.row_stride),
        weight(by_lag),
        segments(args.segments),
        channels(args.weight.rows()),
        taps(args.weight.columns()),
        silu(args.activation == Activation::silu) {}

  /// x of token t, from the halo if t < 0.
  __device__ R x_at(std::int64_t t, std::int64_t channel) const {
    return widened(t >= 0 ? x(t, channel) : halo(taps - 1 + t, channel));
  }
};

/// weight [channels, taps], last lag first, to by_lag [taps, channels], lag 0 first.
/// thread: one weight
template <class T>
__global__ void transpose_weights(Rows<const T> weight, std::int64_t channels, std::int64_t taps,
                                  Accumulator<T>* by_lag) {
  const std::int64_t at = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x, lag = at / channels,
                     channel = at % channels;
  if (lag < taps) by_lag[at] = widened(weight(channel, taps - 1 - lag));
}

/// The tokens of a warp and the channel of a lane. Tokens and channels share blockIdx.x, so that any number of channels
/// is possible.
struct WarpStrip {
  std::int64_t begin, channel;
  int count;

  __device__ WarpStrip(std::int64_t tokens, std::int64_t channels) {
    const std::int64_t across = ceil_div(channels, lanes);
    begin = (blockIdx.x / across * warps + threadIdx.y) * lane_sums;
    channel = blockIdx.x % across * lanes + threadIdx.x;
    count = static_cast<int>(max(std::int64_t{0}, min(tokens - begin, std::int64_t{lane_sums})));
  }
  static unsigned grid(std::int64_t tokens, std::int64_t channels) {
    return grid_of(ceil_div(tokens, warps * lane_sums) * ceil_div(channels, lanes));
  }
};

/// With s = bias + Σ_j weight_j x[t-j]: y = act(s), or g = d_y act'(s) if `Backward`.
/// block: 4 warps with consecutive tokens
/// warp: 8 tokens by 32 channels
/// thread: 8 tokens of one channel
/// registers: the 8 sums, their reaches, a ring of 8 rows
template <class T, bool Backward>
__global__ void __launch_bounds__(warps* lanes)
    sum_lags(LongConvInputs<T> conv, Rows<const T> d_y, Rows<T> y, Accumulator<T>* g) {
  using R = Accumulator<T>;
  const WarpStrip strip(conv.segments.tokens, conv.channels);
  if (strip.count == 0) return;
  const DocumentStarts starts(conv.segments, strip.begin, static_cast<int>(threadIdx.x));
  if (strip.channel >= conv.channels) return;
  const std::int64_t first = starts.start_of(0);
  std::int64_t reach[lane_sums], most = 0;  // number of lags whose token is in the same document
  R ring[lane_sums], sum[lane_sums];        // slot s: row begin + s - round
  const R bias = conv.bias != nullptr ? widened(conv.bias[strip.channel * conv.bias_stride]) : R(0);
#pragma unroll
  for (int i = 0; i < lane_sums; ++i) {
    reach[i] = i < strip.count ? min(conv.taps, strip.begin + i - starts.start_of(i) + 1) : 0;
    most = max(most, reach[i]);
    ring[i] = i < strip.count ? conv.x_at(strip.begin + i, strip.channel) : R(0);
    sum[i] = bias;
  }
  for (std::int64_t round = 0; round < most; round += lane_sums)
#pragma unroll
    for (int j = 0; j < lane_sums; ++j) {
      const std::int64_t lag = round + j, next = strip.begin - lag - 1;
      const R weight = lag < most ? conv.weight[lag * conv.channels + strip.channel] : R(0);
#pragma unroll
      for (int i = 0; i < lane_sums; ++i)
        if (lag < reach[i]) sum[i] += weight * ring[(i - j + lane_sums) % lane_sums];
      ring[lane_sums - 1 - j] = lag + 1 < most && next >= first ? conv.x_at(next, strip.channel) : R(0);
    }
#pragma unroll
  for (int i = 0; i < lane_sums; ++i) {
    if (i >= strip.count) break;
    const std::int64_t t = strip.begin + i;
    if constexpr (Backward)
      g[t * conv.channels + strip.channel] = widened(d_y(t, strip.channel)) * (conv.silu ? silu_slope(sum[i]) : R(1));
    else
      y(t, strip.channel) = narrowed<T>(conv.silu ? silu(sum[i]) : sum[i]);
  }
}

/// g = d_y, if there is no activation.
/// thread: one element
template <class T>
__global__ void widen_rows(Rows<const T> d_y, std::int64_t tokens, std::int64_t channels, Accumulator<T>* g) {
  const std::int64_t at = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (at < tokens * channels) g[at] = widened(d_y(at / channels, at % channels));
}

/// d_x[t] = Σ_j weight_j g[t+j], the sum over tokens of the same document in the run.
/// block: 4 warps with consecutive tokens
/// warp: 8 tokens by 32 channels
/// thread: 8 tokens of one channel
/// registers: the 8 sums, their reaches, a ring of 8 rows of g
template <class T>
__global__ void __launch_bounds__(warps* lanes)
    input_gradient(LongConvInputs<T> conv, const Accumulator<T>* g, Rows<T> d_x) {
  using R = Accumulator<T>;
  const std::int64_t tokens = conv.segments.tokens;
  const WarpStrip strip(tokens, conv.channels);
  if (strip.count == 0) return;
  const int lane = static_cast<int>(threadIdx.x);
  const DocumentStarts starts(conv.segments, strip.begin, lane);
  const std::int64_t end = min(
      tokens, DocumentBounds(conv.segments, strip.begin + strip.count - 1, lane).end);  // of the last token's document
  if (strip.channel >= conv.channels) return;
  std::int64_t reach[lane_sums], most = 0;
  R ring[lane_sums], sum[lane_sums];
#pragma unroll
  for (int i = 0; i < lane_sums; ++i) {
    const std::int64_t t = strip.begin + i, distance = starts.distance_to_next(i);
    reach[i] = i < strip.count ? min(conv.taps, i + distance < strip.count ? distance : end - t) : 0;
    most = max(most, reach[i]);
    ring[i] = i < strip.count ? g[t * conv.channels + strip.channel] : R(0);
    sum[i] = 0;
  }
  // Slot s holds g of token begin + round + s. A lag later, the first token is no longer needed and the next one takes
  // its slot.
  for (std::int64_t round = 0; round < most; round += lane_sums)
#pragma unroll
    for (int j = 0; j < lane_sums; ++j) {
      const std::int64_t lag = round + j, next = strip.begin + lag + lane_sums;
      const R weight = lag < most ? conv.weight[lag * conv.channels + strip.channel] : R(0);
#pragma unroll
      for (int i = 0; i < lane_sums; ++i)
        if (lag < reach[i]) sum[i] += weight * ring[(i + j) % lane_sums];
      ring[j] = next < end ? g[next * conv.channels + strip.channel] : R(0);
    }
#pragma unroll
  for (int i = 0; i < lane_sums; ++i)
    if (i < strip.count) d_x(strip.begin + i, strip.channel) = narrowed<T>(sum[i]);
}

/// d_halo. Rows that do not belong to the first document of the run get zero.
/// thread: one channel of one row
template <class T>
__global__ void halo_gradient_rows(LongConvInputs<T> conv, const Accumulator<T>* g, Rows<T> d_halo) {
  const std::int64_t at = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x, row = at / conv.channels,
                     channel = at % conv.channels;
  if (row >= conv.taps - 1) return;
  const std::int64_t t = row - (conv.taps - 1);
  const bool in_document = conv.segments.count > 0 && conv.segments.cu_seqlens[0] <= t;
  const std::int64_t end = in_document ? min(conv.segments.tokens, conv.segments.cu_seqlens[1]) : 0,
                     stop = min(conv.taps, end - t);
  Accumulator<T> sum = 0;
  for (std::int64_t lag = -t; in_document && lag < stop; ++lag)
    sum += conv.weight[lag * conv.channels + channel] * g[(t + lag) * conv.channels + channel];
  d_halo(row, channel) = narrowed<T>(sum);
}

/// partial[part, lag, channel] = Σ_t g[t] x[t-lag] over a part of the tokens; at lag = taps Σ_t g[t].
/// block: 4 warps with consecutive lags, part blockIdx.y of the tokens
/// warp: 8 lags by 32 channels; goes over the tokens of the part, 64 at a time
/// thread: 8 lags of one channel
/// registers: the 8 sums, a ring of 8 rows of x
template <class T>
__global__ void __launch_bounds__(warps* lanes)
    correlate(LongConvInputs<T> conv, const Accumulator<T>* g, std::int64_t part_tokens, Accumulator<T>* partial) {
  using R = Accumulator<T>;
  const std::int64_t across = ceil_div(conv.channels, lanes),
                     lag = (blockIdx.x / across * warps + threadIdx.y) * lane_sums,
                     channel = blockIdx.x % across * lanes + threadIdx.x;
  if (lag >= conv.taps) return;
  const std::int64_t begin = blockIdx.y * part_tokens, end = min(conv.segments.tokens, begin + part_tokens);
  const bool inside = channel < conv.channels;
  double sums[lane_sums] = {}, all = 0;
  R ring[lane_sums] = {};  // slot s: row t - lag + s for the 8 tokens from t on
  for (std::int64_t from = begin; from < end; from += 64) {
    const DocumentStarts starts(conv.segments, from, static_cast<int>(threadIdx.x));
    if (!inside) continue;
    if (from == begin)
#pragma unroll
      for (int i = 1; i < lane_sums; ++i) {
        const std::int64_t row = from - lag - i;
        if (lag + i < conv.taps && row >= starts.start_of(0)) ring[lane_sums - i] = conv.x_at(row, channel);
      }
    const int count = static_cast<int>(min(end - from, std::int64_t{64}));
    R sum[lane_sums] = {}, plain = 0;
    for (int k = 0; k < count; k += lane_sums)
#pragma unroll
      for (int j = 0; j < lane_sums; ++j) {
        if (k + j >= count) break;
        const std::int64_t t = from + k + j, start = starts.start_of(k + j), reach = min(conv.taps, t - start + 1);
        const R gradient = g[t * conv.channels + channel];
        ring[j] = t - lag >= start ? conv.x_at(t - lag, channel) : R(0);
#pragma unroll
        for (int i = 0; i < lane_sums; ++i)
          if (lag + i < reach) sum[i] += gradient * ring[(j - i + lane_sums) % lane_sums];
        plain += gradient;
      }
#pragma unroll
    for (int i = 0; i < lane_sums; ++i) sums[i] += static_cast<double>(sum[i]);
    all += static_cast<double>(plain);
  }
  if (!inside) return;
  R* const to = partial + blockIdx.y * (conv.taps + 1) * conv.channels + channel;
#pragma unroll
  for (int i = 0; i < lane_sums; ++i)
    if (lag + i < conv.taps) to[(lag + i) * conv.channels] = static_cast<R>(sums[i]);
  if (lag == 0) to[conv.taps * conv.channels] = static_cast<R>(all);
}

/// Adds the sum of the parts of element lag · channels + channel to d_weight or d_bias.
template <class R>
struct LongWeightTarget {
  std::int64_t channels, taps;
  Rows<R> d_weight;
  R* d_bias;
  std::int64_t bias_stride;

  __device__ double start(std::int64_t) const { return 0; }
  __device__ void store(std::int64_t element, double sum) const {
    const std::int64_t lag = element / channels, channel = element % channels;
    if (lag < taps)
      d_weight(channel, taps - 1 - lag) += static_cast<R>(sum);
    else if (d_bias != nullptr)
      d_bias[channel * bias_stride] += static_cast<R>(sum);
  }
};

constexpr unsigned threads = 256;

template <class T>
Tensor weights_by_lag(const Stream& stream, TensorView weight) {
  using R = Accumulator<T>;
  Tensor by_lag(stream, dtype_of<R>, {weight.columns(), weight.rows()});
  transpose_weights<T><<<grid_of(weight.size(), threads), threads, 0, native_of(stream)>>>(
      Rows<const T>(weight), weight.rows(), weight.columns(), static_cast<R*>(by_lag.view().data));
  cuda_check(cudaGetLastError());
  return by_lag;
}

template <class T>
void forward(const Stream& stream, const CausalConvForward& args) {
  using R = Accumulator<T>;
  if (args.x.size() == 0) return;
  const Tensor by_lag = weights_by_lag<T>(stream, args.weight);
  const LongConvInputs<T> conv(args, static_cast<const R*>(by_lag.view().data));
  const unsigned strips = WarpStrip::grid(conv.segments.tokens, conv.channels);
  sum_lags<T, false>
      <<<strips, dim3(lanes, warps), 0, native_of(stream)>>>(conv, Rows<const T>({}), Rows<T>(args.y), nullptr);
  cuda_check(cudaGetLastError());
}

template <class T>
void backward(const Stream& stream, const CausalConvBackward& args) {
  using R = Accumulator<T>;
  if (args.weight.size() == 0) return;
  const auto queue = native_of(stream);
  const Tensor by_lag = weights_by_lag<T>(stream, args.weight);
  const LongConvInputs<T> conv(args, static_cast<const R*>(by_lag.view().data));
  const std::int64_t tokens = conv.segments.tokens, channels = conv.channels, taps = conv.taps;
  const Tensor gradient(stream, dtype_of<R>, {tokens, channels});
  auto* const g = static_cast<R*>(gradient.view().data);
  const Rows<const T> d_y(args.d_y);
  const unsigned strips = WarpStrip::grid(tokens, channels);
  if (tokens > 0) {
    if (conv.silu)
      sum_lags<T, true><<<strips, dim3(lanes, warps), 0, queue>>>(conv, d_y, Rows<T>({}), g);
    else
      widen_rows<T><<<grid_of(tokens * channels, threads), threads, 0, queue>>>(d_y, tokens, channels, g);
    cuda_check(cudaGetLastError());
  }
  if (args.d_halo.present()) {
    halo_gradient_rows<T>
        <<<grid_of((taps - 1) * channels, threads), threads, 0, queue>>>(conv, g, Rows<T>(args.d_halo));
    cuda_check(cudaGetLastError());
  }
  if (tokens == 0) return;
  input_gradient<T><<<strips, dim3(lanes, warps), 0, queue>>>(conv, g, Rows<T>(args.d_x));
  cuda_check(cudaGetLastError());

  // Enough parts to fill the device; no part is short, and all take at most the memory of a large activation.
  constexpr std::int64_t target_blocks = 1024, min_part_tokens = 512, max_elements = std::int64_t{1} << 26;
  const std::int64_t blocks = ceil_div(taps, warps * lane_sums) * ceil_div(channels, lanes);
  const std::int64_t bound =
      std::min({target_blocks / blocks, tokens / min_part_tokens, max_elements / ((taps + 1) * channels)});
  const std::int64_t wanted = std::max<std::int64_t>(1, bound);
  const std::int64_t part_tokens = ceil_div(tokens, wanted * 64) * 64, parts = ceil_div(tokens, part_tokens);
  const Tensor partial(stream, dtype_of<R>, {parts, taps + 1, channels});
  auto* const sums = static_cast<R*>(partial.view().data);
  correlate<T><<<dim3(grid_of(blocks), static_cast<unsigned>(parts)), dim3(lanes, warps), 0, queue>>>(
      conv, g, part_tokens, sums);
  cuda_check(cudaGetLastError());
  add_parts_in_order<double>(
      stream, sums, parts, (taps + 1) * channels,
      LongWeightTarget<R>{.channels = channels,
                          .taps = taps,
                          .d_weight = Rows<R>(args.d_weight),
                          .d_bias = args.d_bias.present() ? static_cast<R*>(args.d_bias.data) : nullptr,
                          .bias_stride = args.d_bias.row_stride});
}

}  // namespace

void causal_conv_long_forward(const Stream& stream, const CausalConvForward& args) {
  dispatch(args.x.dtype, [&]<class Type> { forward<Type>(stream, args); });
}

void causal_conv_long_backward(const Stream& stream, const CausalConvBackward& args) {
  dispatch(args.x.dtype, [&]<class Type> { backward<Type>(stream, args); });
}

}  // namespace causeway::cuda
