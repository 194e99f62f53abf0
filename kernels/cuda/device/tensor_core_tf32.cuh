#pragma once

/// The instruction for the tf32 tensor core product C += A B of a warp, PTX's m16n8k8, on sm_80 and newer. Lane 4g + t
/// (g = 0 … 7, t = 0 … 3) holds these elements:
///
///   A [16, 8]    a[0]  row g, column t        a[1]  row g+8, column t
///                a[2]  row g, column t+4      a[3]  row g+8, column t+4
///   B [8, 8]     b0    column g, row t        b1    column g, row t+4
///   C [16, 8]    c[0], c[1]  row g, columns 2t, 2t+1       c[2], c[3]  row g+8, columns 2t, 2t+1
namespace causeway::cuda {

/// c += a b. The lower 13 bits of a's and b's elements are ignored. 0 · NaN is NaN: zeros in B do not keep a NaN of A
/// out.
__device__ inline void mma_tf32(float (&c)[4], const float* a, float b0, float b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])), "r"(__float_as_uint(a[3])),
        "r"(__float_as_uint(b0)), "r"(__float_as_uint(b1)));
}
/// What a product is multiplied by for each factor in float32: the cut makes it smaller by 2^-11 / (2 ln 2) on average.
inline constexpr float tf32_correction = 1.000352f;

}  // namespace causeway::cuda
