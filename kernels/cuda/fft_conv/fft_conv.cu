#include "kernels/core/integer.hpp"
#include "kernels/fft_conv.hpp"

#include <string_view>

#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/fft_conv/fft_conv_short.cuh"
#include "kernels/cuda/fft_conv/fft_conv_two_steps.cuh"
#include "kernels/expect.hpp"

// Floor: the tensors' bytes, 0.25 ms forward and 0.375 backward for bf16 [65536, 4096] without gates (H200, 4.3 TB/s).
// Short documents meet it but for arithmetic and shared memory. What goes over the padded rows in memory, eight times
// the bytes of a bf16 tensor, goes over them four times forward and nine backward in two steps, and once or twice more
// for the filters, as many as there are channels; around cuFFT nine times forward.
namespace causeway::cuda {
namespace {

constexpr int threads = 256, numbers_a_thread = 2;

/// Threads that a product's rows are cut for: several times what the device runs at once.
constexpr std::int64_t enough_threads = std::int64_t{1} << 17, enough_blocks = 1024;

/// A thread's: two numbers of a group's spectrum, on a part of the group's rows.
struct ComplexPair {
  std::int64_t group, number;  ///< group of the piece
  Share share;
  bool present;

  __device__ ComplexPair(const Piece& piece, const Groups& groups)
      : group((std::int64_t{blockIdx.x} * threads + threadIdx.x) / (piece.points / numbers_a_thread)),
        number((std::int64_t{blockIdx.x} * threads + threadIdx.x) % (piece.points / numbers_a_thread) *
               numbers_a_thread),
        share(piece, groups, group, blockIdx.y, gridDim.y),
        present(group < groups.count) {}

  /// For its rows in order, load(offset of the two numbers in the piece), some together, and use(what was loaded, that
  /// offset, channel of the piece).
  template <class Load, class Use>
  __device__ void for_each_row(const Piece& piece, const Load& load, const Use& use) const {
    constexpr int together = 4;  // the compiler does not move a load over a store to the same rows
    std::int64_t document = share.begin / share.channels, channel = share.begin % share.channels;
    for (std::int64_t row = share.begin; row < share.end; row += together) {
      decltype(load(row)) loaded[together];
      std::int64_t at[together], channel_at[together];
#pragma unroll
      for (int i = 0; i < together; ++i) {
        if (row + i >= share.end) continue;
        channel_at[i] = share.first_channel + channel;
        at[i] = (document * piece.channels + channel_at[i]) * piece.points + number;
        loaded[i] = load(at[i]);
        if (++channel == share.channels) {
          channel = 0;
          ++document;
        }
      }
#pragma unroll
      for (int i = 0; i < together; ++i)
        if (row + i < share.end) use(loaded[i], at[i], channel_at[i]);
    }
  }
};

std::int64_t threads_for(const Piece& piece, const Groups& groups) {
  return groups.count * (piece.points / numbers_a_thread);
}

template <class R>
using Two = Packet<R, 2 * numbers_a_thread>;

/// Two numbers at `from`.
template <class R>
__device__ Two<R> two_at(const Complex<R>* from) {
  return Two<R>::load(reinterpret_cast<const R*>(from));
}
template <class R>
__device__ void put_two(const Two<R>& x, Complex<R>* to) {
  x.store(reinterpret_cast<R*>(to));
}

/// x·h, or x·conj(h).
template <bool conjugate, class R>
__device__ Two<R> times(const Two<R>& x, const Two<R>& h) {
  Two<R> y;
#pragma unroll
  for (int i = 0; i < 2 * numbers_a_thread; i += 2) {
    const R im = conjugate ? -h.at[i + 1] : h.at[i + 1];
    y.at[i] = x.at[i] * h.at[i] - x.at[i + 1] * im;
    y.at[i + 1] = x.at[i] * im + x.at[i + 1] * h.at[i];
  }
  return y;
}

/// skip's spectrum is 1.
template <class R>
__device__ Two<R> plus(Two<R> h, R skip) {
#pragma unroll
  for (int i = 0; i < 2 * numbers_a_thread; i += 2) h.at[i] += skip;
  return h;
}

/// x = x ⊙ (h + skip).
template <class T, class R>
__global__ void __launch_bounds__(threads)
    multiply_rows(Piece piece, Groups groups, const Complex<R>* h, Skip<T> skip, Complex<R>* x) {
  const ComplexPair own(piece, groups);
  if (!own.present) return;
  const Two<R> filter = two_at(h + own.group * piece.points + own.number);
  own.for_each_row(
      piece, [&](std::int64_t at) { return two_at(x + at); },
      [&](const Two<R>& value, std::int64_t at, std::int64_t channel) {
        put_two(times<false>(value, plus(filter, skip(piece.first_channel + channel))), x + at);
      });
}

/// d_h += Σ conj(x) ⊙ dc, x = x ⊙ (h + skip) if asked, dc = dc ⊙ conj(h + skip); of several parts each has its own d_h.
template <class T, bool output, class R>
__global__ void __launch_bounds__(threads)
    multiply_rows_backward(Piece piece, Groups groups, const Complex<R>* h, Skip<T> skip, Complex<R>* x, Complex<R>* dc,
                           bool accumulate, Complex<R>* d_h) {
  const ComplexPair own(piece, groups);
  if (!own.present) return;
  const Two<R> filter = two_at(h + own.group * piece.points + own.number);
  Complex<R>* const to = d_h + (blockIdx.y * groups.count + own.group) * piece.points + own.number;
  Two<R> sum = accumulate ? two_at(to) : Two<R>::zeros();
  struct Pair {
    Two<R> value, gradient;
  };
  own.for_each_row(
      piece,
      [&](std::int64_t at) {
        return Pair{two_at(x + at), two_at(dc + at)};
      },
      [&](const Pair& of, std::int64_t at, std::int64_t channel) {
        const Two<R> here = plus(filter, skip(piece.first_channel + channel)),
                     term = times<true>(of.gradient, of.value);
#pragma unroll
        for (int i = 0; i < 2 * numbers_a_thread; ++i) sum.at[i] += term.at[i];
        if constexpr (output) put_two(times<false>(of.value, here), x + at);
        put_two(times<true>(of.gradient, here), dc + at);
      });
  put_two(sum, to);
}

/// to += Σ_part parts, in their order, or to = that.
template <class R>
__global__ void __launch_bounds__(threads)
    add_parts(const R* parts, std::int64_t count, std::int64_t size, bool accumulate, R* to) {
  const std::int64_t at = std::int64_t{blockIdx.x} * threads + threadIdx.x;
  if (at >= size) return;
  double sum = accumulate ? static_cast<double>(to[at]) : 0;
#pragma unroll 8
  for (std::int64_t part = 0; part < count; ++part) sum += static_cast<double>(parts[part * size + at]);
  to[at] = static_cast<R>(sum);
}

/// sums[strip, d] = Σ_t dc ⊙ kv over the strip's tokens; a warp's lanes are neighbouring channels, its tokens every
/// eighth.
template <class T, bool q_present, bool k_present>
__global__ void __launch_bounds__(threads)
    sum_skip_strips(Rows<const T> q, Rows<const T> k, Rows<const T> v, Rows<const T> d_y, std::int64_t tokens,
                    std::int64_t channels, std::int64_t strip, Accumulator<T>* sums) {
  using R = Accumulator<T>;
  __shared__ R of_warp[threads / 32][32];
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
  of_warp[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || channel >= channels) return;
  for (int w = 1; w < threads / 32; ++w) sum += of_warp[w][lane];
  sums[blockIdx.y * channels + channel] = sum;
}

/// d_skip += Σ_t dc ⊙ kv.
template <class T>
void add_skip_gradient(const Stream& stream, const GatedConvInputs& in, const GatedConvGradients& gradients) {
  using R = Accumulator<T>;
  constexpr std::int64_t most_strips = 1024, fewest_tokens = 256;
  const std::int64_t T_ = in.v.rows(), D = in.v.columns(), strip = std::max(fewest_tokens, ceil_div(T_, most_strips)),
                     strips = ceil_div(T_, strip);
  const Tensor sums(stream, dtype_of<R>, {strips, D});
  const auto launch = [&]<bool q, bool k> {
    sum_skip_strips<T, q, k><<<dim3(grid_of(D, 32), static_cast<unsigned>(strips)), threads, 0, native_of(stream)>>>(
        Rows<const T>(in.q), Rows<const T>(in.k), Rows<const T>(in.v), Rows<const T>(gradients.d_y), T_, D, strip,
        static_cast<R*>(sums.view().data));
    cuda_check(cudaGetLastError());
  };
  if (in.q.present())
    in.k.present() ? launch.template operator()<true, true>() : launch.template operator()<true, false>();
  else
    in.k.present() ? launch.template operator()<false, true>() : launch.template operator()<false, false>();
  add_column_sums(stream, sums, static_cast<R*>(gradients.d_skip.data));
}

dim3 grid_of_numbers(const Piece& piece, const Groups& groups, std::int64_t parts) {
  return dim3(grid_of(threads_for(piece, groups), threads), static_cast<unsigned>(parts));
}

/// The passes over a piece, each by kernels around cuFFT or in two steps of our own. `load` and `load_filters` go as
/// far as what `convolve` takes, `store` and `add_filters` come from what it leaves.
template <class T>
struct Passes {
  using R = Accumulator<T>;
  const Stream& stream;

  void load(const Piece& piece, const Factors<T>& from, const Spectra<R>& to) const {
    if constexpr (sizeof(R) == 4)
      if (in_two_steps(piece.points)) return columns_in<T>(stream, piece, from, to.data());
    load_rows<T>(stream, piece, from, to.data());
    to.forward(stream, piece.points, piece.rows());
  }

  void store(const Piece& piece, const Spectra<R>& from, const GatedOutput& first,
             const GatedOutput& second = {}) const {
    if constexpr (sizeof(R) == 4)
      if (in_two_steps(piece.points)) return columns_out<T>(stream, piece, from.data(), first, second);
    from.inverse(stream, piece.points, piece.rows());
    store_rows<T>(stream, piece, from.data(), first, second);
  }

  void load_filters(const LengthClass& of, const Groups& groups, TensorView taps, const Spectra<R>& to) const {
    if constexpr (sizeof(R) == 4) {
      if (in_one_block(of.points)) return short_filters<T>(stream, of.points, of.taps, groups, taps, to.data());
      if (in_two_steps(of.points)) {
        tap_columns_in<T>(stream, of.points, of.taps, groups, taps, to.data());
        return filter_rows(stream, of.points, groups.count, false, to.data());
      }
    }
    load_taps<T>(stream, of.points, of.taps, groups, taps, to.data());
    to.forward(stream, of.points, groups.count);
  }

  void add_filters(const LengthClass& of, const Groups& groups, const Spectra<R>& from, TensorView taps) const {
    if constexpr (sizeof(R) == 4) {
      if (in_one_block(of.points)) return add_short_filters(stream, of.points, of.taps, groups, from.data(), taps);
      if (in_two_steps(of.points)) {
        filter_rows(stream, of.points, groups.count, true, from.data());
        return tap_columns_out(stream, of.points, of.taps, groups, from.data(), taps);
      }
    }
    from.inverse(stream, of.points, groups.count);
    add_taps<T>(stream, of.points, of.taps, groups, from.data(), taps);
  }

  void convolve(const Piece& piece, const Groups& groups, const Spectra<R>& filters, const Skip<T>& skip,
                const Spectra<R>& x) const {
    if constexpr (sizeof(R) == 4) {
      if (in_two_steps(piece.points)) return convolve_rows<T>(stream, piece, groups, filters.data(), skip, x.data());
    }
    const std::int64_t parts = parts_for(piece, groups, threads_for(piece, groups), enough_threads);
    multiply_rows<T><<<grid_of_numbers(piece, groups, parts), threads, 0, native_of(stream)>>>(
        piece, groups, filters.data(), skip, x.data());
    cuda_check(cudaGetLastError());
  }

  /// The gradients of the filters are set at the first piece, and added to at others. x is left as by `convolve` where
  /// `output`.
  void convolve_backward(const Piece& piece, const Groups& groups, const Spectra<R>& filters, const Skip<T>& skip,
                         bool output, const Spectra<R>& x, const Spectra<R>& dc, bool first,
                         const Spectra<R>& d_filters) const {
    // A block of own kernels takes 4096 numbers of groups.
    const bool own = sizeof(R) == 4 && in_two_steps(piece.points);
    const std::int64_t size = groups.count * piece.points,
                       parts = own ? parts_for(piece, groups, ceil_div(size, row_points), enough_blocks)
                                   : parts_for(piece, groups, threads_for(piece, groups), enough_threads);
    const Spectra<R> sums = parts == 1 ? Spectra<R>() : Spectra<R>(stream, parts * size);
    Complex<R>* const to = parts == 1 ? d_filters.data() : sums.data();
    const bool accumulate = parts == 1 && !first;
    if constexpr (sizeof(R) == 4) {
      if (in_two_steps(piece.points))
        convolve_rows_backward<T>(stream, piece, groups, filters.data(), skip, output, x.data(), dc.data(), accumulate,
                                  parts, to);
    }
    if (!own) {
      const dim3 grid = grid_of_numbers(piece, groups, parts);
      const auto multiply = [&]<bool gated> {
        multiply_rows_backward<T, gated><<<grid, threads, 0, native_of(stream)>>>(piece, groups, filters.data(), skip,
                                                                                  x.data(), dc.data(), accumulate, to);
        cuda_check(cudaGetLastError());
      };
      output ? multiply.template operator()<true>() : multiply.template operator()<false>();
    }
    if (parts == 1) return;
    add_parts<R><<<grid_of(2 * size, threads), threads, 0, native_of(stream)>>>(
        reinterpret_cast<const R*>(sums.data()), parts, 2 * size, !first, reinterpret_cast<R*>(d_filters.data()));
    cuda_check(cudaGetLastError());
  }
};

/// What both directions share.
template <class T>
struct Problem {
  using R = Accumulator<T>;
  const Stream& stream;
  GatedConvInputs in;
  TensorView taps;
  std::vector<LengthClass> classes = classes_of(in.segments, taps.columns());
  Tensor extents = extents_of(stream, in.segments, taps.columns(), classes);
  std::int64_t channels = in.v.columns(), group_size = channels / taps.rows();
  WorkspaceSizes room{classes, channels, group_size, dtype_of<R>};
  Skip<T> skip{in.skip};
  Spectra<R> filters{stream, room.filters};
  Passes<T> passes{stream};

  /// Calls body(piece, its groups, whether it is their first) for the pieces of all classes, the groups' spectra
  /// standing in `filters`, and end(class, groups) behind the last.
  template <class Body, class End>
  void run(const Body& body, const End& end) const {
    auto* at = static_cast<const Extent*>(extents.view().data);
    for (const LengthClass& of : classes) {
      for_each_piece(
          of, at, channels,
          [&](const Piece& piece) { passes.load_filters(of, Groups(piece, group_size), taps, filters); },
          [&](const Piece& piece, bool first) { body(piece, Groups(piece, group_size), first); },
          [&](const Piece& piece) { end(of, Groups(piece, group_size)); });
      at += of.documents;
    }
  }
};

template <class T>
void forward(const Stream& stream, const FftConvForward& args) {
  using R = Accumulator<T>;
  const Problem<T> p{stream, args.in, args.taps};
  const Spectra<R> x(stream, p.room.rows);
  const Factors<T> kv{.a = args.in.v, .b = args.in.k, .rounded = true};
  const GatedOutput y{.gate = args.in.q, .y = args.y};
  p.run(
      [&](const Piece& piece, const Groups& groups, bool) {
        if constexpr (sizeof(R) == 4)
          if (in_one_block(piece.points))
            return short_forward<T>(stream, piece, groups, p.filters.data(), p.skip, kv, y);
        p.passes.load(piece, kv, x);
        p.passes.convolve(piece, groups, p.filters, p.skip, x);
        p.passes.store(piece, x, y);
      },
      [](const LengthClass&, const Groups&) {});
}

template <class T>
void backward(const Stream& stream, const FftConvBackward& args) {
  using R = Accumulator<T>;
  const GatedConvInputs& in = args.in;
  const GatedConvGradients& out = args.gradients;
  if (in.skip.present()) add_skip_gradient<T>(stream, in, out);
  const Problem<T> p{stream, in, args.taps};
  const Spectra<R> x(stream, p.room.rows), dc(stream, p.room.rows), d_filters(stream, p.room.filters);
  const bool gated = in.q.present();
  const Factors<T> kv{.a = in.v, .b = in.k, .rounded = true}, output{.a = out.d_y, .b = in.q};
  const GatedOutput d_v{.gate = in.k, .y = out.d_v},
      d_k = in.k.present() ? GatedOutput{.gate = in.v, .y = out.d_k} : GatedOutput{},
      d_q = gated ? GatedOutput{.gate = out.d_y, .y = out.d_q} : GatedOutput{};
  p.run(
      [&](const Piece& piece, const Groups& groups, bool first) {
        if constexpr (sizeof(R) == 4)
          if (in_one_block(piece.points))
            return short_backward<T>(stream, piece, groups, p.filters.data(), p.skip,
                                     {.kv = kv, .dc = output, .d_v = d_v, .d_k = d_k, .d_q = d_q}, !first,
                                     d_filters.data());
        p.passes.load(piece, kv, x);
        p.passes.load(piece, output, dc);
        p.passes.convolve_backward(piece, groups, p.filters, p.skip, gated, x, dc, first, d_filters);
        p.passes.store(piece, dc, d_v, d_k);
        if (gated) p.passes.store(piece, x, d_q);
      },
      [&](const LengthClass& of, const Groups& groups) { p.passes.add_filters(of, groups, d_filters, args.d_taps); });
}

/// Vectors over channels are read and written by their channel alone.
void expect_dense(std::string_view name, TensorView x) {
  ensure(!x.present() || x.dense(), "fft_conv's {} is not dense", name);
}

}  // namespace

void fft_conv_forward(const Stream& stream, const FftConvForward& args) {
  expect_fft_conv(args.in, args.taps);
  expect_dense("skip", args.in.skip);
  expect("y", args.y, args.in.v.dtype, args.in.v.shape);
  if (args.in.v.size() == 0) return;
  dispatch(args.in.v.dtype, [&]<class T> { forward<T>(stream, args); });
}

void fft_conv_backward(const Stream& stream, const FftConvBackward& args) {
  const GatedConvInputs& in = args.in;
  const GatedConvGradients& gradients = args.gradients;
  const DType dtype = in.v.dtype;
  expect_fft_conv(in, args.taps);
  expect_dense("skip", in.skip);
  expect("d_y", gradients.d_y, dtype, in.v.shape);
  expect("d_v", gradients.d_v, dtype, in.v.shape);
  if (in.q.present()) expect("d_q", gradients.d_q, dtype, in.v.shape);
  if (in.k.present()) expect("d_k", gradients.d_k, dtype, in.v.shape);
  if (in.skip.present()) {
    expect("d_skip", gradients.d_skip, accumulator_of(dtype), in.skip.shape);
    expect_dense("d_skip", gradients.d_skip);
  }
  expect("d_taps", args.d_taps, accumulator_of(dtype), args.taps.shape);
  if (in.v.size() == 0) return;
  dispatch(dtype, [&]<class T> { backward<T>(stream, args); });
}

}  // namespace causeway::cuda
