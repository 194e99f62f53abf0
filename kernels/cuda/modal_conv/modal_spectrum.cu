#include <algorithm>

#include "kernels/activation.hpp"
#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/elementwise.cuh"
#include "kernels/cuda/device/functions.cuh"
#include "kernels/expect.hpp"
#include "kernels/fourier.hpp"

// The differences that lose digits are computed before, in float64, once for each mode and once for each frequency:
// 1 - λ, 1 - λ^length, and 2 sin² of half the frequency's angle. Then every term is a sum of numbers of one sign, and
// float32 keeps its digits. The frequency ω = 1 has its own closed form, which float64 evaluates.
//
// Lower bound (H200): forward writes y once, backward reads d_y once; complex f32 [65536, 4096]: 2.15 GB, 0.45 ms
// at 4.8 TB/s. A mode takes 14 operations forward and 29 backward: with 16 modes 2.0 and 4.2 ms at 128 lanes per clock
// and multiprocessor, so arithmetic is the limit.
namespace causeway::cuda {
namespace {

constexpr int threads = 128;
constexpr int backward_modes = 8;  // modes of a channel that a thread computes in the backward pass
constexpr std::int64_t fewest_chunk_rows = 64, most_chunks = 128;  // chunks of rows in the backward pass

/// The values that are computed once for each mode: matrices [modes, channels] in scratch memory, one after the other.
enum Field {
  residue_field,    ///< the residue
  loss_field,       ///< 1 - λ
  decay_field,      ///< λ
  end_loss_field,   ///< 1 - λ^length
  end_decay_field,  ///< λ^length
  value_field,      ///< the value at ω = 1 (ValueAtOne)
  slope_field,      ///< its derivative by log λ
  fields            ///< the number of fields
};

/// The values at ω = 1 in float64: Σ_t λ^t and Σ_t t λ^t over `length` terms, with λ = exp(-rate).
struct ValueAtOne {
  double value, slope;

  __device__ ValueAtOne(double rate, double length) {
    const double loss = -::expm1(-rate), end_decay = ::exp(-rate * length), end_loss = -::expm1(-rate * length);
    if (rate * length < 1e-5) {  // a series: the closed form loses digits here; the next terms are 1e-15 of the first
      const double sum = length * (length - 1) / 2, squares = sum * (2 * length - 1) / 3, cubes = sum * sum;
      value = length - rate * (sum - rate / 2 * squares);
      slope = sum - rate * (squares - rate / 2 * cubes);
    } else {
      value = end_loss / loss;
      slope = (::exp(-rate) * value - length * end_decay) / loss;
    }
  }
};

/// Computes all fields.
///
/// block: 128 neighbouring elements of [modes, channels]
/// thread: one mode of one channel
template <class R>
__global__ void __launch_bounds__(threads)
    write_modes(Rows<const R> residues, Rows<const R> log_rates, std::int64_t channels, std::int64_t modes,
                double length, R* to) {
  const std::int64_t at = std::int64_t{blockIdx.x} * threads + threadIdx.x, size = channels * modes, m = at / channels,
                     d = at % channels;
  if (at >= size) return;
  const double rate = modal_rate(static_cast<double>(log_rates(d, m)));
  const ValueAtOne at_one(rate, length);
  const auto put = [&](Field field, double x) { to[field * size + at] = static_cast<R>(x); };
  put(residue_field, static_cast<double>(residues(d, m)));
  put(loss_field, -::expm1(-rate));
  put(decay_field, ::exp(-rate));
  put(end_loss_field, -::expm1(-rate * length));
  put(end_decay_field, ::exp(-rate * length));
  put(value_field, at_one.value);
  put(slope_field, at_one.slope);
}

/// A frequency ω = exp(-2πi j/(4·length)).
template <class R>
struct alignas(16) Frequency {
  R re, im;          ///< ω
  R one_minus_re;    ///< 1 - re without cancellation; 0 only for ω = 1
  R end_re, end_im;  ///< ω^length, a power of -i

  __device__ bool is_one() const { return one_minus_re == 0; }
};

/// Computes the frequencies j = first + row · step.
///
/// block: 128 neighbouring rows
/// thread: one row
template <class R>
__global__ void __launch_bounds__(threads)
    write_frequencies(std::int64_t first, std::int64_t step, std::int64_t length, std::int64_t rows, Frequency<R>* to) {
  const std::int64_t row = std::int64_t{blockIdx.x} * threads + threadIdx.x;
  if (row >= rows) return;
  auto j = static_cast<std::int64_t>((static_cast<__int128>(row) * step + first) % (4 * length));
  if (j < 0) j += 4 * length;
  const int quarter = static_cast<int>(j % 4);
  if (j > 2 * length) j -= 4 * length;  // an angle near 0 has more digits than one near 2π
  double sine, cosine;
  ::sincospi(static_cast<double>(j) / static_cast<double>(4 * length), &sine, &cosine);
  to[row] = {.re = static_cast<R>(1 - 2 * sine * sine),
             .im = static_cast<R>(-2 * sine * cosine),
             .one_minus_re = static_cast<R>(2 * sine * sine),
             .end_re = static_cast<R>(quarter == 0   ? 1
                                      : quarter == 2 ? -1
                                                     : 0),
             .end_im = static_cast<R>(quarter == 1   ? -1
                                      : quarter == 3 ? 1
                                                     : 0)};
}

/// 1 / x.
__device__ inline float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline double reciprocal(double x) { return 1 / x; }

/// The fields of all modes and all frequencies, in scratch memory: forward and backward pass begin with them.
template <class R>
struct ModesAndFrequencies {
  Tensor modes, frequencies;

  template <class Args>
  ModesAndFrequencies(const Stream& stream, const Args& args, std::int64_t rows)
      : modes(stream, dtype_of<R>, {fields, args.residues.columns(), args.residues.rows()}),
        frequencies(stream, DType::u8, {rows, std::int64_t{sizeof(Frequency<R>)}}) {
    const std::int64_t D = args.residues.rows(), M = args.residues.columns();
    write_modes<R><<<grid_of(D * M, threads), threads, 0, native_of(stream)>>>(
        Rows<const R>(args.residues), Rows<const R>(args.log_rates), D, M, static_cast<double>(args.length),
        fields_of_modes());
    write_frequencies<R><<<grid_of(rows, threads), threads, 0, native_of(stream)>>>(args.first, args.step, args.length,
                                                                                    rows, frequency_rows());
    cuda_check(cudaGetLastError());
  }
  R* fields_of_modes() const { return static_cast<R*>(modes.view().data); }
  Frequency<R>* frequency_rows() const { return static_cast<Frequency<R>*>(frequencies.view().data); }
};

/// Frequencies that a thread computes at a time: each mode is read once for all of them.
template <class R>
constexpr int rows_per_thread = sizeof(R) == 4 ? 8 : 4;

/// y[row, channel] = Σ_m residue n/(1 - λω), n = 1 - λ^length ω^length.
///
/// block: 128 neighbouring channels of 8 rows (float64: 4 rows)
/// thread: one channel
/// shared memory: none
/// registers: frequency and sum of each row; the fields of one mode
template <class R>
__global__ void __launch_bounds__(threads)
    write_spectrum(const R* fields_of_modes, const Frequency<R>* frequencies, std::int64_t channels, std::int64_t modes,
                   std::int64_t rows, Rows<R> y) {
  constexpr int rows_of_thread = rows_per_thread<R>;
  const std::int64_t across = ceil_div(channels, threads), first = blockIdx.x / across * rows_of_thread,
                     channel = blockIdx.x % across * threads + threadIdx.x, size = channels * modes;
  if (channel >= channels) return;
  Frequency<R> at[rows_of_thread];
  R re[rows_of_thread]{}, im[rows_of_thread]{};
#pragma unroll
  for (int r = 0; r < rows_of_thread; ++r) at[r] = frequencies[first + r < rows ? first + r : rows - 1];
  bool has_one = false;  // whether one of them is ω = 1; few threads have such a row
#pragma unroll
  for (int r = 0; r < rows_of_thread; ++r) has_one = has_one || at[r].is_one();
    // 1. Add the terms of all modes, for all rows.
#pragma unroll 2
  for (std::int64_t m = 0; m < modes; ++m) {
    const R* const mode = fields_of_modes + m * channels + channel;
    const auto field = [&](Field of) { return mode[of * size]; };
    const R residue = field(residue_field), loss = field(loss_field), decay = field(decay_field),
            end_loss = field(end_loss_field), end_decay = field(end_decay_field);
#pragma unroll
    for (int r = 0; r < rows_of_thread; ++r) {
      const R c_re = loss + decay * at[r].one_minus_re, c_im = decay * at[r].im;  // of conj(1 - λω)
      const R n_re = end_loss * at[r].end_re + (1 - at[r].end_re), n_im = -end_decay * at[r].end_im;
      const R over = residue * reciprocal(c_re * c_re + c_im * c_im);
      re[r] += over * (n_re * c_re - n_im * c_im);
      im[r] += over * (n_re * c_im + n_im * c_re);
    }
  }
  // 2. Replace the sum of the row with ω = 1.
  if (has_one)
#pragma unroll
    for (int r = 0; r < rows_of_thread; ++r) {
      if (!at[r].is_one()) continue;
      re[r] = im[r] = 0;
      for (std::int64_t m = 0; m < modes; ++m)
        re[r] += fields_of_modes[residue_field * size + m * channels + channel] *
                 fields_of_modes[value_field * size + m * channels + channel];
    }
    // 3. Write the rows.
#pragma unroll
  for (int r = 0; r < rows_of_thread; ++r)
    if (first + r < rows) y.template store<2>(first + r, 2 * channel, Packet<R, 2>::of({re[r], im[r]}));
}

/// sums[chunk, 0, m, d] = Σ_r Re(conj(d_y) v) over the chunk's rows, sums[chunk, 1, m, d] the same of λ ∂v/∂λ, with
/// v = n/(1 - λω), n = 1 - λ^length ω^length and λ ∂v/∂λ = (λω v - length λ^length ω^length) / (1 - λω).
///
/// block: 128 neighbouring channels, backward_modes modes, one chunk of rows (blockIdx.y)
/// thread: one channel; one row after the other
/// shared memory: none
/// registers: the fields and both sums of 8 modes; one row's frequency and d_y
template <class R>
__global__ void __launch_bounds__(threads)
    sum_modes(const R* fields_of_modes, const Frequency<R>* frequencies, std::int64_t channels, std::int64_t modes,
              R length, std::int64_t rows, std::int64_t chunk_rows, Rows<const R> d_y, R* sums) {
  const std::int64_t groups = ceil_div(modes, backward_modes), channel = blockIdx.x / groups * threads + threadIdx.x,
                     m = blockIdx.x % groups * backward_modes, begin = blockIdx.y * chunk_rows,
                     end = begin + chunk_rows < rows ? begin + chunk_rows : rows, size = channels * modes;
  if (channel >= channels) return;
  R loss[backward_modes], decay[backward_modes], end_loss[backward_modes], end_decay[backward_modes];
  R value[backward_modes]{}, slope[backward_modes]{};
  const auto field = [&](Field of, int i) {  // beyond the last mode: the last one again; its sums are not written
    const std::int64_t mode = m + i < modes ? m + i : modes - 1;
    return fields_of_modes[of * size + mode * channels + channel];
  };
#pragma unroll
  for (int i = 0; i < backward_modes; ++i) {
    loss[i] = field(loss_field, i);
    decay[i] = field(decay_field, i);
    end_loss[i] = field(end_loss_field, i);
    end_decay[i] = field(end_decay_field, i);
  }
#pragma unroll 2
  for (std::int64_t row = begin; row < end; ++row) {
    const Frequency<R> at = frequencies[row];
    const auto g = d_y.template load<2>(row, 2 * channel);
    if (at.is_one()) {
#pragma unroll
      for (int i = 0; i < backward_modes; ++i) {
        value[i] += g.at[0] * field(value_field, i);
        slope[i] += g.at[0] * field(slope_field, i);
      }
      continue;
    }
    const R rest = 1 - at.end_re, slope_re = length * at.end_re, slope_im = length * at.end_im;
#pragma unroll
    for (int i = 0; i < backward_modes; ++i) {
      const R re = loss[i] + decay[i] * at.one_minus_re, im = decay[i] * at.im;  // of conj(1 - λω)
      const R over = reciprocal(re * re + im * im), o_re = over * re, o_im = over * im;
      const R n_re = end_loss[i] * at.end_re + rest, n_im = -end_decay[i] * at.end_im;
      const R v_re = n_re * o_re - n_im * o_im, v_im = n_re * o_im + n_im * o_re;
      const R z_re = decay[i] * at.re;  // of λω, whose imaginary part is im
      const R t_re = v_re * z_re - v_im * im - end_decay[i] * slope_re,
              t_im = v_re * im + v_im * z_re - end_decay[i] * slope_im;
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

/// Adds the sums of the chunks in their order, in float64, to d_residues and d_log_rates.
///
/// block: 128 neighbouring elements of [modes, channels]
/// thread: one mode of one channel
/// registers: two float64 sums
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
  ensure(args.length > 0, "the spectrum of a filter of {} taps, expected at least 1", args.length);
  ensure(residues.dtype == accumulator_of(residues.dtype), "residues are {}, expected {}", name_of(residues.dtype),
         name_of(accumulator_of(residues.dtype)));
  expect("log_rates", args.log_rates, residues.dtype, residues.shape);
  expect(name, y, residues.dtype, {y.rows(), residues.rows(), 2});
  ensure(rows_start_aligned({y}, 2), "a tensor {} of complex numbers is not aligned to the size of a complex number",
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
    const ModesAndFrequencies<R> scratch(stream, args, rows);
    const std::int64_t blocks = ceil_div(rows, rows_per_thread<R>) * ceil_div(D, threads);
    write_spectrum<R><<<grid_of(blocks), threads, 0, native_of(stream)>>>(
        scratch.fields_of_modes(), scratch.frequency_rows(), D, M, rows, Rows<R>(args.y));
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
    const ModesAndFrequencies<R> scratch(stream, args, rows);
    const Tensor sums(stream, dtype_of<R>, {chunks, 2, M, D});
    auto* const to = static_cast<R*>(sums.view().data);
    sum_modes<R><<<dim3(grid_of(ceil_div(D, threads) * groups), static_cast<unsigned>(chunks)), threads, 0,
                   native_of(stream)>>>(scratch.fields_of_modes(), scratch.frequency_rows(), D, M,
                                        static_cast<R>(args.length), rows, chunk_rows, Rows<const R>(args.d_y), to);
    add_mode_gradients<R><<<grid_of(D * M, threads), threads, 0, native_of(stream)>>>(
        to, chunks, Rows<const R>(args.residues), Rows<const R>(args.log_rates), D, M, Rows<R>(args.d_residues),
        Rows<R>(args.d_log_rates));
    cuda_check(cudaGetLastError());
  });
}

}  // namespace causeway::cuda
