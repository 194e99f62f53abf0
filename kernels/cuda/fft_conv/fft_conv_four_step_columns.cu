#include <algorithm>

#include "kernels/core/integer.hpp"
#include "kernels/cuda/fft_conv/fft_conv_four_step.cuh"

namespace causeway::cuda {
namespace {

constexpr int threads = 256;

/// A block's columns of N1 = radix1 · radix2 points in shared memory, for `across` neighbouring t2 and `channels`
/// channels. Neighbouring t2 are neighbours in the workspace and in a filter's taps, channels are neighbours in a
/// token: a tile of filters has more t2 and fewer channels than one of tokens. Real and imaginary parts are stored
/// separately; point t1 of column t2 of channel c is at c · pitch + t1 · across + t2. With this pitch, 16 neighbours of
/// a row are in different banks, and so are packets of 8 channels.
template <int radix1_, int radix2_, bool of_filters>
struct ColumnTile {
  static constexpr int radix1 = radix1_, radix2 = radix2_, length = radix1 * radix2;
  static constexpr int columns = (length <= 16 ? 4096 : 8192) / length;
  static constexpr int across_of_tokens = columns / (length <= 64 ? 16 : 8);
  static constexpr int across = of_filters ? std::min(columns, std::max(64, across_of_tokens)) : across_of_tokens;
  static constexpr int channels = columns / across;
  static constexpr int pitch = length * across + 18;
  static constexpr int tiles_across = row_points / across;
  static constexpr int blocks = radix2 == 1 ? 4 : 3;  ///< resident blocks per multiprocessor

  float part[2][channels * pitch];
  Complex<float> twiddles[length];  ///< exp(πi t1/2N1), the part of U that depends on t1

  __device__ void fill_twiddles() {
    for (int i = static_cast<int>(threadIdx.x); i < length; i += threads)
      twiddles[i] = cis_pi(static_cast<float>(i) / (2 * length));
  }
  __device__ Complex<float> get(int at) const { return {part[0][at], part[1][at]}; }
  __device__ void put(int at, Complex<float> x) {
    part[0][at] = x.re;
    part[1][at] = x.im;
  }
};

/// First channel, t2 and document of a block's tile. Neighbouring blocks have neighbouring channels, so that blocks
/// that read the same cache lines run at the same time.
template <class Tile>
struct ColumnTileOrigin {
  std::int64_t channel, t2, document;

  __device__ explicit ColumnTileOrigin(std::int64_t channels) {
    const std::int64_t across = ceil_div(channels, Tile::channels), rest = blockIdx.x / across;
    channel = blockIdx.x % across * Tile::channels;
    t2 = rest % Tile::tiles_across * Tile::across;
    document = rest / Tile::tiles_across;
  }
};

/// Position in a document of point `at` = t1 · across + t2 of a tile.
template <class Tile>
__device__ std::int64_t position(std::int64_t t2, int at) {
  return static_cast<std::int64_t>(at / Tile::across) * row_points + t2 + at % Tile::across;
}

/// 2 if the second half of the 2N values, which the points have as imaginary parts, holds some of the `count` values; 1
/// if it is all zeros, or is not written: then it does not use the tile.
__device__ inline int halves_of(std::int64_t count, std::int64_t points) { return count > points ? 2 : 1; }

/// Fills a tile from the tokens of a batch, with zeros after the end of a document.
template <class T, int V>
struct TokenLoader {
  static constexpr bool of_filters = false;
  RowBatch batch;
  GatedInputRows<T> input;

  __device__ int halves(std::int64_t document) const { return halves_of(batch.extents[document].count, batch.points); }
  template <class Tile>
  __device__ void load(Tile& tile, const ColumnTileOrigin<Tile>& origin, int halves) const {
    constexpr int packets = Tile::channels / V;
    const Extent extent = batch.extents[origin.document];
    for (int part = 0; part < halves; ++part)
#pragma unroll 4
      for (int i = static_cast<int>(threadIdx.x); i < Tile::length * Tile::across * packets; i += threads) {
        const int at = i / packets, c = i % packets * V;
        const std::int64_t t = position<Tile>(origin.t2, at) + part * batch.points,
                           channel = batch.first_channel + origin.channel + c;
        float values[V]{};
        if (t < extent.count && origin.channel + c < batch.channels)
          input.template load<V>(extent.first + t, channel, values);
#pragma unroll
        for (int v = 0; v < V; ++v) tile.part[part][(c + v) * Tile::pitch + at] = values[v];
      }
  }
};

/// Points that a thread of TapLoader and TapWriter has at a time: with all channels of the tile 16 values.
template <class Tile>
constexpr int points_at_a_time = std::max(1, 16 / Tile::channels);

/// Fills a tile from the first `count` taps of the groups' filters; each group is treated as one channel. A thread has
/// the same points of all channels.
template <class T>
struct TapLoader {
  static constexpr bool of_filters = true;
  std::int64_t count;
  FilterGroups groups;
  Rows<const T> taps;

  __device__ int halves(std::int64_t) const { return 1; }  // no more than `points` taps are used
  template <class Tile>
  __device__ void load(Tile& tile, const ColumnTileOrigin<Tile>& origin, int) const {
    constexpr int many = points_at_a_time<Tile>;
    const std::int64_t first = groups.first + origin.channel;
    const int present = static_cast<int>(std::min<std::int64_t>(Tile::channels, groups.count - origin.channel));
#pragma unroll 1
    for (int at = static_cast<int>(threadIdx.x); at < Tile::length * Tile::across; at += many * threads)
#pragma unroll
      for (int p = 0; p < many; ++p) {
        const std::int64_t t = position<Tile>(origin.t2, at + p * threads);
        const int filters = t < count ? present : 0;
#pragma unroll
        for (int c = 0; c < Tile::channels; ++c)
          tile.part[0][c * Tile::pitch + at + p * threads] = c < filters ? static_cast<float>(taps(first + c, t)) : 0;
      }
  }
};

/// Writes a tile to one or two outputs of the tokens.
template <class T, int V>
struct TokenWriter {
  static constexpr bool of_filters = false;
  RowBatch batch;
  GatedOutputRows<T> first, second;
  bool two;

  __device__ int halves(std::int64_t document) const { return halves_of(batch.extents[document].count, batch.points); }
  template <class Tile>
  __device__ void write(const Tile& tile, const ColumnTileOrigin<Tile>& origin, int halves) const {
    constexpr int packets = Tile::channels / V;
    const Extent extent = batch.extents[origin.document];
    for (int part = 0; part < halves; ++part)
#pragma unroll 4
      for (int i = static_cast<int>(threadIdx.x); i < Tile::length * Tile::across * packets; i += threads) {
        const int at = i / packets, c = i % packets * V;
        const std::int64_t t = position<Tile>(origin.t2, at) + part * batch.points;
        if (t >= extent.count || origin.channel + c >= batch.channels) continue;
        float values[V];
#pragma unroll
        for (int v = 0; v < V; ++v) values[v] = tile.part[part][(c + v) * Tile::pitch + at];
        const std::int64_t token = extent.first + t, channel = batch.first_channel + origin.channel + c;
        first.template store<V>(token, channel, values);
        if (two) second.template store<V>(token, channel, values);
      }
  }
};

/// Adds a tile to the gradients of the taps. A thread has the same points of all channels. It loads their sums before
/// it stores the first: the compiler does not move a load before a store.
struct TapWriter {
  static constexpr bool of_filters = true;
  std::int64_t count;
  FilterGroups groups;
  Rows<float> taps;

  __device__ int halves(std::int64_t) const { return 1; }
  template <class Tile>
  __device__ void write(const Tile& tile, const ColumnTileOrigin<Tile>& origin, int) const {
    constexpr int many = points_at_a_time<Tile>;
    const std::int64_t first = groups.first + origin.channel;
    const int present = static_cast<int>(std::min<std::int64_t>(Tile::channels, groups.count - origin.channel));
#pragma unroll 1
    for (int at = static_cast<int>(threadIdx.x); at < Tile::length * Tile::across; at += many * threads) {
      float sums[many][Tile::channels];
#pragma unroll
      for (int p = 0; p < many; ++p) {
        const std::int64_t t = position<Tile>(origin.t2, at + p * threads);
        const int filters = t < count ? present : 0;
#pragma unroll
        for (int c = 0; c < Tile::channels; ++c)
          sums[p][c] = c < filters ? taps(first + c, t) + tile.part[0][c * Tile::pitch + at + p * threads] : 0;
      }
#pragma unroll
      for (int p = 0; p < many; ++p) {
        const std::int64_t t = position<Tile>(origin.t2, at + p * threads);
        const int filters = t < count ? present : 0;
#pragma unroll
        for (int c = 0; c < Tile::channels; ++c)
          if (c < filters) taps(first + c, t) = sums[p][c];
      }
    }
  }
};

/// Work item i of a stage: column t2 of channel c, and the index `other` of the radix that the stage does not
/// transform.
template <class Tile>
struct ColumnItem {
  int t2, c, other;
  int at;  ///< of the column's first point in the tile

  __device__ explicit ColumnItem(int i)
      : t2(i % Tile::across),
        c(i / Tile::across % Tile::channels),
        other(i / Tile::columns),
        at(c * Tile::pitch + t2) {}
};

extern __shared__ float4 column_storage[];  ///< a Tile

/// block: a tile, the columns of `across` neighbouring t2 by 8 or 16 channels of one document
/// thread: packets of tokens while it loads, then `radix1` points of a column, then `radix2` points of a column
/// shared memory: the tile
/// registers: the 2 to 16 points of a small transform
template <class Tile, class Loader>
__global__ void __launch_bounds__(threads, Tile::blocks)
    forward_columns_kernel(Loader loader, std::int64_t points, std::int64_t channels, Complex<float>* to) {
  constexpr int radix1 = Tile::radix1, radix2 = Tile::radix2;
  Tile& tile = *reinterpret_cast<Tile*>(column_storage);
  const ColumnTileOrigin<Tile> origin(channels);
  // 1. Load the tile.
  tile.fill_twiddles();
  const int halves = loader.halves(origin.document);
  loader.load(tile, origin, halves);
  __syncthreads();
  // 2. Multiply by the twiddle factors of U, then transforms of radix1 points.
  to += (origin.document * channels + origin.channel) * points + origin.t2;
  for (int i = static_cast<int>(threadIdx.x); i < radix2 * Tile::columns; i += threads) {
    const ColumnItem<Tile> column(i);
    Complex<float> x[radix1];
#pragma unroll
    for (int a = 0; a < radix1; ++a) {
      const int t1 = a * radix2 + column.other;
      const int at = column.at + t1 * Tile::across;
      x[a] = Complex<float>{tile.part[0][at], halves == 2 ? tile.part[1][at] : 0} * tile.twiddles[t1];
    }
    dft(x);
    if constexpr (radix2 == 1) {
      if (origin.channel + column.c < channels)
#pragma unroll
        for (int k = 0; k < radix1; ++k) to[column.c * points + k * row_points + column.t2] = x[k];
    } else {
      multiply_by_powers(x, cis_pi(-2.0f * static_cast<float>(column.other) / Tile::length));
#pragma unroll
      for (int k = 0; k < radix1; ++k) tile.put(column.at + (k * radix2 + column.other) * Tile::across, x[k]);
    }
  }
  // 3. Transforms of radix2 points.
  if constexpr (radix2 > 1) {
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < radix1 * Tile::columns; i += threads) {
      const ColumnItem<Tile> column(i);
      Complex<float> x[radix2];
#pragma unroll
      for (int b = 0; b < radix2; ++b) x[b] = tile.get(column.at + (column.other * radix2 + b) * Tile::across);
      dft(x);
      if (origin.channel + column.c < channels)
#pragma unroll
        for (int k = 0; k < radix2; ++k)
          to[column.c * points + static_cast<std::int64_t>(column.other + radix1 * k) * row_points + column.t2] = x[k];
    }
  }
}

/// The inverse of forward_columns_kernel, divided by N.
/// block: a tile, the columns of `across` neighbouring t2 by 8 or 16 channels of one document
/// thread: `radix2` points of a column, then `radix1` points of a column, then packets of tokens while it writes
/// shared memory: the tile
/// registers: the 2 to 16 points of a small transform
template <class Tile, class Writer>
__global__ void __launch_bounds__(threads, Tile::blocks)
    inverse_columns_kernel(Writer writer, std::int64_t points, std::int64_t channels, const Complex<float>* from) {
  constexpr int radix1 = Tile::radix1, radix2 = Tile::radix2;
  Tile& tile = *reinterpret_cast<Tile*>(column_storage);
  const ColumnTileOrigin<Tile> origin(channels);
  tile.fill_twiddles();
  from += (origin.document * channels + origin.channel) * points + origin.t2;
  const auto point = [&](const ColumnItem<Tile>& column, int k1) {
    return origin.channel + column.c < channels
               ? from[column.c * points + static_cast<std::int64_t>(k1) * row_points + column.t2]
               : Complex<float>{0, 0};
  };
  // 1. Transforms of radix2 points.
  if constexpr (radix2 > 1)
    for (int i = static_cast<int>(threadIdx.x); i < radix1 * Tile::columns; i += threads) {
      const ColumnItem<Tile> column(i);
      Complex<float> x[radix2];
#pragma unroll
      for (int k = 0; k < radix2; ++k) x[k] = point(column, column.other + radix1 * k);
      inverse_dft(x);
      multiply_by_powers(x, cis_pi(2.0f * static_cast<float>(column.other) / Tile::length));
#pragma unroll
      for (int b = 0; b < radix2; ++b) tile.put(column.at + (column.other * radix2 + b) * Tile::across, x[b]);
    }
  __syncthreads();
  // 2. Transforms of radix1 points, then multiply by the conjugate twiddle factors of U and 1 / N.
  const float scale = 1.0f / static_cast<float>(points);
  const int halves = writer.halves(origin.document);
  for (int i = static_cast<int>(threadIdx.x); i < radix2 * Tile::columns; i += threads) {
    const ColumnItem<Tile> column(i);
    Complex<float> x[radix1];
#pragma unroll
    for (int k = 0; k < radix1; ++k) {
      if constexpr (radix2 == 1)
        x[k] = point(column, k);
      else
        x[k] = tile.get(column.at + (k * radix2 + column.other) * Tile::across);
    }
    inverse_dft(x);
#pragma unroll
    for (int a = 0; a < radix1; ++a) {
      const int t1 = a * radix2 + column.other;
      const Complex<float> y = x[a] * conjugate(tile.twiddles[t1]);
      tile.part[0][column.at + t1 * Tile::across] = scale * y.re;
      if (halves == 2) tile.part[1][column.at + t1 * Tile::across] = scale * y.im;
    }
  }
  __syncthreads();
  // 3. Write the tile.
  writer.write(tile, origin, halves);
}

/// Calls body<ColumnTile<…>>() for columns of points / 4096 points.
template <bool of_filters, class Body>
void with_tile(std::int64_t points, const Body& body) {
  switch (points / row_points) {
    case 1:
      return body.template operator()<ColumnTile<1, 1, of_filters>>();
    case 2:
      return body.template operator()<ColumnTile<2, 1, of_filters>>();
    case 4:
      return body.template operator()<ColumnTile<4, 1, of_filters>>();
    case 8:
      return body.template operator()<ColumnTile<8, 1, of_filters>>();
    case 16:
      return body.template operator()<ColumnTile<16, 1, of_filters>>();
    case 32:
      return body.template operator()<ColumnTile<16, 2, of_filters>>();
    case 64:
      return body.template operator()<ColumnTile<16, 4, of_filters>>();
    case 128:
      return body.template operator()<ColumnTile<16, 8, of_filters>>();
    case max_column_points:
      return body.template operator()<ColumnTile<16, 16, of_filters>>();
    default:
      fail(ExitCode::internal, "fft_conv: no four-step FFT of {} points", points);
  }
}

/// Launches a kernel, one block for each tile. `body` is a TokenLoader, TapLoader, TokenWriter or TapWriter.
template <class Tile, class Body, class Points>
void launch_tiles(const Stream& stream, void (*kernel)(Body, std::int64_t, std::int64_t, Points*), const Body& body,
                  std::int64_t points, std::int64_t channels, std::int64_t documents, Points* data) {
  // More than 48 KiB of shared memory must be requested.
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Tile)));
  const unsigned grid = grid_of(ceil_div(channels, Tile::channels) * Tile::tiles_across * documents);
  kernel<<<grid, threads, sizeof(Tile), native_of(stream)>>>(body, points, channels, data);
  cuda_check(cudaGetLastError());
}

template <class Loader>
void launch_forward(const Stream& stream, const Loader& loader, std::int64_t points, std::int64_t channels,
                    std::int64_t documents, Complex<float>* to) {
  with_tile<Loader::of_filters>(points, [&]<class Tile> {
    launch_tiles<Tile>(stream, forward_columns_kernel<Tile, Loader>, loader, points, channels, documents, to);
  });
}

template <class Writer>
void launch_inverse(const Stream& stream, const Writer& writer, std::int64_t points, std::int64_t channels,
                    std::int64_t documents, const Complex<float>* from) {
  with_tile<Writer::of_filters>(points, [&]<class Tile> {
    launch_tiles<Tile>(stream, inverse_columns_kernel<Tile, Writer>, writer, points, channels, documents, from);
  });
}

}  // namespace

template <class T>
void forward_columns(const Stream& stream, const RowBatch& batch, const GatedInput<T>& from, Complex<float>* to) {
  dispatch_width<packet_width<T>>(packets_fit<T>(from.x.columns(), {from.x, from.gate}), [&]<int V> {
    launch_forward(stream, TokenLoader<T, V>{.batch = batch, .input = GatedInputRows<T>(from)}, batch.points,
                   batch.channels, batch.documents, to);
  });
}

template <class T>
void inverse_columns(const Stream& stream, const RowBatch& batch, const Complex<float>* from, const GatedOutput& first,
                     const GatedOutput& second) {
  const bool packets = packets_fit<T>(first.y.columns(), {first.gate, first.y, second.gate, second.y});
  dispatch_width<packet_width<T>>(packets, [&]<int V> {
    launch_inverse(stream,
                   TokenWriter<T, V>{.batch = batch,
                                     .first = GatedOutputRows<T>(first),
                                     .second = GatedOutputRows<T>(second),
                                     .two = second.y.present()},
                   batch.points, batch.channels, batch.documents, from);
  });
}

template <class T>
void forward_tap_columns(const Stream& stream, std::int64_t points, std::int64_t count, const FilterGroups& groups,
                         TensorView taps, Complex<float>* to) {
  const auto launch = [&]<class X> {
    launch_forward(stream, TapLoader<X>{count, groups, Rows<const X>(taps)}, points, groups.count, 1, to);
  };
  taps.dtype == DType::f32 ? launch.template operator()<float>() : launch.template operator()<T>();
}

void inverse_tap_columns(const Stream& stream, std::int64_t points, std::int64_t count, const FilterGroups& groups,
                         const Complex<float>* from, TensorView taps) {
  launch_inverse(stream, TapWriter{count, groups, Rows<float>(taps)}, points, groups.count, 1, from);
}

#define CAUSEWAY_FFT_CONV_FOUR_STEP_COLUMNS(T)                                                                     \
  template void forward_columns<T>(const Stream&, const RowBatch&, const GatedInput<T>&, Complex<float>*);         \
  template void inverse_columns<T>(const Stream&, const RowBatch&, const Complex<float>*, const GatedOutput&,      \
                                   const GatedOutput&);                                                            \
  template void forward_tap_columns<T>(const Stream&, std::int64_t, std::int64_t, const FilterGroups&, TensorView, \
                                       Complex<float>*)
CAUSEWAY_FFT_CONV_FOUR_STEP_COLUMNS(float);
CAUSEWAY_FFT_CONV_FOUR_STEP_COLUMNS(bf16);

}  // namespace causeway::cuda
