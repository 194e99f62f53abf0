#include "kernels/blocked_conv.hpp"
#include "kernels/core/integer.hpp"

#include <algorithm>

#include "kernels/cpu/gated_rows.hpp"
#include "kernels/cpu/openmp.hpp"
#include "kernels/cpu/partial_sums.hpp"
#include "kernels/cpu/toeplitz.hpp"
#include "kernels/expect_blocked_conv.hpp"

namespace causeway::cpu {
namespace {

constexpr std::int64_t lags_together = 8;  // lags of d_taps whose sums are in registers
constexpr std::int64_t strip_tiles = 4;  // adjacent tiles that a thread takes, so that it reads longer pieces of a row
constexpr std::int64_t max_items = 64;   // items of work; fixed, so that no sum depends on the number of threads

/// The inputs of both directions, and how the work is divided: strips of tiles × parts of the blocks of tokens.
template <class T, class R = Accumulator<T>>
struct BlockedConvPlan {
  GatedConvInputs in;
  TensorView halo, taps;
  std::int64_t block;
  std::int64_t tokens = in.segments.tokens, channels = in.v.columns(), length = taps.columns();
  std::int64_t reach = taps_in_use();  // taps that some token uses
  std::int64_t history = (blocked_conv_stages(reach, block) - 1) * block,
               panel = history + block;  // rows of X̂_{n-K} … X̂_n
  std::int64_t tiles = ceil_div(channels, lanes<R>), strips = ceil_div(tiles, strip_tiles);
  std::int64_t blocks = ceil_div(tokens, block);
  std::int64_t parts = std::clamp<std::int64_t>(
      std::min(max_items / std::max<std::int64_t>(strips, 1), tokens / (16 * std::max(reach, block))), 1, max_items);

  /// The number of taps, or the longest document's tokens if that is less.
  std::int64_t taps_in_use() const {
    std::int64_t longest = 1;
    for_each_document(in.segments, 0, tokens, [&](std::int64_t, std::int64_t last, std::int64_t start, std::int64_t) {
      longest = std::max(longest, last - start);
    });
    return std::min(length, longest);
  }
  Tile tile(std::int64_t index) const { return tile_of<R>(channels, index); }
  std::int64_t end_of_strip(std::int64_t strip) const { return std::min((strip + 1) * strip_tiles, tiles); }
  std::int64_t group(std::int64_t channel) const { return channel / (channels / taps.rows()); }

  /// k⊙v of run rows [begin, end); rows before the run come from the halo.
  void load_products(std::int64_t begin, std::int64_t end, const Tile& tile, Vector<R>* to) const {
    const std::int64_t before = std::min<std::int64_t>(end, 0) - begin;
    if (before > 0) {
      if (halo.present()) load_rows<T>(halo, length - 1 + begin, before, tile, to);
      begin += before, to += before;
    }
    if (end > begin) load_product<T>(in, begin, end - begin, tile, to);
  }
};

/// The taps of every tile as [tile][lag] vectors. The skip is added to lag 0.
template <class T, class R = Accumulator<T>>
VectorScratch<R> arrange_taps(const Stream& stream, const BlockedConvPlan<T>& p) {
  VectorScratch<R> arranged(stream, p.tiles * p.reach);
#pragma omp parallel for schedule(static)
  for (std::int64_t c = 0; c < p.channels; ++c) {
    R* const to = reinterpret_cast<R*>(arranged.data() + c / lanes<R> * p.reach) + c % lanes<R>;
    for (std::int64_t j = 0; j < p.reach; ++j) to[j * lanes<R>] = parameter<T>(p.taps, p.group(c), j);
    if (p.in.skip.present()) to[0] += parameter<T>(p.in.skip, c, 0);
  }
  return arranged;
}

// A block of y is Ŷ_n = [H_K … H_0] [X̂_{n-K}; …; X̂_n]; a block of gradients is [H_0ᵀ … H_Kᵀ] [Ĝ_n; …; Ĝ_{n+K}]. The
// blocks are adjacent in a panel and the factors are Toeplitz, so that one product with a longer Toeplitz matrix takes
// them all.

// Lower bound: q, k, v read once, y written once; 2·len flops an element.
template <class T>
void forward(const Stream& stream, const BlockedConvForward& args) {
  using R = Accumulator<T>;
  const BlockedConvPlan<T> p{args.in, args.halo, args.taps, args.block};
  const VectorScratch<R> taps = arrange_taps(stream, p);
  const std::int64_t past = p.reach - 1;  // rows before the block that the taps reach
  const VectorScratch<R> scratch(stream, thread_count() * (strip_tiles * p.panel + p.block));

#pragma omp parallel for schedule(static)
  for (std::int64_t item = 0; item < p.strips * p.parts; ++item) {
    Vector<R>* const panels = scratch.data() + thread_index() * (strip_tiles * p.panel + p.block);
    Vector<R>* const y = panels + strip_tiles * p.panel;
    const std::int64_t strip = item / p.parts, part = item % p.parts, first_tile = strip * strip_tiles;
    const std::int64_t begin = part * p.blocks / p.parts * p.block,
                       end = std::min((part + 1) * p.blocks / p.parts * p.block, p.tokens);
    for (std::int64_t t = begin; t < end; t += p.block) {
      const std::int64_t stop = std::min(t + p.block, end);
      for (std::int64_t index = first_tile; index < p.end_of_strip(strip); ++index) {
        const Tile tile = p.tile(index);
        Vector<R>* const x = panels + (index - first_tile) * p.panel + p.history;  // at token t
        if (t == begin)
          p.load_products(t - past, t, tile, x - past);
        else
          std::copy(x + p.block - past, x + p.block, x - past);
        p.load_products(t, stop, tile, x);
        for_each_document(p.in.segments, t, stop,
                          [&](std::int64_t first, std::int64_t last, std::int64_t start, std::int64_t) {
                            multiply_toeplitz_rows<1>(taps.data() + index * p.reach, p.reach, x + first - t,
                                                      last - first, first - start, y + first - t);
                          });
        store_gated<T>(y, p.in.q, t, stop - t, tile, args.y);
      }
    }
  }
}

/// Adds one document's part of a block to d_taps of a tile, in float64: [lags, rounded up][lanes].
template <class R>
void add_tap_gradients(const Vector<R>* dc, const Vector<R>* products, std::int64_t count, std::int64_t start,
                       std::int64_t reach, double* to) {
  for (std::int64_t lag = 0; lag < reach && start + lag < count; lag += lags_together) {
    Vector<R> sum[lags_together] = {};
    correlate<lags_together>(dc, products, lag, 0, count, start, sum);
    for (std::int64_t r = 0; r < lags_together; ++r)
      for (std::int64_t d = 0; d < lanes<R>; ++d) to[(lag + r) * lanes<R> + d] += static_cast<double>(sum[r][d]);
  }
}

/// Adds the parts' sums, [parts][tile][lag][lane], to d_taps and d_skip.
template <class T, class R = Accumulator<T>>
void add_parameter_gradients(const BlockedConvPlan<T>& p, TensorView parts, std::int64_t lags, TensorView d_taps,
                             TensorView d_skip) {
  const std::int64_t group_size = d_taps.rows() == 0 ? 0 : p.channels / d_taps.rows();
  const auto total = [&](std::int64_t channel, std::int64_t lag) {
    const double* const first = parts.row<const double>(0);
    return sum_of_parts(first + (channel / lanes<R> * lags + lag) * lanes<R> + channel % lanes<R>, p.parts,
                        parts.row_stride);
  };
#pragma omp parallel for schedule(static)
  for (std::int64_t g = 0; g < d_taps.rows(); ++g)
    for (std::int64_t j = 0; j < p.reach; ++j) {
      double sum = 0;
      for (std::int64_t d = g * group_size; d < (g + 1) * group_size; ++d) sum += total(d, j);
      d_taps.template row<R>(g)[j] += static_cast<R>(sum);
    }
  if (p.in.skip.present())
    for (std::int64_t d = 0; d < p.channels; ++d) d_skip.template row<R>(d)[0] += static_cast<R>(total(d, 0));
}

// Lower bound: q, k, v, d_y read once, d_q, d_k, d_v written once; 6·len flops an element.
template <class T>
void backward(const Stream& stream, const BlockedConvBackward& args) {
  using R = Accumulator<T>;
  const BlockedConvPlan<T> p{args.in, args.halo, args.taps, args.block};
  const GatedConvGradients& out = args.gradients;
  const VectorScratch<R> taps = arrange_taps(stream, p);
  // A panel of products begins with `margin` rows, which the lags that round the taps up to a multiple of eight read.
  // A panel of gradients holds Ĝ_n … Ĝ_{n+K}.
  const std::int64_t margin = lags_together, past = p.reach - 1, next_rows = p.reach - 1, panel = margin + p.panel;
  const std::int64_t lags = round_up(p.reach, lags_together);
  const VectorScratch<R> scratch(stream, thread_count() * (strip_tiles * 2 * panel + p.block));
  const Tensor d_taps = Tensor::zeros(stream, DType::f64, {p.parts, p.tiles, lags, lanes<R>});
  if (args.d_halo.present())
    for (std::int64_t row = 0; row < p.length - 1; ++row) std::fill_n(args.d_halo.row<T>(row), p.channels, T{});

#pragma omp parallel for schedule(static)
  for (std::int64_t item = 0; item < p.strips * p.parts; ++item) {
    Vector<R>* const panels = scratch.data() + thread_index() * (strip_tiles * 2 * panel + p.block);
    Vector<R>* const rows = panels + strip_tiles * 2 * panel;
    const std::int64_t strip = item / p.parts, part = item % p.parts, first_tile = strip * strip_tiles;
    const std::int64_t begin = part * p.blocks / p.parts * p.block,
                       end = std::min((part + 1) * p.blocks / p.parts * p.block, p.tokens);
    // The first part computes the halo's rows too, on the same grid of blocks.
    const std::int64_t from = part == 0 && args.d_halo.present() ? -round_up(p.reach - 1, p.block) : begin;
    for (std::int64_t t = from; t < end; t += p.block) {
      const std::int64_t stop = std::min(t + p.block, end), count = stop - t;
      for (std::int64_t index = first_tile; index < p.end_of_strip(strip); ++index) {
        const Tile tile = p.tile(index);
        const Vector<R>* const h = taps.data() + index * p.reach;
        Vector<R>* const products =
            panels + (index - first_tile) * 2 * panel + margin + p.history;  // at token t; dc likewise
        Vector<R>* const dc = products + p.block;
        // The next rows of dc were loaded with the block before.
        if (t != from) std::copy(dc + p.block, dc + p.block + next_rows, dc);
        const std::int64_t missing = std::max<std::int64_t>(t == from ? t : t + next_rows, 0),
                           known = std::min(t + p.block + next_rows, p.tokens);
        if (t == from)
          std::fill(dc, dc + std::clamp<std::int64_t>(-t, 0, p.block + next_rows), Vector<R>{});  // rows before the run
        if (known > missing) load_output_gradient<T>(p.in, out.d_y, missing, known - missing, tile, dc + (missing - t));
        if (t >= 0) {
          if (t == begin)
            p.load_products(t - past, t, tile, products - past);
          else
            std::copy(products + p.block - past, products + p.block, products - past);
          p.load_products(t, stop, tile, products);
          if (p.in.q.present()) {
            for_each_document(p.in.segments, t, stop,
                              [&](std::int64_t first, std::int64_t last, std::int64_t start, std::int64_t) {
                                multiply_toeplitz_rows<1>(h, p.reach, products + first - t, last - first, first - start,
                                                          rows + first - t);
                              });
            store_gated<T>(rows, out.d_y, t, count, tile, out.d_q);
          }
          double* const sums = d_taps.view().template row<double>(part) + index * lags * lanes<R>;
          for_each_document(p.in.segments, t, stop,
                            [&](std::int64_t first, std::int64_t last, std::int64_t start, std::int64_t) {
                              add_tap_gradients<R>(dc + first - t, products + first - t, last - first,
                                                   std::max(start - first, -p.reach - margin), p.reach, sums);
                            });
        }
        for_each_document(p.in.segments, std::max(t, 1 - p.reach), stop,
                          [&](std::int64_t first, std::int64_t last, std::int64_t, std::int64_t document_end) {
                            multiply_toeplitz_rows<-1>(h, p.reach, dc + first - t, last - first,
                                                       std::min(document_end, p.tokens) - last, rows + first - t);
                            if (first < 0)
                              store_rows<T>(rows + first - t, p.length - 1 + first,
                                            std::min<std::int64_t>(last, 0) - first, tile, args.d_halo);
                          });
        if (t >= 0) store_product_gradient<T>(rows, p.in, out, t, count, tile);
      }
    }
  }

  add_parameter_gradients(p, d_taps, lags, args.d_taps, out.d_skip);
}

}  // namespace

void blocked_conv_forward(const Stream& stream, const BlockedConvForward& args) {
  expect_blocked_conv(args);
  dispatch(args.in.v.dtype, [&]<class Type> { forward<Type>(stream, args); });
}

void blocked_conv_backward(const Stream& stream, const BlockedConvBackward& args) {
  expect_blocked_conv(args);
  dispatch(args.in.v.dtype, [&]<class Type> { backward<Type>(stream, args); });
}

}  // namespace causeway::cpu
