#include "kernels/gemm.hpp"
#include "kernels/core/integer.hpp"

#include <algorithm>
#include <limits>

#include "kernels/cpu/blas.hpp"
#include "kernels/cpu/openmp.hpp"
#include "kernels/cpu/pointwise/elementwise.hpp"
#include "kernels/expect_gemm.hpp"

namespace causeway::cpu {
namespace {

// Each thread computes tiles of c. The tiles' size depends only on the shapes, and OpenBLAS computes each tile with one
// thread, so that no bit of c depends on the number of threads.
constexpr std::int64_t largest_tile_rows = 256, largest_tile_columns = 512, smallest_tile = 64, enough_tiles = 16;
constexpr std::int64_t depth = 256;  // inner extent of the f32 panels of a bf16 product: three fit a core's L2 cache

blasint blas_int(std::int64_t value) {
  ensure(value <= std::numeric_limits<blasint>::max(), "gemm: extent {} does not fit OpenBLAS's integer, at most {}",
         value, std::numeric_limits<blasint>::max());
  return static_cast<blasint>(value);
}

/// How c [m, n] is divided into tiles: halved until there are enough for the threads, or the smallest size is reached.
struct TileGrid {
  std::int64_t rows, columns;  ///< of one tile
  std::int64_t down, across;   ///< how many

  TileGrid(std::int64_t m, std::int64_t n) : rows(largest_tile_rows), columns(largest_tile_columns) {
    while (count(m, n) < enough_tiles && (rows > smallest_tile || columns > smallest_tile))
      (columns >= rows ? columns : rows) /= 2;
  }
  std::int64_t count(std::int64_t m, std::int64_t n) {
    down = ceil_div(m, rows), across = ceil_div(n, columns);
    return down * across;
  }
};

/// Rows [row, row + rows) and columns [column, column + columns) of a matrix.
struct SubMatrix {
  std::int64_t row, column, rows, columns;
};

template <class T>
T* at(TensorView x, std::int64_t row, std::int64_t column) {
  return x.row<T>(row) + column;
}

/// The part of op(x) with this origin and size, as a part of x.
SubMatrix stored(bool transpose, std::int64_t row, std::int64_t column, std::int64_t rows, std::int64_t columns) {
  return transpose ? SubMatrix{column, row, columns, rows} : SubMatrix{row, column, rows, columns};
}

/// A tile of a product in f64 or f32.
template <class T>
void multiply(const Gemm& args, std::int64_t k, const SubMatrix& tile) {
  const SubMatrix a = stored(args.transpose_a, tile.row, 0, tile.rows, k),
                  b = stored(args.transpose_b, 0, tile.column, k, tile.columns);
  blas(args.transpose_a, args.transpose_b, tile.rows, tile.columns, k, at<T>(args.a, a.row, a.column),
       args.a.row_stride, at<T>(args.b, b.row, b.column), args.b.row_stride, static_cast<T>(args.beta),
       at<T>(args.c, tile.row, tile.column), args.c.row_stride);
}

/// Converts a part of x to f32, dense.
void widen(TensorView x, const SubMatrix& block, float* to) {
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const bf16* from = at<bf16>(x, block.row + r, block.column);
    float* row = to + r * block.columns;
#pragma omp simd
    for (std::int64_t i = 0; i < block.columns; ++i) row[i] = from[i];
  }
}

/// The reverse of widen.
void round_to_bf16(const float* from, TensorView x, const SubMatrix& block) {
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const float* row = from + r * block.columns;
    bf16* to = at<bf16>(x, block.row + r, block.column);
#pragma omp simd
    for (std::int64_t i = 0; i < block.columns; ++i) to[i] = row[i];
  }
}

/// A tile of a product in bf16: panels of `depth` are converted to f32, and their products summed in f32 (in c itself
/// if c is f32) and rounded once.
void multiply_bf16(const Gemm& args, std::int64_t k, const SubMatrix& tile, float* scratch) {
  float* const a_panel = scratch;
  float* const b_panel = a_panel + tile.rows * depth;
  const bool narrow = args.c.dtype == DType::bf16;
  float* const sum = narrow ? b_panel + depth * tile.columns : at<float>(args.c, tile.row, tile.column);
  const std::int64_t sum_stride = narrow ? tile.columns : args.c.row_stride;
  if (narrow && args.beta != 0) widen(args.c, tile, sum);
  for (std::int64_t begin = 0; begin < k; begin += depth) {
    const std::int64_t count = std::min(depth, k - begin);
    const SubMatrix a = stored(args.transpose_a, tile.row, begin, tile.rows, count),
                    b = stored(args.transpose_b, begin, tile.column, count, tile.columns);
    widen(args.a, a, a_panel);
    widen(args.b, b, b_panel);
    blas(args.transpose_a, args.transpose_b, tile.rows, tile.columns, count, a_panel, a.columns, b_panel, b.columns,
         begin == 0 ? static_cast<float>(args.beta) : 1, sum, sum_stride);
  }
  if (narrow) round_to_bf16(sum, args.c, tile);
}

/// c = beta·c: the product of matrices whose inner extent is 0. If beta is 0, c becomes 0 even where it held NaN.
void scale_only(const Gemm& args) {
  dispatch(args.c.dtype, [&]<class T>() {
    using Wide = Accumulator<T>;
    const auto beta = static_cast<Wide>(args.beta);
    for_each_span({args.c}, [&](std::int64_t row, std::int64_t column, std::int64_t count) {
      T* c = at<T>(args.c, row, column);
      for (std::int64_t i = 0; i < count; ++i) c[i] = beta == 0 ? Wide{0} : beta * static_cast<Wide>(c[i]);
    });
  });
}

}  // namespace

void gemm(const Stream& stream, const Gemm& args) {
  const TensorView a = args.a, b = args.b, c = args.c;
  const std::int64_t m = c.rows(), n = c.columns(), k = expect_gemm(args);
  if (m == 0 || n == 0) return;
  if (k == 0) return scale_only(args);
  for (const std::int64_t extent : {m, n, k, a.row_stride, b.row_stride, c.row_stride}) blas_int(extent);

  use_one_blas_thread();
  const TileGrid tiles(m, n);
  const std::int64_t scratch_size =
      a.dtype == DType::bf16 ? (tiles.rows + tiles.columns) * depth + tiles.rows * tiles.columns : 0;
  const Tensor scratch(stream, DType::f32, {scratch_size > 0 ? thread_count() : 0, scratch_size});
#pragma omp parallel for schedule(static) if (m * n * k > 32 * span_length)
  for (std::int64_t i = 0; i < tiles.down * tiles.across; ++i) {
    const std::int64_t row = i / tiles.across * tiles.rows, column = i % tiles.across * tiles.columns;
    const SubMatrix tile{row, column, std::min(tiles.rows, m - row), std::min(tiles.columns, n - column)};
    switch (a.dtype) {
      case DType::f64:
        multiply<double>(args, k, tile);
        break;
      case DType::f32:
        multiply<float>(args, k, tile);
        break;
      default:
        multiply_bf16(args, k, tile, scratch.view().row<float>(thread_index()));
    }
  }
}

}  // namespace causeway::cpu
