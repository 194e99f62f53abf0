#include "kernels/fft_conv.hpp"
#include "kernels/core/integer.hpp"

#include <algorithm>
#include <complex>
#include <map>
#include <vector>

#include "kernels/cpu/fft_conv/fftw.hpp"
#include "kernels/cpu/gated_rows.hpp"
#include "kernels/cpu/openmp.hpp"
#include "kernels/cpu/partial_sums.hpp"

namespace causeway::cpu {
namespace {

/// The smallest number of adjacent channels that are transposed together, except for the longest documents.
constexpr std::int64_t channel_unit = 4;
constexpr std::int64_t max_tile_width = 16;  // channels
constexpr std::int64_t max_items = 16;       // items of work; fixed, so that no sum depends on the number of threads
/// Padded elements that a thread transforms at a time, unless one tile of channels has more.
constexpr std::int64_t rows_budget = std::int64_t{1} << 18;
constexpr std::int64_t token_block = 16;  // tokens that are transposed together

/// The smallest length >= needed that is 2^a times 1, 5/4, 3/2 or 7/4, and at least 16. There are few such lengths, at
/// most a quarter of one is padding, and FFTW is fast for them.
std::int64_t padded_length(std::int64_t needed) {
  for (std::int64_t power = 16;; power *= 2)
    for (std::int64_t quarter = 4; quarter < 8; ++quarter)
      if (power / 4 * quarter >= needed) return power / 4 * quarter;
}

struct DocumentExtent {
  std::int64_t first, count;  ///< tokens
};

/// The documents of one padded length, which share a plan.
struct LengthBin {
  std::int64_t length = 0, taps = 0;  ///< padded tokens; taps that its longest document uses
  std::vector<DocumentExtent> documents;
};

/// Groups documents by padded length. The length prevents aliasing: n tokens and min(len, n) taps give
/// n + min(len, n) - 1 elements.
std::vector<LengthBin> bin_documents(const SegmentsView& segments, std::int64_t taps) {
  std::map<std::int64_t, LengthBin> by_length;
  for (std::int64_t s = 0; s < segments.count; ++s) {
    const DocumentExtent document{segments.cu_seqlens[s], segments.cu_seqlens[s + 1] - segments.cu_seqlens[s]};
    const std::int64_t taps_used = std::min(taps, document.count),
                       length = padded_length(document.count + taps_used - 1);
    LengthBin& bin = by_length[length];
    bin.length = length;
    bin.taps = std::max(bin.taps, taps_used);
    bin.documents.push_back(document);
  }
  std::vector<LengthBin> result;
  for (auto& [length, bin] : by_length) result.push_back(std::move(bin));
  return result;
}

/// Channels [first, first + width) of some documents of a bin: one row for each document and channel, document by
/// document, fft_row_stride(length) apart.
struct RowTile {
  std::int64_t first, width;
  std::span<const DocumentExtent> documents;
  std::int64_t length;

  std::int64_t stride() const { return fft_row_stride(length); }
  std::int64_t frequencies() const { return length / 2 + 1; }
};

/// Calls body(t, c, at) for every token t and channel c of a tile; `at` is the element's index in a buffer of rows. The
/// order is a transposition by blocks: some tokens of one channel, then those of the next channel.
template <class Body>
void for_each_element(const RowTile& tile, const Body& body) {
  for (std::size_t i = 0; i < tile.documents.size(); ++i) {
    const DocumentExtent& document = tile.documents[i];
    const std::int64_t row = static_cast<std::int64_t>(i) * tile.width;
    for (std::int64_t begin = 0; begin < document.count; begin += token_block)
      for (std::int64_t c = 0; c < tile.width; ++c)
        for (std::int64_t j = begin; j < std::min(begin + token_block, document.count); ++j)
          body(document.first + j, tile.first + c, (row + c) * tile.stride() + j);
  }
}

/// Fills `rows` rows with value(t, c), and with zeros after each document and in rows without one.
template <class R, class Value>
void load_tile(const RowTile& tile, std::int64_t rows, R* to, const Value& value) {
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::size_t i = static_cast<std::size_t>(row / tile.width);
    const std::int64_t count = i < tile.documents.size() ? tile.documents[i].count : 0;
    std::fill(to + row * tile.stride() + count, to + (row + 1) * tile.stride(), R{0});
  }
  for_each_element(tile, [&](std::int64_t t, std::int64_t c, std::int64_t at) { to[at] = value(t, c); });
}

template <class T>
Accumulator<T> at(TensorView x, std::int64_t t, std::int64_t c) {
  return static_cast<Accumulator<T>>(x.row<const T>(t)[c]);
}

/// (k⊙v)[t,c], rounded to T.
template <class T>
Accumulator<T> gated_product(const GatedConvInputs& in, std::int64_t t, std::int64_t c) {
  const Accumulator<T> v = at<T>(in.v, t, c);
  return in.k.present() ? static_cast<Accumulator<T>>(static_cast<T>(at<T>(in.k, t, c) * v)) : v;
}

/// Shared by both directions: the division of channels into items of work, the threads' buffers and the bins' plans.
template <class T, class R = Accumulator<T>>
struct FftConvPlan {
  GatedConvInputs in;
  TensorView taps;
  std::vector<LengthBin> bins = bin_documents(in.segments, taps.columns());
  std::int64_t channels = in.v.columns(), group_size = taps.rows() == 0 ? 1 : channels / taps.rows();
  std::int64_t units = ceil_div(channels, channel_unit), items = std::min(units, max_items);

  std::int64_t first_channel(std::int64_t item) const {
    return std::min(item * units / items * channel_unit, channels);
  }
  std::int64_t width(const LengthBin& bin) const {
    // A document longer than the budget is transformed one channel at a time: there the transposition costs little
    // compared with the transform, and rows take the most memory.
    const std::int64_t narrowest = bin.length > rows_budget ? 1 : channel_unit;
    return std::min(
        {max_tile_width, std::max(narrowest, rows_budget / bin.length), ceil_div(units, items) * channel_unit});
  }
  std::int64_t documents_together(const LengthBin& bin) const {
    return std::clamp<std::int64_t>(rows_budget / (bin.length * width(bin)), 1,
                                    static_cast<std::int64_t>(bin.documents.size()));
  }
  std::int64_t rows(const LengthBin& bin) const { return documents_together(bin) * width(bin); }
  std::int64_t group(std::int64_t channel) const { return channel / group_size; }

  /// The spectra of the filters of the groups that a tile's channels belong to, one row each.
  void transform_filters(const LengthBin& bin, const RowTile& tile, const RealFft<R>& fft, R* to) const {
    const std::int64_t first = group(tile.first), last = group(tile.first + tile.width - 1);
    std::fill_n(to, width(bin) * tile.stride(), R{0});
    for (std::int64_t g = first; g <= last; ++g)
      for (std::int64_t j = 0; j < bin.taps; ++j) to[(g - first) * tile.stride() + j] = parameter<T>(taps, g, j);
    fft.forward(to);
  }

  /// Calls body(row, filter's spectrum, skip, group within the tile) for each row of a tile.
  template <class Body>
  void for_each_row(const RowTile& tile, const R* filters, const Body& body) const {
    for (std::size_t i = 0; i < tile.documents.size(); ++i)
      for (std::int64_t c = 0; c < tile.width; ++c) {
        const std::int64_t channel = tile.first + c;
        body(static_cast<std::int64_t>(i) * tile.width + c,
             filters + (group(channel) - group(tile.first)) * tile.stride(),
             in.skip.present() ? parameter<T>(in.skip, channel, 0) : R{0}, group(channel) - group(tile.first));
      }
  }

  /// Calls body(bin, plan of a tile's rows, plan of its filters, item, buffer) for every bin and item of work, in
  /// parallel over items. A thread's buffer holds `count` tiles of rows, then the filters of a tile `filters` times.
  template <class Body>
  void for_each_item(const Stream& stream, std::int64_t count, std::int64_t filters, const Body& body) const {
    for (const LengthBin& bin : bins) {
      const std::int64_t stride = fft_row_stride(bin.length),
                         size = (count * rows(bin) + filters * width(bin)) * stride;
      const Tensor buffers(stream, dtype_of<R>, {thread_count(), size});
      R* const like = buffers.view().template row<R>(0);
      const RealFft<R> of_rows(bin.length, rows(bin), like), of_filters(bin.length, width(bin), like);
#pragma omp parallel for schedule(static)
      for (std::int64_t item = 0; item < items; ++item)
        body(bin, of_rows, of_filters, item, buffers.view().template row<R>(thread_index()));
    }
  }

  /// For each tile of channels of one item and bin: calls filters(tile), then documents(tile) for its documents, a part
  /// of them at a time, then finish(tile).
  template <class Filters, class Documents, class Finish>
  void for_each_tile(const LengthBin& bin, std::int64_t item, const Filters& filters, const Documents& documents,
                     const Finish& finish) const {
    const std::int64_t end = first_channel(item + 1), together = documents_together(bin),
                       count = static_cast<std::int64_t>(bin.documents.size());
    for (std::int64_t c = first_channel(item); c < end; c += width(bin)) {
      RowTile tile{c, std::min(width(bin), end - c), {}, bin.length};
      filters(tile);
      for (std::int64_t d = 0; d < count; d += together) {
        tile.documents =
            std::span(bin.documents)
                .subspan(static_cast<std::size_t>(d), static_cast<std::size_t>(std::min(together, count - d)));
        documents(tile);
      }
      finish(tile);
    }
  }
};

/// A row of a spectrum.
template <class R>
const std::complex<R>* complex_points(const R* row) {
  return reinterpret_cast<const std::complex<R>*>(row);
}
template <class R>
std::complex<R>* complex_points(R* row) {
  return reinterpret_cast<std::complex<R>*>(row);
}

/// a·b, without the special cases of std::complex for infinities.
template <class R>
std::complex<R> complex_product(std::complex<R> a, std::complex<R> b) {
  return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
}

// Lower bound: 5·P·log2(P) flops for each of two transforms of a row of P elements; k, v, q read and y written once.
template <class T>
void forward(const Stream& stream, const FftConvForward& args) {
  using R = Accumulator<T>;
  const FftConvPlan<T> p{args.in, args.taps};
  const GatedConvInputs& in = args.in;
  p.for_each_item(
      stream, 1, 1,
      [&](const LengthBin& bin, const RealFft<R>& of_rows, const RealFft<R>& of_filters, std::int64_t item, R* x) {
        R* const filters = x + p.rows(bin) * fft_row_stride(bin.length);
        p.for_each_tile(
            bin, item, [&](const RowTile& tile) { p.transform_filters(bin, tile, of_filters, filters); },
            [&](const RowTile& tile) {
              load_tile(tile, p.rows(bin), x,
                        [&](std::int64_t t, std::int64_t c) { return gated_product<T>(in, t, c); });
              of_rows.forward(x);
              p.for_each_row(tile, filters, [&](std::int64_t row, const R* filter, R skip, std::int64_t) {
                std::complex<R>* const values = complex_points(x + row * tile.stride());
                for (std::int64_t k = 0; k < tile.frequencies(); ++k)
                  values[k] = complex_product(values[k], complex_points(filter)[k] + skip);
              });
              of_rows.inverse(x);
              const R scale = R{1} / static_cast<R>(bin.length);
              for_each_element(tile, [&](std::int64_t t, std::int64_t c, std::int64_t i) {
                const R sum = x[i] * scale;
                args.y.row<T>(t)[c] = static_cast<T>(in.q.present() ? at<T>(in.q, t, c) * sum : sum);
              });
            },
            [](const RowTile&) {});
      });
}

/// Sums d_taps. A group whose channels belong to one item of work is added to directly. For other groups each item has
/// a partial sum of its first and of its last group; finish() adds them in the order of the items.
template <class R>
class TapGradients {
 public:
  template <class T>
  TapGradients(const Stream& stream, const FftConvPlan<T>& p, TensorView to)
      : to_(to), channels_of_group_(p.group_size) {
    for (std::int64_t item = 0; item < p.items; ++item) {
      const std::int64_t first = p.first_channel(item), last = p.first_channel(item + 1);
      ranges_.push_back({first, last});
      if (first < last && (!within(item, p.group(first)) || !within(item, p.group(last - 1)))) ++shared_;
    }
    for (const LengthBin& bin : p.bins) length_ = std::max(length_, bin.taps);
    if (shared_ > 0) parts_ = Tensor::zeros(stream, dtype_of<R>, {p.items, 2, length_});
  }

  /// The row to which an item adds its terms of group g.
  R* row(std::int64_t item, std::int64_t g) const {
    if (within(item, g)) return to_.row<R>(g);
    const bool first = g == ranges_[static_cast<std::size_t>(item)].first / channels_of_group_;
    return parts_.view().row<R>(item) + (first ? 0 : length_);
  }

  /// Adds the partial sums to d_taps.
  void finish() const {
    if (shared_ == 0) return;
    for (std::int64_t item = 0; item < static_cast<std::int64_t>(ranges_.size()); ++item) {
      const auto [first, last] = ranges_[static_cast<std::size_t>(item)];
      if (first == last) continue;
      const std::int64_t first_group = first / channels_of_group_, last_group = (last - 1) / channels_of_group_;
      for (std::int64_t g = first_group; g <= last_group; g += std::max<std::int64_t>(1, last_group - first_group)) {
        if (within(item, g)) continue;
        add_parts(to_.row<R>(g), length_, row(item, g), 1, 0);
      }
    }
  }

 private:
  struct Channels {
    std::int64_t first, last;
  };
  /// All channels of group g belong to the item.
  bool within(std::int64_t item, std::int64_t g) const {
    const auto [first, last] = ranges_[static_cast<std::size_t>(item)];
    return g * channels_of_group_ >= first && (g + 1) * channels_of_group_ <= last;
  }

  TensorView to_;
  std::int64_t channels_of_group_, length_ = 0, shared_ = 0;
  std::vector<Channels> ranges_;
  Tensor parts_;
};

// Lower bound: as forward, with four transforms; three if q is absent.
template <class T>
void backward(const Stream& stream, const FftConvBackward& args) {
  using R = Accumulator<T>;
  const FftConvPlan<T> p{args.in, args.taps};
  const GatedConvInputs& in = args.in;
  const GatedConvGradients& out = args.gradients;
  const TapGradients<R> d_taps(stream, p, args.d_taps);
  p.for_each_item(
      stream, 3, 2,
      [&](const LengthBin& bin, const RealFft<R>& of_rows, const RealFft<R>& of_filters, std::int64_t item, R* x) {
        const std::int64_t size = p.rows(bin) * fft_row_stride(bin.length);
        R *const dc = x + size, *const c = dc + size, *const filters = c + size,
                 *const d_filters = filters + p.width(bin) * fft_row_stride(bin.length);
        const R scale = R{1} / static_cast<R>(bin.length);
        p.for_each_tile(
            bin, item,
            [&](const RowTile& tile) {
              p.transform_filters(bin, tile, of_filters, filters);
              std::fill_n(d_filters, p.width(bin) * tile.stride(), R{0});
            },
            [&](const RowTile& tile) {
              load_tile(tile, p.rows(bin), x,
                        [&](std::int64_t t, std::int64_t channel) { return gated_product<T>(in, t, channel); });
              load_tile(tile, p.rows(bin), dc, [&](std::int64_t t, std::int64_t channel) {
                return in.q.present() ? at<T>(out.d_y, t, channel) * at<T>(in.q, t, channel)
                                      : at<T>(out.d_y, t, channel);
              });
              if (in.skip.present())
                for (std::int64_t row = 0; row < static_cast<std::int64_t>(tile.documents.size()) * tile.width; ++row) {
                  double sum = 0;
                  for (std::int64_t j = 0; j < bin.length; ++j)
                    sum += static_cast<double>(x[row * tile.stride() + j]) *
                           static_cast<double>(dc[row * tile.stride() + j]);
                  out.d_skip.row<R>(tile.first + row % tile.width)[0] += static_cast<R>(sum);
                }
              of_rows.forward(x);
              of_rows.forward(dc);
              p.for_each_row(tile, filters, [&](std::int64_t row, const R* filter, R skip, std::int64_t group) {
                const std::complex<R>*const h = complex_points(filter), *const values =
                                                                            complex_points(x + row * tile.stride());
                std::complex<R>*const g = complex_points(dc + row * tile.stride()), *const y = complex_points(
                                                                                        c + row * tile.stride());
                std::complex<R>* const dh = complex_points(d_filters + group * tile.stride());
                for (std::int64_t k = 0; k < tile.frequencies(); ++k) {
                  dh[k] += complex_product(std::conj(values[k]), g[k]);
                  y[k] = complex_product(values[k], h[k] + skip);
                  g[k] = complex_product(std::conj(h[k] + skip), g[k]);
                }
              });
              of_rows.inverse(dc);
              for_each_element(tile, [&](std::int64_t t, std::int64_t channel, std::int64_t i) {
                const R d_kv = dc[i] * scale;
                if (in.k.present()) out.d_k.row<T>(t)[channel] = static_cast<T>(d_kv * at<T>(in.v, t, channel));
                out.d_v.row<T>(t)[channel] = static_cast<T>(in.k.present() ? d_kv * at<T>(in.k, t, channel) : d_kv);
              });
              if (!in.q.present()) return;
              of_rows.inverse(c);
              for_each_element(tile, [&](std::int64_t t, std::int64_t channel, std::int64_t i) {
                out.d_q.row<T>(t)[channel] = static_cast<T>(at<T>(out.d_y, t, channel) * c[i] * scale);
              });
            },
            [&](const RowTile& tile) {
              of_filters.inverse(d_filters);
              for (std::int64_t g = p.group(tile.first); g <= p.group(tile.first + tile.width - 1); ++g) {
                R* const to = d_taps.row(item, g);
                for (std::int64_t j = 0; j < bin.taps; ++j)
                  to[j] += d_filters[(g - p.group(tile.first)) * tile.stride() + j] * scale;
              }
            });
      });
  d_taps.finish();
}

void expect_inputs(const GatedConvInputs& in, TensorView taps) {
  expect_gated_inputs(in);
  expect_taps(in, taps);
  ensure(!in.segments.continues_from_left() && !in.segments.continues_to_right(),
         "fft_conv: a document reaches beyond the run, expected whole documents");
}

}  // namespace

/// A transform of one tile of channels is cheaper than to keep the spectra of all of them.
void fft_conv_spectra(const Stream&, const FftConvSpectra& args) { *args.values = 0; }

void fft_conv_forward(const Stream& stream, const FftConvForward& args) {
  expect_inputs(args.in, args.taps);
  expect("y", args.y, args.in.v.dtype, args.in.v.shape);
  if (args.in.v.size() == 0) return;
  dispatch(args.in.v.dtype, [&]<class Type> { forward<Type>(stream, args); });
}

void fft_conv_backward(const Stream& stream, const FftConvBackward& args) {
  expect_inputs(args.in, args.taps);
  expect_gated_gradients(args.in, args.gradients);
  expect("d_taps", args.d_taps, accumulator_of(args.in.v.dtype), args.taps.shape);
  if (args.in.v.size() == 0) return;
  dispatch(args.in.v.dtype, [&]<class Type> { backward<Type>(stream, args); });
}

}  // namespace causeway::cpu
