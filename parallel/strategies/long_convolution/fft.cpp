/// fft of hyena_li and long_conv: a document that spans several ranks is convolved by Fourier transforms over these
/// ranks, without doubling its length. x and the filter, L points with zeros after the document's end, are twisted:
/// point j is multiplied by exp(-iπ j/2L). After the cyclic convolution the result is untwisted with exp(+iπ j/2L). The
/// terms that wrap around are then multiplied by -i. Because x and the filter are real, the real part is the causal
/// convolution. Documents that one rank holds completely are convolved there by the local FFT kernel.
///
/// With U the twist, F the transform and H the spectrum of the twisted filter:
///   c = Re U* F* (H ⊙ F U x) / L + skip ⊙ x
///   d_x = Re U* F* (conj(H) ⊙ F U d_c) / L + skip ⊙ d_c,   d_H = conj(F U x) ⊙ F U d_c / L
/// For long_conv d_h = Re U* F* d_H; for hyena_li H and its gradient have a closed form (spectral_filters.hpp).

#include <vector>

#include "kernels/activation.hpp"
#include "kernels/fourier.hpp"
#include "parallel/exchange/distributed_fft.hpp"
#include "parallel/exchange/equal_shards.hpp"
#include "parallel/exchange/reshard.hpp"
#include "parallel/strategies/all_to_all_pipeline.hpp"
#include "parallel/strategies/gates.hpp"
#include "parallel/strategies/long_convolution/document_shard.hpp"
#include "parallel/strategies/long_convolution/fft_slices.hpp"
#include "parallel/strategies/long_convolution/filter_methods.hpp"
#include "parallel/strategies/long_convolution/kept_spectra.hpp"
#include "parallel/strategies/long_convolution/spectral_filters.hpp"

namespace causeway::long_convolution::fft {
namespace {

Tensor converted(TensorView x, DType dtype, const Stream& stream) {
  Tensor y(stream, dtype, x.shape);
  scale(stream, {.x = x, .y = y});
  return y;
}

/// y = skip ⊙ x, as a convolution with a filter of one tap.
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

std::vector<TensorView> views_of(const std::vector<Tensor>& tensors) { return {tensors.begin(), tensors.end()}; }

/// The documents' rows of `local` on equal shards, a tensor per document.
std::vector<Tensor> rows_on_shards(const StrategyContext& context, TensorView local) {
  const SpanPlan& plan = context.sharding.span_plan();
  std::vector<Tensor> tensors;
  for (const SpanningDocument& document : plan.spanning)
    tensors.emplace_back(context.stream, local.dtype, Shape{document.shard(), local.columns()});
  to_equal_shards(plan, local, views_of(tensors), context.ranks, context.stream);
  return tensors;
}

/// The real part of the result plus skip ⊙ x, rounded once, moved back to the documents' rank-local rows.
void finish(const StrategyContext& context, std::span<const DocumentShard> shards, std::span<const Tensor> products,
            TensorView skip, std::vector<Tensor> x, TensorView local) {
  const Stream& stream = context.stream;
  std::vector<Tensor> results;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const Tensor sum = Tensor::zeros(stream, accumulator_of(local.dtype), x[i].view().shape);
    if (skip.present()) apply_skip(skip, converted(x[i], sum.view().dtype, stream), sum, stream);
    shards[i].add_untwisted(products[i], sum, stream);
    x[i] = {};
    results.push_back(converted(sum, local.dtype, stream));
  }
  from_equal_shards(context.sharding.span_plan(), views_of(results), local, context.ranks, stream);
}

/// c = h∗x + skip⊙x for the documents that span several ranks, on a slice of the channels.
template <class Filter>
void convolve(const StrategyContext& context, const Filter& filter, TensorView skip, TensorView x, TensorView c) {
  const Stream& stream = context.stream;
  const std::vector<DocumentShard> shards = document_shards(context.sharding.span_plan());
  std::vector<Tensor> rows = rows_on_shards(context, x), products, filters;
  std::vector<DistributedFft> transforms;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const double alpha = 1 / static_cast<double>(shards[i].length);
    transforms.push_back(shards[i].transform(products.emplace_back(shards[i].twisted(rows[i], alpha, stream))));
    filters.push_back(filter.load(shards[i], stream));
    if constexpr (Filter::transformed) transforms.push_back(shards[i].transform(filters[i]));
  }
  distributed_fft(transforms, FftDirection::forward, context.ranks, stream);

  transforms.clear();
  for (std::size_t i = 0; i < shards.size(); ++i) {
    complex_multiply(stream, {.a = products[i], .b = filters[i], .y = products[i]});
    filters[i] = {};
    transforms.push_back(shards[i].transform(products[i]));
  }
  distributed_fft(transforms, FftDirection::inverse, context.ranks, stream);
  finish(context, shards, products, skip, std::move(rows), c);
}

/// The adjoint. The spectra of x and of the taps are computed again: keeping them from the forward pass would take four
/// times the memory of x in bf16.
template <class Filter>
void convolve_adjoint(const StrategyContext& context, const Filter& filter, TensorView skip, TensorView x,
                      TensorView d_c, TensorView d_x) {
  const Stream& stream = context.stream;
  const std::vector<DocumentShard> shards = document_shards(context.sharding.span_plan());
  std::vector<Tensor> rows = rows_on_shards(context, d_c), inputs = rows_on_shards(context, x), products, filters,
                      d_filters;
  std::vector<DistributedFft> transforms;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const double alpha = 1 / static_cast<double>(shards[i].length);
    transforms.push_back(shards[i].transform(products.emplace_back(shards[i].twisted(rows[i], alpha, stream))));
    inputs[i] = shards[i].twisted(inputs[i], 1, stream);
    transforms.push_back(shards[i].transform(inputs[i]));
    filters.push_back(filter.load(shards[i], stream));
    if constexpr (Filter::transformed) transforms.push_back(shards[i].transform(filters[i]));
  }
  distributed_fft(transforms, FftDirection::forward, context.ranks, stream);

  transforms.clear();
  for (std::size_t i = 0; i < shards.size(); ++i) {
    d_filters.push_back(Tensor::zeros(stream, inputs[i].view().dtype, {shards[i].rows, filter.groups(), 2}));
    complex_multiply_reduce(stream, {.a = products[i], .b = inputs[i], .y = d_filters[i]});
    complex_multiply(stream, {.a = products[i], .b = filters[i], .conjugate = true, .y = products[i]});
    inputs[i] = {};
    filters[i] = {};
    transforms.push_back(shards[i].transform(products[i]));
    if constexpr (Filter::transformed) transforms.push_back(shards[i].transform(d_filters[i]));
  }
  distributed_fft(transforms, FftDirection::inverse, context.ranks, stream);
  for (std::size_t i = 0; i < shards.size(); ++i) filter.add_gradient(shards[i], d_filters[i], stream);
  finish(context, shards, products, skip, std::move(rows), d_x);
}

/// The documents that only this rank holds, as a part of its chunk; null if there are none.
const Chunk* unshared_documents(const Sharding& sharding) {
  const Range rows = sharding.span_plan().unshared_rows;
  return rows.size() == 0 ? nullptr : &sharding.sub_chunk(sharding.chunks().front(), rows.begin, rows.end);
}

GatedConvInputs ungated(const Chunk& chunk, TensorView x, TensorView skip) {
  return {.q = {}, .k = {}, .v = chunk.rows(x), .skip = skip, .segments = chunk.segments()};
}
GatedConvGradients ungated(const Chunk& chunk, TensorView d_c, TensorView d_x, TensorView d_skip) {
  return {.d_y = chunk.rows(d_c), .d_q = {}, .d_k = {}, .d_v = chunk.rows(d_x), .d_skip = d_skip};
}

void convolve_unshared(const StrategyContext& context, const Chunk& chunk, const ModalConvForward& args, TensorView x,
                       TensorView c, Saved* saved) {
  filter_forward(context, Method::fft, chunk.longest_document,
                 {.in = ungated(chunk, x, args.in.skip),
                  .residues = args.residues,
                  .log_rates = args.log_rates,
                  .state_in = {},
                  .y = chunk.rows(c),
                  .states = {}},
                 saved);
}
void convolve_unshared(const StrategyContext& context, const Chunk& chunk, const FftConvForward& args, TensorView x,
                       TensorView c, Saved* saved) {
  fft_conv_forward_saving(context, {.in = ungated(chunk, x, args.in.skip), .taps = args.taps, .y = chunk.rows(c)},
                          saved);
}
void convolve_unshared_adjoint(const StrategyContext& context, const Chunk& chunk, const ModalConvBackward& args,
                               TensorView x, TensorView d_c, TensorView d_x, Saved& saved) {
  filter_backward(context, Method::fft, chunk.longest_document,
                  {.in = ungated(chunk, x, args.in.skip),
                   .residues = args.residues,
                   .log_rates = args.log_rates,
                   .states = {},
                   .adjoint_in = {},
                   .gradients = ungated(chunk, d_c, d_x, args.gradients.d_skip),
                   .d_residues = args.d_residues,
                   .d_log_rates = args.d_log_rates},
                  saved);
}
void convolve_unshared_adjoint(const StrategyContext& context, const Chunk& chunk, const FftConvBackward& args,
                               TensorView x, TensorView d_c, TensorView d_x, Saved& saved) {
  fft_conv_backward_saved(context,
                          {.in = ungated(chunk, x, args.in.skip),
                           .taps = args.taps,
                           .gradients = ungated(chunk, d_c, d_x, args.gradients.d_skip),
                           .d_taps = args.d_taps},
                          saved);
}

/// Calls body(channels, filter groups) for every slice that has channels.
template <class Body>
void for_each_slice(const Sharding& sharding, TensorView v, std::int64_t groups, const Body& body) {
  if (sharding.span_plan().spanning.empty() || v.columns() == 0) return;
  const int slices = slices_of(sharding.layout(), v.columns(), v.dtype);
  for (int slice = 0; slice < slices; ++slice) {
    const Range mine =
        ChannelPartition{.channels = v.columns(), .groups = groups, .slices = slices, .slice = slice}.share(1, 0);
    if (mine.size() > 0) body(mine, groups_of(mine, v.columns(), groups));
  }
}

template <class Forward>
void run_forward(const StrategyContext& context, const Forward& args, Saved* saved) {
  const Sharding& sharding = context.sharding;
  gate_forward(context, args.in, args.y, saved, [&](TensorView x, TensorView c) {
    if (const Chunk* chunk = unshared_documents(sharding)) convolve_unshared(context, *chunk, args, x, c, saved);
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
    if (const Chunk* chunk = unshared_documents(sharding))
      convolve_unshared_adjoint(context, *chunk, args, x, d_c, d_x, saved);
    if (!args.gradients.d_skip.present()) return;
    // The gradient of skip by the documents that span several ranks, from their rank-local rows.
    const Range unshared = sharding.span_plan().unshared_rows;
    for (const Range& rows : {Range{0, unshared.begin}, Range{unshared.end, x.rows()}})
      if (rows.size() > 0)
        add_skip_gradient(rows_of(x, rows), rows_of(d_c, rows), args.gradients.d_skip, context.stream);
  });
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

}  // namespace causeway::long_convolution::fft
