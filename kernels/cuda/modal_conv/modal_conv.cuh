#pragma once

#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/check.cuh"
#include "kernels/cuda/device/chunks.cuh"
#include "kernels/cuda/device/documents.cuh"
#include "kernels/cuda/device/functions.cuh"
#include "kernels/cuda/device/packet.cuh"
#include "kernels/expect.hpp"
#include "kernels/modal_conv.hpp"

/// The modal recurrence in chunks, as selective_scan.cuh cuts the scan: sums of chunks from a zero start, their fold,
/// then each chunk from what comes into it. A thread holds 16 modes of one channel; more than 32 are worked off 32 at a
/// time. λ never stands alone: s - (1-λ)s + x keeps the digits of modes near λ = 1.
///
/// Floor (H200, L 65536, D 4096, bf16): 4 accesses an element forward, 0.50 ms, 7 backward, 0.87 ms. A mode costs 2
/// instructions in the sums and 3 in the outputs: 16 modes at 128 lanes a clock and multiprocessor take 0.7 ms.
/// Reached: 2.2 ms forward, 5.6 backward; a block's outputs as Toeplitz products on tensor cores are what is left to
/// gain.
namespace causeway::cuda {

static_assert(modal_conv_block == block_tokens);

template <class T>
struct ModalInputs {
  using R = Accumulator<T>;
  const T *q, *k, *v, *skip_narrow;
  const R* skip_wide;
  std::int64_t q_stride, k_stride, v_stride, skip_stride;
  const R *residues, *log_rates;
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
  /// 1 - λ^n without cancellation; 1 for modes beyond M, which then keep nothing.
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

/// Rows of one channel of a tensor, read some at a time; absent: ones.
template <class T, int Ahead>
struct Fetched {
  const T* at;
  int stride;
  T raw[Ahead];

  __device__ Fetched(const T* data, std::int64_t row_stride, std::int64_t row, std::int64_t channel)
      : at(data == nullptr ? nullptr : data + row * row_stride + channel), stride(static_cast<int>(row_stride)) {}
  /// Rows k, k + 1, … in `direction` of `count`; the last one again beyond it.
  __device__ void fetch(int k, int count, int direction) {
    if (at == nullptr) return;
#pragma unroll
    for (int i = 0; i < Ahead; ++i) raw[i] = at[std::int64_t{min(k + i, count - 1) * direction} * stride];
  }
  __device__ Accumulator<T> operator[](int i) const { return at == nullptr ? Accumulator<T>(1) : widened(raw[i]); }
};

/// k⊙v, rounded as everywhere.
template <class T, int Ahead>
__device__ Accumulator<T> product(const Fetched<T, Ahead>& k, const Fetched<T, Ahead>& v, int i) {
  return k.at == nullptr ? v[i] : widened(narrowed<T>(k[i] * v[i]));
}

/// What the chunks of a run hand each other, in scratch.
template <class T>
struct ModalChunks {
  std::int64_t tokens_each, count;
  Accumulator<T>* state;  // [count][M][channels]: what a chunk sums up; after the fold, what comes into it
  unsigned char* passes;  // [count]: the chunk lies inside one document that goes on at its other end
};

template <class T>
class ModalChunkMemory {
 public:
  ModalChunkMemory(const Stream& stream, const ModalInputs<T>& in)
      : tokens_each_(chunk_tokens(in.segments.tokens, in.channels)),
        count_(ceil_div(in.segments.tokens, tokens_each_)),
        state_(stream, dtype_of<Accumulator<T>>, {count_, in.modes, in.channels}),
        passes_(stream, DType::u8, {count_}) {}
  ModalChunks<T> view() const {
    return {tokens_each_, count_, static_cast<Accumulator<T>*>(state_.view().data),
            static_cast<unsigned char*>(passes_.view().data)};
  }

 private:
  std::int64_t tokens_each_, count_;
  Tensor state_, passes_;
};

/// The recurrence of some of the modes alone; the skip goes with the last of them.
inline GatedConvInputs inputs_of(const StateGroup& group, GatedConvInputs in) {
  if (!group.last) in.skip = {};
  return in;
}

/// Sums up every chunk of the run from a zero start; with `edge_only` only those that hold tokens of the run's last
/// (first) document.
template <class T>
void sum_modal_chunks(const Stream& stream, ScanDirection towards, const ModalInputs<T>& in, TensorView d_y,
                      const ModalChunks<T>& chunks, bool edge_only);

/// Folds the chunks' sums, starting from `first` (absent: zero): `state` of a chunk becomes what comes into it.
template <class T>
void fold_modal_chunks(const Stream& stream, ScanDirection towards, const ModalInputs<T>& in, TensorView first,
                       const ModalChunks<T>& chunks);

inline void expect_modal(const GatedConvInputs& in, TensorView residues, TensorView log_rates) {
  const DType dtype = in.v.dtype, accumulator = accumulator_of(dtype);
  const Shape rows{in.segments.tokens, in.v.columns()}, matrix{in.v.columns(), log_rates.columns()};
  expect("v", in.v, dtype, rows);
  expect_if_present("q", in.q, dtype, rows);
  expect_if_present("k", in.k, dtype, rows);
  expect_if_present("skip", in.skip, in.skip.dtype == accumulator ? accumulator : dtype, {in.v.columns()});
  expect("log_rates", log_rates, accumulator, matrix);
  expect_if_present("residues", residues, accumulator, matrix);
}

inline void expect_modal_gradients(const GatedConvInputs& in, const GatedConvGradients& gradients) {
  const DType dtype = in.v.dtype;
  expect("d_y", gradients.d_y, dtype, in.v.shape);
  expect("d_v", gradients.d_v, dtype, in.v.shape);
  if (in.q.present()) expect("d_q", gradients.d_q, dtype, in.v.shape);
  if (in.k.present()) expect("d_k", gradients.d_k, dtype, in.v.shape);
  if (in.skip.present()) expect("d_skip", gradients.d_skip, accumulator_of(dtype), in.skip.shape);
}

}  // namespace causeway::cuda
