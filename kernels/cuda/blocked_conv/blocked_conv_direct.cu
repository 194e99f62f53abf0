#include <algorithm>
#include <limits>

#include "kernels/core/integer.hpp"
#include "kernels/cuda/blocked_conv/blocked_conv.cuh"
#include "kernels/cuda/device/documents.cuh"

// A block takes 64 tokens of 32 channels, a lane a channel, and goes through the lags 64 at a time: the 127 rows that
// these meet stand in shared memory, and a thread's 16 tokens take 16 lags from a window of 31 values in registers, 256
// multiply-adds for 47 reads. Lags that no token of the block reaches are not looked at: short documents cost little
// whatever the filter. d_taps likewise: 16 lags a thread, summed over 16 tokens at a time.
//
// Floor: 1 multiply-add an element and tap forward, 3 backward; f32, 128 taps, L 65536, D 4096: 1.2 and 3.5 ms at the
// 29.4 T/s of an H200. Reached at L 16384 without gates: 7 taps 0.61 and 1.3 ms, 128 taps 1.3 and 3.3 ms.
namespace causeway::cuda {
namespace {

constexpr int tile_tokens = 64, tile_channels = 32, threads = 128;
constexpr int own = 16;  // tokens, or lags of d_taps, that a thread keeps

template <class T>
struct DirectConv {
  using R = Accumulator<T>;
  Rows<const T> q, k, v, halo;
  Parameter<T> taps, skip;
  SegmentsView segments;
  std::int64_t channels, group_size, length;

  template <class Args>
  explicit DirectConv(const Args& args)
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

  /// k⊙v of token t, which stands in the halo where t < 0; zero beyond the run and the halo. Reads, from some row, in
  /// any case: without branches many rows are on their way at once.
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
  /// q⊙d_y of token t; zero outside of the run.
  __device__ R output_gradient(const Rows<const T>& d_y, std::int64_t t, std::int64_t channel) const {
    const bool in_run = t >= 0 && t < segments.tokens;
    const std::int64_t row = in_run ? t : 0;
    R x = widened(d_y(row, channel));
    if (q.data != nullptr) x *= widened(q(row, channel));
    return in_run ? x : R(0);
  }
};

/// to[i] = value(i) for first <= i < last, the block's warps in turn.
template <class R, class Value>
__device__ void fill_rows(R (*to)[tile_channels], int first, int last, const Value& value) {
  constexpr int together = 8, warps = threads / 32;
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = first + static_cast<int>(threadIdx.y); i < last; i += together * warps) {
    R values[together];
#pragma unroll
    for (int n = 0; n < together; ++n) values[n] = value(min(i + n * warps, last - 1));
#pragma unroll
    for (int n = 0; n < together; ++n)
      if (i + n * warps < last) to[i + n * warps][lane] = values[n];
  }
}

/// The farthest lag that each token of a tile meets inside its document, the run and the filter; -1 for none. Looking
/// right, it is that of the tokens that meet it.
struct Reach {
  int of[tile_tokens];

  /// One warp calls it.
  __device__ void find(ScanDirection direction, const SegmentsView& segments, std::int64_t begin, std::int64_t length,
                       int lane) {
    if (segments.count == 0 || segments.tokens == 0) {
      of[lane] = of[lane + 32] = -1;
    } else if (begin < 0) {  // in the halo, where nothing but the first document is
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
  /// Over the 16 tokens from `first` on. A warp calls these together.
  __device__ int least(int first, int lane) const { return __reduce_min_sync(~0u, of[first + lane % own]); }
  __device__ int most(int first, int lane) const { return __reduce_max_sync(~0u, of[first + lane % own]); }
  __device__ int farthest(int lane) const { return __reduce_max_sync(~0u, max(of[lane], of[lane + 32])); }

 private:
  __device__ void set(int i, std::int64_t lag, std::int64_t length) { of[i] = static_cast<int>(min(lag, length - 1)); }
};

/// y = gate⊙x, or both gradients of the product and d_halo.
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

template <class T, ScanDirection direction>
__global__ void __launch_bounds__(threads) convolve_tile(DirectConv<T> conv, DirectOutputs<T> out, std::int64_t first) {
  using R = Accumulator<T>;
  constexpr bool right = direction == ScanDirection::left_to_right;
  __shared__ R x[2 * tile_tokens - 1][tile_channels], h[tile_tokens][tile_channels];
  __shared__ Reach reach;
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y), mine = warp * own;
  const std::int64_t begin = first + std::int64_t{blockIdx.x} * tile_tokens,
                     channel = std::int64_t{blockIdx.y} * tile_channels + lane;
  if (warp == 0) reach.find(direction, conv.segments, begin, conv.length, lane);
  __syncthreads();
  R sum[own] = {};
  const int farthest = reach.farthest(lane), least = reach.least(mine, lane), most = reach.most(mine, lane);
  const std::int64_t read = min(channel, conv.channels - 1), group = read / conv.group_size;
  const R skip = conv.skip.present() ? conv.skip(read) : R(0);
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
    for (int part = 0; part < tile_tokens && lag + part <= most; part += own) {
      R window[2 * own - 1];
#pragma unroll
      for (int i = 0; i < 2 * own - 1; ++i)
        window[i] = x[right ? tile_tokens - own + mine - part + i : mine + part + i][lane];
      const int from = lag + part;
      if (least >= from + own - 1) {
#pragma unroll
        for (int j = 0; j < own; ++j) {
          const R tap = h[part + j][lane];
#pragma unroll
          for (int i = 0; i < own; ++i) sum[i] += tap * window[right ? own - 1 + i - j : i + j];
        }
      } else {
#pragma unroll
        for (int i = 0; i < own; ++i) {
          const int last = reach.of[mine + i] - from;
#pragma unroll
          for (int j = 0; j < own; ++j)
            if (j <= last) sum[i] += h[part + j][lane] * window[right ? own - 1 + i - j : i + j];
        }
      }
    }
  }
  if (channel >= conv.channels) return;
#pragma unroll
  for (int i = 0; i < own; ++i) {
    const std::int64_t t = begin + mine + i;
    if (t < 0) {
      if (t > -conv.length) out.d_halo(conv.length - 1 + t, channel) = narrowed<T>(sum[i]);
    } else if (t < conv.segments.tokens) {
      store(out.y, out.gate, t, channel, sum[i]);
      store(out.other, out.other_gate, t, channel, sum[i]);
    }
  }
}

/// Σ_t dc[t] (k⊙v)[t-j] of 64 lags j and 32 channels over one part of the tokens: partial[part][j][channel].
template <class T>
__global__ void __launch_bounds__(threads) correlate(DirectConv<T> conv, Rows<const T> d_y, std::int64_t tiles,
                                                     std::int64_t part_tokens, Accumulator<T>* partial) {
  using R = Accumulator<T>;
  __shared__ R x[2 * tile_tokens - 1][tile_channels], dc[tile_tokens][tile_channels];
  __shared__ Reach reach;
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y), mine = warp * own;
  const std::int64_t channel = blockIdx.x % tiles * tile_channels + lane, lag = blockIdx.x / tiles * tile_tokens;
  const std::int64_t stop = min((blockIdx.y + 1) * part_tokens, conv.segments.tokens);
  const std::int64_t read = min(channel, conv.channels - 1);
  double sums[own] = {};
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
    const int from = static_cast<int>(lag) + mine;
    R sum[own] = {};
    for (int tokens = 0; tokens < tile_tokens; tokens += own) {
      if (reach.most(tokens, lane) < from) continue;
      R window[2 * own - 1];
#pragma unroll
      for (int i = 0; i < 2 * own - 1; ++i) window[i] = x[tile_tokens - own + tokens - mine + i][lane];
      const bool all = reach.least(tokens, lane) >= from + own - 1;
#pragma unroll
      for (int i = 0; i < own; ++i) {
        const R g = dc[tokens + i][lane];
        const int last = all ? own - 1 : reach.of[tokens + i] - from;
#pragma unroll
        for (int j = 0; j < own; ++j)
          if (j <= last) sum[j] += g * window[own - 1 + i - j];
      }
    }
#pragma unroll
    for (int j = 0; j < own; ++j) sums[j] += static_cast<double>(sum[j]);
  }
  if (channel >= conv.channels) return;
#pragma unroll
  for (int j = 0; j < own; ++j)
    if (lag + mine + j < conv.length)
      partial[(blockIdx.y * conv.length + lag + mine + j) * conv.channels + channel] = static_cast<R>(sums[j]);
}

template <class T, ScanDirection direction>
void convolve(const Stream& stream, const DirectConv<T>& conv, const DirectOutputs<T>& out) {
  const std::int64_t before = out.d_halo.data == nullptr ? 0 : round_up(conv.length - 1, tile_tokens);
  const std::int64_t down = ceil_div(conv.segments.tokens + before, tile_tokens);
  const std::int64_t across = ceil_div(conv.channels, tile_channels);
  ensure(across < 65536, "blocked_conv of {} channels, expected at most {} on cuda", conv.channels,
         65535 * tile_channels);
  ensure(conv.length <= std::numeric_limits<int>::max(), "blocked_conv with {} taps, expected fewer than 2^31 on cuda",
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
  const Rows<const T> none = rows_of<const T>({});
  const Rows<T> nowhere = rows_of<T>({});
  convolve<T, ScanDirection::left_to_right>(stream, DirectConv<T>(args),
                                            {.d_y = none,
                                             .gate = rows_of<const T>(args.in.q),
                                             .other_gate = none,
                                             .y = rows_of<T>(args.y),
                                             .other = nowhere,
                                             .d_halo = nowhere});
}

template <class T>
void direct_conv_backward(const Stream& stream, const BlockedConvBackward& args) {
  using R = Accumulator<T>;
  const GatedConvGradients& to = args.gradients;
  const DirectConv<T> conv(args);
  const Rows<const T> none = rows_of<const T>({}), d_y = rows_of<const T>(to.d_y);
  const Rows<T> nowhere = rows_of<T>({});
  if (args.in.q.present())
    convolve<T, ScanDirection::left_to_right>(
        stream, conv,
        {.d_y = none, .gate = d_y, .other_gate = none, .y = rows_of<T>(to.d_q), .other = nowhere, .d_halo = nowhere});
  convolve<T, ScanDirection::right_to_left>(stream, conv,
                                            {.d_y = d_y,
                                             .gate = rows_of<const T>(args.in.v),
                                             .other_gate = conv.k,
                                             .y = rows_of<T>(args.in.k.present() ? to.d_k : TensorView{}),
                                             .other = rows_of<T>(to.d_v),
                                             .d_halo = rows_of<T>(conv.length > 1 ? args.d_halo : TensorView{})});
  if (conv.segments.tokens == 0) return;

  const std::int64_t tiles = ceil_div(conv.channels, tile_channels), lags = ceil_div(conv.length, tile_tokens);
  // Enough parts to fill the device, none of them short, and no more memory than a large activation takes.
  constexpr std::int64_t enough_blocks = 1024, shortest = 512, most_elements = std::int64_t{1} << 26;
  const std::int64_t wanted = std::min(
      {enough_blocks / (tiles * lags), conv.segments.tokens / shortest, most_elements / (conv.length * conv.channels)});
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
