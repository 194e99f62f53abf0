#include "kernels/core/integer.hpp"
#include "kernels/cuda/fft_conv/fft_conv.cuh"

// Between token-major tensors and rows of numbers a channel each. A block turns 64 numbers of 32 channels through
// shared memory; its columns are of an odd number of words, so that neither side meets in a bank.
namespace causeway::cuda {
namespace {

constexpr int tile_numbers = 64, tile_channels = 32, tile_pitch = tile_numbers + 1, threads = 256;

/// w^t = exp(πi t/2N).
template <class R>
__device__ Complex<R> turn(std::int64_t t, std::int64_t points) {
  R sine, cosine;
  const double half_turns = static_cast<double>(t) / static_cast<double>(2 * points);
  if constexpr (sizeof(R) == 8)
    ::sincospi(half_turns, &sine, &cosine);
  else
    ::sincospif(static_cast<float>(half_turns), &sine, &cosine);
  return {cosine, sine};
}

/// Where the numbers of a tile come from and go to, the same for all of its channels.
template <class R>
struct Places {
  std::int64_t token[2][tile_numbers];  ///< of the number's real and imaginary part; -1 beyond the document
  std::int64_t at[tile_numbers];        ///< of the first channel; -1 beyond the piece
  Complex<R> turned[tile_numbers];

  /// All threads of a block call it together. Number `first` and those behind it, documents one after the other.
  __device__ void fill(const Piece& piece, std::int64_t first) {
    if (threadIdx.x < tile_numbers) {
      const int i = static_cast<int>(threadIdx.x);
      const std::int64_t document = (first + i) / piece.points, t = (first + i) % piece.points;
      const bool here = document < piece.documents;
      const Extent extent = here ? piece.extents[document] : Extent{0, 0};
      at[i] = here ? document * piece.channels * piece.points + t : -1;
      token[0][i] = t < extent.count ? extent.first + t : -1;
      token[1][i] = t + piece.points < extent.count ? extent.first + t + piece.points : -1;
      turned[i] = turn<R>(t, piece.points);
    }
    __syncthreads();
  }
};

template <class R>
using Tile = R[2][tile_channels][tile_pitch];

/// This block's tile: tiles of channels first.
struct TileOrigin {
  std::int64_t number, channel;

  __device__ explicit TileOrigin(const Piece& piece) {
    const std::int64_t across = ceil_div(piece.channels, tile_channels);
    number = blockIdx.x / across * tile_numbers;
    channel = blockIdx.x % across * tile_channels;
  }
};

unsigned tiles_of(const Piece& piece) {
  const std::int64_t numbers = piece.documents * piece.points;
  return grid_of(ceil_div(numbers, tile_numbers) * ceil_div(piece.channels, tile_channels));
}

/// Calls body(part, i, c) for V channels from c on of number i, neighbouring threads for neighbouring channels.
template <int V, class Body>
__device__ void for_each_token(const Body& body) {
  constexpr int across = tile_channels / V;
#pragma unroll
  for (int part = 0; part < 2; ++part)
#pragma unroll
    for (int i = 0; i < tile_numbers * across; i += threads)
      body(part, (i + static_cast<int>(threadIdx.x)) / across, (i + static_cast<int>(threadIdx.x)) % across * V);
}

/// Calls body(i, c) for number i of channel c, neighbouring threads for neighbouring numbers.
template <class Body>
__device__ void for_each_number(const Body& body) {
#pragma unroll
  for (int i = 0; i < tile_numbers * tile_channels; i += threads)
    body((i + static_cast<int>(threadIdx.x)) % tile_numbers, (i + static_cast<int>(threadIdx.x)) / tile_numbers);
}

template <class T, int V, bool product, bool rounded>
__global__ void __launch_bounds__(threads)
    load_tiles(Piece piece, Rows<const T> a, Rows<const T> b, Complex<Accumulator<T>>* to) {
  using R = Accumulator<T>;
  __shared__ Places<R> places;
  __shared__ Tile<R> tile;
  const TileOrigin origin(piece);
  places.fill(piece, origin.number);
  for_each_token<V>([&](int part, int i, int c) {
    const std::int64_t token = places.token[part][i], channel = origin.channel + c;
    R values[V]{};
    if (token >= 0 && channel < piece.channels) {
      const auto x = a.template load<V>(token, piece.first_channel + channel);
      Packet<T, V> y;
      if constexpr (product) y = b.template load<V>(token, piece.first_channel + channel);
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
  for_each_number([&](int i, int c) {
    const std::int64_t channel = origin.channel + c, at = places.at[i];
    if (at < 0 || channel >= piece.channels) return;
    const Complex<R> w = places.turned[i];
    const R re = tile[0][c][i], im = tile[1][c][i];
    to[at + channel * piece.points] = {re * w.re - im * w.im, re * w.im + im * w.re};
  });
}

template <class T, int V, bool two>
__global__ void __launch_bounds__(threads)
    store_tiles(Piece piece, const Complex<Accumulator<T>>* from, GatedRows<T> first, GatedRows<T> second) {
  using R = Accumulator<T>;
  __shared__ Places<R> places;
  __shared__ Tile<R> tile;
  const TileOrigin origin(piece);
  places.fill(piece, origin.number);
  const R scale = R{1} / static_cast<R>(piece.points);
  for_each_number([&](int i, int c) {
    const std::int64_t channel = origin.channel + c;
    if (places.token[0][i] < 0 || channel >= piece.channels) return;
    const Complex<R> w = places.turned[i], z = from[places.at[i] + channel * piece.points];
    tile[0][c][i] = scale * (z.re * w.re + z.im * w.im);
    tile[1][c][i] = scale * (z.im * w.re - z.re * w.im);
  });
  __syncthreads();
  for_each_token<V>([&](int part, int i, int c) {
    const std::int64_t token = places.token[part][i], channel = piece.first_channel + origin.channel + c;
    if (token < 0 || origin.channel + c >= piece.channels) return;
    R values[V];
#pragma unroll
    for (int v = 0; v < V; ++v) values[v] = tile[part][c + v][i];
    first.template store<V>(token, channel, values);
    if constexpr (two) second.template store<V>(token, channel, values);
  });
}

/// A thread a number of a group's row.
template <class T, class R>
__global__ void __launch_bounds__(threads)
    load_tap_rows(std::int64_t points, std::int64_t count, Groups groups, Rows<const T> taps, Complex<R>* to) {
  const std::int64_t at = std::int64_t{blockIdx.x} * threads + threadIdx.x;
  const auto g = static_cast<std::int64_t>(at / points), t = at - g * points;
  if (g >= groups.count) return;
  const auto tap = [&](std::int64_t j) { return j < count ? static_cast<R>(taps(groups.first + g, j)) : R{0}; };
  const Complex<R> w = turn<R>(t, points);
  const R re = tap(t), im = tap(t + points);
  to[at] = {re * w.re - im * w.im, re * w.im + im * w.re};
}

template <class R>
__global__ void __launch_bounds__(threads)
    add_tap_rows(std::int64_t points, std::int64_t count, Groups groups, const Complex<R>* from, Rows<R> taps) {
  const std::int64_t at = std::int64_t{blockIdx.x} * threads + threadIdx.x;
  const auto g = static_cast<std::int64_t>(at / points), t = at - g * points;
  if (g >= groups.count) return;
  const Complex<R> w = turn<R>(t, points), z = from[at];
  const R scale = R{1} / static_cast<R>(points);
  if (t < count) taps(groups.first + g, t) += scale * (z.re * w.re + z.im * w.im);
  if (t + points < count) taps(groups.first + g, t + points) += scale * (z.im * w.re - z.re * w.im);
}

}  // namespace

template <class T>
void load_rows(const Stream& stream, const Piece& piece, const Factors<T>& from, Complex<Accumulator<T>>* to) {
  dispatch_width<packet_width<T>>(whole_packets<T>(from.a.columns(), {from.a, from.b}), [&]<int V> {
    const auto launch = [&]<bool product, bool rounded> {
      load_tiles<T, V, product, rounded>
          <<<tiles_of(piece), threads, 0, native_of(stream)>>>(piece, Rows<const T>(from.a), Rows<const T>(from.b), to);
      cuda_check(cudaGetLastError());
    };
    if (!from.b.present())
      launch.template operator()<false, false>();
    else if (from.rounded)
      launch.template operator()<true, true>();
    else
      launch.template operator()<true, false>();
  });
}

template <class T>
void store_rows(const Stream& stream, const Piece& piece, const Complex<Accumulator<T>>* from, const GatedOutput& first,
                const GatedOutput& second) {
  const bool whole = whole_packets<T>(first.y.columns(), {first.gate, first.y, second.gate, second.y});
  dispatch_width<packet_width<T>>(whole, [&]<int V> {
    const auto launch = [&]<bool two> {
      store_tiles<T, V, two>
          <<<tiles_of(piece), threads, 0, native_of(stream)>>>(piece, from, GatedRows<T>(first), GatedRows<T>(second));
      cuda_check(cudaGetLastError());
    };
    second.y.present() ? launch.template operator()<true>() : launch.template operator()<false>();
  });
}

template <class T>
void load_taps(const Stream& stream, std::int64_t points, std::int64_t count, const Groups& groups, TensorView taps,
               Complex<Accumulator<T>>* to) {
  using R = Accumulator<T>;
  const unsigned grid = grid_of(groups.count * points, threads);
  if (taps.dtype == dtype_of<R>)
    load_tap_rows<R, R><<<grid, threads, 0, native_of(stream)>>>(points, count, groups, Rows<const R>(taps), to);
  else
    load_tap_rows<T, R><<<grid, threads, 0, native_of(stream)>>>(points, count, groups, Rows<const T>(taps), to);
  cuda_check(cudaGetLastError());
}

template <class T>
void add_taps(const Stream& stream, std::int64_t points, std::int64_t count, const Groups& groups,
              const Complex<Accumulator<T>>* from, TensorView taps) {
  using R = Accumulator<T>;
  add_tap_rows<R><<<grid_of(groups.count * points, threads), threads, 0, native_of(stream)>>>(points, count, groups,
                                                                                              from, Rows<R>(taps));
  cuda_check(cudaGetLastError());
}

#define CAUSEWAY_FFT_CONV_ROWS(T)                                                                                     \
  template void load_rows<T>(const Stream&, const Piece&, const Factors<T>&, Complex<Accumulator<T>>*);               \
  template void store_rows<T>(const Stream&, const Piece&, const Complex<Accumulator<T>>*, const GatedOutput&,        \
                              const GatedOutput&);                                                                    \
  template void load_taps<T>(const Stream&, std::int64_t, std::int64_t, const Groups&, TensorView,                    \
                             Complex<Accumulator<T>>*);                                                               \
  template void add_taps<T>(const Stream&, std::int64_t, std::int64_t, const Groups&, const Complex<Accumulator<T>>*, \
                            TensorView)
CAUSEWAY_FFT_CONV_ROWS(double);
CAUSEWAY_FFT_CONV_ROWS(float);
CAUSEWAY_FFT_CONV_ROWS(bf16);

}  // namespace causeway::cuda
