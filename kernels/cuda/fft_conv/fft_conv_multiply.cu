#include "kernels/cuda/fft_conv/fft_conv_cufft.cuh"

namespace causeway::cuda {
namespace {

constexpr int threads = 256, points_per_thread = 2;

/// Threads that the rows are cut for: several times as many as the device runs at once.
constexpr std::int64_t target_threads = std::int64_t{1} << 17;

/// Two neighbouring points of a row, moved by one memory access.
template <class R>
using ComplexPair = Packet<R, 2 * points_per_thread>;

template <class R>
__device__ ComplexPair<R> load_pair(const Complex<R>* from) {
  return ComplexPair<R>::load(reinterpret_cast<const R*>(from));
}
template <class R>
__device__ void store_pair(const ComplexPair<R>& x, Complex<R>* to) {
  x.store(reinterpret_cast<R*>(to));
}

/// x ⊙ h, or x ⊙ conj(h).
template <bool conjugate, class R>
__device__ ComplexPair<R> product(const ComplexPair<R>& x, const ComplexPair<R>& h) {
  ComplexPair<R> y;
#pragma unroll
  for (int i = 0; i < 2 * points_per_thread; i += 2) {
    const R im = conjugate ? -h.at[i + 1] : h.at[i + 1];
    y.at[i] = x.at[i] * h.at[i] - x.at[i + 1] * im;
    y.at[i + 1] = x.at[i] * im + x.at[i + 1] * h.at[i];
  }
  return y;
}

/// h + skip: the spectrum of skip is 1.
template <class R>
__device__ ComplexPair<R> with_skip(ComplexPair<R> h, R skip) {
#pragma unroll
  for (int i = 0; i < 2 * points_per_thread; i += 2) h.at[i] += skip;
  return h;
}

/// The work item of a thread: two neighbouring points of the spectrum of one group, in part blockIdx.y of the group's
/// rows.
struct SpectrumItem {
  std::int64_t group, point;  ///< group of the batch; the first of the two points
  GroupRows rows;
  bool present;  ///< false for the threads after the last item

  __device__ SpectrumItem(const RowBatch& batch, const FilterGroups& groups)
      : group((std::int64_t{blockIdx.x} * threads + threadIdx.x) / (batch.points / points_per_thread)),
        point((std::int64_t{blockIdx.x} * threads + threadIdx.x) % (batch.points / points_per_thread) *
              points_per_thread),
        rows(batch, groups, group, blockIdx.y, gridDim.y),
        present(group < groups.count) {}

  /// For the rows in order, four at a time: load(offset of the two points in the batch), then use(the loaded value,
  /// that offset, channel of the batch). Without this the compiler would not move the load of a row before the store to
  /// the row before it.
  template <class Load, class Use>
  __device__ void for_each_row(const RowBatch& batch, const Load& load, const Use& use) const {
    constexpr int rows_in_flight = 4;
    std::int64_t document = rows.begin / rows.channels, channel = rows.begin % rows.channels;
    for (std::int64_t row = rows.begin; row < rows.end; row += rows_in_flight) {
      decltype(load(row)) loaded[rows_in_flight];
      std::int64_t at[rows_in_flight], channel_at[rows_in_flight];
#pragma unroll
      for (int i = 0; i < rows_in_flight; ++i) {
        if (row + i >= rows.end) continue;
        channel_at[i] = rows.first_channel + channel;
        at[i] = (document * batch.channels + channel_at[i]) * batch.points + point;
        loaded[i] = load(at[i]);
        if (++channel == rows.channels) {
          channel = 0;
          ++document;
        }
      }
#pragma unroll
      for (int i = 0; i < rows_in_flight; ++i)
        if (row + i < rows.end) use(loaded[i], at[i], channel_at[i]);
    }
  }
};

std::int64_t item_count(const RowBatch& batch, const FilterGroups& groups) {
  return groups.count * (batch.points / points_per_thread);
}

dim3 grid_of_items(const RowBatch& batch, const FilterGroups& groups, std::int64_t parts) {
  return dim3(grid_of(item_count(batch, groups), threads), static_cast<unsigned>(parts));
}

/// multiply_spectra.
/// block: 512 neighbouring points of the spectra of the groups, part blockIdx.y of their rows
/// thread: a SpectrumItem
/// registers: the filter's two points, four rows in flight
template <class T, class R>
__global__ void __launch_bounds__(threads)
    multiply_rows(RowBatch batch, FilterGroups groups, const Complex<R>* h, Skip<T> skip, Complex<R>* x) {
  const SpectrumItem item(batch, groups);
  if (!item.present) return;
  const ComplexPair<R> filter = load_pair(h + item.group * batch.points + item.point);
  item.for_each_row(
      batch, [&](std::int64_t at) { return load_pair(x + at); },
      [&](const ComplexPair<R>& value, std::int64_t at, std::int64_t channel) {
        store_pair(product<false>(value, with_skip(filter, skip(batch.first_channel + channel))), x + at);
      });
}

/// multiply_spectra_backward.
/// block: 512 neighbouring points of the spectra of the groups, part blockIdx.y of their rows
/// thread: a SpectrumItem
/// registers: the filter's two points, their sums d_h, four rows of x and dc in flight
template <class T, bool output, class R>
__global__ void __launch_bounds__(threads)
    multiply_rows_backward(RowBatch batch, FilterGroups groups, const Complex<R>* h, Skip<T> skip, Complex<R>* x,
                           Complex<R>* dc, bool accumulate, Complex<R>* d_h) {
  const SpectrumItem item(batch, groups);
  if (!item.present) return;
  const ComplexPair<R> filter = load_pair(h + item.group * batch.points + item.point);
  Complex<R>* const to = d_h + (blockIdx.y * groups.count + item.group) * batch.points + item.point;
  ComplexPair<R> sum = accumulate ? load_pair(to) : ComplexPair<R>::zeros();
  struct Loaded {
    ComplexPair<R> value, gradient;
  };
  item.for_each_row(
      batch,
      [&](std::int64_t at) {
        return Loaded{load_pair(x + at), load_pair(dc + at)};
      },
      [&](const Loaded& of, std::int64_t at, std::int64_t channel) {
        const ComplexPair<R> factor = with_skip(filter, skip(batch.first_channel + channel)),
                             term = product<true>(of.gradient, of.value);
#pragma unroll
        for (int i = 0; i < 2 * points_per_thread; ++i) sum.at[i] += term.at[i];
        if constexpr (output) store_pair(product<false>(of.value, factor), x + at);
        store_pair(product<true>(of.gradient, factor), dc + at);
      });
  store_pair(sum, to);
}

}  // namespace

std::int64_t multiply_parts(const RowBatch& batch, const FilterGroups& groups) {
  return parts_for(batch, groups, item_count(batch, groups), target_threads);
}

template <class T>
void multiply_spectra(const Stream& stream, const RowBatch& batch, const FilterGroups& groups,
                      const Complex<Accumulator<T>>* h, const Skip<T>& skip, Complex<Accumulator<T>>* x) {
  const dim3 grid = grid_of_items(batch, groups, multiply_parts(batch, groups));
  multiply_rows<T><<<grid, threads, 0, native_of(stream)>>>(batch, groups, h, skip, x);
  cuda_check(cudaGetLastError());
}

template <class T>
void multiply_spectra_backward(const Stream& stream, const RowBatch& batch, const FilterGroups& groups,
                               const Complex<Accumulator<T>>* h, const Skip<T>& skip, bool output,
                               Complex<Accumulator<T>>* x, Complex<Accumulator<T>>* dc, bool accumulate,
                               std::int64_t parts, Complex<Accumulator<T>>* d_h) {
  const dim3 grid = grid_of_items(batch, groups, parts);
  const auto launch = [&]<bool with_output> {
    multiply_rows_backward<T, with_output>
        <<<grid, threads, 0, native_of(stream)>>>(batch, groups, h, skip, x, dc, accumulate, d_h);
    cuda_check(cudaGetLastError());
  };
  output ? launch.template operator()<true>() : launch.template operator()<false>();
}

#define CAUSEWAY_FFT_CONV_MULTIPLY(T)                                                                            \
  template void multiply_spectra<T>(const Stream&, const RowBatch&, const FilterGroups&,                         \
                                    const Complex<Accumulator<T>>*, const Skip<T>&, Complex<Accumulator<T>>*);   \
  template void multiply_spectra_backward<T>(                                                                    \
      const Stream&, const RowBatch&, const FilterGroups&, const Complex<Accumulator<T>>*, const Skip<T>&, bool, \
      Complex<Accumulator<T>>*, Complex<Accumulator<T>>*, bool, std::int64_t, Complex<Accumulator<T>>*)
CAUSEWAY_FFT_CONV_MULTIPLY(double);
CAUSEWAY_FFT_CONV_MULTIPLY(float);
CAUSEWAY_FFT_CONV_MULTIPLY(bf16);

}  // namespace causeway::cuda
