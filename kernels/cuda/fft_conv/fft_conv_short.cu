#include "kernels/cuda/fft_conv/fft_conv_short.cuh"

#include "kernels/core/integer.hpp"

namespace causeway::cuda {
namespace {

constexpr int threads = 256, held = 16, block_channels = 8;

/// Rows of N = 16 · 16 · last numbers, or 16 · last below 256, a team of N/16 threads each; number s of a row stands at
/// s + s/16 of its place in shared memory, so that none of the strides meets itself in a bank. Thread r comes with the
/// numbers t = a N/16 + r and leaves with those at 16 r + i of a spectrum in no particular order.
template <int points_>
struct Shape {
  static constexpr int points = points_, team = points / held, rows = threads / team;
  static constexpr bool three = points >= 256;
  static constexpr int last = three ? points / 256 : points / held;
  static constexpr int pitch = points + points / held;
};

__device__ __forceinline__ int place(int s) { return s + s / held; }

/// A thread's row in shared memory and its place in the team.
template <class S>
struct Team {
  Complex<float>* row;
  int r, index;

  __device__ explicit Team(Complex<float>* storage)
      : r(static_cast<int>(threadIdx.x) % S::team), index(static_cast<int>(threadIdx.x) / S::team) {
    row = storage + index * S::pitch;
  }
  /// Numbers `stride` apart.
  __device__ __forceinline__ void get(Complex<float> (&x)[held], int first, int stride) const {
#pragma unroll
    for (int i = 0; i < held; ++i) x[i] = row[place(first + i * stride)];
  }
  __device__ __forceinline__ void put(const Complex<float> (&x)[held], int first, int stride) const {
#pragma unroll
    for (int i = 0; i < held; ++i) row[place(first + i * stride)] = x[i];
  }
};

template <int n, bool inverse>
__device__ __forceinline__ void dft_groups(Complex<float> (&x)[held]) {
#pragma unroll
  for (int first = 0; first < held; first += n) {
    Complex<float> group[n];
#pragma unroll
    for (int i = 0; i < n; ++i) group[i] = x[first + i];
    dft_towards<inverse>(group);
#pragma unroll
    for (int i = 0; i < n; ++i) x[first + i] = group[i];
  }
}

constexpr float turn_step = 1.0f / (2 * held);  ///< w^(N/16) in half turns

/// From numbers turned by w^t to a spectrum, both in registers. All threads of the block call it together; none may
/// still read in shared memory numbers of another.
template <class S>
__device__ __forceinline__ void row_forward(Complex<float> (&x)[held], const Team<S>& team) {
  const int r = team.r;
  dft(x);
  multiply_by_powers(x, unit(-2.0f * static_cast<float>(r) / S::points));
  team.put(x, r, S::team);
  __syncthreads();
  if constexpr (S::three) {
    const int first = r / S::last * S::team + r % S::last;
    team.get(x, first, S::last);
    dft(x);
    if constexpr (S::last > 1) {
      multiply_by_powers(x, unit(-2.0f * static_cast<float>(r % S::last) / S::team));
      team.put(x, first, S::last);
      __syncthreads();
    }
  }
  if constexpr (!S::three || S::last > 1) {
    team.get(x, held * r, 1);
    dft_groups<S::last, false>(x);
  }
}

/// From the numbers in shared memory, which the block has met behind.
template <class S>
__device__ __forceinline__ void forward(Complex<float> (&x)[held], const Team<S>& team) {
  team.get(x, team.r, S::team);
  multiply_by_powers(x, unit(static_cast<float>(team.r) / (2 * S::points)), unit(turn_step));
  row_forward(x, team);
}

/// Back, times N, under the same conditions.
template <class S>
__device__ __forceinline__ void row_inverse(Complex<float> (&x)[held], const Team<S>& team) {
  const int r = team.r;
  if constexpr (!S::three || S::last > 1) {
    dft_groups<S::last, true>(x);
    team.put(x, held * r, 1);
    __syncthreads();
  }
  if constexpr (S::three) {
    const int first = r / S::last * S::team + r % S::last;
    if constexpr (S::last > 1) {
      team.get(x, first, S::last);
      multiply_by_powers(x, unit(2.0f * static_cast<float>(r % S::last) / S::team));
    }
    dft_towards<true>(x);
    team.put(x, first, S::last);
    __syncthreads();
  }
  team.get(x, r, S::team);
  multiply_by_powers(x, unit(2.0f * static_cast<float>(r) / S::points));
  dft_towards<true>(x);
}

/// Back, turned and / N, into shared memory. The block meets at the end.
template <class S>
__device__ __forceinline__ void inverse(Complex<float> (&x)[held], const Team<S>& team) {
  row_inverse(x, team);
  Complex<float> back = unit(-static_cast<float>(team.r) / (2 * S::points));
  back = {back.re / S::points, back.im / S::points};
  multiply_by_powers(x, back, unit(-turn_step));
  team.put(x, team.r, S::team);
  __syncthreads();
}

/// The rest of a block's rows are channels.
template <class S>
constexpr int documents_of = S::rows / block_channels;

/// The documents and channels of a block: row document · block_channels + channel.
template <class S>
struct Place {
  std::int64_t document, channel;

  __device__ Place(const Piece& piece, std::int64_t across, std::int64_t down)
      : document(down * documents_of<S>), channel(across * block_channels) {}
};

/// body(row's first number in shared memory, its position t, token of t, channel of the piece, channels at once) for
/// everything of the block; tokens beyond a document's end are -1.
template <class S, int V, class Body>
__device__ __forceinline__ void for_each_packet_of(const Piece& piece, const Place<S>& at, const Body& body) {
  constexpr int packets = block_channels / V;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < documents_of<S> * S::points * packets; i += threads) {
    const int c = i % packets * V, t = i / packets % S::points, d = i / packets / S::points;
    const Extent extent = at.document + d < piece.documents ? piece.extents[at.document + d] : Extent{0, 0};
    if (at.channel + c >= piece.channels) {
      body((d * block_channels + c) * S::pitch, t, std::int64_t{-1}, std::int64_t{-1}, at.channel);
      continue;
    }
    body((d * block_channels + c) * S::pitch, t, t < extent.count ? extent.first + t : -1,
         t + S::points < extent.count ? extent.first + t + S::points : -1, at.channel + c);
  }
}

template <class T>
struct Source {
  Rows<const T> a, b;
  bool product, rounded;

  explicit Source(const Factors<T>& of) : a(of.a), b(of.b), product(of.b.present()), rounded(of.rounded) {}
  template <int V>
  __device__ __forceinline__ void load(std::int64_t token, std::int64_t channel, float (&values)[V]) const {
#pragma unroll
    for (int v = 0; v < V; ++v) values[v] = 0;
    if (token < 0) return;
    const auto x = a.template load<V>(token, channel);
#pragma unroll
    for (int v = 0; v < V; ++v) values[v] = widened(x.at[v]);
    if (!product) return;
    const auto y = b.template load<V>(token, channel);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      values[v] *= widened(y.at[v]);
      if (rounded) values[v] = widened(narrowed<T>(values[v]));
    }
  }
};

template <class S, class T, int V>
__device__ __forceinline__ void load_packets(const Piece& piece, const Place<S>& at, const Source<T>& from,
                                             Complex<float>* storage) {
  for_each_packet_of<S, V>(piece, at, [&](int row, int t, std::int64_t low, std::int64_t high, std::int64_t channel) {
    float re[V], im[V];
    from.template load<V>(low, piece.first_channel + channel, re);
    from.template load<V>(high, piece.first_channel + channel, im);
#pragma unroll
    for (int v = 0; v < V; ++v) storage[row + v * S::pitch + place(t)] = {re[v], im[v]};
  });
}

template <class S, class T, int V>
__device__ __forceinline__ void store_packets(const Piece& piece, const Place<S>& at, const GatedRows<T>& to,
                                              const Complex<float>* storage) {
  for_each_packet_of<S, V>(piece, at, [&](int row, int t, std::int64_t low, std::int64_t high, std::int64_t channel) {
    float re[V], im[V];
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const Complex<float> z = storage[row + v * S::pitch + place(t)];
      re[v] = z.re;
      im[v] = z.im;
    }
    if (low >= 0) to.template store<V>(low, piece.first_channel + channel, re);
    if (high >= 0) to.template store<V>(high, piece.first_channel + channel, im);
  });
}

template <class S, class T>
__device__ __forceinline__ void load(const Piece& piece, const Place<S>& at, const Source<T>& from, bool whole,
                                     Complex<float>* storage) {
  whole ? load_packets<S, T, packet_width<T>>(piece, at, from, storage)
        : load_packets<S, T, 1>(piece, at, from, storage);
}
template <class S, class T>
__device__ __forceinline__ void store(const Piece& piece, const Place<S>& at, const GatedRows<T>& to, bool whole,
                                      const Complex<float>* storage) {
  whole ? store_packets<S, T, packet_width<T>>(piece, at, to, storage) : store_packets<S, T, 1>(piece, at, to, storage);
}

/// A thread's row as a document and a channel of the piece, and its group's filter.
template <class S>
struct Own {
  std::int64_t channel;
  bool present;  ///< the channel

  __device__ Own(const Piece& piece, const Place<S>& at, const Team<S>& team)
      : channel(at.channel + team.index % block_channels), present(channel < piece.channels) {}
  __device__ Complex<float> filter(const Piece& piece, const Groups& groups, const Complex<float>* h,
                                   const Team<S>& team, int i) const {
    const std::int64_t group = (piece.first_channel + channel) / groups.size - groups.first;
    return present ? h[group * S::points + i * S::team + team.r] : Complex<float>{0, 0};
  }
};

template <class S, class T>
__global__ void __launch_bounds__(threads, 2)
    forward_block(Piece piece, Groups groups, const Complex<float>* h, Skip<T> skip, Source<T> from, GatedRows<T> to,
                  bool whole, std::int64_t across) {
  __shared__ Complex<float> storage[S::rows * S::pitch];
  const Place<S> at(piece, blockIdx.x % across, blockIdx.x / across);
  const Team<S> team(storage);
  const Own<S> own(piece, at, team);
  load<S>(piece, at, from, whole, storage);
  __syncthreads();
  Complex<float> x[held];
  forward(x, team);
  const float added = own.present ? skip(piece.first_channel + own.channel) : 0;
#pragma unroll
  for (int i = 0; i < held; ++i) {
    Complex<float> filter = own.filter(piece, groups, h, team, i);
    filter.re += added;
    x[i] = x[i] * filter;
  }
  inverse(x, team);
  store<S>(piece, at, to, whole, storage);
}

extern __shared__ float4 two_rows[];

/// A block goes over a part of the documents of its channels and holds their share of d_h in registers; sums[part,
/// document of the block, channel] takes it. While dc is transformed, the spectrum of kv stands in shared memory.
template <class S, class T>
__global__ void __launch_bounds__(threads, 2)
    backward_block(Piece piece, Groups groups, const Complex<float>* h, Skip<T> skip, Source<T> kv, Source<T> dc,
                   GatedRows<T> d_v, GatedRows<T> d_k, GatedRows<T> d_q, bool two, bool output, bool whole,
                   Complex<float>* sums) {
  auto* const storage = reinterpret_cast<Complex<float>*>(two_rows);
  const Team<S> team(storage), kept(storage + S::rows * S::pitch);
  const std::int64_t steps = ceil_div(piece.documents, documents_of<S>), begin = steps * blockIdx.y / gridDim.y,
                     end = steps * (blockIdx.y + 1) / gridDim.y;
  Complex<float> sum[held]{};
  for (std::int64_t step = begin; step < end; ++step) {
    const Place<S> at(piece, blockIdx.x, step);
    const Own<S> own(piece, at, team);
    Complex<float> g[held];
    __syncthreads();
    load<S>(piece, at, kv, whole, storage);
    __syncthreads();
    forward(g, team);
    kept.put(g, held * team.r, 1);
    __syncthreads();
    load<S>(piece, at, dc, whole, storage);
    __syncthreads();
    forward(g, team);
    const float added = own.present ? skip(piece.first_channel + own.channel) : 0;
#pragma unroll
    for (int i = 0; i < held; ++i) {
      Complex<float> filter = own.filter(piece, groups, h, team, i);
      filter.re += added;
      Complex<float>& x = kept.row[place(held * team.r + i)];
      sum[i] = sum[i] + g[i] * conjugate(x);
      x = x * filter;
      g[i] = g[i] * conjugate(filter);
    }
    inverse(g, team);
    store<S>(piece, at, d_v, whole, storage);
    if (two) store<S>(piece, at, d_k, whole, storage);
    if (!output) continue;
    __syncthreads();
    kept.get(g, held * team.r, 1);
    inverse(g, team);
    store<S>(piece, at, d_q, whole, storage);
  }
  const Place<S> at(piece, blockIdx.x, begin);
  const Own<S> own(piece, at, team);
  if (!own.present) return;
  sums += ((blockIdx.y * documents_of<S> + team.index / block_channels) * piece.channels + own.channel) * S::points;
#pragma unroll
  for (int i = 0; i < held; ++i) sums[i * S::team + team.r] = sum[i];
}

/// d_h[g] (+)= Σ over parts and the group's channels, in their order.
__global__ void __launch_bounds__(threads) add_channel_sums(Piece piece, Groups groups, const Complex<float>* sums,
                                                            std::int64_t parts, bool accumulate, Complex<float>* d_h) {
  const std::int64_t at = std::int64_t{blockIdx.x} * threads + threadIdx.x, group = at / piece.points,
                     number = at % piece.points;
  if (group >= groups.count) return;
  const Share share(piece, groups, group, 0, 1);
  Complex<double> sum{0, 0};
  if (accumulate) sum = {d_h[at].re, d_h[at].im};
  for (std::int64_t part = 0; part < parts; ++part)
#pragma unroll 4
    for (std::int64_t c = 0; c < share.channels; ++c) {
      const Complex<float> term = sums[(part * piece.channels + share.first_channel + c) * piece.points + number];
      sum = sum + Complex<double>{term.re, term.im};
    }
  d_h[at] = {static_cast<float>(sum.re), static_cast<float>(sum.im)};
}

/// A team a group's taps.
template <class S, class T>
__global__ void __launch_bounds__(threads, 2)
    filter_block(Groups groups, Rows<const T> taps, std::int64_t count, Complex<float>* to) {
  __shared__ Complex<float> storage[S::rows * S::pitch];
  const Team<S> team(storage);
  const std::int64_t g = std::int64_t{blockIdx.x} * S::rows + team.index;
  const auto tap = [&](std::int64_t t) {
    return g < groups.count && t < count ? static_cast<float>(taps(groups.first + g, t)) : 0;
  };
  Complex<float> x[held];
#pragma unroll
  for (int i = 0; i < held; ++i) x[i] = {tap(i * S::team + team.r), tap(i * S::team + team.r + S::points)};
  team.put(x, team.r, S::team);
  __syncthreads();
  forward(x, team);
  if (g >= groups.count) return;
#pragma unroll
  for (int i = 0; i < held; ++i) to[g * S::points + i * S::team + team.r] = x[i];
}

template <class S>
__global__ void __launch_bounds__(threads, 2)
    add_filter_block(Groups groups, const Complex<float>* from, std::int64_t count, Rows<float> taps) {
  __shared__ Complex<float> storage[S::rows * S::pitch];
  const Team<S> team(storage);
  const std::int64_t g = std::int64_t{blockIdx.x} * S::rows + team.index;
  Complex<float> x[held];
#pragma unroll
  for (int i = 0; i < held; ++i)
    x[i] = g < groups.count ? from[g * S::points + i * S::team + team.r] : Complex<float>{0, 0};
  inverse(x, team);
  if (g >= groups.count) return;
  team.get(x, team.r, S::team);
#pragma unroll
  for (int i = 0; i < held; ++i) {
    const std::int64_t t = i * S::team + team.r;
    if (t < count) taps(groups.first + g, t) += x[i].re;
    if (t + S::points < count) taps(groups.first + g, t + S::points) += x[i].im;
  }
}

/// Calls body<Shape>() for rows of `points` numbers.
template <class Body>
void with_shape(std::int64_t points, const Body& body) {
  switch (points) {
    case 64:
      return body.template operator()<Shape<64>>();
    case 128:
      return body.template operator()<Shape<128>>();
    case 256:
      return body.template operator()<Shape<256>>();
    case 512:
      return body.template operator()<Shape<512>>();
    default:
      fail(ExitCode::internal, "{} numbers in one block", points);
  }
}

}  // namespace

template <class T>
void short_filters(const Stream& stream, std::int64_t points, std::int64_t count, const Groups& groups, TensorView taps,
                   Complex<float>* to) {
  with_shape(points, [&]<class S> {
    const unsigned grid = grid_of(groups.count, S::rows);
    if (taps.dtype == DType::f32)
      filter_block<S, float><<<grid, threads, 0, native_of(stream)>>>(groups, Rows<const float>(taps), count, to);
    else
      filter_block<S, T><<<grid, threads, 0, native_of(stream)>>>(groups, Rows<const T>(taps), count, to);
    cuda_check(cudaGetLastError());
  });
}

void add_short_filters(const Stream& stream, std::int64_t points, std::int64_t count, const Groups& groups,
                       const Complex<float>* from, TensorView taps) {
  with_shape(points, [&]<class S> {
    add_filter_block<S>
        <<<grid_of(groups.count, S::rows), threads, 0, native_of(stream)>>>(groups, from, count, Rows<float>(taps));
    cuda_check(cudaGetLastError());
  });
}

template <class T>
void short_forward(const Stream& stream, const Piece& piece, const Groups& groups, const Complex<float>* h,
                   const Skip<T>& skip, const Factors<T>& from, const GatedOutput& output) {
  const bool whole = whole_packets<T>(output.y.columns(), {from.a, from.b, output.gate, output.y});
  with_shape(piece.points, [&]<class S> {
    const std::int64_t across = ceil_div(piece.channels, block_channels),
                       down = ceil_div(piece.documents, documents_of<S>);
    forward_block<S, T><<<grid_of(across * down), threads, 0, native_of(stream)>>>(
        piece, groups, h, skip, Source<T>(from), GatedRows<T>(output), whole, across);
    cuda_check(cudaGetLastError());
  });
}

template <class T>
void short_backward(const Stream& stream, const Piece& piece, const Groups& groups, const Complex<float>* h,
                    const Skip<T>& skip, const ShortGradients<T>& of, bool accumulate, Complex<float>* d_h) {
  constexpr std::int64_t enough_blocks = 1024;
  const bool whole = whole_packets<T>(of.d_v.y.columns(), {of.kv.a, of.kv.b, of.dc.a, of.dc.b, of.d_v.gate, of.d_v.y,
                                                           of.d_k.gate, of.d_k.y, of.d_q.gate, of.d_q.y});
  with_shape(piece.points, [&]<class S> {
    const std::int64_t across = ceil_div(piece.channels, block_channels),
                       steps = ceil_div(piece.documents, documents_of<S>),
                       parts = std::clamp<std::int64_t>(enough_blocks / across, 1, steps);
    const Spectra<float> sums(stream, parts * documents_of<S> * piece.channels * piece.points);
    const auto kernel = backward_block<S, T>;
    constexpr int bytes = 2 * S::rows * S::pitch * static_cast<int>(sizeof(Complex<float>));
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));  // beyond 48 KiB
    kernel<<<dim3(grid_of(across), static_cast<unsigned>(parts)), threads, bytes, native_of(stream)>>>(
        piece, groups, h, skip, Source<T>(of.kv), Source<T>(of.dc), GatedRows<T>(of.d_v), GatedRows<T>(of.d_k),
        GatedRows<T>(of.d_q), of.d_k.y.present(), of.d_q.y.present(), whole, sums.data());
    add_channel_sums<<<grid_of(groups.count * piece.points, threads), threads, 0, native_of(stream)>>>(
        piece, groups, sums.data(), parts * documents_of<S>, accumulate, d_h);
    cuda_check(cudaGetLastError());
  });
}

#define CAUSEWAY_FFT_CONV_SHORT(T)                                                                                   \
  template void short_filters<T>(const Stream&, std::int64_t, std::int64_t, const Groups&, TensorView,               \
                                 Complex<float>*);                                                                   \
  template void short_forward<T>(const Stream&, const Piece&, const Groups&, const Complex<float>*, const Skip<T>&,  \
                                 const Factors<T>&, const GatedOutput&);                                             \
  template void short_backward<T>(const Stream&, const Piece&, const Groups&, const Complex<float>*, const Skip<T>&, \
                                  const ShortGradients<T>&, bool, Complex<float>*)
CAUSEWAY_FFT_CONV_SHORT(float);
CAUSEWAY_FFT_CONV_SHORT(bf16);

}  // namespace causeway::cuda
