#include "kernels/fft_conv.hpp"

#include "kernels/cpu/expect.hpp"
#include "kernels/cuda/fft_conv.cuh"
#include "kernels/cuda/reduce.cuh"

// Floor: the tensors' bytes, 0.25 ms forward and 0.375 backward for bf16 [65536, 4096] without gates (H200, 4.3 TB/s).
// What goes over the padded rows of float32 is eight times as much at each pass: forward a load, two transforms of two
// passes each, a product and a store.
namespace causeway::cuda {
namespace {

constexpr int threads = 256, numbers_a_thread = 2;

/// Threads that a product's rows are cut for: several times what the device runs at once.
constexpr std::int64_t enough_threads = std::int64_t{1} << 17;

/// A thread's share: two numbers of a group's spectrum, on some of the rows (documents by the group's channels) of a
/// piece.
struct Share {
  std::int64_t group, number, part;      ///< group of the piece
  std::int64_t first_channel, channels;  ///< of the group, in the piece
  std::int64_t begin, end;               ///< rows
  bool present;

  __device__ Share(const Piece& piece, const Groups& groups) : part(blockIdx.y) {
    const std::int64_t at = std::int64_t{blockIdx.x} * threads + threadIdx.x,
                       across = piece.points / numbers_a_thread;
    group = at / across;
    number = at % across * numbers_a_thread;
    present = group < groups.count;
    const std::int64_t left = (groups.first + group) * groups.size - piece.first_channel, right = left + groups.size;
    first_channel = left < 0 ? 0 : left;
    channels = (right < piece.channels ? right : piece.channels) - first_channel;
    const std::int64_t rows = piece.documents * channels;
    begin = rows * part / gridDim.y;
    end = rows * (part + 1) / gridDim.y;
  }

  /// For its rows in order, load(offset of the two numbers in the piece), some together, and use(what was loaded, that
  /// offset, channel of the piece).
  template <class Load, class Use>
  __device__ void for_each_row(const Piece& piece, const Load& load, const Use& use) const {
    constexpr int together = 4;  // the compiler does not move a load over a store to the same rows
    std::int64_t document = begin / channels, channel = begin % channels;
    for (std::int64_t row = begin; row < end; row += together) {
      decltype(load(row)) loaded[together];
      std::int64_t at[together], channel_at[together];
#pragma unroll
      for (int i = 0; i < together; ++i) {
        if (row + i >= end) continue;
        channel_at[i] = first_channel + channel;
        at[i] = (document * piece.channels + channel_at[i]) * piece.points + number;
        loaded[i] = load(at[i]);
        if (++channel == channels) {
          channel = 0;
          ++document;
        }
      }
#pragma unroll
      for (int i = 0; i < together; ++i)
        if (row + i < end) use(loaded[i], at[i], channel_at[i]);
    }
  }
};

std::int64_t shares_of(const Piece& piece, const Groups& groups) {
  return groups.count * (piece.points / numbers_a_thread);
}

/// Parts that the rows of a group are cut into: of the shape alone.
std::int64_t parts_of(const Piece& piece, const Groups& groups) {
  const std::int64_t rows = piece.documents * std::min(piece.channels, groups.size);
  return std::clamp<std::int64_t>(enough_threads / shares_of(piece, groups), 1, rows);
}

dim3 grid_of_shares(const Piece& piece, const Groups& groups) {
  return dim3(grid_of(shares_of(piece, groups), threads), static_cast<unsigned>(parts_of(piece, groups)));
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

/// skip is a tap at lag 0, whose spectrum is 1. It is one of two types.
template <class T>
struct Skip {
  using R = Accumulator<T>;
  const T* narrow = nullptr;
  const R* wide = nullptr;

  explicit Skip(TensorView x) {
    if (!x.present()) return;
    if (x.dtype == dtype_of<R>)
      wide = static_cast<const R*>(x.data);
    else
      narrow = static_cast<const T*>(x.data);
  }
  __device__ Two<R> added_to(Two<R> h, std::int64_t channel) const {
    const R skip = wide != nullptr ? wide[channel] : narrow != nullptr ? widened(narrow[channel]) : R{0};
#pragma unroll
    for (int i = 0; i < 2 * numbers_a_thread; i += 2) h.at[i] += skip;
    return h;
  }
};

/// x = x ⊙ (h + skip).
template <class T, class R>
__global__ void __launch_bounds__(threads)
    multiply_rows(Piece piece, Groups groups, const Complex<R>* h, Skip<T> skip, Complex<R>* x) {
  const Share share(piece, groups);
  if (!share.present) return;
  const Two<R> filter = two_at(h + share.group * piece.points + share.number);
  share.for_each_row(
      piece, [&](std::int64_t at) { return two_at(x + at); },
      [&](const Two<R>& value, std::int64_t at, std::int64_t channel) {
        put_two(times<false>(value, skip.added_to(filter, piece.first_channel + channel)), x + at);
      });
}

/// d_h += Σ conj(x) ⊙ dc, x = x ⊙ (h + skip) if asked, dc = dc ⊙ conj(h + skip); of several parts each has its own d_h.
template <class T, bool output, class R>
__global__ void __launch_bounds__(threads)
    multiply_rows_backward(Piece piece, Groups groups, const Complex<R>* h, Skip<T> skip, Complex<R>* x, Complex<R>* dc,
                           bool accumulate, Complex<R>* d_h) {
  const Share share(piece, groups);
  if (!share.present) return;
  const Two<R> filter = two_at(h + share.group * piece.points + share.number);
  Complex<R>* const to = d_h + (share.part * groups.count + share.group) * piece.points + share.number;
  Two<R> sum = accumulate ? two_at(to) : Two<R>::zeros();
  struct Pair {
    Two<R> value, gradient;
  };
  share.for_each_row(
      piece, [&](std::int64_t at) { return Pair{two_at(x + at), two_at(dc + at)}; },
      [&](const Pair& of, std::int64_t at, std::int64_t channel) {
        const Two<R> here = skip.added_to(filter, piece.first_channel + channel),
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
  const std::int64_t T_ = in.v.rows(), D = in.v.columns(),
                     strip = std::max(fewest_tokens, (T_ + most_strips - 1) / most_strips),
                     strips = (T_ + strip - 1) / strip;
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
  Room room{classes, channels, group_size};
  Skip<T> skip{in.skip};
  Spectra<R> filters{stream, room.filters};

  /// Calls body(piece, its groups, whether it is their first) for the pieces of all classes, the groups' spectra
  /// standing in `filters`, and end(class, groups) behind the last.
  template <class Body, class End>
  void run(const Body& body, const End& end) const {
    auto* at = static_cast<const Extent*>(extents.view().data);
    for (const LengthClass& of : classes) {
      for_each_piece(
          of, at, channels,
          [&](const Piece& piece) {
            const Groups groups(piece, group_size);
            load_taps<T>(stream, of.points, of.taps, groups, taps, filters.data());
            filters.forward(stream, of.points, groups.count);
          },
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
  p.run(
      [&](const Piece& piece, const Groups& groups, bool) {
        load_rows<T>(stream, piece, {.a = args.in.v, .b = args.in.k, .rounded = true}, x.data());
        x.forward(stream, piece.points, piece.rows());
        multiply_rows<T><<<grid_of_shares(piece, groups), threads, 0, native_of(stream)>>>(
            piece, groups, p.filters.data(), p.skip, x.data());
        cuda_check(cudaGetLastError());
        x.inverse(stream, piece.points, piece.rows());
        store_rows<T>(stream, piece, x.data(), {.gate = args.in.q, .y = args.y});
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
  const Spectra<R> x(stream, p.room.rows), dc(stream, p.room.rows), d_filters(stream, p.room.filters),
      parts(stream, numbers_a_thread * enough_threads);
  p.run(
      [&](const Piece& piece, const Groups& groups, bool first) {
        load_rows<T>(stream, piece, {.a = in.v, .b = in.k, .rounded = true}, x.data());
        load_rows<T>(stream, piece, {.a = out.d_y, .b = in.q}, dc.data());
        x.forward(stream, piece.points, piece.rows());
        dc.forward(stream, piece.points, piece.rows());
        const std::int64_t count = parts_of(piece, groups);
        const auto multiply = [&]<bool output> {
          multiply_rows_backward<T, output><<<grid_of_shares(piece, groups), threads, 0, native_of(stream)>>>(
              piece, groups, p.filters.data(), p.skip, x.data(), dc.data(), count == 1 && !first,
              count == 1 ? d_filters.data() : parts.data());
          cuda_check(cudaGetLastError());
        };
        in.q.present() ? multiply.template operator()<true>() : multiply.template operator()<false>();
        if (count > 1) {
          const std::int64_t size = 2 * groups.count * piece.points;
          add_parts<R><<<grid_of(size, threads), threads, 0, native_of(stream)>>>(
              reinterpret_cast<const R*>(parts.data()), count, size, !first, reinterpret_cast<R*>(d_filters.data()));
          cuda_check(cudaGetLastError());
        }
        dc.inverse(stream, piece.points, piece.rows());
        store_rows<T>(stream, piece, dc.data(), {.gate = in.k, .y = out.d_v},
                      in.k.present() ? GatedOutput{.gate = in.v, .y = out.d_k} : GatedOutput{});
        if (!in.q.present()) return;
        x.inverse(stream, piece.points, piece.rows());
        store_rows<T>(stream, piece, x.data(), {.gate = out.d_y, .y = out.d_q});
      },
      [&](const LengthClass& of, const Groups& groups) {
        d_filters.inverse(stream, of.points, groups.count);
        add_taps<T>(stream, of.points, of.taps, groups, d_filters.data(), args.d_taps);
      });
}

}  // namespace

void fft_conv_forward(const Stream& stream, const FftConvForward& args) {
  expect_fft_conv(args.in, args.taps);
  cpu::expect("y", args.y, args.in.v.dtype, args.in.v.shape);
  if (args.in.v.size() == 0) return;
  dispatch(args.in.v.dtype, [&]<class T> { forward<T>(stream, args); });
}

void fft_conv_backward(const Stream& stream, const FftConvBackward& args) {
  const GatedConvInputs& in = args.in;
  const GatedConvGradients& gradients = args.gradients;
  const DType dtype = in.v.dtype;
  expect_fft_conv(in, args.taps);
  cpu::expect("d_y", gradients.d_y, dtype, in.v.shape);
  cpu::expect("d_v", gradients.d_v, dtype, in.v.shape);
  if (in.q.present()) cpu::expect("d_q", gradients.d_q, dtype, in.v.shape);
  if (in.k.present()) cpu::expect("d_k", gradients.d_k, dtype, in.v.shape);
  if (in.skip.present()) cpu::expect("d_skip", gradients.d_skip, accumulator_of(dtype), in.skip.shape);
  cpu::expect("d_taps", args.d_taps, accumulator_of(dtype), args.taps.shape);
  if (in.v.size() == 0) return;
  dispatch(dtype, [&]<class T> { backward<T>(stream, args); });
}

}  // namespace causeway::cuda
