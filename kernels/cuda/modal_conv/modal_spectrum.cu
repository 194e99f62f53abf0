#include <algorithm>

#include "kernels/activation.hpp"
#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/elementwise.cuh"
#include "kernels/cuda/device/functions.cuh"
#include "kernels/expect.hpp"
#include "kernels/fourier.hpp"

// What cancels is computed before in float64, once a mode and once a frequency: 1 - λ, 1 - λ^length, 2 sin² of half the
// frequency's angle. Then every term is a sum of numbers of one sign, and float32 keeps its digits. ω = 1 has a closed
// form of its own, which float64 evaluates.
//
// Floor (H200): forward writes y once, backward reads d_y once; complex f32 [65536, 4096]: 2.15 GB, 0.45 ms at 4.8
// TB/s. A mode costs 14 operations forward and 29 backward: with 16 modes 2.0 and 4.2 ms at 128 lanes a clock and
// multiprocessor, so that arithmetic binds.
namespace causeway::cuda {
namespace {

constexpr int threads = 128, backward_modes = 8;
constexpr std::int64_t fewest_chunk_rows = 64, most_chunks = 128;

/// λ and what is made of it, each [modes, channels] in a scratch.
enum Field { residue_field, loss_field, decay_field, far_loss_field, far_field, value_field, slope_field, fields };

/// Σ_t λ^t and Σ_t t λ^t of `length` terms, float64.
struct AtZero {
  double value, slope;

  __device__ AtZero(double rate, double length) {
    const double loss = -::expm1(-rate), far = ::exp(-rate * length), far_loss = -::expm1(-rate * length);
    if (rate * length < 1e-5) {  // there the closed form cancels; the next terms are 1e-15 of the first
      const double sum = length * (length - 1) / 2, squares = sum * (2 * length - 1) / 3, cubes = sum * sum;
      value = length - rate * (sum - rate / 2 * squares);
      slope = sum - rate * (squares - rate / 2 * cubes);
    } else {
      value = far_loss / loss;
      slope = (::exp(-rate) * value - length * far) / loss;
    }
  }
};

template <class R>
__global__ void __launch_bounds__(threads)
    write_modes(Rows<const R> residues, Rows<const R> log_rates, std::int64_t channels, std::int64_t modes,
                double length, R* to) {
  const std::int64_t at = std::int64_t{blockIdx.x} * threads + threadIdx.x, size = channels * modes, m = at / channels,
                     d = at % channels;
  if (at >= size) return;
  const double rate = modal_rate(static_cast<double>(log_rates(d, m)));
  const AtZero at_zero(rate, length);
  const auto put = [&](Field field, double x) { to[field * size + at] = static_cast<R>(x); };
  put(residue_field, static_cast<double>(residues(d, m)));
  put(loss_field, -::expm1(-rate));
  put(decay_field, ::exp(-rate));
  put(far_loss_field, -::expm1(-rate * length));
  put(far_field, ::exp(-rate * length));
  put(value_field, at_zero.value);
  put(slope_field, at_zero.slope);
}

/// ω = exp(-2πi j/(4·length)) = re + i im, 1 - re, and turn = ω^length, a power of -i.
template <class R>
struct alignas(16) Frequency {
  R re, im, twice, turn_re, turn_im;

  __device__ bool zero() const { return twice == 0; }
};

template <class R>
__global__ void __launch_bounds__(threads)
    write_frequencies(std::int64_t first, std::int64_t step, std::int64_t length, std::int64_t rows, Frequency<R>* to) {
  const std::int64_t row = std::int64_t{blockIdx.x} * threads + threadIdx.x;
  if (row >= rows) return;
  auto j = static_cast<std::int64_t>((static_cast<__int128>(row) * step + first) % (4 * length));
  if (j < 0) j += 4 * length;
  const int quarter = static_cast<int>(j % 4);
  if (j > 2 * length) j -= 4 * length;  // near 0 an angle has more digits than near a whole turn
  double sine, cosine;
  ::sincospi(static_cast<double>(j) / static_cast<double>(4 * length), &sine, &cosine);
  to[row] = {.re = static_cast<R>(1 - 2 * sine * sine),
             .im = static_cast<R>(-2 * sine * cosine),
             .twice = static_cast<R>(2 * sine * sine),
             .turn_re = static_cast<R>(quarter == 0   ? 1
                                       : quarter == 2 ? -1
                                                      : 0),
             .turn_im = static_cast<R>(quarter == 1   ? -1
                                       : quarter == 3 ? 1
                                                      : 0)};
}

__device__ inline float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline double reciprocal(double x) { return 1 / x; }

/// Scratch of both directions.
template <class R>
struct Grid {
  Tensor modes, frequencies;

  template <class Args>
  Grid(const Stream& stream, const Args& args, std::int64_t rows)
      : modes(stream, dtype_of<R>, {fields, args.residues.columns(), args.residues.rows()}),
        frequencies(stream, DType::u8, {rows, std::int64_t{sizeof(Frequency<R>)}}) {
    const std::int64_t D = args.residues.rows(), M = args.residues.columns();
    write_modes<R><<<grid_of(D * M, threads), threads, 0, native_of(stream)>>>(
        Rows<const R>(args.residues), Rows<const R>(args.log_rates), D, M, static_cast<double>(args.length),
        of_modes());
    write_frequencies<R><<<grid_of(rows, threads), threads, 0, native_of(stream)>>>(args.first, args.step, args.length,
                                                                                    rows, of_rows());
    cuda_check(cudaGetLastError());
  }
  R* of_modes() const { return static_cast<R*>(modes.view().data); }
  Frequency<R>* of_rows() const { return static_cast<Frequency<R>*>(frequencies.view().data); }
};

/// Frequencies that a thread takes together, so that a mode is read once for all of them.
template <class R>
constexpr int rows_a_thread = sizeof(R) == 4 ? 8 : 4;

/// A thread a channel.
template <class R>
__global__ void __launch_bounds__(threads)
    write_spectrum(const R* of_modes, const Frequency<R>* frequencies, std::int64_t channels, std::int64_t modes,
                   std::int64_t rows, Rows<R> y) {
  constexpr int together = rows_a_thread<R>;
  const std::int64_t across = ceil_div(channels, threads), first = blockIdx.x / across * together,
                     channel = blockIdx.x % across * threads + threadIdx.x, size = channels * modes;
  if (channel >= channels) return;
  Frequency<R> at[together];
  R re[together]{}, im[together]{};
#pragma unroll
  for (int r = 0; r < together; ++r) at[r] = frequencies[first + r < rows ? first + r : rows - 1];
  bool zero = false;  // whether one of them is ω = 1: few threads have to ask again
#pragma unroll
  for (int r = 0; r < together; ++r) zero = zero || at[r].zero();
#pragma unroll 2
  for (std::int64_t m = 0; m < modes; ++m) {
    const R* const mode = of_modes + m * channels + channel;
    const auto field = [&](Field of) { return mode[of * size]; };
    const R residue = field(residue_field), loss = field(loss_field), decay = field(decay_field),
            far_loss = field(far_loss_field), far = field(far_field);
#pragma unroll
    for (int r = 0; r < together; ++r) {
      const R c_re = loss + decay * at[r].twice, c_im = decay * at[r].im;  // of conj(1 - λω)
      const R n_re = far_loss * at[r].turn_re + (1 - at[r].turn_re), n_im = -far * at[r].turn_im;
      const R over = residue * reciprocal(c_re * c_re + c_im * c_im);
      re[r] += over * (n_re * c_re - n_im * c_im);
      im[r] += over * (n_re * c_im + n_im * c_re);
    }
  }
  if (zero)
#pragma unroll
    for (int r = 0; r < together; ++r) {
      if (!at[r].zero()) continue;
      re[r] = im[r] = 0;
      for (std::int64_t m = 0; m < modes; ++m)
        re[r] += of_modes[residue_field * size + m * channels + channel] *
                 of_modes[value_field * size + m * channels + channel];
    }
#pragma unroll
  for (int r = 0; r < together; ++r)
    if (first + r < rows) y.template store<2>(first + r, 2 * channel, Packet<R, 2>::of({re[r], im[r]}));
}

/// sums[chunk, 0, m, d] = Σ_r Re(conj(d_y) v) over the chunk's rows, sums[chunk, 1, m, d] the same of λ ∂v/∂λ, with
/// v = n/(1 - λω), n = 1 - λ^length ω^length and λ ∂v/∂λ = (λω v - length λ^length ω^length) / (1 - λω). A thread takes
/// backward_modes modes of a channel.
template <class R>
__global__ void __launch_bounds__(threads)
    sum_modes(const R* of_modes, const Frequency<R>* frequencies, std::int64_t channels, std::int64_t modes, R length,
              std::int64_t rows, std::int64_t chunk_rows, Rows<const R> d_y, R* sums) {
  const std::int64_t groups = ceil_div(modes, backward_modes), channel = blockIdx.x / groups * threads + threadIdx.x,
                     m = blockIdx.x % groups * backward_modes, begin = blockIdx.y * chunk_rows,
                     end = begin + chunk_rows < rows ? begin + chunk_rows : rows, size = channels * modes;
  if (channel >= channels) return;
  R loss[backward_modes], decay[backward_modes], far_loss[backward_modes], far[backward_modes];
  R value[backward_modes]{}, slope[backward_modes]{};
  const auto field = [&](Field of, int i) {  // beyond the last mode the last one, whose sums nobody takes
    const std::int64_t mode = m + i < modes ? m + i : modes - 1;
    return of_modes[of * size + mode * channels + channel];
  };
#pragma unroll
  for (int i = 0; i < backward_modes; ++i) {
    loss[i] = field(loss_field, i);
    decay[i] = field(decay_field, i);
    far_loss[i] = field(far_loss_field, i);
    far[i] = field(far_field, i);
  }
#pragma unroll 2
  for (std::int64_t row = begin; row < end; ++row) {
    const Frequency<R> at = frequencies[row];
    const auto g = d_y.template load<2>(row, 2 * channel);
    if (at.zero()) {
#pragma unroll
      for (int i = 0; i < backward_modes; ++i) {
        value[i] += g.at[0] * field(value_field, i);
        slope[i] += g.at[0] * field(slope_field, i);
      }
      continue;
    }
    const R rest = 1 - at.turn_re, lost_re = length * at.turn_re, lost_im = length * at.turn_im;
#pragma unroll
    for (int i = 0; i < backward_modes; ++i) {
      const R re = loss[i] + decay[i] * at.twice, im = decay[i] * at.im;  // of conj(1 - λω)
      const R over = reciprocal(re * re + im * im), o_re = over * re, o_im = over * im;
      const R n_re = far_loss[i] * at.turn_re + rest, n_im = -far[i] * at.turn_im;
      const R v_re = n_re * o_re - n_im * o_im, v_im = n_re * o_im + n_im * o_re;
      const R z_re = decay[i] * at.re;  // of λω, whose imaginary part is im
      const R t_re = v_re * z_re - v_im * im - far[i] * lost_re, t_im = v_re * im + v_im * z_re - far[i] * lost_im;
      value[i] += g.at[0] * v_re + g.at[1] * v_im;
      slope[i] += g.at[0] * (t_re * o_re - t_im * o_im) + g.at[1] * (t_re * o_im + t_im * o_re);
    }
  }
  R* const to = sums + blockIdx.y * 2 * size + channel;
#pragma unroll
  for (int i = 0; i < backward_modes; ++i) {
    if (m + i >= modes) break;
    to[(m + i) * channels] = value[i];
    to[size + (m + i) * channels] = slope[i];
  }
}

template <class R>
__global__ void __launch_bounds__(threads)
    add_mode_gradients(const R* sums, std::int64_t chunks, Rows<const R> residues, Rows<const R> log_rates,
                       std::int64_t channels, std::int64_t modes, Rows<R> d_residues, Rows<R> d_log_rates) {
  const std::int64_t at = std::int64_t{blockIdx.x} * threads + threadIdx.x, size = channels * modes, m = at / channels,
                     d = at % channels;
  if (at >= size) return;
  double value = 0, slope = 0;
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
    value += static_cast<double>(sums[chunk * 2 * size + at]);
    slope += static_cast<double>(sums[(chunk * 2 + 1) * size + at]);
  }
  const double rate = modal_rate(static_cast<double>(log_rates(d, m)));
  d_residues(d, m) += static_cast<R>(value);
  d_log_rates(d, m) += static_cast<R>(-rate * static_cast<double>(residues(d, m)) * slope);
}

template <class Args>
void expect_spectrum(const Args& args, std::string_view name, TensorView y) {
  const TensorView residues = args.residues;
  ensure(args.length > 0, "a filter of {} taps", args.length);
  ensure(residues.dtype == accumulator_of(residues.dtype), "residues are {}", name_of(residues.dtype));
  expect("log_rates", args.log_rates, residues.dtype, residues.shape);
  expect(name, y, residues.dtype, {y.rows(), residues.rows(), 2});
  ensure(rows_start_aligned({y}, 2), "the complex numbers of a tensor {} do not stand at multiples of their size",
         y.shape.to_string());
}

}  // namespace

void modal_spectrum(const Stream& stream, const ModalSpectrum& args) {
  expect_spectrum(args, "y", args.y);
  if (args.y.size() == 0) return;
  if (args.residues.columns() == 0) return fill(stream, {.value = 0, .y = args.y});
  dispatch(args.residues.dtype, [&]<class T>() {
    using R = Accumulator<T>;
    const std::int64_t D = args.residues.rows(), M = args.residues.columns(), rows = args.y.rows();
    const Grid<R> grid(stream, args, rows);
    const std::int64_t blocks = ceil_div(rows, rows_a_thread<R>) * ceil_div(D, threads);
    write_spectrum<R><<<grid_of(blocks), threads, 0, native_of(stream)>>>(grid.of_modes(), grid.of_rows(), D, M, rows,
                                                                          Rows<R>(args.y));
    cuda_check(cudaGetLastError());
  });
}

void modal_spectrum_backward(const Stream& stream, const ModalSpectrumBackward& args) {
  expect_spectrum(args, "d_y", args.d_y);
  expect("d_residues", args.d_residues, args.residues.dtype, args.residues.shape);
  expect("d_log_rates", args.d_log_rates, args.residues.dtype, args.residues.shape);
  if (args.d_y.size() == 0 || args.residues.size() == 0) return;
  dispatch(args.residues.dtype, [&]<class T>() {
    using R = Accumulator<T>;
    const std::int64_t D = args.residues.rows(), M = args.residues.columns(), rows = args.d_y.rows(),
                       chunk_rows = std::max(fewest_chunk_rows, ceil_div(rows, most_chunks)),
                       chunks = ceil_div(rows, chunk_rows), groups = ceil_div(M, backward_modes);
    const Grid<R> grid(stream, args, rows);
    const Tensor sums(stream, dtype_of<R>, {chunks, 2, M, D});
    auto* const to = static_cast<R*>(sums.view().data);
    sum_modes<R><<<dim3(grid_of(ceil_div(D, threads) * groups), static_cast<unsigned>(chunks)), threads, 0,
                   native_of(stream)>>>(grid.of_modes(), grid.of_rows(), D, M, static_cast<R>(args.length), rows,
                                        chunk_rows, Rows<const R>(args.d_y), to);
    add_mode_gradients<R><<<grid_of(D * M, threads), threads, 0, native_of(stream)>>>(
        to, chunks, Rows<const R>(args.residues), Rows<const R>(args.log_rates), D, M, Rows<R>(args.d_residues),
        Rows<R>(args.d_log_rates));
    cuda_check(cudaGetLastError());
  });
}

}  // namespace causeway::cuda
