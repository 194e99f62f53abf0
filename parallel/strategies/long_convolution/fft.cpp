/// fft of hyena_li and long_conv: a document over several ranks is convolved by Fourier transforms over them, without
/// doubling its length: with L points, zeros after the document's end, a convolution between a twist by exp(-iπ j/2L)
/// and an untwist by exp(+iπ j/2L) brings back what wraps around turned by a right angle, as the imaginary part, so
/// that the real part is the causal convolution. Documents of one rank are its own affair.
///
/// With U the twist, F the transform and H the filter's spectrum after the twist:
///   c = Re U* F* (H ⊙ F U x) / L + skip ⊙ x
///   d_x = Re U* F* (conj(H) ⊙ F U d_c) / L + skip ⊙ d_c,   d_H = conj(F U x) ⊙ F U d_c / L
/// and long_conv's d_h = Re U* F* d_H, while hyena_li's filter has its spectrum and its gradient in closed form.

#include <algorithm>

#include "kernels/activation.hpp"
#include "kernels/core/integer.hpp"
#include "kernels/fourier.hpp"
#include "kernels/reorder.hpp"
#include "parallel/exchange/rank_fft.hpp"
#include "parallel/exchange/reshard.hpp"
#include "parallel/strategies/by_channels.hpp"
#include "parallel/strategies/gates.hpp"
#include "parallel/strategies/long_convolution/by_method.hpp"
#include "parallel/strategies/operations.hpp"

namespace causeway::long_convolution::fft {
namespace {

/// Channels are worked off in slices, so that spectra and what a butterfly receives need little memory beside the
/// tokens; no more slices than leave messages of a MiB, whose latency does not count, and as many channels as the
/// transform on each rank takes together.
constexpr std::int64_t most_slices = 16, message_bytes = 1 << 20, fewest_channels = 8;

std::int64_t equal_shard(const ShardLayout& layout) { return ceil_div(layout.tokens(), layout.ranks()); }

/// The same on every rank: of the layout, not of the documents.
int slices_of(const ShardLayout& layout, std::int64_t channels, DType dtype) {
  const std::int64_t bytes = equal_shard(layout) * channels * 2 * size_of(accumulator_of(dtype));
  return static_cast<int>(
      std::clamp<std::int64_t>(std::min(bytes / message_bytes, channels / fewest_channels), 1, most_slices));
}

/// This rank's part of a document over several.
struct Part {
  explicit Part(const SpanningDocument& of)
      : document(of),
        shard(of.shard()),
        length(shard * std::ssize(of.ranks)),
        first(of.position * shard),
        residue(plan_butterflies(static_cast<int>(std::ssize(of.ranks)), of.position).residue) {}

  RankFft transform(TensorView x) const { return {.ranks = document.ranks, .x = x}; }
  /// Its frequencies, twisted, on the grid of 4·length points.
  std::int64_t first_frequency() const { return 4 * residue + 1; }
  std::int64_t frequency_step() const { return 4 * std::ssize(document.ranks); }

  /// alpha·x, twisted: [shard, D, 2].
  Tensor embedded(TensorView x, double alpha, const Stream& stream) const {
    Tensor twisted(stream, accumulator_of(x.dtype), {shard, x.columns(), 2});
    rotate(stream, {.x = x, .first = -first, .step = -1, .modulus = 4 * length, .alpha = alpha, .y = twisted});
    return twisted;
  }
  /// The adjoint: y += the real part, untwisted.
  void add_real(TensorView twisted, TensorView y, const Stream& stream) const {
    rotate(stream, {.x = twisted, .first = first, .step = 1, .modulus = 4 * length, .accumulate = true, .y = y});
  }

  const SpanningDocument& document;
  std::int64_t shard, length;  ///< points of a rank and of all
  std::int64_t first;          ///< position in the document of this rank's first
  std::int64_t residue;        ///< of its frequencies
};

std::vector<Part> parts_of(const SpanPlan& plan) {
  return std::vector<Part>(plan.spanning.begin(), plan.spanning.end());
}

/// hyena_li's filter on some channels. Its spectrum needs no transform.
struct ModalSpectra {
  static constexpr bool transformed = false;
  TensorView residues, log_rates, d_residues, d_log_rates;

  ModalSpectra rows(Range mine) const {
    return {rows_of(residues, mine), rows_of(log_rates, mine), rows_of(d_residues, mine), rows_of(d_log_rates, mine)};
  }
  std::int64_t groups() const { return residues.rows(); }
  Tensor load(const Part& part, const Stream& stream) const {
    Tensor spectrum(stream, residues.dtype, {part.shard, groups(), 2});
    modal_spectrum(stream, {.residues = residues,
                            .log_rates = log_rates,
                            .length = part.length,
                            .first = part.first_frequency(),
                            .step = part.frequency_step(),
                            .y = spectrum});
    return spectrum;
  }
  void add_gradient(const Part& part, TensorView d_spectrum, const Stream& stream) const {
    modal_spectrum_backward(stream, {.residues = residues,
                                     .log_rates = log_rates,
                                     .length = part.length,
                                     .first = part.first_frequency(),
                                     .step = part.frequency_step(),
                                     .d_y = d_spectrum,
                                     .d_residues = d_residues,
                                     .d_log_rates = d_log_rates});
  }
};

/// long_conv's: its taps, as many as the document has tokens, are laid over the ranks as these are, and transformed.
struct Taps {
  static constexpr bool transformed = true;
  TensorView taps, d_taps;

  Taps rows(Range mine) const { return {rows_of(taps, mine), rows_of(d_taps, mine)}; }
  std::int64_t groups() const { return taps.rows(); }
  Tensor load(const Part& part, const Stream& stream) const {
    const Tensor lags = Tensor::zeros(stream, accumulator_of(taps.dtype), {part.shard, groups()});
    const Range mine = lags_of(part);
    transpose(stream, {.x = taps.slice_columns(mine.begin, mine.size()), .y = lags.view().slice_rows(0, mine.size())});
    return part.embedded(lags, 1, stream);
  }
  void add_gradient(const Part& part, TensorView d_spectrum, const Stream& stream) const {
    const Tensor d_lags = Tensor::zeros(stream, d_taps.dtype, {part.shard, groups()});
    part.add_real(d_spectrum, d_lags, stream);
    const Range mine = lags_of(part);
    transpose(stream, {.x = d_lags.view().slice_rows(0, mine.size()),
                       .accumulate = true,
                       .y = d_taps.slice_columns(mine.begin, mine.size())});
  }

 private:
  /// Those of this rank's lags that a token of the document meets.
  Range lags_of(const Part& part) const {
    const std::int64_t met = std::min(taps.columns(), part.document.tokens.size()), begin = std::min(part.first, met);
    return {begin, std::min(begin + part.shard, met)};
  }
};

ModalSpectra filter_of(const ModalConvForward& args) {
  return {.residues = args.residues, .log_rates = args.log_rates, .d_residues = {}, .d_log_rates = {}};
}
ModalSpectra filter_of(const ModalConvBackward& args) {
  return {.residues = args.residues,
          .log_rates = args.log_rates,
          .d_residues = args.d_residues,
          .d_log_rates = args.d_log_rates};
}
Taps filter_of(const FftConvForward& args) { return {.taps = args.taps, .d_taps = {}}; }
Taps filter_of(const FftConvBackward& args) { return {.taps = args.taps, .d_taps = args.d_taps}; }

Tensor converted(TensorView x, DType dtype, const Stream& stream) {
  Tensor y(stream, dtype, x.shape);
  scale(stream, {.x = x, .y = y});
  return y;
}

/// y = skip ⊙ x: skip is a filter of one tap.
void apply_skip(TensorView skip, TensorView x, TensorView y, const Stream& stream) {
  const DeviceSegments documents(stream, {0, x.rows()}, x.rows());
  causal_conv_forward(stream, {.x = x,
                               .halo = {},
                               .weight = converted(skip, x.dtype, stream).view().reshaped({skip.rows(), 1}),
                               .bias = {},
                               .segments = documents.view(),
                               .y = y});
}

/// d_skip += Σ d_c ⊙ x.
void add_skip_gradient(TensorView x, TensorView d_c, TensorView d_skip, const Stream& stream) {
  const DeviceSegments documents(stream, {0, x.rows()}, x.rows());
  const Shape one_tap{d_skip.rows(), 1};
  causal_conv_backward(stream, {.x = x,
                                .halo = {},
                                .weight = Tensor::zeros(stream, x.dtype, one_tap),
                                .bias = {},
                                .segments = documents.view(),
                                .d_y = d_c,
                                .d_x = Tensor(stream, x.dtype, x.shape),
                                .d_halo = {},
                                .d_weight = d_skip.reshaped(one_tap),
                                .d_bias = {}});
}

/// A tensor a part, and views of them.
std::vector<TensorView> views_of(const std::vector<Tensor>& tensors) { return {tensors.begin(), tensors.end()}; }

std::vector<Tensor> rows_on_shards(const StrategyContext& context, TensorView local) {
  const SpanPlan& plan = context.sharding.spans();
  std::vector<Tensor> shards;
  for (const SpanningDocument& document : plan.spanning)
    shards.emplace_back(context.stream, local.dtype, Shape{document.shard(), local.columns()});
  onto_equal_shards(plan, local, views_of(shards), context.ranks, context.stream);
  return shards;
}

/// The real part, and skip ⊙ x, back on the documents' own rows, rounded once.
void finish(const StrategyContext& context, std::span<const Part> parts, std::span<const Tensor> products,
            TensorView skip, std::vector<Tensor> x, TensorView local) {
  const Stream& stream = context.stream;
  std::vector<Tensor> shards;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const Tensor sum = Tensor::zeros(stream, accumulator_of(local.dtype), x[i].view().shape);
    if (skip.present()) apply_skip(skip, converted(x[i], sum.view().dtype, stream), sum, stream);
    parts[i].add_real(products[i], sum, stream);
    x[i] = {};
    shards.push_back(converted(sum, local.dtype, stream));
  }
  from_equal_shards(context.sharding.spans(), views_of(shards), local, context.ranks, stream);
}

/// c = h∗x + skip⊙x for the documents over several ranks, on a slice of the channels.
template <class Filter>
void convolve(const StrategyContext& context, const Filter& filter, TensorView skip, TensorView x, TensorView c) {
  const Stream& stream = context.stream;
  const std::vector<Part> parts = parts_of(context.sharding.spans());
  std::vector<Tensor> rows = rows_on_shards(context, x), products, filters;
  std::vector<RankFft> transforms;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const double alpha = 1 / static_cast<double>(parts[i].length);
    transforms.push_back(parts[i].transform(products.emplace_back(parts[i].embedded(rows[i], alpha, stream))));
    filters.push_back(filter.load(parts[i], stream));
    if constexpr (Filter::transformed) transforms.push_back(parts[i].transform(filters[i]));
  }
  rank_fft(transforms, Fourier::forward, context.ranks, stream);

  transforms.clear();
  for (std::size_t i = 0; i < parts.size(); ++i) {
    complex_multiply(stream, {.a = products[i], .b = filters[i], .y = products[i]});
    filters[i] = {};
    transforms.push_back(parts[i].transform(products[i]));
  }
  rank_fft(transforms, Fourier::inverse, context.ranks, stream);
  finish(context, parts, products, skip, std::move(rows), c);
}

/// Its adjoint. The spectra of x and of taps are made again: kept from forward, a complex number would be four times a
/// bf16 token's bytes.
template <class Filter>
void convolve_adjoint(const StrategyContext& context, const Filter& filter, TensorView skip, TensorView x,
                      TensorView d_c, TensorView d_x) {
  const Stream& stream = context.stream;
  const std::vector<Part> parts = parts_of(context.sharding.spans());
  std::vector<Tensor> rows = rows_on_shards(context, d_c), inputs = rows_on_shards(context, x), products, filters,
                      d_filters;
  std::vector<RankFft> transforms;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const double alpha = 1 / static_cast<double>(parts[i].length);
    transforms.push_back(parts[i].transform(products.emplace_back(parts[i].embedded(rows[i], alpha, stream))));
    inputs[i] = parts[i].embedded(inputs[i], 1, stream);
    transforms.push_back(parts[i].transform(inputs[i]));
    filters.push_back(filter.load(parts[i], stream));
    if constexpr (Filter::transformed) transforms.push_back(parts[i].transform(filters[i]));
  }
  rank_fft(transforms, Fourier::forward, context.ranks, stream);

  transforms.clear();
  for (std::size_t i = 0; i < parts.size(); ++i) {
    d_filters.push_back(Tensor::zeros(stream, inputs[i].view().dtype, {parts[i].shard, filter.groups(), 2}));
    complex_multiply_reduce(stream, {.a = products[i], .b = inputs[i], .y = d_filters[i]});
    complex_multiply(stream, {.a = products[i], .b = filters[i], .conjugate = true, .y = products[i]});
    inputs[i] = {};
    filters[i] = {};
    transforms.push_back(parts[i].transform(products[i]));
    if constexpr (Filter::transformed) transforms.push_back(parts[i].transform(d_filters[i]));
  }
  rank_fft(transforms, Fourier::inverse, context.ranks, stream);
  for (std::size_t i = 0; i < parts.size(); ++i) filter.add_gradient(parts[i], d_filters[i], stream);
  finish(context, parts, products, skip, std::move(rows), d_x);
}

/// The documents that are this rank's alone, as a run of its chunk; null where there is none.
const Chunk* own_documents(const Sharding& sharding) {
  const Range rows = sharding.spans().within;
  return rows.size() == 0 ? nullptr : &sharding.part(sharding.chunks().front(), rows.begin, rows.end);
}

GatedConvInputs ungated(const Chunk& run, TensorView x, TensorView skip) {
  return {.q = {}, .k = {}, .v = run.rows(x), .skip = skip, .segments = run.segments()};
}
GatedConvGradients ungated(const Chunk& run, TensorView d_c, TensorView d_x, TensorView d_skip) {
  return {.d_y = run.rows(d_c), .d_q = {}, .d_k = {}, .d_v = run.rows(d_x), .d_skip = d_skip};
}

void convolve_own(const StrategyContext& context, const Chunk& run, const ModalConvForward& args, TensorView x,
                  TensorView c) {
  filter_forward(context.stream, Method::fft, run.longest_document,
                 {.in = ungated(run, x, args.in.skip),
                  .residues = args.residues,
                  .log_rates = args.log_rates,
                  .state_in = {},
                  .y = run.rows(c),
                  .states = {}},
                 nullptr);
}
void convolve_own(const StrategyContext& context, const Chunk& run, const FftConvForward& args, TensorView x,
                  TensorView c) {
  fft_conv_forward(context.stream, {.in = ungated(run, x, args.in.skip), .taps = args.taps, .y = run.rows(c)});
}
void convolve_own_adjoint(const StrategyContext& context, const Chunk& run, const ModalConvBackward& args, TensorView x,
                          TensorView d_c, TensorView d_x, Saved& saved) {
  filter_backward(context.stream, Method::fft, run.longest_document,
                  {.in = ungated(run, x, args.in.skip),
                   .residues = args.residues,
                   .log_rates = args.log_rates,
                   .states = {},
                   .adjoint_in = {},
                   .gradients = ungated(run, d_c, d_x, args.gradients.d_skip),
                   .d_residues = args.d_residues,
                   .d_log_rates = args.d_log_rates},
                  saved);
}
void convolve_own_adjoint(const StrategyContext& context, const Chunk& run, const FftConvBackward& args, TensorView x,
                          TensorView d_c, TensorView d_x, Saved&) {
  fft_conv_backward(context.stream, {.in = ungated(run, x, args.in.skip),
                                     .taps = args.taps,
                                     .gradients = ungated(run, d_c, d_x, args.gradients.d_skip),
                                     .d_taps = args.d_taps});
}

/// Calls body(channels, filter groups) for every slice that has channels.
template <class Body>
void for_each_slice(const Sharding& sharding, TensorView v, std::int64_t groups, const Body& body) {
  if (sharding.spans().spanning.empty() || v.columns() == 0) return;
  const int slices = slices_of(sharding.layout(), v.columns(), v.dtype);
  for (int slice = 0; slice < slices; ++slice) {
    const Range mine = Dealing{.channels = v.columns(), .groups = groups, .slices = slices, .slice = slice}.share(1, 0);
    if (mine.size() > 0) body(mine, groups_of(mine, v.columns(), groups));
  }
}

TensorView columns_of(TensorView x, Range columns) { return x.slice_columns(columns.begin, columns.size()); }

template <class Forward>
void run_forward(const StrategyContext& context, const Forward& args, Saved* saved) {
  const Sharding& sharding = context.sharding;
  gate_forward(context, args.in, args.y, saved, [&](TensorView x, TensorView c) {
    if (const Chunk* run = own_documents(sharding)) convolve_own(context, *run, args, x, c);
    const auto filter = filter_of(args);
    for_each_slice(sharding, x, filter.groups(), [&](Range channels, Range groups) {
      convolve(context, filter.rows(groups), rows_of(args.in.skip, channels), columns_of(x, channels),
               columns_of(c, channels));
    });
  });
}

template <class Backward>
void run_backward(const StrategyContext& context, const Backward& args, Saved& saved) {
  const Sharding& sharding = context.sharding;
  gate_backward(context, args.in, args.gradients, saved, [&](TensorView d_c, TensorView d_x) {
    Tensor memory;
    const TensorView x = gate_product(context, args.in, memory);
    const auto filter = filter_of(args);
    for_each_slice(sharding, x, filter.groups(), [&](Range channels, Range groups) {
      convolve_adjoint(context, filter.rows(groups), rows_of(args.in.skip, channels), columns_of(x, channels),
                       columns_of(d_c, channels), columns_of(d_x, channels));
    });
    if (const Chunk* run = own_documents(sharding)) convolve_own_adjoint(context, *run, args, x, d_c, d_x, saved);
    if (!args.gradients.d_skip.present()) return;
    // What the documents over several ranks owe to it: of their own rows, the inputs' spectra are elsewhere.
    const Range within = sharding.spans().within;
    for (const Range& rows : {Range{0, within.begin}, Range{within.end, x.rows()}})
      if (rows.size() > 0)
        add_skip_gradient(rows_of(x, rows), rows_of(d_c, rows), args.gradients.d_skip, context.stream);
  });
}

/// Of one document over all ranks: two transforms of D channels, one of the filter's G groups if it has any, and what
/// lays x onto equal shards and its result back where T does not divide by N (nothing where it does).
Cost fft_cost(const Sharding& sharding, const GatedConvInputs& in, std::int64_t groups, bool filter_transformed,
              double filter_operations) {
  const std::int64_t D = in.v.columns(), T = sharding.layout().tokens();
  const ShardLayout layout(T, sharding.layout().ranks(), Layout::contiguous);
  const Segments document = Segments::one_document(T);
  Cost cost;
  if (T == 0 || D == 0) return cost;
  const double tokens = static_cast<double>(equal_shard(layout)), channels = static_cast<double>(D),
               columns = channels + (filter_transformed ? static_cast<double>(groups) / 2 : 0);
  std::int64_t stages = 0, relayouts = 0;
  double turns = 0;
  for (int rank = 0; rank < layout.ranks(); ++rank) {
    const SpanPlan plan = plan_spans(layout, document, rank);
    for (const SpanningDocument& span : plan.spanning) {
      const int N = static_cast<int>(std::ssize(span.ranks));
      const auto bytes = [&](std::int64_t width) {
        return rank_fft_bytes(N, span.shard(), width, accumulator_of(in.v.dtype));
      };
      const std::int64_t relaid = (span.rows_sent() + span.rows_sent_back()) * D * size_of(in.v.dtype);
      cost.bytes_sent = std::max(cost.bytes_sent, 2 * bytes(D) + (filter_transformed ? bytes(groups) : 0) + relaid);
      if (relaid > 0) relayouts = 2;
      const ButterflyPlan butterflies = plan_butterflies(N, span.position);
      stages = std::ssize(butterflies.stages);
      turns = 0;
      for (const Butterfly& stage : butterflies.stages) turns += 4 * static_cast<double>(stage.branches.size());
    }
  }
  if (stages == 0) {  // one rank holds it all
    cost.operations = tokens * channels * fft_conv_operations(T);
    return cost;
  }
  // There and back: a complex transform of the shard, the butterflies, its twiddles and twists.
  cost.operations =
      tokens * (columns * 2 * (2.5 * std::log2(tokens + 1) + turns + 8) + channels * (4 + filter_operations));
  cost.messages = slices_of(layout, D, in.v.dtype) * (2 * stages + relayouts);
  return cost;
}

}  // namespace

void forward(const StrategyContext& context, ModalConvForward args, Saved* saved) { run_forward(context, args, saved); }
void forward(const StrategyContext& context, FftConvForward args, Saved* saved) { run_forward(context, args, saved); }
void backward(const StrategyContext& context, ModalConvBackward args, Saved& saved) {
  run_backward(context, args, saved);
}
void backward(const StrategyContext& context, FftConvBackward args, Saved& saved) {
  run_backward(context, args, saved);
}
Cost cost(const Sharding& sharding, const ModalConvForward& args) {
  // A mode of a frequency is a complex division.
  return fft_cost(sharding, args.in, args.residues.rows(), false, 20 * static_cast<double>(args.residues.columns()));
}
Cost cost(const Sharding& sharding, const FftConvForward& args) {
  return fft_cost(sharding, args.in, args.taps.rows(), true, 0);
}

}  // namespace causeway::long_convolution::fft
