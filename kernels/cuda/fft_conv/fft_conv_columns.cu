#include "kernels/core/integer.hpp"
#include "kernels/cuda/fft_conv/fft_conv_two_steps.cuh"

namespace causeway::cuda {
namespace {

constexpr int threads = 256;

/// What a block holds: columns of first · second numbers for `across` neighbouring t2 by `channels`, real and imaginary
/// parts apart; number t1 of column t2 of channel c at c · pitch + t1 · across + t2. The pitch keeps both the 16
/// neighbours of a row and packets of 8 channels in different banks.
template <int first_, int second_>
struct Tile {
  static constexpr int first = first_, second = second_, length = first * second;
  static constexpr int across = length <= 16 ? 256 / length : length == 32 ? 16 : length <= 128 ? 8 : 4;
  static constexpr int channels = length <= 64 ? 16 : 8, columns = across * channels;
  static constexpr int pitch = length * across + 18;
  static constexpr int blocks_across = row_points / across;
  static constexpr int blocks = second == 1 ? 4 : 3;  ///< at once on a multiprocessor

  float part[2][channels * pitch];
  Complex<float> turns[length];  ///< exp(πi t1/2N1)

  __device__ void start() {
    for (int i = static_cast<int>(threadIdx.x); i < length; i += threads)
      turns[i] = unit(static_cast<float>(i) / (2 * length));
  }
  __device__ Complex<float> get(int at) const { return {part[0][at], part[1][at]}; }
  __device__ void put(int at, Complex<float> x) {
    part[0][at] = x.re;
    part[1][at] = x.im;
  }
};

/// A block's place: channels fastest, so that blocks that share lines of the tensors run together.
template <class Tile>
struct Origin {
  std::int64_t channel, t2, document;

  __device__ explicit Origin(std::int64_t channels) {
    const std::int64_t across = ceil_div(channels, Tile::channels), rest = blockIdx.x / across;
    channel = blockIdx.x % across * Tile::channels;
    t2 = rest % Tile::blocks_across * Tile::across;
    document = rest / Tile::blocks_across;
  }
};

/// Position in a document of number `at` of a tile's column.
template <class Tile>
__device__ std::int64_t position(std::int64_t t2, int at) {
  return static_cast<std::int64_t>(at / Tile::across) * row_points + t2 + at % Tile::across;
}

template <class T, int V>
struct TokenSource {
  Piece piece;
  Rows<const T> a, b;
  bool product, rounded;

  template <class Tile>
  __device__ void fill(Tile& tile, const Origin<Tile>& origin) const {
    constexpr int packets = Tile::channels / V;
    const Extent extent = piece.extents[origin.document];
#pragma unroll
    for (int part = 0; part < 2; ++part)
#pragma unroll 4
      for (int i = static_cast<int>(threadIdx.x); i < Tile::length * Tile::across * packets; i += threads) {
        const int at = i / packets, c = i % packets * V;
        const std::int64_t t = position<Tile>(origin.t2, at) + part * piece.points,
                           channel = piece.first_channel + origin.channel + c;
        float values[V]{};
        if (t < extent.count && origin.channel + c < piece.channels) {
          const auto x = a.template load<V>(extent.first + t, channel);
#pragma unroll
          for (int v = 0; v < V; ++v) values[v] = widened(x.at[v]);
          if (product) {
            const auto y = b.template load<V>(extent.first + t, channel);
#pragma unroll
            for (int v = 0; v < V; ++v) {
              values[v] *= widened(y.at[v]);
              if (rounded) values[v] = widened(narrowed<T>(values[v]));
            }
          }
        }
#pragma unroll
        for (int v = 0; v < V; ++v) tile.part[part][(c + v) * Tile::pitch + at] = values[v];
      }
  }
};

template <class T>
struct TapSource {
  std::int64_t points, count;
  Groups groups;
  Rows<const T> taps;

  template <class Tile>
  __device__ void fill(Tile& tile, const Origin<Tile>& origin) const {
    constexpr int numbers = Tile::length * Tile::across;
#pragma unroll
    for (int part = 0; part < 2; ++part)
#pragma unroll 4
      for (int i = static_cast<int>(threadIdx.x); i < numbers * Tile::channels; i += threads) {
        const int at = i % numbers, c = i / numbers;
        const std::int64_t t = position<Tile>(origin.t2, at) + part * points, g = origin.channel + c;
        tile.part[part][c * Tile::pitch + at] =
            t < count && g < groups.count ? static_cast<float>(taps(groups.first + g, t)) : 0;
      }
  }
};

template <class T, int V>
struct TokenSink {
  Piece piece;
  GatedRows<T> first, second;
  bool two;

  template <class Tile>
  __device__ void take(const Tile& tile, const Origin<Tile>& origin) const {
    constexpr int packets = Tile::channels / V;
    const Extent extent = piece.extents[origin.document];
#pragma unroll
    for (int part = 0; part < 2; ++part)
#pragma unroll 4
      for (int i = static_cast<int>(threadIdx.x); i < Tile::length * Tile::across * packets; i += threads) {
        const int at = i / packets, c = i % packets * V;
        const std::int64_t t = position<Tile>(origin.t2, at) + part * piece.points;
        if (t >= extent.count || origin.channel + c >= piece.channels) continue;
        float values[V];
#pragma unroll
        for (int v = 0; v < V; ++v) values[v] = tile.part[part][(c + v) * Tile::pitch + at];
        const std::int64_t token = extent.first + t, channel = piece.first_channel + origin.channel + c;
        first.template store<V>(token, channel, values);
        if (two) second.template store<V>(token, channel, values);
      }
  }
};

struct TapSink {
  std::int64_t points, count;
  Groups groups;
  Rows<float> taps;

  template <class Tile>
  __device__ void take(const Tile& tile, const Origin<Tile>& origin) const {
    constexpr int numbers = Tile::length * Tile::across;
#pragma unroll
    for (int part = 0; part < 2; ++part)
#pragma unroll 4
      for (int i = static_cast<int>(threadIdx.x); i < numbers * Tile::channels; i += threads) {
        const int at = i % numbers, c = i / numbers;
        const std::int64_t t = position<Tile>(origin.t2, at) + part * points, g = origin.channel + c;
        if (t < count && g < groups.count) taps(groups.first + g, t) += tile.part[part][c * Tile::pitch + at];
      }
  }
};

/// Of the i-th share of a stage: column t2 of channel c, and which of the other radix's numbers.
template <class Tile>
struct Column {
  int t2, c, other, at;

  __device__ explicit Column(int i)
      : t2(i % Tile::across),
        c(i / Tile::across % Tile::channels),
        other(i / Tile::columns),
        at(c * Tile::pitch + t2) {}
};

extern __shared__ float4 column_storage[];

template <class Tile, class Source>
__global__ void __launch_bounds__(threads, Tile::blocks)
    columns_in_kernel(Source source, std::int64_t points, std::int64_t channels, Complex<float>* to) {
  constexpr int first = Tile::first, second = Tile::second;
  Tile& tile = *reinterpret_cast<Tile*>(column_storage);
  const Origin<Tile> origin(channels);
  tile.start();
  source.fill(tile, origin);
  __syncthreads();
  to += (origin.document * channels + origin.channel) * points + origin.t2;
  for (int i = static_cast<int>(threadIdx.x); i < second * Tile::columns; i += threads) {
    const Column<Tile> column(i);
    Complex<float> x[first];
#pragma unroll
    for (int a = 0; a < first; ++a) {
      const int t1 = a * second + column.other;
      x[a] = tile.get(column.at + t1 * Tile::across) * tile.turns[t1];
    }
    dft(x);
    if constexpr (second == 1) {
      if (origin.channel + column.c < channels)
#pragma unroll
        for (int k = 0; k < first; ++k) to[column.c * points + k * row_points + column.t2] = x[k];
    } else {
      multiply_by_powers(x, unit(-2.0f * static_cast<float>(column.other) / Tile::length));
#pragma unroll
      for (int k = 0; k < first; ++k) tile.put(column.at + (k * second + column.other) * Tile::across, x[k]);
    }
  }
  if constexpr (second > 1) {
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < first * Tile::columns; i += threads) {
      const Column<Tile> column(i);
      Complex<float> x[second];
#pragma unroll
      for (int b = 0; b < second; ++b) x[b] = tile.get(column.at + (column.other * second + b) * Tile::across);
      dft(x);
      if (origin.channel + column.c < channels)
#pragma unroll
        for (int k = 0; k < second; ++k)
          to[column.c * points + static_cast<std::int64_t>(column.other + first * k) * row_points + column.t2] = x[k];
    }
  }
}

template <class Tile, class Sink>
__global__ void __launch_bounds__(threads, Tile::blocks)
    columns_out_kernel(Sink sink, std::int64_t points, std::int64_t channels, const Complex<float>* from) {
  constexpr int first = Tile::first, second = Tile::second;
  Tile& tile = *reinterpret_cast<Tile*>(column_storage);
  const Origin<Tile> origin(channels);
  tile.start();
  from += (origin.document * channels + origin.channel) * points + origin.t2;
  const auto number = [&](const Column<Tile>& column, int k1) {
    return origin.channel + column.c < channels
               ? from[column.c * points + static_cast<std::int64_t>(k1) * row_points + column.t2]
               : Complex<float>{0, 0};
  };
  if constexpr (second > 1)
    for (int i = static_cast<int>(threadIdx.x); i < first * Tile::columns; i += threads) {
      const Column<Tile> column(i);
      Complex<float> x[second];
#pragma unroll
      for (int k = 0; k < second; ++k) x[k] = number(column, column.other + first * k);
      dft_towards<true>(x);
      multiply_by_powers(x, unit(2.0f * static_cast<float>(column.other) / Tile::length));
#pragma unroll
      for (int b = 0; b < second; ++b) tile.put(column.at + (column.other * second + b) * Tile::across, x[b]);
    }
  __syncthreads();
  const float scale = 1.0f / static_cast<float>(points);
  for (int i = static_cast<int>(threadIdx.x); i < second * Tile::columns; i += threads) {
    const Column<Tile> column(i);
    Complex<float> x[first];
#pragma unroll
    for (int k = 0; k < first; ++k) {
      if constexpr (second == 1)
        x[k] = number(column, k);
      else
        x[k] = tile.get(column.at + (k * second + column.other) * Tile::across);
    }
    dft_towards<true>(x);
#pragma unroll
    for (int a = 0; a < first; ++a) {
      const int t1 = a * second + column.other;
      const Complex<float> y = x[a] * conjugate(tile.turns[t1]);
      tile.put(column.at + t1 * Tile::across, {scale * y.re, scale * y.im});
    }
  }
  __syncthreads();
  sink.take(tile, origin);
}

/// Calls body<Tile>() for columns of points / 4096 numbers.
template <class Body>
void with_tile(std::int64_t points, const Body& body) {
  switch (points / row_points) {
    case 1:
      return body.template operator()<Tile<1, 1>>();
    case 2:
      return body.template operator()<Tile<2, 1>>();
    case 4:
      return body.template operator()<Tile<4, 1>>();
    case 8:
      return body.template operator()<Tile<8, 1>>();
    case 16:
      return body.template operator()<Tile<16, 1>>();
    case 32:
      return body.template operator()<Tile<16, 2>>();
    case 64:
      return body.template operator()<Tile<16, 4>>();
    case 128:
      return body.template operator()<Tile<16, 8>>();
    case most_columns:
      return body.template operator()<Tile<16, 16>>();
    default:
      fail(ExitCode::internal, "{} numbers in two steps", points);
  }
}

template <class Tile>
unsigned grid_of_tiles(std::int64_t channels, std::int64_t documents) {
  return grid_of(ceil_div(channels, Tile::channels) * Tile::blocks_across * documents);
}

/// Kernels say how much shared memory they take where it is more than 48 KiB.
template <class Tile, class Kernel>
void allow(const Kernel& kernel) {
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Tile)));
}

template <class Source>
void launch_in(const Stream& stream, const Source& source, std::int64_t points, std::int64_t channels,
               std::int64_t documents, Complex<float>* to) {
  with_tile(points, [&]<class Tile> {
    const auto kernel = columns_in_kernel<Tile, Source>;
    allow<Tile>(kernel);
    kernel<<<grid_of_tiles<Tile>(channels, documents), threads, sizeof(Tile), native_of(stream)>>>(source, points,
                                                                                                   channels, to);
    cuda_check(cudaGetLastError());
  });
}

template <class Sink>
void launch_out(const Stream& stream, const Sink& sink, std::int64_t points, std::int64_t channels,
                std::int64_t documents, const Complex<float>* from) {
  with_tile(points, [&]<class Tile> {
    const auto kernel = columns_out_kernel<Tile, Sink>;
    allow<Tile>(kernel);
    kernel<<<grid_of_tiles<Tile>(channels, documents), threads, sizeof(Tile), native_of(stream)>>>(sink, points,
                                                                                                   channels, from);
    cuda_check(cudaGetLastError());
  });
}

}  // namespace

template <class T>
void columns_in(const Stream& stream, const Piece& piece, const Factors<T>& from, Complex<float>* to) {
  dispatch_width<packet_width<T>>(whole_packets<T>(from.a.columns(), {from.a, from.b}), [&]<int V> {
    launch_in(stream,
              TokenSource<T, V>{.piece = piece,
                                .a = Rows<const T>(from.a),
                                .b = Rows<const T>(from.b),
                                .product = from.b.present(),
                                .rounded = from.rounded},
              piece.points, piece.channels, piece.documents, to);
  });
}

template <class T>
void columns_out(const Stream& stream, const Piece& piece, const Complex<float>* from, const GatedOutput& first,
                 const GatedOutput& second) {
  const bool whole = whole_packets<T>(first.y.columns(), {first.gate, first.y, second.gate, second.y});
  dispatch_width<packet_width<T>>(whole, [&]<int V> {
    launch_out(
        stream,
        TokenSink<T, V>{
            .piece = piece, .first = GatedRows<T>(first), .second = GatedRows<T>(second), .two = second.y.present()},
        piece.points, piece.channels, piece.documents, from);
  });
}

template <class T>
void tap_columns_in(const Stream& stream, std::int64_t points, std::int64_t count, const Groups& groups,
                    TensorView taps, Complex<float>* to) {
  const auto launch = [&]<class X> {
    launch_in(stream, TapSource<X>{points, count, groups, Rows<const X>(taps)}, points, groups.count, 1, to);
  };
  taps.dtype == DType::f32 ? launch.template operator()<float>() : launch.template operator()<T>();
}

void tap_columns_out(const Stream& stream, std::int64_t points, std::int64_t count, const Groups& groups,
                     const Complex<float>* from, TensorView taps) {
  launch_out(stream, TapSink{points, count, groups, Rows<float>(taps)}, points, groups.count, 1, from);
}

#define CAUSEWAY_FFT_CONV_COLUMNS(T)                                                                   \
  template void columns_in<T>(const Stream&, const Piece&, const Factors<T>&, Complex<float>*);        \
  template void columns_out<T>(const Stream&, const Piece&, const Complex<float>*, const GatedOutput&, \
                               const GatedOutput&);                                                    \
  template void tap_columns_in<T>(const Stream&, std::int64_t, std::int64_t, const Groups&, TensorView, Complex<float>*)
CAUSEWAY_FFT_CONV_COLUMNS(float);
CAUSEWAY_FFT_CONV_COLUMNS(bf16);

}  // namespace causeway::cuda
