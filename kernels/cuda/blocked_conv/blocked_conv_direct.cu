#include <algorithm>
#include <limits>

#include "kernels/core/integer.hpp"
#include "kernels/cuda/blocked_conv/blocked_conv.cuh"
#include "kernels/cuda/device/documents.cuh"

// A block computes 64 tokens of 32 channels, 64 lags at a time. The 127 rows of x for these lags are in shared memory.
// A thread applies 16 lags to its 16 tokens from a window of 31 values in registers: 256 multiply-adds for 47 reads.
// Lags that no token of the block reaches are left out, so that short documents are fast with any filter. d_taps works
// likewise: a thread has 16 lags and adds up 16 tokens at a time.
//
// Lower bound: 1 multiply-add per element and tap forward, 3 backward; f32, 128 taps, L 65536, D 4096: 1.2 and 3.5 ms
// at the 29.4 T/s of an H200. Measured at L 16384 without gates: 7 taps 0.61 and 1.3 ms, 128 taps 1.3 and 3.3 ms.
namespace causeway::cuda {
namespace {

constexpr int tile_tokens = 64, tile_channels = 32, threads = 128;
constexpr int thread_sums = 16;  ///< tokens of a thread, or lags of d_taps

/// The arguments of both directions in device code.
template <class T>
struct DirectConvInputs {
  using R = Accumulator<T>;
  Rows<const T> q, k, v, halo;
  ParameterRows<T> taps, skip;
  SegmentsView segments;
  std::int64_t channels, group_size, length;

  template <class Args>
  explicit DirectConvInputs(const Args& args)
      : q(rows_of<const T>(args.in.q)),
        k(rows_of<const T>(args.in.k)),
        v(rows_of<const T>(args.in.v)),
        halo(rows_of<const T>(args.halo)),
        taps(args.taps),
        skip(args.in.skip),
        segments(args.in.segments),
        channels(args.in.v.columns()),
        group_size(channels / args.taps.rows()),
        length(args.taps.columns()) {}

  /// k⊙v of token t, from the halo if t < 0; zero outside the run and the halo. It always reads some row: without
  /// branches many reads are in flight at the same time.
  __device__ R product(std::int64_t t, std::int64_t channel) const {
    const bool in_run = t >= 0 && t < segments.tokens, in_halo = t < 0 && halo.data != nullptr && t > -length;
    const std::int64_t row = in_run ? t : 0;
    R x = widened(in_halo ? halo(length - 1 + t, channel) : v(row, channel));
    if (k.data != nullptr) {
      const R product = widened(narrowed<T>(widened(k(row, channel)) * x));
      x = in_halo ? x : product;
    }
    return in_run || in_halo ? x : R(0);
  }
  /// q⊙d_y of token t; zero outside the run.
  __device__ R output_gradient(const Rows<const T>& d_y, std::int64_t t, std::int64_t channel) const {
    const bool in_run = t >= 0 && t < segments.tokens;
    const std::int64_t row = in_run ? t : 0;
    R x = widened(d_y(row, channel));
    if (q.data != nullptr) x *= widened(q(row, channel));
    return in_run ? x : R(0);
  }
};

/// to[i] = value(i) for first <= i < last. Consecutive rows go to different warps of the block.
template <class R, class Value>
__device__ void fill_rows(R (*to)[tile_channels], int first, int last, const Value& value) {
  constexpr int rows_in_flight = 8, warps = threads / 32;
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = first + static_cast<int>(threadIdx.y); i < last; i += rows_in_flight * warps) {
    R values[rows_in_flight];
#pragma unroll
    for (int n = 0; n < rows_in_flight; ++n) values[n] = value(min(i + n * warps, last - 1));
#pragma unroll
    for (int n = 0; n < rows_in_flight; ++n)
      if (i + n * warps < last) to[i + n * warps][lane] = values[n];
  }
}

/// For each token of a tile the largest lag whose other token is in the same document, in the run and within the
/// filter; -1 if there is none. In the scan direction from left to right the other token is t - lag, otherwise t + lag.
struct TileReach {
  int of[tile_tokens];

  /// Called by one warp.
  __device__ void find(ScanDirection direction, const SegmentsView& segments, std::int64_t begin, std::int64_t length,
                       int lane) {
    if (segments.count == 0 || segments.tokens == 0) {
      of[lane] = of[lane + 32] = -1;
    } else if (begin < 0) {  // in the halo, which belongs to the first document
      const std::int64_t start = segments.cu_seqlens[0], end = segments.cu_seqlens[1];
      for (int i = lane; i < tile_tokens; i += 32)
        set(i, begin + i >= start && begin + i > -length ? min(end, segments.tokens) - 1 - begin - i : -1, length);
    } else {
      const DocumentStarts starts(segments, begin, lane);
      const std::int64_t last = min(begin + tile_tokens, segments.tokens) - 1,
                         end = DocumentBounds(segments, last, lane).end;
      for (int i = lane; i < tile_tokens; i += 32) {
        const std::int64_t t = begin + i;
        const int next = starts.distance_to_next(i);
        const std::int64_t stop = min(next < 64 ? t + next : end, segments.tokens);
        set(i,
            t > last                                    ? -1
            : direction == ScanDirection::left_to_right ? t - starts.start_of(i)
                                                        : stop - 1 - t,
            length);
      }
    }
  }
  /// Of the 16 tokens from `first` on, or of all. All lanes of a warp call these functions together.
  __device__ int least(int first, int lane) const { return __reduce_min_sync(~0u, of[first + lane % thread_sums]); }
  __device__ int most(int first, int lane) const { return __reduce_max_sync(~0u, of[first + lane % thread_sums]); }
  __device__ int farthest(int lane) const { return __reduce_max_sync(~0u, max(of[lane], of[lane + 32])); }

 private:
  __device__ void set(int i, std::int64_t lag, std::int64_t length) { of[i] = static_cast<int>(min(lag, length - 1)); }
};

/// The results of the convolution: y = gate⊙x; or for the product k⊙v the gradients of both factors, and d_halo.
template <class T>
struct DirectOutputs {
  Rows<const T> d_y;
  Rows<const T> gate, other_gate;
  Rows<T> y, other, d_halo;
};

template <class T>
__device__ void store(const Rows<T>& y, const Rows<const T>& gate, std::int64_t t, std::int64_t channel,
                      Accumulator<T> x) {
  if (y.data != nullptr) y(t, channel) = narrowed<T>(gate.data == nullptr ? x : widened(gate(t, channel)) * x);
}

/// A convolution: from left to right of k⊙v, from right to left of q⊙d_y.
/// block: 64 tokens by 32 channels
/// warp: 16 tokens by 32 channels
/// thread: 16 tokens of one channel
/// shared memory: 127 rows of the input and 64 taps for the current 64 lags, the TileReach
/// registers: 16 sums, a window of 31 input values
template <class T, ScanDirection direction>
__global__ void __launch_bounds__(threads)
    convolve_tile(DirectConvInputs<T> conv, DirectOutputs<T> out, std::int64_t first) {
  using R = Accumulator<T>;
  constexpr bool right = direction == ScanDirection::left_to_right;
  __shared__ R x[2 * tile_tokens - 1][tile_channels], h[tile_tokens][tile_channels];
  __shared__ TileReach reach;
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y), first_own = warp * thread_sums;
  const std::int64_t begin = first + std::int64_t{blockIdx.x} * tile_tokens,
                     channel = std::int64_t{blockIdx.y} * tile_channels + lane;
  if (warp == 0) reach.find(direction, conv.segments, begin, conv.length, lane);
  __syncthreads();
  // 1. The lags that some token of the block, some token of the thread, or every token of the thread reaches.
  R sum[thread_sums] = {};
  const int farthest = reach.farthest(lane), least = reach.least(first_own, lane), most = reach.most(first_own, lane);
  const std::int64_t read = min(channel, conv.channels - 1), group = read / conv.group_size;
  const R skip = conv.skip.present() ? conv.skip(read) : R(0);
  // 2. The lags, 64 at a time.
  for (int lag = 0; lag <= farthest; lag += tile_tokens) {
    const int lags = min(farthest - lag + 1, tile_tokens);
    const std::int64_t base = right ? begin - lag - (tile_tokens - 1) : begin + lag;  // the token of x[0]
    __syncthreads();
    if constexpr (right)
      fill_rows(x, tile_tokens - lags, 2 * tile_tokens - 1, [&](int i) { return conv.product(base + i, read); });
    else
      fill_rows(x, 0, tile_tokens + lags - 1, [&](int i) { return conv.output_gradient(out.d_y, base + i, read); });
    fill_rows(h, 0, lags, [&](int i) { return conv.taps(group, lag + i) + (lag + i == 0 ? skip : R(0)); });
    __syncthreads();
    // The thread's 16 tokens by 16 lags; without comparisons if every token reaches all of them.
    for (int part = 0; part < tile_tokens && lag + part <= most; part += thread_sums) {
      R window[2 * thread_sums - 1];
#pragma unroll
      for (int i = 0; i < 2 * thread_sums - 1; ++i)
        window[i] = x[right ? tile_tokens - thread_sums + first_own - part + i : first_own + part + i][lane];
      const int from = lag + part;
      if (least >= from + thread_sums - 1) {
#pragma unroll
        for (int j = 0; j < thread_sums; ++j) {
          const R tap = h[part + j][lane];
#pragma unroll
          for (int i = 0; i < thread_sums; ++i) sum[i] += tap * window[right ? thread_sums - 1 + i - j : i + j];
        }
      } else {
#pragma unroll
        for (int i = 0; i < thread_sums; ++i) {
          const int last = reach.of[first_own + i] - from;
#pragma unroll
          for (int j = 0; j < thread_sums; ++j)
            if (j <= last) sum[i] += h[part + j][lane] * window[right ? thread_sums - 1 + i - j : i + j];
        }
      }
    }
  }
  // 3. The outputs.
  if (channel >= conv.channels) return;
#pragma unroll
  for (int i = 0; i < thread_sums; ++i) {
    const std::int64_t t = begin + first_own + i;
    if (t < 0) {
      if (t > -conv.length) out.d_halo(conv.length - 1 + t, channel) = narrowed<T>(sum[i]);
    } else if (t < conv.segments.tokens) {
      store(out.y, out.gate, t, channel, sum[i]);
      store(out.other, out.other_gate, t, channel, sum[i]);
    }
  }
}

/// partial[part, j, channel] = Σ_t dc[t] (k⊙v)[t-j] over one part of the tokens.
/// block: 64 lags by 32 channels, part blockIdx.y of the tokens, 64 at a time
/// warp: 16 lags by 32 channels
/// thread: 16 lags of one channel
/// shared memory: 127 rows of k⊙v and 64 rows of dc, the TileReach
/// registers: 16 sums of the current 64 tokens and 16 float64 sums of the part, a window of 31 values of k⊙v
template <class T>
__global__ void __launch_bounds__(threads) correlate(DirectConvInputs<T> conv, Rows<const T> d_y, std::int64_t tiles,
                                                     std::int64_t part_tokens, Accumulator<T>* partial) {
  using R = Accumulator<T>;
  __shared__ R x[2 * tile_tokens - 1][tile_channels], dc[tile_tokens][tile_channels];
  __shared__ TileReach reach;
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y), first_own = warp * thread_sums;
  const std::int64_t channel = blockIdx.x % tiles * tile_channels + lane, lag = blockIdx.x / tiles * tile_tokens;
  const std::int64_t stop = min((blockIdx.y + 1) * part_tokens, conv.segments.tokens);
  const std::int64_t read = min(channel, conv.channels - 1);
  double sums[thread_sums] = {};
  for (std::int64_t begin = blockIdx.y * part_tokens; begin < stop; begin += tile_tokens) {
    __syncthreads();
    if (warp == 0) reach.find(ScanDirection::left_to_right, conv.segments, begin, conv.length, lane);
    __syncthreads();
    if (reach.farthest(lane) < lag) continue;
    const int lags = static_cast<int>(min(reach.farthest(lane) - lag + 1, std::int64_t{tile_tokens}));
    fill_rows(x, tile_tokens - lags, 2 * tile_tokens - 1,
              [&](int i) { return conv.product(begin - lag - (tile_tokens - 1) + i, read); });
    fill_rows(dc, 0, tile_tokens, [&](int i) { return conv.output_gradient(d_y, begin + i, read); });
    __syncthreads();
    const int from = static_cast<int>(lag) + first_own;
    R sum[thread_sums] = {};
    for (int tokens = 0; tokens < tile_tokens; tokens += thread_sums) {
      if (reach.most(tokens, lane) < from) continue;
      R window[2 * thread_sums - 1];
#pragma unroll
      for (int i = 0; i < 2 * thread_sums - 1; ++i)
        window[i] = x[tile_tokens - thread_sums + tokens - first_own + i][lane];
      const bool all = reach.least(tokens, lane) >= from + thread_sums - 1;
#pragma unroll
      for (int i = 0; i < thread_sums; ++i) {
        const R g = dc[tokens + i][lane];
        const int last = all ? thread_sums - 1 : reach.of[tokens + i] - from;
#pragma unroll
        for (int j = 0; j < thread_sums; ++j)
          if (j <= last) sum[j] += g * window[thread_sums - 1 + i - j];
      }
    }
#pragma unroll
    for (int j = 0; j < thread_sums; ++j) sums[j] += static_cast<double>(sum[j]);
  }
  if (channel >= conv.channels) return;
#pragma unroll
  for (int j = 0; j < thread_sums; ++j)
    if (lag + first_own + j < conv.length)
      partial[(blockIdx.y * conv.length + lag + first_own + j) * conv.channels + channel] = static_cast<R>(sums[j]);
}

template <class T, ScanDirection direction>
void convolve(const Stream& stream, const DirectConvInputs<T>& conv, const DirectOutputs<T>& out) {
  const std::int64_t before = out.d_halo.data == nullptr ? 0 : round_up(conv.length - 1, tile_tokens);
  const std::int64_t down = ceil_div(conv.segments.tokens + before, tile_tokens);
  const std::int64_t across = ceil_div(conv.channels, tile_channels);
  ensure(across < 65536, "blocked_conv: {} channels, expected at most {} on cuda", conv.channels,
         65535 * tile_channels);
  ensure(conv.length <= std::numeric_limits<int>::max(), "blocked_conv: {} taps, expected fewer than 2^31 on cuda",
         conv.length);
  if (down == 0) return;
  convolve_tile<T, direction>
      <<<dim3(grid_of(down), static_cast<unsigned>(across)), dim3(32, threads / 32), 0, native_of(stream)>>>(conv, out,
                                                                                                             -before);
  cuda_check(cudaGetLastError());
}

}  // namespace

template <class T>
void direct_conv_forward(const Stream& stream, const BlockedConvForward& args) {
  const Rows<const T> no_input = rows_of<const T>({});
  const Rows<T> no_output = rows_of<T>({});
  convolve<T, ScanDirection::left_to_right>(stream, DirectConvInputs<T>(args),
                                            {.d_y = no_input,
                                             .gate = rows_of<const T>(args.in.q),
                                             .other_gate = no_input,
                                             .y = rows_of<T>(args.y),
                                             .other = no_output,
                                             .d_halo = no_output});
}

template <class T>
void direct_conv_backward(const Stream& stream, const BlockedConvBackward& args) {
  using R = Accumulator<T>;
  const GatedConvGradients& to = args.gradients;
  const DirectConvInputs<T> conv(args);
  const Rows<const T> no_input = rows_of<const T>({}), d_y = rows_of<const T>(to.d_y);
  const Rows<T> no_output = rows_of<T>({});
  if (args.in.q.present())
    convolve<T, ScanDirection::left_to_right>(stream, conv,
                                              {.d_y = no_input,
                                               .gate = d_y,
                                               .other_gate = no_input,
                                               .y = rows_of<T>(to.d_q),
                                               .other = no_output,
                                               .d_halo = no_output});
  convolve<T, ScanDirection::right_to_left>(stream, conv,
                                            {.d_y = d_y,
                                             .gate = rows_of<const T>(args.in.v),
                                             .other_gate = conv.k,
                                             .y = rows_of<T>(args.in.k.present() ? to.d_k : TensorView{}),
                                             .other = rows_of<T>(to.d_v),
                                             .d_halo = rows_of<T>(conv.length > 1 ? args.d_halo : TensorView{})});
  if (conv.segments.tokens == 0) return;

  const std::int64_t tiles = ceil_div(conv.channels, tile_channels), lags = ceil_div(conv.length, tile_tokens);
  // Enough parts to fill the device; no part is short, and all take at most the memory of a large activation.
  constexpr std::int64_t target_blocks = 1024, min_part_tokens = 512, max_elements = std::int64_t{1} << 26;
  const std::int64_t wanted = std::min({target_blocks / (tiles * lags), conv.segments.tokens / min_part_tokens,
                                        max_elements / (conv.length * conv.channels)});
  const std::int64_t part_tiles = ceil_div(conv.segments.tokens, tile_tokens) / std::max<std::int64_t>(wanted, 1) + 1;
  const std::int64_t part_tokens = part_tiles * tile_tokens, parts = ceil_div(conv.segments.tokens, part_tokens);
  const Tensor partial(stream, dtype_of<R>, {parts, conv.length, conv.channels});
  auto* const sums = static_cast<R*>(partial.view().data);
  correlate<T>
      <<<dim3(grid_of(tiles * lags), static_cast<unsigned>(parts)), dim3(32, threads / 32), 0, native_of(stream)>>>(
          conv, d_y, tiles, part_tokens, sums);
  cuda_check(cudaGetLastError());
  add_filter_parts<R>(stream,
                      {.partial = sums,
                       .parts = parts,
                       .columns = conv.channels,
                       .skips = sums,
                       .skip_step = conv.length * conv.channels},
                      args.d_taps, args.in.skip.present() ? to.d_skip : TensorView{});
}

template void direct_conv_forward<double>(const Stream&, const BlockedConvForward&);
template void direct_conv_forward<float>(const Stream&, const BlockedConvForward&);
template void direct_conv_forward<bf16>(const Stream&, const BlockedConvForward&);
template void direct_conv_backward<double>(const Stream&, const BlockedConvBackward&);
template void direct_conv_backward<float>(const Stream&, const BlockedConvBackward&);
template void direct_conv_backward<bf16>(const Stream&, const BlockedConvBackward&);

}  // namespace causeway::cuda
