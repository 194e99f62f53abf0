#include "kernels/cuda/fft_conv/fft_conv_short.cuh"

#include "kernels/core/integer.hpp"
#include "kernels/cuda/fft_conv/fft_conv_short_dft.cuh"

namespace causeway::cuda {
namespace {

constexpr int threads = short_threads, block_channels = 8;

/// Documents of a block, each by block_channels channels.
template <class S>
constexpr int block_documents = S::rows / block_channels;

/// First document and first channel of a block in its batch. Row i of the block is document i / block_channels and
/// channel i % block_channels from there.
template <class S>
struct TileCoordinates {
  std::int64_t document, channel;

  __device__ TileCoordinates(std::int64_t across, std::int64_t down)
      : document(down * block_documents<S>), channel(across * block_channels) {}
};

/// Calls body(row, t, low, high, channel) for each point t and each packet of V channels of the block. `row` is the
/// offset in shared memory of the row of the first channel, `low` and `high` are the tokens of the point's real and
/// imaginary part, or -1 beyond the end of the document, `channel` is the first channel in the batch.
template <class S, int V, class Body>
__device__ __forceinline__ void for_each_packet_of(const RowBatch& batch, const TileCoordinates<S>& tile,
                                                   const Body& body) {
  constexpr int packets = block_channels / V;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < block_documents<S> * S::points * packets; i += threads) {
    const int c = i % packets * V, t = i / packets % S::points, d = i / packets / S::points;
    const Extent extent = tile.document + d < batch.documents ? batch.extents[tile.document + d] : Extent{0, 0};
    if (tile.channel + c >= batch.channels) {
      body((d * block_channels + c) * S::pitch, t, std::int64_t{-1}, std::int64_t{-1}, tile.channel);
      continue;
    }
    body((d * block_channels + c) * S::pitch, t, t < extent.count ? extent.first + t : -1,
         t + S::points < extent.count ? extent.first + t + S::points : -1, tile.channel + c);
  }
}

template <class T, int V>
__device__ __forceinline__ void load_or_zero(const GatedInputRows<T>& from, std::int64_t token, std::int64_t channel,
                                             float (&values)[V]) {
#pragma unroll
  for (int v = 0; v < V; ++v) values[v] = 0;
  if (token < 0) return;
  from.template load<V>(token, channel, values);
}

template <class S, class T, int V>
__device__ __forceinline__ void load_packets(const RowBatch& batch, const TileCoordinates<S>& tile,
                                             const GatedInputRows<T>& from, Complex<float>* storage) {
  for_each_packet_of<S, V>(batch, tile, [&](int row, int t, std::int64_t low, std::int64_t high, std::int64_t channel) {
    float re[V], im[V];
    load_or_zero(from, low, batch.first_channel + channel, re);
    load_or_zero(from, high, batch.first_channel + channel, im);
#pragma unroll
    for (int v = 0; v < V; ++v) storage[row + v * S::pitch + padded_offset(t)] = {re[v], im[v]};
  });
}

template <class S, class T, int V>
__device__ __forceinline__ void store_packets(const RowBatch& batch, const TileCoordinates<S>& tile,
                                              const GatedOutputRows<T>& to, const Complex<float>* storage) {
  for_each_packet_of<S, V>(batch, tile, [&](int row, int t, std::int64_t low, std::int64_t high, std::int64_t channel) {
    float re[V], im[V];
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const Complex<float> z = storage[row + v * S::pitch + padded_offset(t)];
      re[v] = z.re;
      im[v] = z.im;
    }
    if (low >= 0) to.template store<V>(low, batch.first_channel + channel, re);
    if (high >= 0) to.template store<V>(high, batch.first_channel + channel, im);
  });
}

template <class S, class T>
__device__ __forceinline__ void load(const RowBatch& batch, const TileCoordinates<S>& tile,
                                     const GatedInputRows<T>& from, bool packets, Complex<float>* storage) {
  packets ? load_packets<S, T, packet_width<T>>(batch, tile, from, storage)
          : load_packets<S, T, 1>(batch, tile, from, storage);
}
template <class S, class T>
__device__ __forceinline__ void store(const RowBatch& batch, const TileCoordinates<S>& tile,
                                      const GatedOutputRows<T>& to, bool packets, const Complex<float>* storage) {
  packets ? store_packets<S, T, packet_width<T>>(batch, tile, to, storage)
          : store_packets<S, T, 1>(batch, tile, to, storage);
}

/// The channel of a thread's row, and the filter of that channel's group.
template <class S>
struct RowChannel {
  std::int64_t channel;  ///< in the batch
  bool present;          ///< whether the batch has that channel

  __device__ RowChannel(const RowBatch& batch, const TileCoordinates<S>& tile, const RowThread<S>& thread)
      : channel(tile.channel + thread.row_index % block_channels), present(channel < batch.channels) {}
  /// Point i of the thread.
  __device__ Complex<float> filter(const RowBatch& batch, const FilterGroups& groups, const Complex<float>* h,
                                   const RowThread<S>& thread, int i) const {
    const std::int64_t group = (batch.first_channel + channel) / groups.size - groups.first;
    return present ? h[group * S::points + i * S::row_threads + thread.rank] : Complex<float>{0, 0};
  }
};

/// block: 8 channels of one or several documents, 4096 points
/// thread: packets of tokens while it loads and stores, 16 points of one row while it transforms
/// shared memory: the rows
/// registers: the thread's 16 points
template <class S, class T>
__global__ void __launch_bounds__(threads, 2)
    forward_block(RowBatch batch, FilterGroups groups, const Complex<float>* h, Skip<T> skip, GatedInputRows<T> from,
                  GatedOutputRows<T> to, bool packets, std::int64_t across) {
  __shared__ Complex<float> storage[S::rows * S::pitch];
  const TileCoordinates<S> tile(blockIdx.x % across, blockIdx.x / across);
  const RowThread<S> thread(storage);
  const RowChannel<S> row_channel(batch, tile, thread);
  // 1. Load the tokens.
  load<S>(batch, tile, from, packets, storage);
  __syncthreads();
  // 2. Transform, multiply by the spectrum of the filter, transform back.
  Complex<float> x[thread_points];
  to_spectrum(x, thread);
  const float skip_tap = row_channel.present ? skip(batch.first_channel + row_channel.channel) : 0;
#pragma unroll
  for (int i = 0; i < thread_points; ++i) {
    Complex<float> filter = row_channel.filter(batch, groups, h, thread, i);
    filter.re += skip_tap;
    x[i] = x[i] * filter;
  }
  from_spectrum(x, thread);
  // 3. Store the outputs.
  store<S>(batch, tile, to, packets, storage);
}

extern __shared__ float4 backward_storage[];

/// block: 8 channels (blockIdx.x), part blockIdx.y of the documents, which it goes over one tile after the other
/// thread: packets of tokens while it loads and stores, 16 points of one row while it transforms
/// shared memory: the rows that are loaded, transformed and stored; the spectrum of kv, kept while dc is transformed
/// registers: the thread's 16 points, and their sum of conj(kv) ⊙ dc over the documents, which goes to
///   sums[part, document of the block, channel, point]
template <class S, class T>
__global__ void __launch_bounds__(threads, 2)
    backward_block(RowBatch batch, FilterGroups groups, const Complex<float>* h, Skip<T> skip, GatedInputRows<T> kv,
                   GatedInputRows<T> dc, GatedOutputRows<T> d_v, GatedOutputRows<T> d_k, GatedOutputRows<T> d_q,
                   bool two, bool output, bool packets, Complex<float>* sums) {
  auto* const storage = reinterpret_cast<Complex<float>*>(backward_storage);
  const RowThread<S> thread(storage), kv_spectrum(storage + S::rows * S::pitch);
  const std::int64_t steps = ceil_div(batch.documents, block_documents<S>), begin = steps * blockIdx.y / gridDim.y,
                     end = steps * (blockIdx.y + 1) / gridDim.y;
  Complex<float> sum[thread_points]{};
  for (std::int64_t step = begin; step < end; ++step) {
    const TileCoordinates<S> tile(blockIdx.x, step);
    const RowChannel<S> row_channel(batch, tile, thread);
    Complex<float> g[thread_points];
    // 1. The spectrum of kv.
    __syncthreads();
    load<S>(batch, tile, kv, packets, storage);
    __syncthreads();
    to_spectrum(g, thread);
    kv_spectrum.put(g, thread_points * thread.rank, 1);
    // 2. The spectrum of dc.
    __syncthreads();
    load<S>(batch, tile, dc, packets, storage);
    __syncthreads();
    to_spectrum(g, thread);
    // 3. Their products with each other and with the filter.
    const float skip_tap = row_channel.present ? skip(batch.first_channel + row_channel.channel) : 0;
#pragma unroll
    for (int i = 0; i < thread_points; ++i) {
      Complex<float> filter = row_channel.filter(batch, groups, h, thread, i);
      filter.re += skip_tap;
      Complex<float>& x = kv_spectrum.row[padded_offset(thread_points * thread.rank + i)];
      sum[i] = sum[i] + g[i] * conjugate(x);
      x = x * filter;
      g[i] = g[i] * conjugate(filter);
    }
    // 4. d_v and d_k.
    from_spectrum(g, thread);
    store<S>(batch, tile, d_v, packets, storage);
    if (two) store<S>(batch, tile, d_k, packets, storage);
    // 5. d_q.
    if (!output) continue;
    __syncthreads();
    kv_spectrum.get(g, thread_points * thread.rank, 1);
    from_spectrum(g, thread);
    store<S>(batch, tile, d_q, packets, storage);
  }
  const TileCoordinates<S> tile(blockIdx.x, begin);
  const RowChannel<S> row_channel(batch, tile, thread);
  if (!row_channel.present) return;
  sums +=
      ((blockIdx.y * block_documents<S> + thread.row_index / block_channels) * batch.channels + row_channel.channel) *
      S::points;
#pragma unroll
  for (int i = 0; i < thread_points; ++i) sums[i * S::row_threads + thread.rank] = sum[i];
}

/// d_h[g] = Σ sums over the parts and the channels of group g, in this order in float64; added to d_h if `accumulate`.
/// thread: one point of one group
__global__ void __launch_bounds__(threads)
    add_channel_sums(RowBatch batch, FilterGroups groups, const Complex<float>* sums, std::int64_t parts,
                     bool accumulate, Complex<float>* d_h) {
  const std::int64_t at = std::int64_t{blockIdx.x} * threads + threadIdx.x, group = at / batch.points,
                     point = at % batch.points;
  if (group >= groups.count) return;
  const GroupRows rows(batch, groups, group, 0, 1);
  Complex<double> sum{0, 0};
  if (accumulate) sum = {d_h[at].re, d_h[at].im};
  for (std::int64_t part = 0; part < parts; ++part)
#pragma unroll 4
    for (std::int64_t c = 0; c < rows.channels; ++c) {
      const Complex<float> term = sums[(part * batch.channels + rows.first_channel + c) * batch.points + point];
      sum = sum + Complex<double>{term.re, term.im};
    }
  d_h[at] = {static_cast<float>(sum.re), static_cast<float>(sum.im)};
}

/// block: the taps of S::rows groups
/// thread: 16 points of one row
/// shared memory: the rows
template <class S, class T>
__global__ void __launch_bounds__(threads, 2)
    filter_block(FilterGroups groups, Rows<const T> taps, std::int64_t count, Complex<float>* to) {
  __shared__ Complex<float> storage[S::rows * S::pitch];
  const RowThread<S> thread(storage);
  const std::int64_t g = std::int64_t{blockIdx.x} * S::rows + thread.row_index;
  const auto tap = [&](std::int64_t t) {
    return g < groups.count && t < count ? static_cast<float>(taps(groups.first + g, t)) : 0;
  };
  Complex<float> x[thread_points];
#pragma unroll
  for (int i = 0; i < thread_points; ++i)
    x[i] = {tap(i * S::row_threads + thread.rank), tap(i * S::row_threads + thread.rank + S::points)};
  thread.put(x, thread.rank, S::row_threads);
  __syncthreads();
  to_spectrum(x, thread);
  if (g >= groups.count) return;
#pragma unroll
  for (int i = 0; i < thread_points; ++i) to[g * S::points + i * S::row_threads + thread.rank] = x[i];
}

/// block: the gradients of the taps of S::rows groups
/// thread: 16 points of one row
/// shared memory: the rows
template <class S>
__global__ void __launch_bounds__(threads, 2)
    add_filter_block(FilterGroups groups, const Complex<float>* from, std::int64_t count, Rows<float> taps) {
  __shared__ Complex<float> storage[S::rows * S::pitch];
  const RowThread<S> thread(storage);
  const std::int64_t g = std::int64_t{blockIdx.x} * S::rows + thread.row_index;
  Complex<float> x[thread_points];
#pragma unroll
  for (int i = 0; i < thread_points; ++i)
    x[i] = g < groups.count ? from[g * S::points + i * S::row_threads + thread.rank] : Complex<float>{0, 0};
  from_spectrum(x, thread);
  if (g >= groups.count) return;
  thread.get(x, thread.rank, S::row_threads);
#pragma unroll
  for (int i = 0; i < thread_points; ++i) {
    const std::int64_t t = i * S::row_threads + thread.rank;
    if (t < count) taps(groups.first + g, t) += x[i].re;
    if (t + S::points < count) taps(groups.first + g, t + S::points) += x[i].im;
  }
}

}  // namespace

template <class T>
void short_filters(const Stream& stream, std::int64_t points, std::int64_t count, const FilterGroups& groups,
                   TensorView taps, Complex<float>* to) {
  with_short_transform(points, [&]<class S> {
    const unsigned grid = grid_of(groups.count, S::rows);
    if (taps.dtype == DType::f32)
      filter_block<S, float><<<grid, threads, 0, native_of(stream)>>>(groups, Rows<const float>(taps), count, to);
    else
      filter_block<S, T><<<grid, threads, 0, native_of(stream)>>>(groups, Rows<const T>(taps), count, to);
    cuda_check(cudaGetLastError());
  });
}

void add_short_filters(const Stream& stream, std::int64_t points, std::int64_t count, const FilterGroups& groups,
                       const Complex<float>* from, TensorView taps) {
  with_short_transform(points, [&]<class S> {
    add_filter_block<S>
        <<<grid_of(groups.count, S::rows), threads, 0, native_of(stream)>>>(groups, from, count, Rows<float>(taps));
    cuda_check(cudaGetLastError());
  });
}

template <class T>
void short_forward(const Stream& stream, const RowBatch& batch, const FilterGroups& groups, const Complex<float>* h,
                   const Skip<T>& skip, const GatedInput<T>& input, const GatedOutput& output) {
  const bool packets = packets_fit<T>(output.y.columns(), {input.x, input.gate, output.gate, output.y});
  with_short_transform(batch.points, [&]<class S> {
    const std::int64_t across = ceil_div(batch.channels, block_channels),
                       down = ceil_div(batch.documents, block_documents<S>);
    forward_block<S, T><<<grid_of(across * down), threads, 0, native_of(stream)>>>(
        batch, groups, h, skip, GatedInputRows<T>(input), GatedOutputRows<T>(output), packets, across);
    cuda_check(cudaGetLastError());
  });
}

template <class T>
void short_backward(const Stream& stream, const RowBatch& batch, const FilterGroups& groups, const Complex<float>* h,
                    const Skip<T>& skip, const ShortGradients<T>& of, bool accumulate, Complex<float>* d_h) {
  constexpr std::int64_t target_blocks = 1024;
  const bool packets = packets_fit<T>(of.d_v.y.columns(), {of.kv.x, of.kv.gate, of.dc.x, of.dc.gate, of.d_v.gate,
                                                           of.d_v.y, of.d_k.gate, of.d_k.y, of.d_q.gate, of.d_q.y});
  with_short_transform(batch.points, [&]<class S> {
    const std::int64_t across = ceil_div(batch.channels, block_channels),
                       steps = ceil_div(batch.documents, block_documents<S>),
                       parts = std::clamp<std::int64_t>(target_blocks / across, 1, steps);
    const Spectra<float> sums(stream, parts * block_documents<S> * batch.channels * batch.points);
    const auto kernel = backward_block<S, T>;
    constexpr int bytes = 2 * S::rows * S::pitch * static_cast<int>(sizeof(Complex<float>));
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    bytes));  // more than 48 KiB must be requested
    kernel<<<dim3(grid_of(across), static_cast<unsigned>(parts)), threads, bytes, native_of(stream)>>>(
        batch, groups, h, skip, GatedInputRows<T>(of.kv), GatedInputRows<T>(of.dc), GatedOutputRows<T>(of.d_v),
        GatedOutputRows<T>(of.d_k), GatedOutputRows<T>(of.d_q), of.d_k.y.present(), of.d_q.y.present(), packets,
        sums.data());
    add_channel_sums<<<grid_of(groups.count * batch.points, threads), threads, 0, native_of(stream)>>>(
        batch, groups, sums.data(), parts * block_documents<S>, accumulate, d_h);
    cuda_check(cudaGetLastError());
  });
}

#define CAUSEWAY_FFT_CONV_SHORT(T)                                                                            \
  template void short_filters<T>(const Stream&, std::int64_t, std::int64_t, const FilterGroups&, TensorView,  \
                                 Complex<float>*);                                                            \
  template void short_forward<T>(const Stream&, const RowBatch&, const FilterGroups&, const Complex<float>*,  \
                                 const Skip<T>&, const GatedInput<T>&, const GatedOutput&);                   \
  template void short_backward<T>(const Stream&, const RowBatch&, const FilterGroups&, const Complex<float>*, \
                                  const Skip<T>&, const ShortGradients<T>&, bool, Complex<float>*)
CAUSEWAY_FFT_CONV_SHORT(float);
CAUSEWAY_FFT_CONV_SHORT(bf16);

}  // namespace causeway::cuda
