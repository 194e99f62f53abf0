#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/elementwise.cuh"
#include "kernels/cuda/device/packet.cuh"
#include "kernels/cuda/fft_conv/small_dft.cuh"
#include "kernels/fft_conv.hpp"

/// fft_conv by a half-length complex transform of each document.
///
/// The convolution of l tokens with m <= l taps has l + m - 1 values. Take N with 2N >= l + m - 1 and pad the document
/// with zeros to 2N real values a(0) … a(2N-1). They are stored as the N complex points (a(t) + i·a(t+N)) w^t with
/// w = exp(πi/2N). The DFT F of these points evaluates the polynomial Σ a(t) X^t at the N solutions of X^N = i, so that
/// the product of two spectra belongs to the product of the polynomials modulo X^2N + 1; with 2N >= l + m - 1 nothing
/// wraps around. A spectrum has N points, none is the mirror image of another, and spectra are multiplied point by
/// point, in any order of the points. With U for the multiplication of point t by w^t:
///   c = U* F* ((H + skip) ⊙ F U kv) / N,   d_kv = U* F* (conj(H + skip) ⊙ F U dc) / N,
///   d_taps = U* F* (Σ conj(F U kv) ⊙ F U dc) / N.
///
/// Documents with the same N form a length class and are transformed together. There are few values of N, so that the
/// number of kernel calls does not depend on the number of documents. A class has one row of N points for each document
/// and channel; its rows are processed in batches of a bounded size.
namespace causeway::cuda {

/// Complex points of a batch: 256 MiB of float32. A batch is larger only if min_batch_channels rows of one document
/// are. Batches that fit into the L2 cache were slower: their few rows do not fill the device.
constexpr std::int64_t max_batch_points = std::int64_t{1} << 25;

/// Channels of a batch at least, so that at least 64 contiguous bytes of a bf16 row are read.
constexpr std::int64_t min_batch_channels = 32;

/// The smallest permitted size that is not below `needed`. Permitted are the powers of two from `smallest` to `coarse`
/// and, above `coarse`, also the multiples of a quarter of a power of two: few sizes, at most a quarter too large.
__host__ __device__ inline std::int64_t padded_size(std::int64_t needed, std::int64_t smallest, std::int64_t coarse) {
  std::int64_t power = smallest;
  while (power < needed) power *= 2;
  if (power > coarse)
    for (std::int64_t eighths = 5; eighths < 8; ++eighths)
      if (power / 8 * eighths >= needed) return power / 8 * eighths;
  return power;
}

/// N for a document of `tokens` tokens. Up to 512 and above 2048 it is a power of two: float32 has special kernels for
/// these sizes, which save more time than a size between two powers of two.
__host__ __device__ inline std::int64_t points_for(std::int64_t tokens, std::int64_t taps) {
  const std::int64_t needed = (tokens + (taps < tokens ? taps : tokens)) / 2;
  return padded_size(needed, 8, needed > 2048 ? needed * 2 : 512);
}

/// The tokens of a document.
struct Extent {
  std::int64_t first, count;
};

/// The documents with the same N.
struct LengthClass {
  std::int64_t points;     ///< N
  std::int64_t documents;  ///< number of documents
  std::int64_t taps;       ///< the largest number of taps that one of these documents uses
};

/// The length classes of a run in ascending order of N. Reads the host copy of cu_seqlens.
std::vector<LengthClass> classes_of(const SegmentsView& segments, std::int64_t taps);

/// The Extents of all documents as a tensor [count, 2]: class after class, in each class in the order of the pack. The
/// device computes them from its own copy of cu_seqlens.
Tensor extents_of(const Stream& stream, const SegmentsView& segments, std::int64_t taps,
                  const std::vector<LengthClass>& classes);

/// The rows that are transformed together: some documents of a class by some channels. In memory they are
/// [documents, channels, points].
struct RowBatch {
  const Extent* extents;  ///< of the batch's documents
  std::int64_t points, documents;
  std::int64_t first_channel, channels;

  std::int64_t rows() const { return documents * channels; }
};

/// The filter groups that have channels in a batch.
struct FilterGroups {
  std::int64_t first, count;
  std::int64_t size;  ///< channels that share one filter
  bool own;           ///< each filter has one row: one channel, and one document in the class

  FilterGroups(const LengthClass& of, const RowBatch& batch, std::int64_t size_)
      : first(batch.first_channel / size_),
        count((batch.first_channel + batch.channels - 1) / size_ + 1 - first),
        size(size_),
        own(of.documents == 1 && size_ == 1) {}
};

/// Channels and documents of a batch of a class; the last batches may be smaller.
struct BatchSizes {
  std::int64_t channels, documents;

  BatchSizes(const LengthClass& of, std::int64_t all_channels) {
    const std::int64_t most = std::min(all_channels, std::max(min_batch_channels, max_batch_points / of.points)),
                       count = ceil_div(all_channels, most);
    channels = std::min(all_channels, round_up(ceil_div(all_channels, count), 16));
    documents = std::clamp<std::int64_t>(max_batch_points / (of.points * channels), 1, of.documents);
  }
};

/// Part `part` of `parts` equal parts of the rows that a filter group has in a batch. The rows are numbered document by
/// document, within a document by the channels of the group.
struct GroupRows {
  std::int64_t first_channel, channels;  ///< of the group; first_channel counts from the batch's first channel
  std::int64_t begin, end;               ///< rows

  __device__ GroupRows(const RowBatch& batch, const FilterGroups& groups, std::int64_t group, std::int64_t part,
                       std::int64_t parts) {
    const std::int64_t left = (groups.first + group) * groups.size - batch.first_channel, right = left + groups.size;
    first_channel = left < 0 ? 0 : left;
    channels = (right < batch.channels ? right : batch.channels) - first_channel;
    const std::int64_t rows = batch.documents * channels;
    begin = rows * part / parts;
    end = rows * (part + 1) / parts;
  }
};

/// The number of parts into which the rows of each group are cut, so that `items` (threads or blocks for one part)
/// become about `target`. It depends on the shape only.
inline std::int64_t parts_for(const RowBatch& batch, const FilterGroups& groups, std::int64_t items,
                              std::int64_t target) {
  return std::clamp<std::int64_t>(target / items, 1, batch.documents * std::min(batch.channels, groups.size));
}

/// Goes over the batches of a class. For each range of channels it calls begin(batch) with a batch without documents,
/// then body(batch, is_first) for range after range of the documents, then end(batch).
template <class Begin, class Body, class End>
void for_each_batch(const LengthClass& of, const Extent* extents, std::int64_t channels, const Begin& begin,
                    const Body& body, const End& end) {
  const BatchSizes sizes(of, channels);
  for (std::int64_t first = 0; first < channels; first += sizes.channels) {
    RowBatch batch{extents, of.points, 0, first, std::min(sizes.channels, channels - first)};
    begin(batch);
    for (std::int64_t d = 0; d < of.documents; d += sizes.documents) {
      batch.extents = extents + d;
      batch.documents = std::min(sizes.documents, of.documents - d);
      body(batch, d == 0);
    }
    end(batch);
  }
}

/// The number of rows that cuFFT transforms for `rows` rows: a power of two or a multiple of a quarter of one. A cuFFT
/// plan is for one number of rows, and the number of plans must stay small.
inline std::int64_t padded_rows(std::int64_t rows) { return padded_size(rows, 1, 4); }

/// Complex points that the workspaces hold.
struct WorkspaceSizes {
  std::int64_t batch = 0;    ///< the largest batch; 0 if all classes are transformed within one block
  std::int64_t filters = 0;  ///< the filter groups of a batch, at most

  WorkspaceSizes(const std::vector<LengthClass>& classes, std::int64_t channels, std::int64_t group_size, DType dtype);
};

/// A workspace of complex points.
template <class R>
class Spectra {
 public:
  Spectra() = default;
  Spectra(const Stream& stream, std::int64_t points) : points_(stream, dtype_of<R>, {points, 2}) {}
  Complex<R>* data() const { return static_cast<Complex<R>*>(points_.view().data); }

 private:
  Tensor points_;
};

/// Unscaled transforms by cuFFT of `rows` rows of `points` points, in place. Rows up to padded_rows(rows) are
/// overwritten.
template <class R>
void transform_rows(const Stream& stream, std::int64_t points, std::int64_t rows, bool inverse, Complex<R>* data);

/// The parameter `skip`, stored in T or in its accumulator type. It acts as a tap at lag 0, whose spectrum is 1.
template <class T>
struct Skip {
  using R = Accumulator<T>;
  const T* narrow = nullptr;
  const R* wide = nullptr;

  explicit Skip(TensorView x) {
    if (!x.present()) return;
    if (x.dtype == dtype_of<R>)
      wide = static_cast<const R*>(x.data);
    else
      narrow = static_cast<const T*>(x.data);
  }
  /// 0 if skip is absent.
  __device__ R operator()(std::int64_t channel) const {
    return wide != nullptr ? wide[channel] : narrow != nullptr ? widened(narrow[channel]) : R{0};
  }
};

/// The value that is read for a token: x, or x⊙gate, rounded to T if `rounded`.
template <class T>
struct GatedInput {
  TensorView x, gate;
  bool rounded = false;
};

/// GatedInput in device code.
template <class T>
struct GatedInputRows {
  Rows<const T> x, gate;
  bool gated, rounded;

  explicit GatedInputRows(const GatedInput<T>& of)
      : x(of.x), gate(of.gate), gated(of.gate.present()), rounded(of.rounded) {}
  template <int V>
  __device__ __forceinline__ void load(std::int64_t token, std::int64_t channel, float (&values)[V]) const {
    const auto a = x.template load<V>(token, channel);
#pragma unroll
    for (int v = 0; v < V; ++v) values[v] = widened(a.at[v]);
    if (gated) {
      const auto b = gate.template load<V>(token, channel);
#pragma unroll
      for (int v = 0; v < V; ++v) {
        values[v] *= widened(b.at[v]);
        if (rounded) values[v] = widened(narrowed<T>(values[v]));
      }
    }
  }
};

/// The value that is written for a token: the real values of U* from / N, multiplied by `gate` if that is present.
struct GatedOutput {
  TensorView gate, y;
};

/// GatedOutput in device code.
template <class T>
struct GatedOutputRows {
  using R = Accumulator<T>;
  Rows<const T> gate;
  Rows<T> y;
  bool gated;

  explicit GatedOutputRows(const GatedOutput& of) : gate(of.gate), y(of.y), gated(of.gate.present()) {}
  template <int V>
  __device__ void store(std::int64_t token, std::int64_t channel, const R (&values)[V]) const {
    R products[V];
    Packet<T, V> factors;
    if (gated) factors = gate.template load<V>(token, channel);
#pragma unroll
    for (int v = 0; v < V; ++v) products[v] = gated ? values[v] * widened(factors.at[v]) : values[v];
    y.template store<V>(token, channel, Packet<T, V>::of(products));
  }
};

/// Whether channels can be read in packets of 16 bytes: each row must begin at a multiple of 16 bytes and hold whole
/// packets. The channel ranges of batches keep this.
template <class T>
bool packets_fit(std::int64_t columns, std::initializer_list<TensorView> tensors) {
  return columns % packet_width<T> == 0 && rows_start_aligned(tensors, packet_width<T>);
}

/// Checks types, shapes, and that the run holds whole documents.
void expect_fft_conv_inputs(const GatedConvInputs& in, TensorView taps);

}  // namespace causeway::cuda
