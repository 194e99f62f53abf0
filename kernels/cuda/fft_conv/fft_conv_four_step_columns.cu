#include "kernels/cuda/fft_conv/fft_conv_four_step_tile.cuh"

namespace causeway::cuda {
namespace {

extern __shared__ float4 column_storage[];  ///< a Tile

/// block: a tile, the columns of `across` neighbouring t2 by 8 or 16 channels of one document
/// thread: packets of tokens while it loads, then `radix1` points of a column, then `radix2` points of a column
/// shared memory: the tile
/// registers: the 2 to 16 points of a small transform
template <class Tile, class Loader>
__global__ void __launch_bounds__(Tile::threads, Tile::blocks)
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
  for (int i = static_cast<int>(threadIdx.x); i < radix2 * Tile::columns; i += Tile::threads) {
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
    for (int i = static_cast<int>(threadIdx.x); i < radix1 * Tile::columns; i += Tile::threads) {
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
__global__ void __launch_bounds__(Tile::threads, Tile::blocks)
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
    for (int i = static_cast<int>(threadIdx.x); i < radix1 * Tile::columns; i += Tile::threads) {
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
  for (int i = static_cast<int>(threadIdx.x); i < radix2 * Tile::columns; i += Tile::threads) {
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
template <Side side, class Body>
void with_tile(std::int64_t points, const Body& body) {
  switch (points / row_points) {
    case 1:
      return body.template operator()<ColumnTile<1, 1, side>>();
    case 2:
      return body.template operator()<ColumnTile<2, 1, side>>();
    case 4:
      return body.template operator()<ColumnTile<4, 1, side>>();
    case 8:
      return body.template operator()<ColumnTile<8, 1, side>>();
    case 16:
      return body.template operator()<ColumnTile<16, 1, side>>();
    case 32:
      return body.template operator()<ColumnTile<16, 2, side>>();
    case 64:
      return body.template operator()<ColumnTile<16, 4, side>>();
    case 128:
      return body.template operator()<ColumnTile<16, 8, side>>();
    case max_column_points:
      return body.template operator()<ColumnTile<16, 16, side>>();
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
  kernel<<<grid, Tile::threads, sizeof(Tile), native_of(stream)>>>(body, points, channels, data);
  cuda_check(cudaGetLastError());
}

template <class Loader>
void launch_forward(const Stream& stream, const Loader& loader, std::int64_t points, std::int64_t channels,
                    std::int64_t documents, Complex<float>* to) {
  with_tile<Loader::side>(points, [&]<class Tile> {
    launch_tiles<Tile>(stream, forward_columns_kernel<Tile, Loader>, loader, points, channels, documents, to);
  });
}

template <class Writer>
void launch_inverse(const Stream& stream, const Writer& writer, std::int64_t points, std::int64_t channels,
                    std::int64_t documents, const Complex<float>* from) {
  with_tile<Writer::side>(points, [&]<class Tile> {
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
