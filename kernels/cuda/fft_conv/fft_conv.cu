#include "kernels/fft_conv.hpp"

#include <string_view>

#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/sums.cuh"
#include "kernels/cuda/fft_conv/fft_conv_cufft.cuh"
#include "kernels/cuda/fft_conv/fft_conv_four_step.cuh"
#include "kernels/cuda/fft_conv/fft_conv_short.cuh"
#include "kernels/expect_gated_conv.hpp"

// Chooses one of three ways for each length class: within one block, by the four-step FFT, or around cuFFT.
//
// Lower bound: the bytes of the tensors, 0.25 ms forward and 0.375 ms backward for bf16 [65536, 4096] without gates
// (H200, 4.3 TB/s). The kernels for short documents move only these bytes and are limited by arithmetic and shared
// memory. The other two ways also move padded rows of float32 points, four times the bytes of a bf16 tensor for each
// pass that reads or writes them. The four-step FFT makes four passes forward and six backward (five with kept
// spectra), and two or four for the filters if there are as many filters as channels; cuFFT makes nine passes of x
// forward. README.md has the times.
namespace causeway::cuda {
namespace {

constexpr int threads = 256;

/// Blocks that the backward of the four-step FFT aims at: several times as many as the device runs at once.
constexpr std::int64_t target_blocks = 1024;

/// sums[strip, d] = Σ_t dc ⊙ kv over the tokens of a strip.
/// block: 32 neighbouring channels of one strip
/// warp: every eighth token of the strip
/// thread: one channel
/// shared memory: the sums of the warps, which warp 0 adds in their order
template <class T, bool q_present, bool k_present>
__global__ void __launch_bounds__(threads)
    sum_skip_strips(Rows<const T> q, Rows<const T> k, Rows<const T> v, Rows<const T> d_y, std::int64_t tokens,
                    std::int64_t channels, std::int64_t strip, Accumulator<T>* sums) {
  using R = Accumulator<T>;
  __shared__ R warp_sums[threads / 32][32];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t channel = std::int64_t{blockIdx.x} * 32 + lane, begin = blockIdx.y * strip,
                     end = begin + strip < tokens ? begin + strip : tokens;
  R sum = 0;
  if (channel < channels) {
#pragma unroll 4
    for (std::int64_t t = begin + warp; t < end; t += threads / 32) {
      R kv = widened(v(t, channel)), dc = widened(d_y(t, channel));
      if constexpr (k_present) kv = widened(narrowed<T>(kv * widened(k(t, channel))));
      if constexpr (q_present) dc *= widened(q(t, channel));
      sum += kv * dc;
    }
  }
  warp_sums[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || channel >= channels) return;
  for (int w = 1; w < threads / 32; ++w) sum += warp_sums[w][lane];
  sums[blockIdx.y * channels + channel] = sum;
}

/// d_skip += Σ_t dc ⊙ kv.
template <class T>
void add_skip_gradient(const Stream& stream, const GatedConvInputs& in, const GatedConvGradients& gradients) {
  using R = Accumulator<T>;
  constexpr std::int64_t max_strips = 1024, min_strip_tokens = 256;
  const std::int64_t tokens = in.v.rows(), D = in.v.columns(),
                     strip = std::max(min_strip_tokens, ceil_div(tokens, max_strips)), strips = ceil_div(tokens, strip);
  const Tensor sums(stream, dtype_of<R>, {strips, D});
  const auto launch = [&]<bool q, bool k> {
    sum_skip_strips<T, q, k><<<dim3(grid_of(D, 32), static_cast<unsigned>(strips)), threads, 0, native_of(stream)>>>(
        Rows<const T>(in.q), Rows<const T>(in.k), Rows<const T>(in.v), Rows<const T>(gradients.d_y), tokens, D, strip,
        static_cast<R*>(sums.view().data));
    cuda_check(cudaGetLastError());
  };
  if (in.q.present())
    in.k.present() ? launch.template operator()<true, true>() : launch.template operator()<true, false>();
  else
    in.k.present() ? launch.template operator()<false, true>() : launch.template operator()<false, false>();
  add_column_sums(stream, sums, static_cast<R*>(gradients.d_skip.data));
}

/// For add_parts_in_order: to = the sum of the parts, added to `to` if `accumulate`.
template <class R>
struct PartsTarget {
  R* to;
  bool accumulate;

  __device__ double start(std::int64_t i) const { return accumulate ? static_cast<double>(to[i]) : 0; }
  __device__ void store(std::int64_t i, double sum) const { to[i] = static_cast<R>(sum); }
};

/// The steps of the two ways that keep a batch in a workspace: the four-step FFT, if N allows it and the type is
/// float32, or cuFFT. Between `load` and `store` the workspace holds transformed columns in the first case and spectra
/// in the second. The filters' steps also serve documents that fit into one block.
template <class T>
struct BatchSteps {
  using R = Accumulator<T>;
  const Stream& stream;

  void load(const RowBatch& batch, const GatedInput<T>& from, Complex<R>* to) const {
    if constexpr (sizeof(R) == 4)
      if (uses_four_step(batch.points)) return forward_columns<T>(stream, batch, from, to);
    load_rows<T>(stream, batch, from, to);
    transform_rows(stream, batch.points, batch.rows(), false, to);
  }

  void store(const RowBatch& batch, Complex<R>* from, const GatedOutput& first, const GatedOutput& second = {}) const {
    if constexpr (sizeof(R) == 4)
      if (uses_four_step(batch.points)) return inverse_columns<T>(stream, batch, from, first, second);
    transform_rows(stream, batch.points, batch.rows(), true, from);
    store_rows<T>(stream, batch, from, first, second);
  }

  /// `to` = the spectra of the groups' filters; in the four-step FFT the transformed columns, if groups.own.
  void load_filters(const LengthClass& of, const FilterGroups& groups, TensorView taps, Complex<R>* to) const {
    if constexpr (sizeof(R) == 4) {
      if (fits_one_block(of.points)) return short_filters<T>(stream, of.points, of.taps, groups, taps, to);
      if (uses_four_step(of.points)) {
        forward_tap_columns<T>(stream, of.points, of.taps, groups, taps, to);
        if (!groups.own) transform_filter_rows(stream, of.points, groups.count, false, to);
        return;
      }
    }
    load_taps<T>(stream, of.points, of.taps, groups, taps, to);
    transform_rows(stream, of.points, groups.count, false, to);
  }

  /// taps += the filters whose spectra, or transformed columns, are in `from`.
  void add_filters(const LengthClass& of, const FilterGroups& groups, Complex<R>* from, TensorView taps) const {
    if constexpr (sizeof(R) == 4) {
      if (fits_one_block(of.points)) return add_short_filters(stream, of.points, of.taps, groups, from, taps);
      if (uses_four_step(of.points)) {
        if (!groups.own) transform_filter_rows(stream, of.points, groups.count, true, from);
        return inverse_tap_columns(stream, of.points, of.taps, groups, from, taps);
      }
    }
    transform_rows(stream, of.points, groups.count, true, from);
    add_taps<T>(stream, of.points, of.taps, groups, from, taps);
  }

  /// to = x ⊙ (filters + skip), as spectra. `to` is x, except in the four-step FFT.
  void convolve(const RowBatch& batch, const FilterGroups& groups, const Complex<R>* filters, const Skip<T>& skip,
                const Complex<R>* x, Complex<R>* to) const {
    if constexpr (sizeof(R) == 4)
      if (uses_four_step(batch.points)) return convolve_rows<T>(stream, batch, groups, filters, skip, x, to);
    multiply_spectra<T>(stream, batch, groups, filters, skip, to);
  }

  /// d_filters = Σ conj(x) ⊙ dc, added to d_filters unless `first`. Then dc = dc ⊙ conj(filters + skip) and, unless y
  /// is null, y as `convolve` sets it. y is x, except in the four-step FFT.
  void convolve_backward(const RowBatch& batch, const FilterGroups& groups, const Complex<R>* filters,
                         const Skip<T>& skip, Complex<R>* x, Complex<R>* dc, Complex<R>* y, bool first,
                         Complex<R>* d_filters) const {
    const bool four_step = sizeof(R) == 4 && uses_four_step(batch.points);
    const std::int64_t size = groups.count * batch.points,
                       parts = four_step ? parts_for(batch, groups, ceil_div(size, row_points), target_blocks)
                                         : multiply_parts(batch, groups);
    const Spectra<R> sums = parts == 1 ? Spectra<R>() : Spectra<R>(stream, parts * size);
    Complex<R>* const to = parts == 1 ? d_filters : sums.data();
    const bool accumulate = parts == 1 && !first;
    if constexpr (sizeof(R) == 4) {
      if (four_step) convolve_rows_backward<T>(stream, batch, groups, filters, skip, x, dc, y, accumulate, parts, to);
    }
    if (!four_step)
      multiply_spectra_backward<T>(stream, batch, groups, filters, skip, y != nullptr, x, dc, accumulate, parts, to);
    if (parts == 1) return;
    add_parts_in_order<double>(stream, reinterpret_cast<const R*>(sums.data()), parts, 2 * size,
                               PartsTarget<R>{reinterpret_cast<R*>(d_filters), !first});
  }
};

/// Whether FftConvForward::spectra has a class: it keeps the transformed columns of the four-step FFT.
template <class T>
bool keeps_class(std::int64_t points) {
  return sizeof(Accumulator<T>) == 4 && uses_four_step(points);
}

/// Complex points of FftConvForward::spectra: for each class the rows of all its documents and channels, then those of
/// the filters.
template <class T>
std::int64_t kept_points(std::span<const LengthClass> classes, std::int64_t channels, std::int64_t groups) {
  std::int64_t sum = 0;
  for (const LengthClass& of : classes)
    if (keeps_class<T>(of.points)) sum += (of.documents * channels + groups) * of.points;
  return sum;
}

/// The parts that the forward and the backward convolution have in common.
template <class T>
struct Convolution {
  using R = Accumulator<T>;
  const Stream& stream;
  GatedConvInputs in;
  TensorView taps, spectra;  ///< FftConvForward::spectra, or absent
  bool forward;              ///< `spectra` is written; otherwise it is read
  std::vector<LengthClass> classes = classes_of(in.segments, taps.columns());
  Tensor extents = extents_of(stream, in.segments, taps.columns(), classes);
  std::int64_t channels = in.v.columns(), group_size = channels / taps.rows();
  WorkspaceSizes sizes{classes, channels, group_size, dtype_of<R>};
  Skip<T> skip{in.skip};
  Spectra<R> x{stream, sizes.batch}, filters{stream, sizes.filters};
  BatchSteps<T> steps{stream};

  /// A range of documents and channels, and where its rows of x and the spectra of its filters are.
  struct Work {
    RowBatch batch;
    FilterGroups groups;
    Complex<R>*x, *filters;
    bool is_first;  ///< of its channels and class
    bool kept;      ///< x and filters are in `spectra`
  };

  /// Calls body(work) for all batches of all classes, with the spectra of the groups in work.filters, and
  /// end(class, groups) after the last batch of a range of channels.
  template <class Body, class End>
  void run(const Body& body, const End& end) const {
    auto* at = static_cast<const Extent*>(extents.view().data);
    auto* kept_rows = static_cast<Complex<R>*>(spectra.data);
    for (const LengthClass& of : classes) {
      const bool kept = spectra.present() && keeps_class<T>(of.points);
      Complex<R>* const kept_filters = kept ? kept_rows + of.documents * channels * of.points : nullptr;
      const auto filters_at = [&](const FilterGroups& groups) {
        return kept ? kept_filters + groups.first * of.points : filters.data();
      };
      for_each_batch(
          of, at, channels,
          [&](const RowBatch& batch) {
            const FilterGroups groups(of, batch, group_size);
            if (forward || !kept) steps.load_filters(of, groups, taps, filters_at(groups));
          },
          [&](const RowBatch& batch, bool is_first) {
            const FilterGroups groups(of, batch, group_size);
            const std::int64_t row = batch.first_channel * of.documents + (batch.extents - at) * batch.channels;
            body(
                Work{batch, groups, kept ? kept_rows + row * of.points : x.data(), filters_at(groups), is_first, kept});
          },
          [&](const RowBatch& batch) { end(of, FilterGroups(of, batch, group_size)); });
      at += of.documents;
      if (kept) kept_rows = kept_filters + taps.rows() * of.points;
    }
  }
};

template <class T>
void forward(const Stream& stream, const FftConvForward& args) {
  using R = Accumulator<T>;
  const Convolution<T> conv{stream, args.in, args.taps, args.spectra, true};
  const GatedInput<T> kv{.x = args.in.v, .gate = args.in.k, .rounded = true};
  const GatedOutput y{.gate = args.in.q, .y = args.y};
  conv.run(
      [&](const auto& work) {
        if constexpr (sizeof(R) == 4)
          if (fits_one_block(work.batch.points))
            return short_forward<T>(stream, work.batch, work.groups, work.filters, conv.skip, kv, y);
        conv.steps.load(work.batch, kv, work.x);
        conv.steps.convolve(work.batch, work.groups, work.filters, conv.skip, work.x, conv.x.data());
        conv.steps.store(work.batch, conv.x.data(), y);
      },
      [](const LengthClass&, const FilterGroups&) {});
}

template <class T>
void backward(const Stream& stream, const FftConvBackward& args) {
  using R = Accumulator<T>;
  const GatedConvInputs& in = args.in;
  const GatedConvGradients& out = args.gradients;
  if (in.skip.present()) add_skip_gradient<T>(stream, in, out);
  const Convolution<T> conv{stream, in, args.taps, args.spectra, false};
  const Spectra<R> dc(stream, conv.sizes.batch), d_filters(stream, conv.sizes.filters);
  const GatedInput<T> kv{.x = in.v, .gate = in.k, .rounded = true}, output_gradient{.x = out.d_y, .gate = in.q};
  const GatedOutput d_v{.gate = in.k, .y = out.d_v},
      d_k = in.k.present() ? GatedOutput{.gate = in.v, .y = out.d_k} : GatedOutput{},
      d_q = in.q.present() ? GatedOutput{.gate = out.d_y, .y = out.d_q} : GatedOutput{};
  Complex<R>* const y = in.q.present() ? conv.x.data() : nullptr;
  conv.run(
      [&](const auto& work) {
        if constexpr (sizeof(R) == 4)
          if (fits_one_block(work.batch.points))
            return short_backward<T>(stream, work.batch, work.groups, work.filters, conv.skip,
                                     {.kv = kv, .dc = output_gradient, .d_v = d_v, .d_k = d_k, .d_q = d_q},
                                     !work.is_first, d_filters.data());
        if (!work.kept) conv.steps.load(work.batch, kv, work.x);
        conv.steps.load(work.batch, output_gradient, dc.data());
        conv.steps.convolve_backward(work.batch, work.groups, work.filters, conv.skip, work.x, dc.data(), y,
                                     work.is_first, d_filters.data());
        conv.steps.store(work.batch, dc.data(), d_v, d_k);
        if (y != nullptr) conv.steps.store(work.batch, y, d_q);
      },
      [&](const LengthClass& of, const FilterGroups& groups) {
        conv.steps.add_filters(of, groups, d_filters.data(), args.d_taps);
      });
}

/// Skip<T> and add_column_sums take vectors over channels whose elements are contiguous.
void expect_dense(std::string_view name, TensorView x) {
  ensure(!x.present() || x.dense(), "fft_conv's {} is not dense", name);
}

void expect_spectra(const Stream& stream, const GatedConvInputs& in, TensorView taps, TensorView spectra) {
  if (!spectra.present()) return;
  expect("spectra", spectra, accumulator_of(in.v.dtype), {fft_conv_spectra_values(stream, in, taps)});
}

}  // namespace

void fft_conv_spectra(const Stream&, const FftConvSpectra& args) {
  *args.values = 0;
  if (args.in.v.size() == 0) return;
  const std::vector<LengthClass> classes = classes_of(args.in.segments, args.taps.columns());
  dispatch(args.in.v.dtype,
           [&]<class T> { *args.values = 2 * kept_points<T>(classes, args.in.v.columns(), args.taps.rows()); });
}

void fft_conv_forward(const Stream& stream, const FftConvForward& args) {
  expect_fft_conv_inputs(args.in, args.taps);
  expect_dense("skip", args.in.skip);
  expect("y", args.y, args.in.v.dtype, args.in.v.shape);
  expect_spectra(stream, args.in, args.taps, args.spectra);
  if (args.in.v.size() == 0) return;
  dispatch(args.in.v.dtype, [&]<class T> { forward<T>(stream, args); });
}

void fft_conv_backward(const Stream& stream, const FftConvBackward& args) {
  const TensorView v = args.in.v;
  expect_fft_conv_inputs(args.in, args.taps);
  expect_dense("skip", args.in.skip);
  expect_gated_gradients(args.in, args.gradients);
  if (args.in.skip.present()) expect_dense("d_skip", args.gradients.d_skip);
  expect("d_taps", args.d_taps, accumulator_of(v.dtype), args.taps.shape);
  expect_spectra(stream, args.in, args.taps, args.spectra);
  if (v.size() == 0) return;
  dispatch(v.dtype, [&]<class T> { backward<T>(stream, args); });
}

}  // namespace causeway::cuda
