#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "kernels/cuda/device/reduce.cuh"
#include "kernels/fp8/expect_fp8.hpp"

/// 8-bit floats by rows to the transpose with one scale.
namespace causeway::cuda {
namespace {

constexpr int side = 128, threads = 256, words = side / 4;  // of a tile, a square of codes

/// Exponents of scales[row]·others[row], which are powers of two, at least 2^-110 each; others may be null.
struct RowScales {
  const float *scales, *others;
  __device__ int exponent(std::int64_t row) const {
    constexpr int mantissa_bits = 23, bias = 127;
    const auto of = [](float x) { return (__float_as_int(x) >> mantissa_bits) - bias; };
    return of(scales[row]) + (others == nullptr ? 0 : of(others[row]));
  }
};

/// largest = the largest exponent, 0 if there is none.
///
/// block: all scales
/// thread: every 1024th scale, of which it reads 8 at a time, since all that this takes is latency
__global__ void __launch_bounds__(1024) find_largest(RowScales scales, int count, int* largest) {
  __shared__ int of_warp[32];
  constexpr int none = -1024;
  int own = none;
#pragma unroll 8
  for (int i = static_cast<int>(threadIdx.x); i < count; i += 1024) own = max(own, scales.exponent(i));
  own = __reduce_max_sync(~0u, own);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = own;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  own = __reduce_max_sync(~0u, of_warp[threadIdx.x]);
  if (threadIdx.x == 0) *largest = own == none ? 0 : own;
}

/// 2^exponent, which is at most 1, as a product of two numbers of f16; 0 if it is so small that no code remains.
struct Factor {
  __half2 first, second;

  __device__ explicit Factor(int exponent) {
    constexpr int least_normal = -14, least = -32, bias = 127, mantissa_bits = 23;
    const auto power = [](int of) { return __float2half2_rn(__int_as_float((of + bias) << mantissa_bits)); };
    const int high = max(exponent, least_normal);
    first = power(high);
    second = exponent < least ? __half2{} : power(exponent - high);
  }
};

/// Four codes times the factor. E5M2 is the upper half of f16, in which products and their subnormal results are exact
/// as far as they matter. Infinity and NaN stay.
__device__ unsigned scaled(unsigned codes, const Factor& factor) {
  const auto pair = [&](unsigned halves) {
    const __half2 given = *reinterpret_cast<const __half2*>(&halves);
    const __half2 value = __hmul2(__hmul2(given, factor.first), factor.second);
    return static_cast<unsigned>(
        __nv_cvt_halfraw2_to_fp8x2(static_cast<__half2_raw>(value), __NV_SATFINITE, __NV_E5M2));
  };
  const unsigned result = pair(__byte_perm(codes, 0, 0x1404)) | pair(__byte_perm(codes, 0, 0x3424)) << 16;
  constexpr unsigned magnitudes = 0x7f7f7f7f, ones = 0x01010101;
  const unsigned special = ((codes & magnitudes) + (0x7f - E5m2::largest_code) * ones) & 0x80 * ones;
  if (special == 0) return result;
  const unsigned kept = (special >> 7) * 0xff;  // the bytes of infinity and NaN
  return (codes & kept) | (result & ~kept);
}

/// block: 128 rows and 128 columns of x
/// thread: four neighbouring rows of 16 columns; then 16 bytes of four rows of the result
/// shared memory: the tile by columns, in words of four rows; the words of a column are permuted against bank conflicts
template <Fp8Format format, bool packets>
__global__ void __launch_bounds__(threads)
    transpose_codes(const std::uint8_t* x, RowScales scales, std::int64_t rows, std::int64_t columns,
                    const int* largest, std::uint8_t* codes, std::int64_t code_stride, float* code_scales) {
  constexpr int width = 16;
  __shared__ alignas(16) unsigned tile[side * words];
  const auto place = [](int column, int word) { return column * words + (word ^ (column / width * 4)); };
  const std::int64_t first_row = std::int64_t{blockIdx.y} * side, first_column = std::int64_t{blockIdx.x} * side;
  // 1. Codes of four rows.
  const int packet = static_cast<int>(threadIdx.x) % (side / width),
            word = static_cast<int>(threadIdx.x) / (side / width);
  const std::int64_t column = first_column + packet * width;
  unsigned of_row[4][4];
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const std::int64_t row = first_row + word * 4 + r;
    const bool there = row < rows && column < columns;
    const std::uint8_t* const from = x + row * columns + column;
    uint4 four = {};
    if constexpr (packets) {
      if (there) four = *reinterpret_cast<const uint4*>(from);
    } else if (there) {
      unsigned* const to = &four.x;
      for (int i = 0; i < width && column + i < columns; ++i) to[i / 4] |= static_cast<unsigned>(from[i]) << i % 4 * 8;
    }
    if constexpr (format == Fp8Format::e5m2) {
      const Factor factor(there ? scales.exponent(row) - *largest : 0);
      four = make_uint4(scaled(four.x, factor), scaled(four.y, factor), scaled(four.z, factor), scaled(four.w, factor));
    }
    of_row[r][0] = four.x;
    of_row[r][1] = four.y;
    of_row[r][2] = four.z;
    of_row[r][3] = four.w;
  }
  // 2. Transposed, four by four.
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const unsigned low = __byte_perm(of_row[0][i], of_row[1][i], 0x5140),
                   high = __byte_perm(of_row[0][i], of_row[1][i], 0x7362),
                   low2 = __byte_perm(of_row[2][i], of_row[3][i], 0x5140),
                   high2 = __byte_perm(of_row[2][i], of_row[3][i], 0x7362);
    const int c = packet * width + 4 * i;
    tile[place(c, word)] = __byte_perm(low, low2, 0x5410);
    tile[place(c + 1, word)] = __byte_perm(low, low2, 0x7632);
    tile[place(c + 2, word)] = __byte_perm(high, high2, 0x5410);
    tile[place(c + 3, word)] = __byte_perm(high, high2, 0x7632);
  }
  __syncthreads();
  // 3. Rows of the result.
  for (int i = static_cast<int>(threadIdx.x); i < side * words / 4; i += threads) {
    const int c = i / (words / 4), w = i % (words / 4) * 4;
    const std::int64_t row = first_row + w * 4;
    if (first_column + c >= columns || row >= code_stride) continue;
    const uint4 four = *reinterpret_cast<const uint4*>(tile + place(c, w));
    std::uint8_t* const to = codes + (first_column + c) * code_stride + row;
    if (code_stride % 16 == 0) {
      *reinterpret_cast<uint4*>(to) = four;
    } else {
      const unsigned from[4] = {four.x, four.y, four.z, four.w};
      for (int b = 0; b < 16 && row + b < code_stride; ++b) to[b] = static_cast<std::uint8_t>(from[b / 4] >> b % 4 * 8);
    }
  }
  if (blockIdx.y == 0 && threadIdx.x < side && first_column + threadIdx.x < columns)
    code_scales[first_column + threadIdx.x] = format == Fp8Format::e5m2 ? ldexpf(1, *largest) : 1;
}

}  // namespace

// Lower bound: codes are read and written. [16384, 12288]: 403 MB, 0.084 ms at 4.8 TB/s.
void transpose_fp8(const Stream& stream, const TransposeFp8& args) {
  expect_transpose_fp8(args);
  const TensorView from = args.x.codes;
  const std::int64_t rows = from.rows(), columns = from.columns(), code_stride = args.codes.columns();
  if (columns == 0) return;
  const bool wide = args.x.format == Fp8Format::e5m2;
  const Tensor largest(stream, DType::i32, {1});
  ensure(rows < std::int64_t{1} << 30, "transpose_fp8: {} rows, expected less than 2^30", rows);
  const RowScales scales{static_cast<const float*>(args.x.scales.data), static_cast<const float*>(args.others.data)};
  auto* const most = static_cast<int*>(largest.view().data);
  if (wide) find_largest<<<1, 1024, 0, native_of(stream)>>>(scales, static_cast<int>(rows), most);
  const dim3 grid(grid_of(columns, side), grid_of(std::max<std::int64_t>(1, code_stride), side));
  const auto launch = [&](auto kernel) {
    kernel<<<grid, threads, 0, native_of(stream)>>>(static_cast<const std::uint8_t*>(from.data), scales, rows, columns,
                                                    most, static_cast<std::uint8_t*>(args.codes.data), code_stride,
                                                    static_cast<float*>(args.scales.data));
    cuda_check(cudaGetLastError());
  };
  const bool packets = aligned({from}, 16);
  if (wide)
    packets ? launch(transpose_codes<Fp8Format::e5m2, true>) : launch(transpose_codes<Fp8Format::e5m2, false>);
  else
    packets ? launch(transpose_codes<Fp8Format::e4m3, true>) : launch(transpose_codes<Fp8Format::e4m3, false>);
}

}  // namespace causeway::cuda
