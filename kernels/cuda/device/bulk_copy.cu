#include "kernels/cuda/device/bulk_copy.cuh"

#include "kernels/cuda/device/elementwise.cuh"

namespace causeway::cuda {
namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

/// The driver's function, found at run time: a program that links with libcuda does not start where there is no GPU.
Encode encode_function() {
  static const Encode found = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result{};
    cuda_check(
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &result));
    ensure(function != nullptr, "the driver has no cuTensorMapEncodeTiled");
    return reinterpret_cast<Encode>(function);
  }();
  return found;
}

}  // namespace

bool can_be_mapped(TensorView x) {
  return x.dtype == DType::bf16 && x.rows() > 0 && x.columns() > 0 && x.columns() % 8 == 0 &&
         rows_start_aligned({x}, 8) && x.rows() < std::int64_t{1} << 30;
}

int compute_capability() {
  constexpr int without_gpu = 90;  // no kernel runs; the memory of a Hopper GPU is predicted
  int device = 0, major = 0, minor = 0;
  if (cudaGetDevice(&device) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    return without_gpu;
  }
  cuda_check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  cuda_check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  return 10 * major + minor;
}

TensorMap tensor_map(TensorView x, int box_rows, int box_columns, bool swizzle) {
  TensorMap map{};
  const std::int64_t stride = x.rows() > 1 ? x.row_stride : x.columns();
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(x.columns()), static_cast<cuuint64_t>(x.rows())},
                   strides[] = {static_cast<cuuint64_t>(stride * size_of(x.dtype))};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(box_columns), static_cast<cuuint32_t>(box_rows)}, steps[] = {1, 1};
  // How much the L2 cache fetches at once: no more than a row of a box, because another block has the next columns.
  const auto fetched =
      box_columns * size_of(x.dtype) >= 256 ? CU_TENSOR_MAP_L2_PROMOTION_L2_256B : CU_TENSOR_MAP_L2_PROMOTION_L2_128B;
  const CUresult status = encode_function()(
      &map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, x.data, sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
      swizzle ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE, fetched, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  ensure(status == CUDA_SUCCESS, "cuTensorMapEncodeTiled: error {} for {} with rows of {} elements",
         static_cast<int>(status), x.shape.to_string(), stride);
  return map;
}

}  // namespace causeway::cuda
