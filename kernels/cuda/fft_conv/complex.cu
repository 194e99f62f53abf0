#include <algorithm>

#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/expect.hpp"
#include "kernels/fourier.hpp"

namespace causeway::cuda {
namespace {

constexpr int threads = 256;

bool is_complex(TensorView x) { return x.shape.rank() == 3 && x.shape[2] == 2; }

void expect_complex(std::string_view name, TensorView x) {
  ensure(is_complex(x) && x.dtype == accumulator_of(x.dtype),
         "{} is {} {}, expected [rows, D, 2] in an accumulator type", name, name_of(x.dtype), x.shape.to_string());
}

/// The factor of a row of `rotate`.
template <class R>
struct RowFactor {
  R re, im;
};

/// factors[r] = alpha · exp(2πi (first + r·step) / modulus). The index is reduced modulo `modulus` as an integer; the
/// results at multiples of π/2 are exact.
/// thread: one row
template <class R>
__global__ void __launch_bounds__(threads) row_factors(std::int64_t first, std::int64_t step, std::int64_t modulus,
                                                       double alpha, std::int64_t rows, RowFactor<R>* factors) {
  const std::int64_t row = std::int64_t{blockIdx.x} * threads + threadIdx.x;
  if (row >= rows) return;
  auto index = static_cast<std::int64_t>((static_cast<__int128>(row) * step + first) % modulus);
  if (index < 0) index += modulus;
  double sine, cosine;
  ::sincospi(2 * (static_cast<double>(index) / static_cast<double>(modulus)), &sine, &cosine);
  factors[row] = {static_cast<R>(alpha * cosine), static_cast<R>(alpha * sine)};
}

/// y = factor · x for each row; real x have no imaginary part, and real y take the real part.
template <class X, class Y, bool from_complex, bool to_complex, bool accumulate>
struct RotateBody {
  using R = Accumulator<Y>;
  static constexpr int width = from_complex || to_complex ? packet_width<X, Y> / 2 : packet_width<X, Y>;
  Rows<const X> x;
  Rows<Y> y;
  const RowFactor<R>* factors;

  template <int V>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    constexpr int from = from_complex ? 2 : 1, to = to_complex ? 2 : 1;
    const RowFactor<R> w = factors[row];
    const auto in = x.template load<from * V>(row, from * column);
    Packet<Y, to * V> out;
    if constexpr (accumulate) out = y.template load<to * V>(row, to * column);
    const auto put = [&](int i, R value) {
      if constexpr (accumulate) value += static_cast<R>(out.at[i]);
      out.at[i] = narrowed<Y>(value);
    };
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const R a = static_cast<R>(in.at[from * v]);
      if constexpr (from_complex) {
        const R b = static_cast<R>(in.at[2 * v + 1]);
        put(to * v, w.re * a - w.im * b);
        if constexpr (to_complex) put(2 * v + 1, w.re * b + w.im * a);
      } else {
        put(to * v, w.re * a);
        if constexpr (to_complex) put(2 * v + 1, w.im * a);
      }
    }
    y.template store<to * V>(row, to * column, out);
  }
};

/// y = alpha · a ⊙ b, or a ⊙ conj(b) if sign = -1; group_size neighbouring channels of a are multiplied by one channel
/// of b.
template <class R>
struct MultiplyBody {
  static constexpr int width = packet_width<R> / 2;
  Rows<const R> a, b;
  Rows<R> y;
  R alpha, sign;
  int group_size;

  template <int V>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    auto x = a.template load<2 * V>(row, 2 * column);
    Packet<R, 2 * V> w;
    if (group_size == 1) {
      w = b.template load<2 * V>(row, 2 * column);
    } else if (V == 1 || group_size % V == 0) {
      const auto of_group =
          b.template load<2>(row, 2 * static_cast<std::int64_t>(static_cast<int>(column) / group_size));
#pragma unroll
      for (int v = 0; v < 2 * V; ++v) w.at[v] = of_group.at[v % 2];
    } else {
#pragma unroll
      for (int v = 0; v < V; ++v) {
        const auto of_group =
            b.template load<2>(row, 2 * static_cast<std::int64_t>((static_cast<int>(column) + v) / group_size));
        w.at[2 * v] = of_group.at[0];
        w.at[2 * v + 1] = of_group.at[1];
      }
    }
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const R re = x.at[2 * v], im = x.at[2 * v + 1], w_re = w.at[2 * v], w_im = sign * w.at[2 * v + 1];
      x.at[2 * v] = alpha * (re * w_re - im * w_im);
      x.at[2 * v + 1] = alpha * (re * w_im + im * w_re);
    }
    y.template store<2 * V>(row, 2 * column, x);
  }
};

/// y[row, group] += Σ a ⊙ conj(b) over the channels of the group.
/// block: blockDim.x / lanes neighbouring groups by blockDim.y rows; goes over the rows in steps of gridDim.y blocks
/// warp: `lanes` neighbouring lanes for one group
/// thread: packets of V channels of one group, every lanes-th packet
/// The order of a sum depends on group_size only.
template <class R, int V>
__global__ void __launch_bounds__(threads)
    reduce_products(Rows<const R> a, Rows<const R> b, Rows<R> y, std::int64_t rows, std::int64_t groups,
                    std::int64_t group_size, int lanes) {
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const std::int64_t group = std::int64_t{blockIdx.x} * (blockDim.x / lanes) + threadIdx.x / lanes;
  // All threads of a block make the same number of iterations: a warp calls reduce_lanes together, and its lanes may be
  // in different rows.
  for (std::int64_t first = std::int64_t{blockIdx.y} * blockDim.y; first < rows;
       first += std::int64_t{gridDim.y} * blockDim.y) {
    const std::int64_t row = first + threadIdx.y;
    const bool active = row < rows && group < groups;
    R re = 0, im = 0;
    for (std::int64_t i = lane * V; active && i < group_size; i += lanes * V) {
      const std::int64_t column = 2 * (group * group_size + i);
      const auto x = a.template load<2 * V>(row, column), w = b.template load<2 * V>(row, column);
#pragma unroll
      for (int v = 0; v < V; ++v) {
        re += x.at[2 * v] * w.at[2 * v] + x.at[2 * v + 1] * w.at[2 * v + 1];
        im += x.at[2 * v + 1] * w.at[2 * v] - x.at[2 * v] * w.at[2 * v + 1];
      }
    }
    re = reduce_lanes(re, lanes);
    im = reduce_lanes(im, lanes);
    if (!active || lane != 0) continue;
    auto to = y.template load<2>(row, 2 * group);
    to.at[0] += re;
    to.at[1] += im;
    y.template store<2>(row, 2 * group, to);
  }
}

/// Checks x [rows, G, 2], where each of the G channels belongs to D / G channels of a [rows, D, 2].
void expect_grouped(std::string_view name, TensorView x, TensorView a) {
  const std::int64_t channels = a.shape[1], groups = x.shape[1];
  expect(name, x, a.dtype, {a.rows(), groups, 2});
  ensure(groups == 0 ? channels == 0 : channels % groups == 0,
         "{} is {}, a is {}, expected whole groups of channels of a", name, x.shape.to_string(), a.shape.to_string());
}

/// Calls body.template operator()<flag>().
template <class Body>
void dispatch_flag(bool flag, const Body& body) {
  flag ? body.template operator()<true>() : body.template operator()<false>();
}

/// A complex value is read by one access of its two parts, so that it must be aligned to its size.
void expect_pairs(std::initializer_list<TensorView> tensors) {
  for (const TensorView& x : tensors)
    ensure(!is_complex(x) || rows_start_aligned({x}, 2), "complex tensor {}: its values are not aligned to their size",
           x.shape.to_string());
}

}  // namespace

// Lower bound: x is read, y is written, and also read with `accumulate`. Complex f32 [16384, 4096]: 1.07 GB, 0.22 ms
// at 4.8 TB/s. There is one factor for each row.
void rotate(const Stream& stream, const Rotate& args) {
  const TensorView x = args.x, y = args.y;
  ensure(args.modulus > 0, "modulus is {}, expected at least 1", args.modulus);
  for (const auto& [name, of] : {std::pair{"x", x}, std::pair{"y", y}})
    ensure(is_complex(of) || of.shape.rank() == 2, "{} is {}, expected [rows, D] or [rows, D, 2]", name,
           of.shape.to_string());
  ensure(x.rows() == y.rows() && x.shape[1] == y.shape[1], "a rotation from {} to {}, expected equal rows and channels",
         x.shape.to_string(), y.shape.to_string());
  expect_pairs({x, y});
  if (x.size() == 0) return;
  const std::int64_t rows = x.rows();
  dispatch(y.dtype, [&]<class Y>() {
    using R = Accumulator<Y>;
    const Tensor factors(stream, dtype_of<R>, {rows, 2});
    auto* const factors_of_rows = static_cast<RowFactor<R>*>(factors.view().data);
    row_factors<R><<<grid_of(rows, threads), threads, 0, native_of(stream)>>>(args.first, args.step, args.modulus,
                                                                              args.alpha, rows, factors_of_rows);
    cuda_check(cudaGetLastError());
    dispatch(x.dtype, [&]<class X>() {
      dispatch_flag(is_complex(x), [&]<bool from_complex>() {
        dispatch_flag(is_complex(y), [&]<bool to_complex>() {
          dispatch_flag(args.accumulate, [&]<bool accumulate>() {
            using Body = RotateBody<X, Y, from_complex, to_complex, accumulate>;
            const bool aligned = rows_start_aligned({x}, from_complex ? 2 * Body::width : Body::width) &&
                                 rows_start_aligned({y}, to_complex ? 2 * Body::width : Body::width);
            for_each_packet(stream, rows, x.shape[1], aligned, Body{Rows<const X>(x), Rows<Y>(y), factors_of_rows});
          });
        });
      });
    });
  });
}

// Lower bound: a and b are read, y is written. Complex f32 [16384, 4096] with one channel per group: 1.61 GB, 0.34 ms
// at 4.8 TB/s.
void complex_multiply(const Stream& stream, const ComplexMultiply& args) {
  expect_complex("a", args.a);
  expect("y", args.y, args.a.dtype, args.a.shape);
  expect_grouped("b", args.b, args.a);
  expect_pairs({args.a, args.b, args.y});
  const std::int64_t channels = args.a.shape[1], groups = args.b.shape[1];
  if (args.a.size() == 0) return;
  dispatch(args.a.dtype, [&]<class T>() {
    using Body = MultiplyBody<Accumulator<T>>;
    using R = Accumulator<T>;
    const bool aligned = rows_start_aligned({args.a, args.y}, 2 * Body::width) &&
                         (groups < channels || rows_start_aligned({args.b}, 2 * Body::width));
    for_each_packet(stream, args.a.rows(), channels, aligned,
                    Body{Rows<const R>(args.a), Rows<const R>(args.b), Rows<R>(args.y), static_cast<R>(args.alpha),
                         args.conjugate ? R{-1} : R{1}, static_cast<int>(channels / groups)});
  });
}

// Lower bound: a and b are read, y is read and written. Complex f32 [16384, 4096] in 256 groups: 1.14 GB, 0.24 ms
// at 4.8 TB/s.
void complex_multiply_reduce(const Stream& stream, const ComplexMultiplyReduce& args) {
  expect_complex("a", args.a);
  expect("b", args.b, args.a.dtype, args.a.shape);
  expect_grouped("y", args.y, args.a);
  expect_pairs({args.a, args.b, args.y});
  const std::int64_t channels = args.a.shape[1], groups = args.y.shape[1];
  if (args.a.size() == 0) return;
  dispatch(args.a.dtype, [&]<class T>() {
    using R = Accumulator<T>;
    constexpr int width = packet_width<R> / 2;
    const std::int64_t rows = args.a.rows(), group_size = channels / groups;
    dispatch_width<width>(group_size % width == 0 && rows_start_aligned({args.a, args.b}, 2 * width), [&]<int V> {
      const int lanes = lanes_for(group_size / V);
      unsigned across = threads;
      while (across / 2 >= groups * lanes) across /= 2;
      const dim3 block(across, threads / across);
      const dim3 grid(grid_of(groups, across / lanes),
                      static_cast<unsigned>(std::min<std::int64_t>(65535, ceil_div(rows, block.y))));
      reduce_products<R, V><<<grid, block, 0, native_of(stream)>>>(Rows<const R>(args.a), Rows<const R>(args.b),
                                                                   Rows<R>(args.y), rows, groups, group_size, lanes);
      cuda_check(cudaGetLastError());
    });
  });
}

}  // namespace causeway::cuda
