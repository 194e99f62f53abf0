#include "kernels/fft_conv.hpp"
#include "kernels/core/integer.hpp"

#include <algorithm>
#include <complex>
#include <map>
#include <vector>

#include "kernels/cpu/fft_conv/fftw.hpp"
#include "kernels/cpu/gated_rows.hpp"
#include "kernels/cpu/team.hpp"

namespace causeway::cpu {
namespace {

constexpr std::int64_t channel_unit =
    4;  // fewest neighbouring channels that are transposed together, but for the longest documents
constexpr std::int64_t widest_tile = 16;
constexpr std::int64_t most_items = 16;  // of work; fixed, so that no sum depends on the number of threads
constexpr std::int64_t rows_budget =
    std::int64_t{1} << 18;  // padded numbers that a thread transforms at a time, where one tile of channels is not more
constexpr std::int64_t token_block = 16;  // of a transposition

/// 2^a times 1, 5/4, 3/2 or 7/4, at least 16: few distinct lengths, at most a quarter of them padding, and FFTW likes
/// them.
std::int64_t padded_length(std::int64_t needed) {
  for (std::int64_t power = 16;; power *= 2)
    for (std::int64_t quarter = 4; quarter < 8; ++quarter)
      if (power / 4 * quarter >= needed) return power / 4 * quarter;
}

struct Document {
  std::int64_t first, count;  ///< tokens
};

/// Documents of one padded length: a plan serves them all.
struct LengthClass {
  std::int64_t length = 0, taps = 0;  ///< padded tokens; taps that any of its documents meets
  std::vector<Document> documents;
};

/// Documents by padded length. Without an alias: n tokens and min(len, n) taps give n + min(len, n) - 1 numbers.
std::vector<LengthClass> classify(const SegmentsView& segments, std::int64_t taps) {
  std::map<std::int64_t, LengthClass> classes;
  for (std::int64_t s = 0; s < segments.count; ++s) {
    const Document document{segments.cu_seqlens[s], segments.cu_seqlens[s + 1] - segments.cu_seqlens[s]};
    const std::int64_t met = std::min(taps, document.count), length = padded_length(document.count + met - 1);
    LengthClass& of = classes[length];
    of.length = length;
    of.taps = std::max(of.taps, met);
    of.documents.push_back(document);
  }
  std::vector<LengthClass> result;
  for (auto& [length, of] : classes) result.push_back(std::move(of));
  return result;
}

/// Channels [first, first + width) of some documents of a class: a row for each, document by document,
/// fft_row_stride(length) apart.
struct RowTile {
  std::int64_t first, width;
  std::span<const Document> documents;
  std::int64_t length;

  std::int64_t stride() const { return fft_row_stride(length); }
  std::int64_t frequencies() const { return length / 2 + 1; }
};

/// Calls body(t, c, at) for every token t and channel c of a tile, `at` being where it stands in a buffer of rows, some
/// tokens of one channel after the other.
template <class Body>
void for_each_element(const RowTile& tile, const Body& body) {
  for (std::size_t i = 0; i < tile.documents.size(); ++i) {
    const Document& document = tile.documents[i];
    const std::int64_t row = static_cast<std::int64_t>(i) * tile.width;
    for (std::int64_t begin = 0; begin < document.count; begin += token_block)
      for (std::int64_t c = 0; c < tile.width; ++c)
        for (std::int64_t j = begin; j < std::min(begin + token_block, document.count); ++j)
          body(document.first + j, tile.first + c, (row + c) * tile.stride() + j);
  }
}

/// Fills rows with value(t, c), zeros behind each document and in rows up to `rows`.
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

/// (k⊙v)[t,c], rounded to T as everywhere.
template <class T>
Accumulator<T> product(const GatedConvInputs& in, std::int64_t t, std::int64_t c) {
  const Accumulator<T> v = at<T>(in.v, t, c);
  return in.k.present() ? static_cast<Accumulator<T>>(static_cast<T>(at<T>(in.k, t, c) * v)) : v;
}

/// What both directions share: how channels are dealt to items of work, and a thread's buffers and a class's plans.
template <class T, class R = Accumulator<T>>
struct Problem {
  GatedConvInputs in;
  TensorView taps;
  std::vector<LengthClass> classes = classify(in.segments, taps.columns());
  std::int64_t channels = in.v.columns(), group_size = taps.rows() == 0 ? 1 : channels / taps.rows();
  std::int64_t units = ceil_div(channels, channel_unit), items = std::min(units, most_items);

  std::int64_t first_channel(std::int64_t item) const {
    return std::min(item * units / items * channel_unit, channels);
  }
  std::int64_t width(const LengthClass& of) const {
    // Of a document longer than the budget one channel at a time: transposing costs little beside its transform, and
    // rows are what takes the memory.
    const std::int64_t fewest = of.length > rows_budget ? 1 : channel_unit;
    return std::min({widest_tile, std::max(fewest, rows_budget / of.length), ceil_div(units, items) * channel_unit});
  }
  std::int64_t documents_together(const LengthClass& of) const {
    return std::clamp<std::int64_t>(rows_budget / (of.length * width(of)), 1,
                                    static_cast<std::int64_t>(of.documents.size()));
  }
  std::int64_t rows(const LengthClass& of) const { return documents_together(of) * width(of); }
  std::int64_t group(std::int64_t channel) const { return channel / group_size; }

  /// Spectra of the filters of the groups that a tile's channels belong to, a row each.
  void transform_filters(const LengthClass& of, const RowTile& tile, const RealFft<R>& fft, R* to) const {
    const std::int64_t first = group(tile.first), last = group(tile.first + tile.width - 1);
    std::fill_n(to, width(of) * tile.stride(), R{0});
    for (std::int64_t g = first; g <= last; ++g)
      for (std::int64_t j = 0; j < of.taps; ++j) to[(g - first) * tile.stride() + j] = parameter<T>(taps, g, j);
    fft.forward(to);
  }

  /// body(row, x's spectrum, filter's spectrum, skip) for each row of a tile.
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

  /// Calls body(class, plan of a tile's rows, plan of its filters, item) for every item of work of every class, in
  /// parallel over items; a thread's `buffers` hold `count` tiles of rows each, then `filters` more of a tile's
  /// filters.
  template <class Body>
  void for_each_item(const Stream& stream, std::int64_t count, std::int64_t filters, const Body& body) const {
    for (const LengthClass& of : classes) {
      const std::int64_t stride = fft_row_stride(of.length), size = (count * rows(of) + filters * width(of)) * stride;
      const Tensor buffers(stream, dtype_of<R>, {thread_count(), size});
      R* const like = buffers.view().template row<R>(0);
      const RealFft<R> of_rows(of.length, rows(of), like), of_filters(of.length, width(of), like);
#pragma omp parallel for schedule(static)
      for (std::int64_t item = 0; item < items; ++item)
        body(of, of_rows, of_filters, item, buffers.view().template row<R>(thread_index()));
    }
  }

  /// body(tile) for the tiles of one item and class: channels, and for each `filters(tile)` first and `documents(tile)`
  /// for its documents.
  template <class Filters, class Documents, class Finish>
  void for_each_tile(const LengthClass& of, std::int64_t item, const Filters& filters, const Documents& documents,
                     const Finish& finish) const {
    const std::int64_t end = first_channel(item + 1), together = documents_together(of),
                       count = static_cast<std::int64_t>(of.documents.size());
    for (std::int64_t c = first_channel(item); c < end; c += width(of)) {
      RowTile tile{c, std::min(width(of), end - c), {}, of.length};
      filters(tile);
      for (std::int64_t d = 0; d < count; d += together) {
        tile.documents =
            std::span(of.documents)
                .subspan(static_cast<std::size_t>(d), static_cast<std::size_t>(std::min(together, count - d)));
        documents(tile);
      }
      finish(tile);
    }
  }
};

template <class R>
const std::complex<R>* numbers(const R* row) {
  return reinterpret_cast<const std::complex<R>*>(row);
}
template <class R>
std::complex<R>* numbers(R* row) {
  return reinterpret_cast<std::complex<R>*>(row);
}

/// a·b without the detour that std::complex takes for infinities.
template <class R>
std::complex<R> times(std::complex<R> a, std::complex<R> b) {
  return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
}

// Floor: 5·P·log2(P) flops for each of two transforms of an element's row; k, v, q read and y written once.
template <class T>
void forward(const Stream& stream, const FftConvForward& args) {
  using R = Accumulator<T>;
  const Problem<T> p{args.in, args.taps};
  const GatedConvInputs& in = args.in;
  p.for_each_item(
      stream, 1, 1,
      [&](const LengthClass& of, const RealFft<R>& of_rows, const RealFft<R>& of_filters, std::int64_t item, R* x) {
        R* const filters = x + p.rows(of) * fft_row_stride(of.length);
        p.for_each_tile(
            of, item, [&](const RowTile& tile) { p.transform_filters(of, tile, of_filters, filters); },
            [&](const RowTile& tile) {
              load_tile(tile, p.rows(of), x, [&](std::int64_t t, std::int64_t c) { return product<T>(in, t, c); });
              of_rows.forward(x);
              p.for_each_row(tile, filters, [&](std::int64_t row, const R* filter, R skip, std::int64_t) {
                std::complex<R>* const values = numbers(x + row * tile.stride());
                for (std::int64_t k = 0; k < tile.frequencies(); ++k)
                  values[k] = times(values[k], numbers(filter)[k] + skip);
              });
              of_rows.inverse(x);
              const R scale = R{1} / static_cast<R>(of.length);
              for_each_element(tile, [&](std::int64_t t, std::int64_t c, std::int64_t i) {
                const R sum = x[i] * scale;
                args.y.row<T>(t)[c] = static_cast<T>(in.q.present() ? at<T>(in.q, t, c) * sum : sum);
              });
            },
            [](const RowTile&) {});
      });
}

/// d_taps: groups that lie within one item of work are its own; the parts of others are put by and added up in order.
template <class R>
class TapGradients {
 public:
  template <class T>
  TapGradients(const Stream& stream, const Problem<T>& p, TensorView to) : to_(to), channels_of_group_(p.group_size) {
    for (std::int64_t item = 0; item < p.items; ++item) {
      const std::int64_t first = p.first_channel(item), last = p.first_channel(item + 1);
      ranges_.push_back({first, last});
      if (first < last && (!within(item, p.group(first)) || !within(item, p.group(last - 1)))) ++shared_;
    }
    for (const LengthClass& of : p.classes) length_ = std::max(length_, of.taps);
    if (shared_ > 0) parts_ = Tensor::zeros(stream, dtype_of<R>, {p.items, 2, length_});
  }

  /// The row that item adds what it knows of group g to.
  R* row(std::int64_t item, std::int64_t g) const {
    if (within(item, g)) return to_.row<R>(g);
    const bool first = g == ranges_[static_cast<std::size_t>(item)].first / channels_of_group_;
    return parts_.view().row<R>(item) + (first ? 0 : length_);
  }

  void finish() const {
    if (shared_ == 0) return;
    for (std::int64_t item = 0; item < static_cast<std::int64_t>(ranges_.size()); ++item) {
      const auto [first, last] = ranges_[static_cast<std::size_t>(item)];
      if (first == last) continue;
      const std::int64_t first_group = first / channels_of_group_, last_group = (last - 1) / channels_of_group_;
      for (std::int64_t g = first_group; g <= last_group; g += std::max<std::int64_t>(1, last_group - first_group)) {
        if (within(item, g)) continue;
        for (std::int64_t j = 0; j < length_; ++j) to_.row<R>(g)[j] += row(item, g)[j];
      }
    }
  }

 private:
  struct Channels {
    std::int64_t first, last;
  };
  bool within(std::int64_t item, std::int64_t g) const {
    const auto [first, last] = ranges_[static_cast<std::size_t>(item)];
    return g * channels_of_group_ >= first && (g + 1) * channels_of_group_ <= last;
  }

  TensorView to_;
  std::int64_t channels_of_group_, length_ = 0, shared_ = 0;
  std::vector<Channels> ranges_;
  Tensor parts_;
};

// Floor: as forward, with four transforms, or three where nothing gates the output.
template <class T>
void backward(const Stream& stream, const FftConvBackward& args) {
  using R = Accumulator<T>;
  const Problem<T> p{args.in, args.taps};
  const GatedConvInputs& in = args.in;
  const GatedConvGradients& out = args.gradients;
  const TapGradients<R> d_taps(stream, p, args.d_taps);
  p.for_each_item(
      stream, 3, 2,
      [&](const LengthClass& of, const RealFft<R>& of_rows, const RealFft<R>& of_filters, std::int64_t item, R* x) {
        const std::int64_t size = p.rows(of) * fft_row_stride(of.length);
        R *const dc = x + size, *const c = dc + size, *const filters = c + size,
                 *const d_filters = filters + p.width(of) * fft_row_stride(of.length);
        const R scale = R{1} / static_cast<R>(of.length);
        p.for_each_tile(
            of, item,
            [&](const RowTile& tile) {
              p.transform_filters(of, tile, of_filters, filters);
              std::fill_n(d_filters, p.width(of) * tile.stride(), R{0});
            },
            [&](const RowTile& tile) {
              load_tile(tile, p.rows(of), x,
                        [&](std::int64_t t, std::int64_t channel) { return product<T>(in, t, channel); });
              load_tile(tile, p.rows(of), dc, [&](std::int64_t t, std::int64_t channel) {
                return in.q.present() ? at<T>(out.d_y, t, channel) * at<T>(in.q, t, channel)
                                      : at<T>(out.d_y, t, channel);
              });
              if (in.skip.present())
                for (std::int64_t row = 0; row < static_cast<std::int64_t>(tile.documents.size()) * tile.width; ++row) {
                  double sum = 0;
                  for (std::int64_t j = 0; j < of.length; ++j)
                    sum += static_cast<double>(x[row * tile.stride() + j]) *
                           static_cast<double>(dc[row * tile.stride() + j]);
                  out.d_skip.row<R>(tile.first + row % tile.width)[0] += static_cast<R>(sum);
                }
              of_rows.forward(x);
              of_rows.forward(dc);
              p.for_each_row(tile, filters, [&](std::int64_t row, const R* filter, R skip, std::int64_t group) {
                const std::complex<R>*const h = numbers(filter), *const values = numbers(x + row * tile.stride());
                std::complex<R>*const g = numbers(dc + row * tile.stride()), *const y =
                                                                                 numbers(c + row * tile.stride());
                std::complex<R>* const dh = numbers(d_filters + group * tile.stride());
                for (std::int64_t k = 0; k < tile.frequencies(); ++k) {
                  dh[k] += times(std::conj(values[k]), g[k]);
                  y[k] = times(values[k], h[k] + skip);
                  g[k] = times(std::conj(h[k] + skip), g[k]);
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
                for (std::int64_t j = 0; j < of.taps; ++j)
                  to[j] += d_filters[(g - p.group(tile.first)) * tile.stride() + j] * scale;
              }
            });
      });
  d_taps.finish();
}

void expect_inputs(const GatedConvInputs& in, TensorView taps) {
  expect_gated_inputs(in);
  const std::int64_t D = in.v.columns(), G = taps.rows();
  expect_dtype_or_accumulator("taps", taps, in.v.dtype, {G, taps.columns()});
  ensure(taps.columns() > 0 && (G == 0 ? D == 0 : D % G == 0), "taps {} for {} channels", taps.shape.to_string(), D);
  ensure(!in.segments.continues_from_left() && !in.segments.continues_to_right(),
         "fft_conv takes whole documents, but one reaches beyond the run");
}

}  // namespace

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
