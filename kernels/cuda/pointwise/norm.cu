#include "kernels/core/integer.hpp"
#include "kernels/norm.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/cuda/pointwise/fp8_rows.cuh"
#include "kernels/fp8/expect_fp8.hpp"

namespace causeway::cuda {
namespace {

// Packets of a row that a thread keeps in registers; longer rows are read again. The backward keeps four tensors.
constexpr int kept_forward = 4, kept_backward = 2;

/// Blocks of the backward, each with a row of partial sums of d_weight: at most 1024 threads for each of an H200's
/// multiprocessors, but two blocks.
constexpr std::int64_t most_blocks_backward(const RowTeams& teams) {
  constexpr std::int64_t multiprocessors = 132;
  return multiprocessors * std::max<std::int64_t>(2, 1024 / (teams.threads * teams.in_block));
}

/// The arguments of the forward kernel and its steps for a packet.
template <class T, int V>
struct NormForward {
  using R = Accumulator<T>;
  Rows<const T> x;  ///< data is null if x is absent
  Rows<const R> residual, weight;
  Rows<R> sum;  ///< residual's memory if the sum replaces it
  Rows<T> y;    ///< data is null if it is absent
  Rows<R> rstd;
  R eps;
  bool eps_inside;
  Fp8Rows codes;
  Fp8Format format;

  /// Returns residual + x, which is written to `sum` if x is present, and adds its squares to `squares`.
  __device__ Packet<R, V> updated(std::int64_t t, std::int64_t column, R& squares) const {
    auto added = residual.template load<V>(t, column);
    if (x.data != nullptr) {
      const auto more = x.template load<V>(t, column);
#pragma unroll
      for (int v = 0; v < V; ++v) added.at[v] += widened(more.at[v]);
      sum.template store<V>(t, column, added);
    }
#pragma unroll
    for (int v = 0; v < V; ++v) squares += added.at[v] * added.at[v];
    return added;
  }
  /// Returns y = weight · added · scale, which is also written.
  __device__ Packet<T, V> write(std::int64_t t, std::int64_t column, const Packet<R, V>& added, R scale) const {
    const auto w = weight.template load<V>(0, column);
    Packet<T, V> to;
#pragma unroll
    for (int v = 0; v < V; ++v) to.at[v] = narrowed<T>(w.at[v] * (added.at[v] * scale));
    if (y.data != nullptr) y.template store<V>(t, column, to);
    return to;
  }
};

/// block: one long row, or 8 rows of at most a warp each (RowTeams)
/// thread: every blockDim.x-th packet of V channels of a row
/// shared memory: the sums of the warps of a row (reduce_team)
/// registers: the first 4 packets of the thread
template <class T, int V, bool with_codes>
__global__ void __launch_bounds__(1024)
    norm_forward_rows(NormForward<T, V> args, std::int64_t tokens, std::int64_t channels) {
  using R = Accumulator<T>;
  const std::int64_t t = std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y, first = threadIdx.x * V,
                     step = std::int64_t{blockDim.x} * V;
  const bool active = t < tokens;
  // 1. Add x to the residual stream, and add up the squares.
  Packet<R, V> sums[kept_forward];
  R squares = 0;
#pragma unroll
  for (int i = 0; i < kept_forward; ++i)
    if (active && first + i * step < channels) sums[i] = args.updated(t, first + i * step, squares);
  for (std::int64_t column = first + kept_forward * step; active && column < channels; column += step)
    args.updated(t, column, squares);
  squares = reduce_team(squares);
  if (!with_codes && !active) return;
  // 2. Normalize.
  const R mean = squares / static_cast<R>(channels);
  const R rstd = 1 / (args.eps_inside ? std::sqrt(mean + args.eps) : std::sqrt(mean) + args.eps);
  if (active && threadIdx.x == 0) args.rstd(t, 0) = rstd;
  if constexpr (!with_codes) {
#pragma unroll
    for (int i = 0; i < kept_forward; ++i)
      if (first + i * step < channels) args.write(t, first + i * step, sums[i], rstd);
    for (std::int64_t column = first + kept_forward * step; column < channels; column += step)
      args.write(t, column, args.sum.template load<V>(t, column), rstd);
  } else {
    Pairs<V> y[kept_forward];
    Magnitudes magnitudes;
    const auto again = [&](std::int64_t column) {
      return Pairs<V>::of(args.write(t, column, args.sum.template load<V>(t, column), rstd));
    };
#pragma unroll
    for (int i = 0; i < kept_forward; ++i)
      if (active && first + i * step < channels) {
        y[i] = Pairs<V>::of(args.write(t, first + i * step, sums[i], rstd));
        magnitudes.add(y[i]);
      }
    for (std::int64_t column = first + kept_forward * step; active && column < channels; column += step)
      magnitudes.add(again(column));
    // 3. 8-bit floats.
    const Fp8Scale scale = magnitudes.scale(args.format);
    if (!active) return;
    if (threadIdx.x == 0) args.codes.scales[t] = scale.value;
#pragma unroll
    for (int i = 0; i < kept_forward; ++i)
      if (first + i * step < channels)
        args.codes.store(t, first + i * step, y[i], scale, magnitudes.special, args.format);
    for (std::int64_t column = first + kept_forward * step; column < channels; column += step)
      args.codes.store(t, column, again(column), scale, magnitudes.special, args.format);
  }
}

/// reduce_team of a sum, with its bits, and of a largest number, with one barrier: calls alternate between two buffers.
template <class R>
__device__ void reduce_team_with_largest(R& sum, unsigned& largest, int buffer) {
  sum = reduce_lanes(sum);
  largest = __reduce_max_sync(~0u, largest);
  if (blockDim.x == 32) return;
  __shared__ R sums[2][32];
  __shared__ unsigned largests[2][32];
  const unsigned warps = blockDim.x / 32, lane = threadIdx.x % 32;
  if (lane == 0) {
    sums[buffer][threadIdx.x / 32] = sum;
    largests[buffer][threadIdx.x / 32] = largest;
  }
  __syncthreads();
  sum = sums[buffer][0];
  for (unsigned warp = 1; warp < warps; ++warp) sum += sums[buffer][warp];
  largest = __reduce_max_sync(~0u, lane < warps ? largests[buffer][lane] : 0);
}

/// The arguments of the backward kernel and its steps for a packet.
template <class T, int V>
struct NormBackward {
  using R = Accumulator<T>;
  Rows<const R> residual, weight, rstd;
  Rows<const T> d_y;
  Rows<R> d_residual;
  Rows<T> d_narrow;  ///< data is null if it is absent
  Rows<R> partial;   ///< [blocks, D], the partial sums of d_weight of each block
  R eps_outside;     ///< 0 for the form inside
  bool adds;         ///< beta is 1
  Fp8Rows codes;
  Fp8Format format;

  struct Loaded {
    Packet<R, V> residual;
    Packet<T, V> d_y;
    Packet<R, V> d_residual;
  };
  __device__ Loaded load(std::int64_t t, std::int64_t column) const {
    return {residual.template load<V>(t, column), d_y.template load<V>(t, column),
            adds ? d_residual.template load<V>(t, column) : Packet<R, V>{}};
  }
  /// sum += d_y ⊙ normalized; returns the packet's part of ⟨d_y ⊙ weight, normalized⟩.
  __device__ R add(const Loaded& from, std::int64_t column, R scale, Packet<R, V>& sum) const {
    const auto w = weight.template load<V>(0, column);
    R dot = 0;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const R normalized = from.residual.at[v] * scale, g = widened(from.d_y.at[v]);
      sum.at[v] += g * normalized;
      dot += g * w.at[v] * normalized;
    }
    return dot;
  }
  /// d_residual = the old one + scale · (d_y ⊙ weight - normalized · mean). Returns it rounded.
  __device__ Packet<T, V> write(const Loaded& from, std::int64_t t, std::int64_t column, R scale, R mean) const {
    const auto w = weight.template load<V>(0, column);
    auto to = from.d_residual;
#pragma unroll
    for (int v = 0; v < V; ++v)
      to.at[v] += scale * (widened(from.d_y.at[v]) * w.at[v] - from.residual.at[v] * scale * mean);
    d_residual.template store<V>(t, column, to);
    const auto rounded = Packet<T, V>::of(to.at);
    if (d_narrow.data != nullptr) d_narrow.template store<V>(t, column, rounded);
    return rounded;
  }
};

/// block: one team for long rows, or 8 teams of a warp each (RowTeams); team i has the tokens i, i + teams, …
/// thread: every blockDim.x-th packet of V channels of a token
/// shared memory: what the warps of a row reduce; the row before in bf16, if it is written as codes; at the end the
///   partial sums of d_weight of the 8 teams
/// registers: the first 2 packets of the thread and their partial sums of d_weight over the team's tokens
template <class T, int V, bool with_codes>
__global__ void __launch_bounds__(1024)
    norm_backward_rows(NormBackward<T, V> args, std::int64_t tokens, std::int64_t channels) {
  using R = Accumulator<T>;
  const std::int64_t teams = std::int64_t{gridDim.x} * blockDim.y,
                     team = std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  const int first = static_cast<int>(threadIdx.x) * V, step = static_cast<int>(blockDim.x) * V;
  Packet<R, V> sums[kept_backward] = {};
  // 1. The tokens of the team. All teams of a block make the same number of iterations, since they reduce together.
  // With codes, a row's largest magnitude is reduced with the next row's dot product, and its codes are written then.
  __shared__ Pairs<V> narrow_rows[with_codes ? kept_backward : 1][1024];
  const auto narrow = [&](int i) -> Pairs<V>& { return narrow_rows[i][threadIdx.y * blockDim.x + threadIdx.x]; };
  Magnitudes magnitudes;
  const int rounds = static_cast<int>((tokens + teams - 1) / teams) + (with_codes ? 1 : 0);
  for (int round = 0; round < rounds; ++round) {
    const std::int64_t t = round * teams + team;
    const bool active = t < tokens;
    const R rstd = active ? args.rstd(t, 0) : R{0};
    typename NormBackward<T, V>::Loaded rows[kept_backward];
    R dot = 0;
#pragma unroll
    for (int i = 0; i < kept_backward; ++i)
      if (active && first + i * step < channels) rows[i] = args.load(t, first + i * step);
#pragma unroll
    for (int i = 0; i < kept_backward; ++i)
      if (active && first + i * step < channels) dot += args.add(rows[i], first + i * step, rstd, sums[i]);
    // A row with more packets has its own block, and so its own row of `partial`.
    for (int column = first + kept_backward * step; active && column < channels; column += step) {
      auto sum = round == 0 ? Packet<R, V>{} : args.partial.template load<V>(blockIdx.x, column);
      dot += args.add(args.load(t, column), column, rstd, sum);
      args.partial.template store<V>(blockIdx.x, column, sum);
    }
    if constexpr (with_codes) {
      unsigned largest = larger_half(magnitudes.largest);
      reduce_team_with_largest(dot, largest, round % 2);
      if (round > 0 && t - teams < tokens) {
        const Fp8Scale scale(largest, args.format);
        if (threadIdx.x == 0) args.codes.scales[t - teams] = scale.value;
        const auto store_again = [&](int column) {
          const auto values = Packet<T, V>::of(args.d_residual.template load<V>(t - teams, column).at);
          args.codes.store(t - teams, column, Pairs<V>::of(values), scale, magnitudes.special, args.format);
        };
        if (magnitudes.special) {  // rare, so it takes no registers
#pragma unroll 1
          for (int column = first; column < channels; column += step) store_again(column);
        } else {
#pragma unroll
          for (int i = 0; i < kept_backward; ++i)
            if (first + i * step < channels)
              args.codes.store(t - teams, first + i * step, narrow(i), scale, false, args.format);
#pragma unroll 1
          for (int column = first + kept_backward * step; column < channels; column += step) store_again(column);
        }
      }
      magnitudes = {};
    } else {
      dot = reduce_team(dot);
    }
    const R root = 1 - args.eps_outside * rstd;  // √ms · rstd, or 1
    const R mean = dot / static_cast<R>(channels) * (root > 0 ? 1 / root : R{0});
    const auto write = [&](const auto& row, int column) { return args.write(row, t, column, rstd, mean); };
#pragma unroll
    for (int i = 0; i < kept_backward; ++i)
      if (active && first + i * step < channels) {
        const auto rounded = write(rows[i], first + i * step);
        if constexpr (with_codes) magnitudes.add(narrow(i) = Pairs<V>::of(rounded));
      }
    for (int column = first + kept_backward * step; active && column < channels; column += step) {
      const auto rounded = write(args.load(t, column), column);
      if constexpr (with_codes) magnitudes.add(Pairs<V>::of(rounded));
    }
  }
  // 2. The partial sums of the block. If there are several teams, each is a warp that keeps a whole row.
  if (blockDim.y > 1) {
    __shared__ R team_sums[8][kept_backward * 32 * V];
#pragma unroll
    for (int i = 0; i < kept_backward; ++i)
#pragma unroll
      for (int v = 0; v < V; ++v) team_sums[threadIdx.y][(i * 32 + threadIdx.x) * V + v] = sums[i].at[v];
    __syncthreads();
    for (std::int64_t column = threadIdx.y * 32 + threadIdx.x; column < channels; column += 256) {
      R sum = team_sums[0][column];
      for (int other = 1; other < 8; ++other) sum += team_sums[other][column];
      args.partial(blockIdx.x, column) = sum;
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kept_backward; ++i)
    if (first + i * step < channels) args.partial.template store<V>(blockIdx.x, first + i * step, sums[i]);
}

/// A vector over channels as one row.
TensorView as_row(TensorView x) { return x.reshaped({1, x.size()}); }

}  // namespace

// Lower bound: residual is read and y is written; if x is present, it is read and the sum is also written. bf16 with x,
// 12 bytes an element: [65536, 4096] in 0.67 ms at 4.8 TB/s; 11 with codes in place of y.
void rms_norm_forward(const Stream& stream, const RmsNormForward& args) {
  const TensorView codes = args.y_codes.codes, weight = as_row(args.weight);
  const DType narrow = args.y.present() ? args.y.dtype : DType::bf16, wide = accumulator_of(narrow);
  const Shape shape = args.y.present() ? args.y.shape : codes.shape;
  const std::int64_t tokens = shape[0], channels = shape.row_size();
  ensure(channels > 0, "rms_norm: y is {}, expected at least one channel", shape.to_string());
  expect_codes_if_present("rms_norm's y", args.y_codes, narrow, shape);
  expect_if_present("rms_norm's x", args.x, narrow, shape);
  expect("rms_norm's residual", args.residual, wide, shape);
  expect_if_present("rms_norm's sum", args.sum, wide, shape);
  ensure(args.x.present() || !args.sum.present(), "rms_norm: a sum is asked for, but x is absent");
  expect("rms_norm's weight", args.weight, wide, {channels});
  expect("rms_norm's rstd", args.rstd, wide, {tokens});
  if (tokens == 0) return;
  dispatch(narrow, [&]<class T>() {
    using R = Accumulator<T>;
    constexpr int width = packet_width<T, R>;
    const bool packets =
        channels % width == 0 && rows_start_aligned({args.x, args.residual, args.sum, weight, args.y, codes}, width);
    dispatch_width<width>(packets, [&]<int V> {
      const RowTeams teams(channels / V, kept_forward);
      const auto launch = [&](auto kernel) {
        kernel<<<teams.grid(tokens), teams.block(), 0, native_of(stream)>>>(
            NormForward<T, V>{Rows<const T>(args.x), Rows<const R>(args.residual), Rows<const R>(weight),
                              Rows<R>(args.sum.present() ? args.sum : args.residual), Rows<T>(args.y),
                              Rows<R>(args.rstd), static_cast<R>(args.eps), args.form == NormForm::inside,
                              Fp8Rows(args.y_codes), args.y_codes.format},
            tokens, channels);
        cuda_check(cudaGetLastError());
      };
      if constexpr (std::is_same_v<T, bf16>)
        if (codes.present()) return launch(norm_forward_rows<T, V, true>);
      launch(norm_forward_rows<T, V, false>);
    });
  });
}

// Lower bound: residual and d_y are read, d_residual is read and written, d_narrow is written. bf16 with d_narrow, 16
// bytes an element: [65536, 4096] in 0.89 ms at 4.8 TB/s.
void rms_norm_backward(const Stream& stream, const RmsNormBackward& args) {
  const TensorView d_y = args.d_y, weight = as_row(args.weight);
  const DType wide = accumulator_of(d_y.dtype);
  const std::int64_t tokens = d_y.rows(), channels = d_y.columns();
  ensure(channels > 0, "rms_norm backward: d_y is {}, expected at least one channel", d_y.shape.to_string());
  expect("rms_norm backward's residual", args.residual, wide, d_y.shape);
  expect("rms_norm backward's weight", args.weight, wide, {channels});
  expect("rms_norm backward's rstd", args.rstd, wide, {tokens});
  expect("rms_norm backward's d_residual", args.d_residual, wide, d_y.shape);
  expect_if_present("rms_norm backward's d_narrow", args.d_narrow, d_y.dtype, d_y.shape);
  expect_codes_if_present("rms_norm backward's d_narrow", args.d_narrow_codes, d_y.dtype, d_y.shape);
  expect("rms_norm backward's d_weight", args.d_weight, wide, {channels});
  ensure(args.d_weight.dense(), "rms_norm backward's d_weight is not dense");
  if (tokens == 0) return;
  dispatch(d_y.dtype, [&]<class T>() {
    using R = Accumulator<T>;
    constexpr int width = packet_width<T, R>;
    const TensorView codes = args.d_narrow_codes.codes;
    const bool packets = channels % width == 0 &&
                         rows_start_aligned({args.residual, weight, d_y, args.d_residual, args.d_narrow, codes}, width);
    dispatch_width<width>(packets, [&]<int V> {
      const RowTeams teams(channels / V, kept_backward);
      const std::int64_t blocks = std::min<std::int64_t>(ceil_div(tokens, teams.in_block), most_blocks_backward(teams));
      const Tensor partial(stream, wide, {blocks, channels});
      const auto launch = [&](auto kernel) {
        kernel<<<grid_of(blocks), teams.block(), 0, native_of(stream)>>>(
            NormBackward<T, V>{Rows<const R>(args.residual), Rows<const R>(weight), Rows<const R>(args.rstd),
                               Rows<const T>(d_y), Rows<R>(args.d_residual), Rows<T>(args.d_narrow), Rows<R>(partial),
                               args.form == NormForm::outside ? static_cast<R>(args.eps) : R{0}, args.beta != 0,
                               Fp8Rows(args.d_narrow_codes), args.d_narrow_codes.format},
            tokens, channels);
        cuda_check(cudaGetLastError());
      };
      const bool with_codes = std::is_same_v<T, bf16> && codes.present();
      if constexpr (std::is_same_v<T, bf16>)
        if (with_codes) launch(norm_backward_rows<T, V, true>);
      if (!with_codes) launch(norm_backward_rows<T, V, false>);
      add_column_sums<R>(stream, partial, static_cast<R*>(args.d_weight.data));
    });
  });
}

}  // namespace causeway::cuda
