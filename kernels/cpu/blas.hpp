#pragma once

#include <cblas.h>

#include <cstdint>

/// OpenBLAS on one thread. The kernels themselves divide the work over threads, so that no bit of a result depends on
/// their number.
namespace causeway::cpu {

inline void use_one_blas_thread() { [[maybe_unused]] static const bool done = (openblas_set_num_threads(1), true); }

/// c = op(a)·op(b) + beta·c in one type, on one thread, row-major. op(a) is [m, k], op(b) [k, n], c [m, n]; lda, ldb
/// and ldc are the elements from one stored row to the next.
inline void blas(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, const float* a,
                 std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c, std::int64_t ldc) {
  cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans,
              static_cast<blasint>(m), static_cast<blasint>(n), static_cast<blasint>(k), 1, a,
              static_cast<blasint>(lda), b, static_cast<blasint>(ldb), beta, c, static_cast<blasint>(ldc));
}
inline void blas(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, const double* a,
                 std::int64_t lda, const double* b, std::int64_t ldb, double beta, double* c, std::int64_t ldc) {
  cblas_dgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans,
              static_cast<blasint>(m), static_cast<blasint>(n), static_cast<blasint>(k), 1, a,
              static_cast<blasint>(lda), b, static_cast<blasint>(ldb), beta, c, static_cast<blasint>(ldc));
}

}  // namespace causeway::cpu
