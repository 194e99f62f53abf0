#include "kernels/cuda/causal_conv/causal_conv_long.cuh"

#include <algorithm>

#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/documents.cuh"
#include "kernels/cuda/device/elementwise.cuh"
#include "kernels/cuda/device/functions.cuh"

// A lane takes a channel, a warp `own` consecutive tokens of 32 channels; it walks the lags that some of these tokens
// reach, with one row and one weight read a lag from a cache and a ring of `own` rows in registers. Backward writes g
// of all tokens to scratch first; d_x and d_halo walk the lags over it to the right, d_weight takes `own` lags a warp
// down a part of the tokens. Weights are turned to [taps, channels] before, so that neighbouring lanes read neighbours.
//
// Floor: a multiply-add an element and tap forward, four backward with an activation, three without; bytes as in
// causal_conv.cu and g's twice.
namespace causeway::cuda {
namespace {

constexpr int own = 8, warps = 4, lanes = 32;

template <class T>
struct LongConv {
  using R = Accumulator<T>;
  Rows<const T> x, halo;
  const T* bias;
  std::int64_t bias_stride;
  const R* weight;  // [taps][channels], lag 0 first
  SegmentsView segments;
  std::int64_t channels, taps;
  bool silu;

  template <class Args>
  LongConv(const Args& args, const R* by_lag)
      : x(args.x),
        halo(args.halo),
        bias(args.bias.present() ? static_cast<const T*>(args.bias.data) : nullptr),
        bias_stride(args.bias.row_stride),
        weight(by_lag),
        segments(args.segments),
        channels(args.weight.rows()),
        taps(args.weight.columns()),
        silu(args.activation == Activation::silu) {}

  /// x of token t, which stands in the halo where t < 0.
  __device__ R at(std::int64_t t, std::int64_t channel) const {
    return widened(t >= 0 ? x(t, channel) : halo(taps - 1 + t, channel));
  }
};

template <class T>
__global__ void turn_weights(Rows<const T> weight, std::int64_t channels, std::int64_t taps, Accumulator<T>* by_lag) {
  const std::int64_t at = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x, lag = at / channels,
                     channel = at % channels;
  if (lag < taps) by_lag[at] = widened(weight(channel, taps - 1 - lag));
}

/// A warp's tokens and a lane's channel. Tiles of tokens lie together along the grid's x, so that any number of
/// channels fits.
struct Strip {
  std::int64_t begin, channel;
  int count;

  __device__ Strip(std::int64_t tokens, std::int64_t channels) {
    const std::int64_t across = ceil_div(channels, lanes);
    begin = (blockIdx.x / across * warps + threadIdx.y) * own;
    channel = blockIdx.x % across * lanes + threadIdx.x;
    count = static_cast<int>(max(std::int64_t{0}, min(tokens - begin, std::int64_t{own})));
  }
  static unsigned grid(std::int64_t tokens, std::int64_t channels) {
    return grid_of(ceil_div(tokens, warps * own) * ceil_div(channels, lanes));
  }
};

/// bias + Σ_j weight_j x[t-j] of a strip; y = its activation, or g = d_y times the activation's slope.
template <class T, bool Backward>
__global__ void __launch_bounds__(warps* lanes)
    walk_back(LongConv<T> conv, Rows<const T> d_y, Rows<T> y, Accumulator<T>* g) {
  using R = Accumulator<T>;
  const Strip strip(conv.segments.tokens, conv.channels);
  if (strip.count == 0) return;
  const DocumentStarts starts(conv.segments, strip.begin, static_cast<int>(threadIdx.x));
  if (strip.channel >= conv.channels) return;
  const std::int64_t first = starts.start_of(0);
  std::int64_t reach[own], most = 0;  // lags that a token meets in its document
  R ring[own], sum[own];              // slot s: row begin + s of this round of lags
  const R bias = conv.bias != nullptr ? widened(conv.bias[strip.channel * conv.bias_stride]) : R(0);
#pragma unroll
  for (int i = 0; i < own; ++i) {
    reach[i] = i < strip.count ? min(conv.taps, strip.begin + i - starts.start_of(i) + 1) : 0;
    most = max(most, reach[i]);
    ring[i] = i < strip.count ? conv.at(strip.begin + i, strip.channel) : R(0);
    sum[i] = bias;
  }
  for (std::int64_t round = 0; round < most; round += own)
#pragma unroll
    for (int j = 0; j < own; ++j) {
      const std::int64_t lag = round + j, next = strip.begin - lag - 1;
      const R weight = lag < most ? conv.weight[lag * conv.channels + strip.channel] : R(0);
#pragma unroll
      for (int i = 0; i < own; ++i)
        if (lag < reach[i]) sum[i] += weight * ring[(i - j + own) % own];
      ring[own - 1 - j] = lag + 1 < most && next >= first ? conv.at(next, strip.channel) : R(0);
    }
#pragma unroll
  for (int i = 0; i < own; ++i) {
    if (i >= strip.count) break;
    const std::int64_t t = strip.begin + i;
    if constexpr (Backward)
      g[t * conv.channels + strip.channel] = widened(d_y(t, strip.channel)) * (conv.silu ? silu_slope(sum[i]) : R(1));
    else
      y(t, strip.channel) = narrowed<T>(conv.silu ? silu(sum[i]) : sum[i]);
  }
}

/// g = d_y, where nothing is applied to the sums.
template <class T>
__global__ void widen_rows(Rows<const T> d_y, std::int64_t tokens, std::int64_t channels, Accumulator<T>* g) {
  const std::int64_t at = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (at < tokens * channels) g[at] = widened(d_y(at / channels, at % channels));
}

/// d_x[t] = Σ_j weight_j g[t+j], inside document and run.
template <class T>
__global__ void __launch_bounds__(warps* lanes) walk_ahead(LongConv<T> conv, const Accumulator<T>* g, Rows<T> d_x) {
  using R = Accumulator<T>;
  const std::int64_t tokens = conv.segments.tokens;
  const Strip strip(tokens, conv.channels);
  if (strip.count == 0) return;
  const int lane = static_cast<int>(threadIdx.x);
  const DocumentStarts starts(conv.segments, strip.begin, lane);
  const std::int64_t end =
      min(tokens, DocumentBounds(conv.segments, strip.begin + strip.count - 1, lane).end);  // of the last token's
  if (strip.channel >= conv.channels) return;
  std::int64_t reach[own], most = 0;
  R ring[own], sum[own];
#pragma unroll
  for (int i = 0; i < own; ++i) {
    const std::int64_t t = strip.begin + i, distance = starts.distance_to_next(i);
    reach[i] = i < strip.count ? min(conv.taps, i + distance < strip.count ? distance : end - t) : 0;
    most = max(most, reach[i]);
    ring[i] = i < strip.count ? g[t * conv.channels + strip.channel] : R(0);
    sum[i] = 0;
  }
  // Lags fall behind each other here: slot s holds token begin + s of this round, the next token takes the place of the
  // one just left.
  for (std::int64_t round = 0; round < most; round += own)
#pragma unroll
    for (int j = 0; j < own; ++j) {
      const std::int64_t lag = round + j, next = strip.begin + lag + own;
      const R weight = lag < most ? conv.weight[lag * conv.channels + strip.channel] : R(0);
#pragma unroll
      for (int i = 0; i < own; ++i)
        if (lag < reach[i]) sum[i] += weight * ring[(i + j) % own];
      ring[j] = next < end ? g[next * conv.channels + strip.channel] : R(0);
    }
#pragma unroll
  for (int i = 0; i < own; ++i)
    if (i < strip.count) d_x(strip.begin + i, strip.channel) = narrowed<T>(sum[i]);
}

/// d_halo: a thread a row and channel; what the run's first document does not hold gets zero.
template <class T>
__global__ void halo_rows(LongConv<T> conv, const Accumulator<T>* g, Rows<T> d_halo) {
  const std::int64_t at = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x, row = at / conv.channels,
                     channel = at % conv.channels;
  if (row >= conv.taps - 1) return;
  const std::int64_t t = row - (conv.taps - 1);
  const bool held = conv.segments.count > 0 && conv.segments.cu_seqlens[0] <= t;
  const std::int64_t end = held ? min(conv.segments.tokens, conv.segments.cu_seqlens[1]) : 0,
                     stop = min(conv.taps, end - t);
  Accumulator<T> sum = 0;
  for (std::int64_t lag = -t; held && lag < stop; ++lag)
    sum += conv.weight[lag * conv.channels + channel] * g[(t + lag) * conv.channels + channel];
  d_halo(row, channel) = narrowed<T>(sum);
}

/// partial[part][lag][channel] = Σ_t g[t] x[t-lag] over a part of the tokens, and Σ_t g[t] at lag = taps. A warp takes
/// `own` lags.
template <class T>
__global__ void __launch_bounds__(warps* lanes)
    correlate(LongConv<T> conv, const Accumulator<T>* g, std::int64_t part_tokens, Accumulator<T>* partial) {
  using R = Accumulator<T>;
  const std::int64_t across = ceil_div(conv.channels, lanes), lag = (blockIdx.x / across * warps + threadIdx.y) * own,
                     channel = blockIdx.x % across * lanes + threadIdx.x;
  if (lag >= conv.taps) return;
  const std::int64_t begin = blockIdx.y * part_tokens, end = min(conv.segments.tokens, begin + part_tokens);
  const bool inside = channel < conv.channels;
  double sums[own] = {}, all = 0;
  R ring[own] = {};  // slot s: row t - lag + s of the round of tokens that begins at t
  for (std::int64_t from = begin; from < end; from += 64) {
    const DocumentStarts starts(conv.segments, from, static_cast<int>(threadIdx.x));
    if (!inside) continue;
    if (from == begin)
#pragma unroll
      for (int i = 1; i < own; ++i) {
        const std::int64_t row = from - lag - i;
        if (lag + i < conv.taps && row >= starts.start_of(0)) ring[own - i] = conv.at(row, channel);
      }
    const int count = static_cast<int>(min(end - from, std::int64_t{64}));
    R sum[own] = {}, plain = 0;
    for (int k = 0; k < count; k += own)
#pragma unroll
      for (int j = 0; j < own; ++j) {
        if (k + j >= count) break;
        const std::int64_t t = from + k + j, start = starts.start_of(k + j), reach = min(conv.taps, t - start + 1);
        const R gradient = g[t * conv.channels + channel];
        ring[j] = t - lag >= start ? conv.at(t - lag, channel) : R(0);
#pragma unroll
        for (int i = 0; i < own; ++i)
          if (lag + i < reach) sum[i] += gradient * ring[(j - i + own) % own];
        plain += gradient;
      }
#pragma unroll
    for (int i = 0; i < own; ++i) sums[i] += static_cast<double>(sum[i]);
    all += static_cast<double>(plain);
  }
  if (!inside) return;
  R* const to = partial + blockIdx.y * (conv.taps + 1) * conv.channels + channel;
#pragma unroll
  for (int i = 0; i < own; ++i)
    if (lag + i < conv.taps) to[(lag + i) * conv.channels] = static_cast<R>(sums[i]);
  if (lag == 0) to[conv.taps * conv.channels] = static_cast<R>(all);
}

/// d_weight += and d_bias += the parts' sums, in the parts' order.
template <class R>
__global__ void add_long_parts(const R* partial, std::int64_t parts, std::int64_t channels, std::int64_t taps,
                               Rows<R> d_weight, R* d_bias, std::int64_t bias_stride) {
  const std::int64_t at = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x, size = (taps + 1) * channels,
                     lag = at / channels, channel = at % channels;
  if (at >= size) return;
  double sum = 0;
  for (std::int64_t part = 0; part < parts; ++part) sum += static_cast<double>(partial[part * size + at]);
  if (lag < taps)
    d_weight(channel, taps - 1 - lag) += static_cast<R>(sum);
  else if (d_bias != nullptr)
    d_bias[channel * bias_stride] += static_cast<R>(sum);
}

constexpr unsigned threads = 256;

template <class T>
Tensor weights_by_lag(const Stream& stream, TensorView weight) {
  using R = Accumulator<T>;
  Tensor by_lag(stream, dtype_of<R>, {weight.columns(), weight.rows()});
  turn_weights<T><<<grid_of(weight.size(), threads), threads, 0, native_of(stream)>>>(
      Rows<const T>(weight), weight.rows(), weight.columns(), static_cast<R*>(by_lag.view().data));
  cuda_check(cudaGetLastError());
  return by_lag;
}

template <class T>
void forward(const Stream& stream, const CausalConvForward& args) {
  using R = Accumulator<T>;
  if (args.x.size() == 0) return;
  const Tensor by_lag = weights_by_lag<T>(stream, args.weight);
  const LongConv<T> conv(args, static_cast<const R*>(by_lag.view().data));
  const unsigned strips = Strip::grid(conv.segments.tokens, conv.channels);
  walk_back<T, false>
      <<<strips, dim3(lanes, warps), 0, native_of(stream)>>>(conv, Rows<const T>({}), Rows<T>(args.y), nullptr);
  cuda_check(cudaGetLastError());
}

template <class T>
void backward(const Stream& stream, const CausalConvBackward& args) {
  using R = Accumulator<T>;
  if (args.weight.size() == 0) return;
  const auto queue = native_of(stream);
  const Tensor by_lag = weights_by_lag<T>(stream, args.weight);
  const LongConv<T> conv(args, static_cast<const R*>(by_lag.view().data));
  const std::int64_t tokens = conv.segments.tokens, channels = conv.channels, taps = conv.taps;
  const Tensor gradient(stream, dtype_of<R>, {tokens, channels});
  auto* const g = static_cast<R*>(gradient.view().data);
  const Rows<const T> d_y(args.d_y);
  const unsigned strips = Strip::grid(tokens, channels);
  if (tokens > 0) {
    if (conv.silu)
      walk_back<T, true><<<strips, dim3(lanes, warps), 0, queue>>>(conv, d_y, Rows<T>({}), g);
    else
      widen_rows<T><<<grid_of(tokens * channels, threads), threads, 0, queue>>>(d_y, tokens, channels, g);
    cuda_check(cudaGetLastError());
  }
  if (args.d_halo.present()) {
    halo_rows<T><<<grid_of((taps - 1) * channels, threads), threads, 0, queue>>>(conv, g, Rows<T>(args.d_halo));
    cuda_check(cudaGetLastError());
  }
  if (tokens == 0) return;
  walk_ahead<T><<<strips, dim3(lanes, warps), 0, queue>>>(conv, g, Rows<T>(args.d_x));
  cuda_check(cudaGetLastError());

  // Enough parts to fill the device, none of them short, and no more memory than a large activation takes.
  constexpr std::int64_t enough_blocks = 1024, shortest = 512, most_elements = std::int64_t{1} << 26;
  const std::int64_t blocks = ceil_div(taps, warps * own) * ceil_div(channels, lanes);
  const std::int64_t bound =
      std::min({enough_blocks / blocks, tokens / shortest, most_elements / ((taps + 1) * channels)});
  const std::int64_t wanted = std::max<std::int64_t>(1, bound);
  const std::int64_t part_tokens = ceil_div(tokens, wanted * 64) * 64, parts = ceil_div(tokens, part_tokens);
  const Tensor partial(stream, dtype_of<R>, {parts, taps + 1, channels});
  auto* const sums = static_cast<R*>(partial.view().data);
  correlate<T><<<dim3(grid_of(blocks), static_cast<unsigned>(parts)), dim3(lanes, warps), 0, queue>>>(
      conv, g, part_tokens, sums);
  cuda_check(cudaGetLastError());
  add_long_parts<R><<<grid_of((taps + 1) * channels, threads), threads, 0, queue>>>(
      sums, parts, channels, taps, Rows<R>(args.d_weight),
      args.d_bias.present() ? static_cast<R*>(args.d_bias.data) : nullptr, args.d_bias.row_stride);
  cuda_check(cudaGetLastError());
}

}  // namespace

void causal_conv_long_forward(const Stream& stream, const CausalConvForward& args) {
  dispatch(args.x.dtype, [&]<class Type> { forward<Type>(stream, args); });
}

void causal_conv_long_backward(const Stream& stream, const CausalConvBackward& args) {
  dispatch(args.x.dtype, [&]<class Type> { backward<Type>(stream, args); });
}

}  // namespace causeway::cuda
