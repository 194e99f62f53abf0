#pragma once

#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/check.cuh"
#include "kernels/cuda/device/chunk_fold.cuh"
#include "kernels/cuda/device/documents.cuh"
#include "kernels/cuda/device/functions.cuh"
#include "kernels/cuda/device/packet.cuh"
#include "kernels/cuda/selective_scan/selective_scan_pieces.hpp"
#include "kernels/expect.hpp"
#include "kernels/selective_scan.hpp"

/// The selective scan on a GPU, in the three passes of device/chunk_fold.cuh: sums of all chunks from a zero state, a
/// fold over the chunks, then the outputs of each chunk from the state that enters it. So one long document with few
/// channels fills the device too, and the number of launches does not depend on the documents.
///
/// A thread holds 16 states of one channel in registers; L threads share a channel that has more. B and C of 64 tokens
/// are in shared memory in the accumulator type; all threads of a block read them from there. A channel with more than
/// 32 states is computed in groups of 32; sums of y over the groups are kept in scratch memory. The backward pass has
/// its own layout (selective_scan_backward.cuh).
///
/// The README of this room has the lower bounds and the measured times.
namespace causeway::cuda {

static_assert(block_tokens % selective_scan_block == 0);

/// Four neighbouring states of one token, read from or written to shared memory together.
template <class R>
struct alignas(16) Quad {
  R at[4];
};

/// SelectiveScanInputs as device code reads it; absent tensors are null.
template <class T>
struct ScanInputs {
  using R = Accumulator<T>;
  const T *u, *delta, *z;  ///< [tokens, channels]
  const T *B, *C;          ///< [tokens, states]
  std::int64_t u_stride, delta_stride, z_stride, B_stride, C_stride;
  const R* A;         ///< [channels, states]
  const R *D, *bias;  ///< [channels]
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

  /// A·log2(e): with it exp(ΔA) is one multiplication and one ex2 instruction. Zero for states beyond N.
  __device__ R rate(std::int64_t channel, int n) const {
    return n < states ? A[channel * A_stride + n] * static_cast<R>(log2_e) : R(0);
  }
  __device__ R bias_of(std::int64_t channel) const { return bias != nullptr ? bias[channel * bias_stride] : R(0); }
  __device__ R skip_of(std::int64_t channel) const { return D != nullptr ? D[channel * D_stride] : R(0); }
  /// Δ from delta + delta_bias.
  __device__ R step_size(R raw) const { return softplus ? cuda::softplus(raw) : raw; }
};

/// Element `row` of a column in global memory. One instruction computes the address; for the formula in C++ the
/// compiler takes five.
template <class T>
__device__ T* row_of(T* column, int row, int bytes_a_row) {
  T* at;
  asm("mad.wide.s32 %0, %1, %2, %3;" : "=l"(at) : "r"(row), "r"(bytes_a_row), "l"(column));
  __builtin_assume(__isGlobal(at));
  return at;
}
template <class T>
__device__ int row_bytes(std::int64_t stride) {
  return static_cast<int>(stride) * static_cast<int>(sizeof(T));
}

/// Copies rows of B or C to shared memory in the accumulator type, as [block_tokens][padded]: row j is token
/// `from` + j·`stride_tokens`. Rows from `count` on and states from N on become zero. All threads of the block call it.
template <int padded, class T, class R>
__device__ void stage_rows(const T* rows, std::int64_t stride, int states, std::int64_t from, int stride_tokens,
                           int count, R* to) {
  constexpr int batch = 8;  // elements that a thread reads before it writes the first of them
  static_assert(block_tokens * padded % (scan_threads * batch) == 0);
  for (int first = static_cast<int>(threadIdx.x); first < block_tokens * padded; first += scan_threads * batch) {
    T raw[batch];
#pragma unroll
    for (int i = 0; i < batch; ++i) {
      const int token = min((first + i * scan_threads) / padded, count - 1),
                n = min((first + i * scan_threads) % padded, states - 1);
      raw[i] = rows[(from + token * stride_tokens) * stride + n];
    }
#pragma unroll
    for (int i = 0; i < batch; ++i) {
      const int element = first + i * scan_threads;
      to[element] = element / padded < count && element % padded < states ? widened(raw[i]) : R(0);
    }
  }
}

/// The chunks' states (matrices [N][channels]) and, for the decays over chunks, their sums of Δ.
template <class T>
struct ScanChunks : ChunkStates<Accumulator<T>> {
  double* sum_delta;  ///< [count][channels]: Σ Δ over the tokens of ChunkTail
};

/// Owns the memory of a ScanChunks.
template <class T>
class ScanChunkMemory {
 public:
  ScanChunkMemory(const Stream& stream, const ScanInputs<T>& in, std::int64_t tokens_each)
      : states_(stream, in.segments.tokens, tokens_each, in.states, in.channels),
        sum_delta_(stream, DType::f64, {states_.view().count, in.channels}) {}
  ScanChunks<T> view() const { return {states_.view(), static_cast<double*>(sum_delta_.view().data)}; }

 private:
  ChunkStatesMemory<Accumulator<T>> states_;
  Tensor sum_delta_;
};

/// The state (adjoint) that enters a piece.
struct EnteringState {
  const float* at = nullptr;  ///< null: zero
  std::int64_t channel_stride = 0, state_stride = 0;

  __device__ float operator()(std::int64_t channel, int n) const {
    return at != nullptr ? at[channel * channel_stride + n * state_stride] : 0.0f;
  }
};

/// The states (adjoints) that enter the pieces of a run.
class PieceStates {
 public:
  /// `first` [channels, N] enters the run; absent: zero.
  explicit PieceStates(TensorView first)
      : first_(first.present() ? static_cast<const float*>(first.data) : nullptr), first_stride_(first.row_stride) {}
  /// What passes 1 and 2 computed, for open pieces.
  void set_chunks(const ScanChunks<bf16>& chunks, std::int64_t channels, std::int64_t states) {
    chunks_ = chunks.state;
    chunk_tokens_ = static_cast<int>(chunks.tokens_each);
    chunk_stride_ = states * channels;
    channels_ = channels;
  }
  /// What enters piece p from the left.
  __device__ EnteringState left_of(const RunPieces& pieces, unsigned p) const {
    if (pieces.open[p] != 0) return of_chunk(pieces.begin[p] / chunk_tokens_);
    return pieces.begin[p] == 0 ? EnteringState{first_, first_stride_, 1} : EnteringState{};
  }
  /// What enters piece p of a run of `tokens` from the right.
  __device__ EnteringState right_of(const RunPieces& pieces, unsigned p, std::int64_t tokens) const {
    if (pieces.open[p] != 0) return of_chunk(pieces.end[p] / chunk_tokens_ - 1);
    return pieces.end[p] == tokens ? EnteringState{first_, first_stride_, 1} : EnteringState{};
  }

 private:
  __device__ EnteringState of_chunk(int chunk) const { return {chunks_ + chunk * chunk_stride_, 1, channels_}; }

  const float *first_, *chunks_ = nullptr;
  int chunk_tokens_ = 1;
  std::int64_t first_stride_, chunk_stride_ = 0, channels_ = 0;
};

/// The inputs of the scan of one group of states. The term D u belongs to the last group.
inline SelectiveScanInputs inputs_of_group(const StateGroup& group, SelectiveScanInputs in) {
  in.A = group.columns_of(in.A);
  in.B = group.columns_of(in.B);
  in.C = group.columns_of(in.C);
  if (!group.last) in.D = {};
  return in;
}

/// Pass 1: computes every chunk's state and sum_delta from a zero state. With `edge_only` it computes only the chunks
/// that contain tokens of the run's last document (right to left: of its first one); with `pieces` only those on which
/// the states that enter its open pieces depend.
template <class T>
void sum_scan_chunks(const Stream& stream, ScanDirection direction, const ScanInputs<T>& in, TensorView d_y,
                     const ScanChunks<T>& chunks, bool edge_only, const RunPieces* pieces = nullptr);

/// Pass 2: folds the chunk sums from the state `first` (absent: zero). A chunk's `state` becomes the state that enters
/// it, and `last` (or absent) the state that leaves the run.
template <class T>
void fold_scan_chunks(const Stream& stream, ScanDirection direction, const ScanInputs<T>& in, TensorView first,
                      TensorView last, const ScanChunks<T>& chunks);

/// The forward scan of bf16 as a walk over the tokens, with one exponential for each element and state
/// (selective_scan_walk.cu). Returns false, having done nothing, where it does not apply or is not faster.
bool walk_forward(const Stream& stream, const SelectiveScanForward& args);

inline std::int64_t attribute_of_device(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  cuda_check(cudaGetDevice(&device));
  cuda_check(cudaDeviceGetAttribute(&value, attribute, device));
  return value;
}

/// Throws unless the inputs have the shapes and types that kernels/selective_scan.hpp demands.
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
