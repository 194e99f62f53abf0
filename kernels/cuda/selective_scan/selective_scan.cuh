#pragma once

#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/check.cuh"
#include "kernels/cuda/device/chunks.cuh"
#include "kernels/cuda/device/documents.cuh"
#include "kernels/cuda/device/functions.cuh"
#include "kernels/cuda/device/packet.cuh"
#include "kernels/expect.hpp"
#include "kernels/selective_scan.hpp"

/// How the scan is cut for a GPU. The run is cut into chunks of whole blocks of selective_scan_block tokens, so that
/// one long document of few channels still fills the device: a first pass sums up each chunk from a zero start, a
/// second folds the sums over the chunks, a third computes from the state just before its chunk. The number of launches
/// is fixed, whatever the documents.
///
/// Inside a chunk a thread holds 16 states of one channel in registers (a channel of more states takes L threads), and
/// a block's B and C stand in shared memory in the accumulator type, where all its threads read the same words. More
/// than 32 states are scanned 32 at a time; what adds up over them stands in scratch in the accumulator type until the
/// last.
///
/// Floor (H200, L 16384, D 4096, N 16, bf16): 4 accesses an element forward, 0.125 ms; 67 M elements × 16 exponentials
/// at 16 a clock and multiprocessor, 0.26 ms a pass. Chunks cost a second pass of exponentials, so 0.52 ms bound the
/// forward; where documents are shorter than chunks, sums cover tails only. Reached there: 0.99 ms for one document,
/// 0.95 for documents of 57 to 2048 tokens, 0.62 for documents of 8.
namespace causeway::cuda {

static_assert(selective_scan_block == block_tokens);

/// 16 bytes at a time from and to shared memory.
template <class R>
struct alignas(16) Quad {
  R at[4];
};

/// SelectiveScanInputs as device code reads it; what is absent is null.
template <class T>
struct ScanInputs {
  using R = Accumulator<T>;
  const T *u, *delta, *z, *B, *C;
  std::int64_t u_stride, delta_stride, z_stride, B_stride, C_stride;
  const R *A, *D, *bias;
  std::int64_t A_stride, D_stride, bias_stride;
  SegmentsView segments;
  std::int64_t channels;
  int states;
  bool softplus;

  explicit ScanInputs(const SelectiveScanInputs& in)
      : u(data<T>(in.u)),
        delta(data<T>(in.delta)),
        z(data<T>(in.z)),
        B(data<T>(in.B)),
        C(data<T>(in.C)),
        u_stride(in.u.row_stride),
        delta_stride(in.delta.row_stride),
        z_stride(in.z.row_stride),
        B_stride(in.B.row_stride),
        C_stride(in.C.row_stride),
        A(data<R>(in.A)),
        D(data<R>(in.D)),
        bias(data<R>(in.delta_bias)),
        A_stride(in.A.row_stride),
        D_stride(in.D.row_stride),
        bias_stride(in.delta_bias.row_stride),
        segments(in.segments),
        channels(in.A.rows()),
        states(static_cast<int>(in.A.columns())),
        softplus(in.delta_softplus) {}

  template <class X>
  static const X* data(TensorView x) {
    return x.present() ? static_cast<const X*>(x.data) : nullptr;
  }

  /// A·log2(e), so that exp(ΔA) is one multiplication and one exponential unit's 2^x; zero for states beyond N.
  __device__ R rate(std::int64_t channel, int n) const {
    return n < states ? A[channel * A_stride + n] * static_cast<R>(log2_e) : R(0);
  }
  __device__ R bias_of(std::int64_t channel) const { return bias != nullptr ? bias[channel * bias_stride] : R(0); }
  __device__ R skip_of(std::int64_t channel) const { return D != nullptr ? D[channel * D_stride] : R(0); }
  __device__ R step(R raw) const { return softplus ? cuda::softplus(raw) : raw; }
};

/// Rows of B or C in the accumulator type, as [tokens][states]: row j is token `from` + j·`direction`; zero beyond
/// `count` and beyond N.
template <int padded, class T, class R>
__device__ void stage_rows(const T* rows, std::int64_t stride, int states, std::int64_t from, int direction, int count,
                           R* to) {
  constexpr int together = 8;  // entries read before the first of them is written
  static_assert(block_tokens * padded % (scan_threads * together) == 0);
  for (int first = static_cast<int>(threadIdx.x); first < block_tokens * padded; first += scan_threads * together) {
    T raw[together];
#pragma unroll
    for (int i = 0; i < together; ++i) {
      const int token = min((first + i * scan_threads) / padded, count - 1),
                n = min((first + i * scan_threads) % padded, states - 1);
      raw[i] = rows[(from + token * direction) * stride + n];
    }
#pragma unroll
    for (int i = 0; i < together; ++i) {
      const int at = first + i * scan_threads;
      to[at] = at / padded < count && at % padded < states ? widened(raw[i]) : R(0);
    }
  }
}

/// What the chunks of a run hand each other, in scratch. States lie as [N][channels].
template <class T>
struct Chunks {
  using R = Accumulator<T>;
  std::int64_t tokens_each, count;
  R* state;               // [count][N][channels]: what a chunk sums up; after the fold, what comes into it
  double* sum_delta;      // [count][channels]
  unsigned char* passes;  // [count]: the chunk lies inside one document that goes on at its other end
};

/// Owns a Chunks' memory.
template <class T>
class ChunkMemory {
 public:
  using R = Accumulator<T>;
  ChunkMemory(const Stream& stream, const ScanInputs<T>& in, std::int64_t tokens_each)
      : count_(ceil_div(in.segments.tokens, tokens_each)),
        tokens_each_(tokens_each),
        state_(stream, dtype_of<R>, {count_, in.states, in.channels}),
        sum_delta_(stream, DType::f64, {count_, in.channels}),
        passes_(stream, DType::u8, {count_}) {}
  Chunks<T> view() const {
    return {tokens_each_, count_, static_cast<R*>(state_.view().data), static_cast<double*>(sum_delta_.view().data),
            static_cast<unsigned char*>(passes_.view().data)};
  }

 private:
  std::int64_t count_, tokens_each_;
  Tensor state_, sum_delta_, passes_;
};

/// The scan of some of the states alone; the skip goes with the last of them.
inline SelectiveScanInputs inputs_of(const StateGroup& group, SelectiveScanInputs in) {
  in.A = group.of(in.A);
  in.B = group.of(in.B);
  in.C = group.of(in.C);
  if (!group.last) in.D = {};
  return in;
}

/// Sums up every chunk of the run from a zero start; with `edge_only` only those that hold tokens of the run's last
/// (first) document.
template <class T>
void sum_chunks(const Stream& stream, ScanDirection direction, const ScanInputs<T>& in, TensorView d_y,
                const Chunks<T>& chunks, bool edge_only);

/// Folds the chunks' sums, starting from `first` (absent: zero): `state` of a chunk becomes what comes into it.
template <class T>
void fold_chunks(const Stream& stream, ScanDirection direction, const ScanInputs<T>& in, TensorView first,
                 const Chunks<T>& chunks);

inline void expect_scan_inputs(const SelectiveScanInputs& in) {
  const DType dtype = in.delta.dtype, accumulator = accumulator_of(dtype);
  const std::int64_t T = in.segments.tokens, D = in.A.rows(), N = in.A.columns();
  expect("A", in.A, accumulator, {D, N});
  expect("delta", in.delta, dtype, {T, D});
  expect_if_present("u", in.u, dtype, {T, D});
  expect_if_present("z", in.z, dtype, {T, D});
  expect_if_present("B", in.B, dtype, {T, N});
  expect_if_present("C", in.C, dtype, {T, N});
  expect_if_present("D", in.D, accumulator, {D});
  expect_if_present("delta_bias", in.delta_bias, accumulator, {D});
}

}  // namespace causeway::cuda
