#pragma once

#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/check.cuh"
#include "kernels/cuda/device/chunk_fold.cuh"
#include "kernels/cuda/device/documents.cuh"
#include "kernels/cuda/device/functions.cuh"
#include "kernels/cuda/device/packet.cuh"
#include "kernels/expect_modal_conv.hpp"

/// The modal recurrence on a GPU, in the three passes of device/chunk_fold.cuh: sums of all chunks from a zero state, a
/// fold over the chunks, then the outputs of each chunk from the state that enters it.
///
/// A thread holds 16 modes of one channel; more than 32 modes are computed in groups of 32. The kernels use the loss
/// 1-λ and never λ itself: s - (1-λ)s + x keeps the digits of modes near λ = 1.
///
/// The README of this room has the lower bounds and the measured times.
namespace causeway::cuda {

static_assert(modal_conv_block == block_tokens);

/// The inputs of modal_conv as device code reads them; absent tensors are null.
template <class T>
struct ModalInputs {
  using R = Accumulator<T>;
  const T *q, *k, *v;    ///< [tokens, channels]
  const T* skip_narrow;  ///< [channels], if skip has the type T
  const R* skip_wide;    ///< [channels], if skip has the accumulator type
  std::int64_t q_stride, k_stride, v_stride, skip_stride;
  const R *residues, *log_rates;  ///< [channels, modes]
  std::int64_t residues_stride, log_rates_stride;
  SegmentsView segments;
  std::int64_t channels;
  int modes;

  ModalInputs(const GatedConvInputs& in, TensorView residues_, TensorView log_rates_)
      : q(data<T>(in.q)),
        k(data<T>(in.k)),
        v(data<T>(in.v)),
        skip_narrow(in.skip.dtype == dtype_of<T> ? data<T>(in.skip) : nullptr),
        skip_wide(in.skip.dtype == dtype_of<T> ? nullptr : data<R>(in.skip)),
        q_stride(in.q.row_stride),
        k_stride(in.k.row_stride),
        v_stride(in.v.row_stride),
        skip_stride(in.skip.row_stride),
        residues(data<R>(residues_)),
        log_rates(data<R>(log_rates_)),
        residues_stride(residues_.row_stride),
        log_rates_stride(log_rates_.row_stride),
        segments(in.segments),
        channels(in.v.columns()),
        modes(static_cast<int>(log_rates_.columns())) {}

  template <class X>
  static const X* data(TensorView x) {
    return x.present() ? static_cast<const X*>(x.data) : nullptr;
  }

  __device__ R rate(std::int64_t channel, int m) const { return modal_rate(log_rates[channel * log_rates_stride + m]); }
  /// 1 - λ^n without cancellation; 1 for modes beyond M, which have the residue 0.
  __device__ R loss(std::int64_t channel, int m, R n) const {
    return m < modes ? -::expm1(-n * rate(channel, m)) : R(1);
  }
  __device__ R residue(std::int64_t channel, int m) const {
    return m < modes && residues != nullptr ? residues[channel * residues_stride + m] : R(0);
  }
  __device__ R skip(std::int64_t channel) const {
    if (skip_narrow != nullptr) return widened(skip_narrow[channel * skip_stride]);
    return skip_wide != nullptr ? skip_wide[channel * skip_stride] : R(0);
  }
};

/// The next `rows` rows of one channel of a tensor, in registers. An absent tensor reads as ones.
template <class T, int rows>
struct PrefetchedRows {
  const T* data;  ///< null: absent
  int stride;
  T raw[rows];

  /// `row` is row 0 of the calls of prefetch.
  __device__ PrefetchedRows(const T* data_, std::int64_t row_stride, std::int64_t row, std::int64_t channel)
      : data(data_ == nullptr ? nullptr : data_ + row * row_stride + channel), stride(static_cast<int>(row_stride)) {}
  /// Reads rows k, k + 1, … of `count`, counted in `direction` (1 or -1); beyond the last row reads it again.
  __device__ void prefetch(int k, int count, int direction) {
    if (data == nullptr) return;
#pragma unroll
    for (int i = 0; i < rows; ++i) raw[i] = data[std::int64_t{min(k + i, count - 1) * direction} * stride];
  }
  __device__ Accumulator<T> operator[](int i) const { return data == nullptr ? Accumulator<T>(1) : widened(raw[i]); }
};

/// k⊙v, rounded to T as all kernels of gated convolutions do.
template <class T, int rows>
__device__ Accumulator<T> product(const PrefetchedRows<T, rows>& k, const PrefetchedRows<T, rows>& v, int i) {
  return k.data == nullptr ? v[i] : widened(narrowed<T>(k[i] * v[i]));
}

template <class T>
using ModalChunks = ChunkStates<Accumulator<T>>;

/// The memory of the ModalChunks of a run.
template <class T>
ChunkStatesMemory<Accumulator<T>> modal_chunk_memory(const Stream& stream, const ModalInputs<T>& in) {
  const std::int64_t tokens = in.segments.tokens;
  return {stream, tokens, chunk_tokens(tokens, in.channels), in.modes, in.channels};
}

/// The inputs of the recurrence of one group of modes. The skip term belongs to the last group.
inline GatedConvInputs inputs_of_group(const StateGroup& group, GatedConvInputs in) {
  if (!group.last) in.skip = {};
  return in;
}

/// Pass 1: computes every chunk's state from a zero state. With `edge_only` it computes only the chunks that contain
/// tokens of the run's last document (right to left: of its first one).
template <class T>
void sum_modal_chunks(const Stream& stream, ScanDirection direction, const ModalInputs<T>& in, TensorView d_y,
                      const ModalChunks<T>& chunks, bool edge_only);

/// Pass 2: folds the chunk sums from the state `first` (absent: zero). A chunk's `state` becomes the state that enters
/// it, and `last` (or absent) the state that leaves the run.
template <class T>
void fold_modal_chunks(const Stream& stream, ScanDirection direction, const ModalInputs<T>& in, TensorView first,
                       TensorView last, const ModalChunks<T>& chunks);

/// The whole operator by these passes, for calls that modal_conv_mma.cuh has no kernels for.
void recurrence_forward(const Stream& stream, const ModalConvForward& args);
void recurrence_backward(const Stream& stream, const ModalConvBackward& args);

}  // namespace causeway::cuda
