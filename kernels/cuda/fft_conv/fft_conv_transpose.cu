#include "kernels/core/integer.hpp"
#include "kernels/cuda/fft_conv/fft_conv_cufft.cuh"

// Transposes between token-major tensors [tokens, channels] and the rows of complex points that cuFFT transforms, and
// multiplies by the twiddle factors w^t or their conjugates (U and U* of fft_conv.cuh). A tile has an odd pitch, so
// that neither the accesses along channels nor those along points have bank conflicts.
namespace causeway::cuda {
namespace {

constexpr int tile_points = 64, tile_channels = 32, tile_pitch = tile_points + 1, threads = 256;

/// w^t = exp(πi t/2N).
template <class R>
__device__ Complex<R> twiddle(std::int64_t t, std::int64_t points) {
  R sine, cosine;
  const double multiple_of_pi = static_cast<double>(t) / static_cast<double>(2 * points);
  if constexpr (sizeof(R) == 8)
    ::sincospi(multiple_of_pi, &sine, &cosine);
  else
    ::sincospif(static_cast<float>(multiple_of_pi), &sine, &cosine);
  return {cosine, sine};
}

/// For each point of a tile its tokens, its offset and its twiddle factor. They are the same for all channels.
template <class R>
struct PointTable {
  std::int64_t token[2][tile_points];  ///< of the real and of the imaginary part; -1 beyond the document
  std::int64_t offset[tile_points];    ///< in the batch, for its first channel; -1 beyond the batch
  Complex<R> twiddles[tile_points];

  /// For the points from `first` on; points are numbered document by document. All threads of a block call it together.
  __device__ void fill(const RowBatch& batch, std::int64_t first) {
    if (threadIdx.x < tile_points) {
      const int i = static_cast<int>(threadIdx.x);
      const std::int64_t document = (first + i) / batch.points, t = (first + i) % batch.points;
      const bool exists = document < batch.documents;
      const Extent extent = exists ? batch.extents[document] : Extent{0, 0};
      offset[i] = exists ? document * batch.channels * batch.points + t : -1;
      token[0][i] = t < extent.count ? extent.first + t : -1;
      token[1][i] = t + batch.points < extent.count ? extent.first + t + batch.points : -1;
      twiddles[i] = twiddle<R>(t, batch.points);
    }
    __syncthreads();
  }
};

template <class R>
using RowTile = R[2][tile_channels][tile_pitch];  ///< real parts, imaginary parts

/// First point and first channel of this block's tile. Neighbouring blocks have neighbouring channels.
struct RowTileOrigin {
  std::int64_t point, channel;

  __device__ explicit RowTileOrigin(const RowBatch& batch) {
    const std::int64_t across = ceil_div(batch.channels, tile_channels);
    point = blockIdx.x / across * tile_points;
    channel = blockIdx.x % across * tile_channels;
  }
};

unsigned tiles_of(const RowBatch& batch) {
  const std::int64_t points = batch.documents * batch.points;
  return grid_of(ceil_div(points, tile_points) * ceil_div(batch.channels, tile_channels));
}

/// Calls body(part, i, c) for part `part` of point i and the V channels from c on. Neighbouring threads get
/// neighbouring channels.
template <int V, class Body>
__device__ void for_each_token(const Body& body) {
  constexpr int across = tile_channels / V;
#pragma unroll
  for (int part = 0; part < 2; ++part)
#pragma unroll
    for (int i = 0; i < tile_points * across; i += threads)
      body(part, (i + static_cast<int>(threadIdx.x)) / across, (i + static_cast<int>(threadIdx.x)) % across * V);
}

/// Calls body(i, c) for point i of channel c. Neighbouring threads get neighbouring points.
template <class Body>
__device__ void for_each_point(const Body& body) {
#pragma unroll
  for (int i = 0; i < tile_points * tile_channels; i += threads)
    body((i + static_cast<int>(threadIdx.x)) % tile_points, (i + static_cast<int>(threadIdx.x)) / tile_points);
}

/// load_rows. `product`: x⊙gate is read instead of x; `rounded`: that product is rounded to T.
/// block: 64 points by 32 channels of a batch
/// thread: first packets of V channels of tokens, then points of channels
/// shared memory: the points as [part, channel, point], and the PointTable
template <class T, int V, bool product, bool rounded>
__global__ void __launch_bounds__(threads)
    load_tiles(RowBatch batch, Rows<const T> a, Rows<const T> b, Complex<Accumulator<T>>* to) {
  using R = Accumulator<T>;
  __shared__ PointTable<R> table;
  __shared__ RowTile<R> tile;
  const RowTileOrigin origin(batch);
  table.fill(batch, origin.point);
  // 1. Tokens to shared memory; zeros after the end of a document.
  for_each_token<V>([&](int part, int i, int c) {
    const std::int64_t token = table.token[part][i], channel = origin.channel + c;
    R values[V]{};
    if (token >= 0 && channel < batch.channels) {
      const auto x = a.template load<V>(token, batch.first_channel + channel);
      Packet<T, V> y;
      if constexpr (product) y = b.template load<V>(token, batch.first_channel + channel);
#pragma unroll
      for (int v = 0; v < V; ++v) {
        values[v] = widened(x.at[v]);
        if constexpr (product) values[v] *= widened(y.at[v]);
        if constexpr (product && rounded) values[v] = widened(narrowed<T>(values[v]));
      }
    }
#pragma unroll
    for (int v = 0; v < V; ++v) tile[part][c + v][i] = values[v];
  });
  __syncthreads();
  // 2. Points times twiddle factors to the rows.
  for_each_point([&](int i, int c) {
    const std::int64_t channel = origin.channel + c, offset = table.offset[i];
    if (offset < 0 || channel >= batch.channels) return;
    const Complex<R> w = table.twiddles[i];
    const R re = tile[0][c][i], im = tile[1][c][i];
    to[offset + channel * batch.points] = {re * w.re - im * w.im, re * w.im + im * w.re};
  });
}

/// store_rows. `two`: there is a second output.
/// block: 64 points by 32 channels of a batch
/// thread: first points of channels, then packets of V channels of tokens
/// shared memory: the points as [part, channel, point], and the PointTable
template <class T, int V, bool two>
__global__ void __launch_bounds__(threads) store_tiles(RowBatch batch, const Complex<Accumulator<T>>* from,
                                                       GatedOutputRows<T> first, GatedOutputRows<T> second) {
  using R = Accumulator<T>;
  __shared__ PointTable<R> table;
  __shared__ RowTile<R> tile;
  const RowTileOrigin origin(batch);
  table.fill(batch, origin.point);
  const R scale = R{1} / static_cast<R>(batch.points);
  // 1. Points times conjugate twiddle factors to shared memory.
  for_each_point([&](int i, int c) {
    const std::int64_t channel = origin.channel + c;
    if (table.token[0][i] < 0 || channel >= batch.channels) return;
    const Complex<R> w = table.twiddles[i], z = from[table.offset[i] + channel * batch.points];
    tile[0][c][i] = scale * (z.re * w.re + z.im * w.im);
    tile[1][c][i] = scale * (z.im * w.re - z.re * w.im);
  });
  __syncthreads();
  // 2. Gated outputs of the tokens.
  for_each_token<V>([&](int part, int i, int c) {
    const std::int64_t token = table.token[part][i], channel = batch.first_channel + origin.channel + c;
    if (token < 0 || origin.channel + c >= batch.channels) return;
    R values[V];
#pragma unroll
    for (int v = 0; v < V; ++v) values[v] = tile[part][c + v][i];
    first.template store<V>(token, channel, values);
    if constexpr (two) second.template store<V>(token, channel, values);
  });
}

/// load_taps.
/// thread: one point of the row of a group
template <class T, class R>
__global__ void __launch_bounds__(threads)
    load_tap_rows(std::int64_t points, std::int64_t count, FilterGroups groups, Rows<const T> taps, Complex<R>* to) {
  const std::int64_t at = std::int64_t{blockIdx.x} * threads + threadIdx.x;
  const std::int64_t g = at / points, t = at - g * points;
  if (g >= groups.count) return;
  const auto tap = [&](std::int64_t j) { return j < count ? static_cast<R>(taps(groups.first + g, j)) : R{0}; };
  const Complex<R> w = twiddle<R>(t, points);
  const R re = tap(t), im = tap(t + points);
  to[at] = {re * w.re - im * w.im, re * w.im + im * w.re};
}

/// add_taps.
/// thread: one point of the row of a group
template <class R>
__global__ void __launch_bounds__(threads)
    add_tap_rows(std::int64_t points, std::int64_t count, FilterGroups groups, const Complex<R>* from, Rows<R> taps) {
  const std::int64_t at = std::int64_t{blockIdx.x} * threads + threadIdx.x;
  const std::int64_t g = at / points, t = at - g * points;
  if (g >= groups.count) return;
  const Complex<R> w = twiddle<R>(t, points), z = from[at];
  const R scale = R{1} / static_cast<R>(points);
  if (t < count) taps(groups.first + g, t) += scale * (z.re * w.re + z.im * w.im);
  if (t + points < count) taps(groups.first + g, t + points) += scale * (z.im * w.re - z.re * w.im);
}

}  // namespace

template <class T>
void load_rows(const Stream& stream, const RowBatch& batch, const GatedInput<T>& from, Complex<Accumulator<T>>* to) {
  dispatch_width<packet_width<T>>(packets_fit<T>(from.x.columns(), {from.x, from.gate}), [&]<int V> {
    const auto launch = [&]<bool product, bool rounded> {
      load_tiles<T, V, product, rounded><<<tiles_of(batch), threads, 0, native_of(stream)>>>(
          batch, Rows<const T>(from.x), Rows<const T>(from.gate), to);
      cuda_check(cudaGetLastError());
    };
    if (!from.gate.present())
      launch.template operator()<false, false>();
    else if (from.rounded)
      launch.template operator()<true, true>();
    else
      launch.template operator()<true, false>();
  });
}

template <class T>
void store_rows(const Stream& stream, const RowBatch& batch, const Complex<Accumulator<T>>* from,
                const GatedOutput& first, const GatedOutput& second) {
  const bool packets = packets_fit<T>(first.y.columns(), {first.gate, first.y, second.gate, second.y});
  dispatch_width<packet_width<T>>(packets, [&]<int V> {
    const auto launch = [&]<bool two> {
      store_tiles<T, V, two><<<tiles_of(batch), threads, 0, native_of(stream)>>>(batch, from, GatedOutputRows<T>(first),
                                                                                 GatedOutputRows<T>(second));
      cuda_check(cudaGetLastError());
    };
    second.y.present() ? launch.template operator()<true>() : launch.template operator()<false>();
  });
}

template <class T>
void load_taps(const Stream& stream, std::int64_t points, std::int64_t count, const FilterGroups& groups,
               TensorView taps, Complex<Accumulator<T>>* to) {
  using R = Accumulator<T>;
  const unsigned grid = grid_of(groups.count * points, threads);
  if (taps.dtype == dtype_of<R>)
    load_tap_rows<R, R><<<grid, threads, 0, native_of(stream)>>>(points, count, groups, Rows<const R>(taps), to);
  else
    load_tap_rows<T, R><<<grid, threads, 0, native_of(stream)>>>(points, count, groups, Rows<const T>(taps), to);
  cuda_check(cudaGetLastError());
}

template <class T>
void add_taps(const Stream& stream, std::int64_t points, std::int64_t count, const FilterGroups& groups,
              const Complex<Accumulator<T>>* from, TensorView taps) {
  using R = Accumulator<T>;
  add_tap_rows<R><<<grid_of(groups.count * points, threads), threads, 0, native_of(stream)>>>(points, count, groups,
                                                                                              from, Rows<R>(taps));
  cuda_check(cudaGetLastError());
}

#define CAUSEWAY_FFT_CONV_ROWS(T)                                                                                 \
  template void load_rows<T>(const Stream&, const RowBatch&, const GatedInput<T>&, Complex<Accumulator<T>>*);     \
  template void store_rows<T>(const Stream&, const RowBatch&, const Complex<Accumulator<T>>*, const GatedOutput&, \
                              const GatedOutput&);                                                                \
  template void load_taps<T>(const Stream&, std::int64_t, std::int64_t, const FilterGroups&, TensorView,          \
                             Complex<Accumulator<T>>*);                                                           \
  template void add_taps<T>(const Stream&, std::int64_t, std::int64_t, const FilterGroups&,                       \
                            const Complex<Accumulator<T>>*, TensorView)
CAUSEWAY_FFT_CONV_ROWS(double);
CAUSEWAY_FFT_CONV_ROWS(float);
CAUSEWAY_FFT_CONV_ROWS(bf16);

}  // namespace causeway::cuda
