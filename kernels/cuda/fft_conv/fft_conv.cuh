#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/elementwise.cuh"
#include "kernels/cuda/device/packet.cuh"
#include "kernels/cuda/fft_conv/small_dft.cuh"
#include "kernels/fft_conv.hpp"

/// A document of l tokens and m taps that it meets needs l + m - 1 numbers. 2N of them, a(0) … a(2N-1), stand as the N
/// complex ones (a(t) + i·a(t+N)) w^t with w = exp(πi/2N): the transform F of those evaluates the polynomial Σ a(t) X^t
/// where X^N = i, so that products of spectra are products modulo X^2N + 1, and nothing that wraps around reaches the
/// l + m - 1 numbers. A spectrum is N numbers, no half of it a mirror image, and is multiplied number by number:
///   c = U* F* ((H + skip) ⊙ F U kv) / N,   d_kv = U* F* (conj(H + skip) ⊙ F U dc) / N,
///   d_taps = U* F* (Σ conj(F U kv) ⊙ F U dc) / N,
/// U being the turn by w^t. Documents of one N go together; N is one of few, so that the number of calls does not
/// depend on the number of documents. Rows of channels by documents are worked off in pieces of a bounded size.
namespace causeway::cuda {

/// Numbers that are transformed at a time, 256 MiB of float32, but for documents whose fewest channels take more.
/// Smaller pieces, which stay in the L2 cache, were slower: a few rows do not fill the device.
constexpr std::int64_t piece_numbers = std::int64_t{1} << 25;

/// Rows of bf16 are read in stretches of no less than 64 bytes.
constexpr std::int64_t fewest_channels = 32;

/// The least of the powers of two up to `coarse` and the multiples of a quarter of one beyond, from `smallest` on, that
/// is no less than `needed`: few, and at most a quarter too much.
__host__ __device__ inline std::int64_t stepped(std::int64_t needed, std::int64_t smallest, std::int64_t coarse) {
  std::int64_t power = smallest;
  while (power < needed) power *= 2;
  if (power > coarse)
    for (std::int64_t eighths = 5; eighths < 8; ++eighths)
      if (power / 8 * eighths >= needed) return power / 8 * eighths;
  return power;
}

/// Complex numbers that a document takes, which has `tokens` tokens. Up to 512 and beyond 2048 these are powers of two,
/// which in float32 have kernels of our own that are faster by more than a step in between would save.
__host__ __device__ inline std::int64_t points_of(std::int64_t tokens, std::int64_t taps) {
  const std::int64_t needed = (tokens + (taps < tokens ? taps : tokens)) / 2;
  return stepped(needed, 8, needed > 2048 ? needed * 2 : 512);
}

/// A document's tokens.
struct Extent {
  std::int64_t first, count;
};

/// Documents of one length after padding.
struct LengthClass {
  std::int64_t points;     ///< N
  std::int64_t documents;  ///< how many
  std::int64_t taps;       ///< that any of them meets
};

/// By rising points. Reads segments' host copy.
std::vector<LengthClass> classes_of(const SegmentsView& segments, std::int64_t taps);

/// Where the documents are, [count, 2], class by class, in their order in the pack; made on the device from the
/// device's cu_seqlens.
Tensor extents_of(const Stream& stream, const SegmentsView& segments, std::int64_t taps,
                  const std::vector<LengthClass>& classes);

/// Some documents of a class by some channels: `documents` times `channels` rows of `points` numbers, one after the
/// other.
struct Piece {
  const Extent* extents;
  std::int64_t points, documents;
  std::int64_t first_channel, channels;

  std::int64_t rows() const { return documents * channels; }
};

/// Some groups of the filter by the channels of a piece that they have.
struct Groups {
  std::int64_t first, count, size;  ///< size: channels of a group of the filter

  Groups(const Piece& piece, std::int64_t size_)
      : first(piece.first_channel / size_),
        count((piece.first_channel + piece.channels - 1) / size_ + 1 - first),
        size(size_) {}
};

/// How the rows of a class are cut into pieces.
struct Slices {
  std::int64_t channels, width, together;  ///< of all channels, width at a time; documents together

  Slices(const LengthClass& of, std::int64_t channels_) : channels(channels_) {
    const std::int64_t most = std::min(channels, std::max(fewest_channels, piece_numbers / of.points)),
                       count = ceil_div(channels, most);
    width = std::min(channels, round_up(ceil_div(channels, count), 16));
    together = std::clamp<std::int64_t>(piece_numbers / (of.points * width), 1, of.documents);
  }
};

/// One of `parts` equal parts of a group's rows (documents by the group's channels) in a piece.
struct Share {
  std::int64_t first_channel, channels;  ///< of the group, in the piece
  std::int64_t begin, end;               ///< rows

  __device__ Share(const Piece& piece, const Groups& groups, std::int64_t group, std::int64_t part,
                   std::int64_t parts) {
    const std::int64_t left = (groups.first + group) * groups.size - piece.first_channel, right = left + groups.size;
    first_channel = left < 0 ? 0 : left;
    channels = (right < piece.channels ? right : piece.channels) - first_channel;
    const std::int64_t rows = piece.documents * channels;
    begin = rows * part / parts;
    end = rows * (part + 1) / parts;
  }
};

/// Parts that the rows of groups are cut into, of the shape alone: as many as make `enough` of `shares`.
inline std::int64_t parts_for(const Piece& piece, const Groups& groups, std::int64_t shares, std::int64_t enough) {
  return std::clamp<std::int64_t>(enough / shares, 1, piece.documents * std::min(piece.channels, groups.size));
}

/// Calls begin(piece), which has no documents, for slices of the channels, then body(piece, whether it is the first)
/// for some documents after the other, then end(piece).
template <class Begin, class Body, class End>
void for_each_piece(const LengthClass& of, const Extent* extents, std::int64_t channels, const Begin& begin,
                    const Body& body, const End& end) {
  const Slices slices(of, channels);
  for (std::int64_t first = 0; first < channels; first += slices.width) {
    Piece piece{extents, of.points, 0, first, std::min(slices.width, channels - first)};
    begin(piece);
    for (std::int64_t d = 0; d < of.documents; d += slices.together) {
      piece.extents = extents + d;
      piece.documents = std::min(slices.together, of.documents - d);
      body(piece, d == 0);
    }
    end(piece);
  }
}

/// So many rows are transformed where there are `rows`, a power of two or a multiple of a quarter of one: a cuFFT plan
/// is for one number of rows, and there shall be few.
inline std::int64_t rows_together(std::int64_t rows) { return stepped(rows, 1, 4); }

/// Numbers that the largest piece takes, no rows of those that stay in a block, and the filters that go with a piece.
struct WorkspaceSizes {
  std::int64_t rows = 0, filters = 0;

  WorkspaceSizes(const std::vector<LengthClass>& classes, std::int64_t channels, std::int64_t group_size, DType dtype);
};

template <class R>
class Spectra {
 public:
  Spectra() = default;
  Spectra(const Stream& stream, std::int64_t numbers) : rows_(stream, dtype_of<R>, {numbers, 2}) {}
  Complex<R>* data() const { return static_cast<Complex<R>*>(rows_.view().data); }

  void forward(const Stream& stream, std::int64_t points, std::int64_t rows) const { run(stream, points, rows, false); }
  void inverse(const Stream& stream, std::int64_t points, std::int64_t rows) const { run(stream, points, rows, true); }

 private:
  void run(const Stream& stream, std::int64_t points, std::int64_t rows, bool inverse) const;
  Tensor rows_;
};

/// skip is a tap at lag 0, whose spectrum is 1. It is one of two types.
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
  /// 0 where it is absent.
  __device__ R operator()(std::int64_t channel) const {
    return wide != nullptr ? wide[channel] : narrow != nullptr ? widened(narrow[channel]) : R{0};
  }
};

/// One of a token's values: a, or a⊙b, rounded to T where every kernel rounds it.
template <class T>
struct Factors {
  TensorView a, b;
  bool rounded = false;
};

/// to = U of the factors on a piece's documents, zeros behind them.
template <class T>
void load_rows(const Stream& stream, const Piece& piece, const Factors<T>& from, Complex<Accumulator<T>>* to);

/// y = the real numbers of U* from / N, times `gate` where that is present.
struct GatedOutput {
  TensorView gate, y;
};

/// As device code stores it.
template <class T>
struct GatedRows {
  using R = Accumulator<T>;
  Rows<const T> gate;
  Rows<T> y;
  bool gated;

  explicit GatedRows(const GatedOutput& of) : gate(of.gate), y(of.y), gated(of.gate.present()) {}
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

/// Channels are read 16 bytes at once where all rows start at multiples of that; slices of channels do.
template <class T>
bool whole_packets(std::int64_t columns, std::initializer_list<TensorView> tensors) {
  return columns % packet_width<T> == 0 && rows_start_aligned(tensors, packet_width<T>);
}

/// For one output or two.
template <class T>
void store_rows(const Stream& stream, const Piece& piece, const Complex<Accumulator<T>>* from, const GatedOutput& first,
                const GatedOutput& second = {});

/// to = U of the first `count` taps of the groups, a row each.
template <class T>
void load_taps(const Stream& stream, std::int64_t points, std::int64_t count, const Groups& groups, TensorView taps,
               Complex<Accumulator<T>>* to);

/// taps += the real numbers of U* from / N.
template <class T>
void add_taps(const Stream& stream, std::int64_t points, std::int64_t count, const Groups& groups,
              const Complex<Accumulator<T>>* from, TensorView taps);

void expect_fft_conv(const GatedConvInputs& in, TensorView taps);

}  // namespace causeway::cuda
