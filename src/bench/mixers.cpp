#include "kernels/attention.hpp"
#include "kernels/blocked_conv.hpp"
#include "kernels/causal_conv.hpp"
#include "kernels/core/integer.hpp"
#include "kernels/fft_conv.hpp"
#include "kernels/hyena_block.hpp"
#include "kernels/modal_conv.hpp"
#include "kernels/selective_scan.hpp"
#include "src/bench/workload.hpp"

/// Operators that mix tokens: convolutions, scans, attention.
namespace causeway {
namespace {

constexpr std::int64_t short_taps = 4, featurizer_taps = 3, modes = 16;  // as in Mamba and StripedHyena 2
constexpr std::int64_t channels_per_group = 16, head = 128;

std::int64_t groups_of(std::int64_t channels) { return std::max<std::int64_t>(channels / channels_per_group, 1); }

Task causal_conv_forward_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const CausalConvForward args{.x = made->random(of.dtype, of.rows()),
                               .weight = made->random(of.dtype, {of.channels, short_taps}),
                               .bias = made->random(of.dtype, {of.channels}),
                               .segments = of.segments,
                               .activation = Activation::silu,
                               .y = made->empty(of.dtype, of.rows())};
  return task_of(made, causal_conv_forward, args, args.y, {args.x, args.weight, args.bias}, {args.y},
                 {.exponentials = of.elements()});
}

/// `product`: with the product that Mamba adds to d_y, the gradient of the convolution's result as the input of x_proj,
/// whose columns are as many as in a Mamba of this width.
template <bool product>
Task causal_conv_backward_task(const Workload& of) {
  constexpr std::int64_t states = 16;
  const std::int64_t inner = of.channels / 32 + 2 * states;
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  CausalConvBackward args{.x = made->random(of.dtype, of.rows()),
                          .weight = made->random(of.dtype, {of.channels, short_taps}),
                          .bias = made->random(of.dtype, {of.channels}),
                          .segments = of.segments,
                          .activation = Activation::silu,
                          .d_y = made->random(of.dtype, of.rows()),
                          .d_x = made->empty(of.dtype, of.rows()),
                          .d_weight = made->empty(of.wide(), {of.channels, short_taps}),
                          .d_bias = made->empty(of.wide(), {of.channels})};
  if (product) {
    args.d_y_product.a = made->random(of.dtype, {of.tokens, inner});
    args.d_y_product.b = made->random(of.dtype, {inner, of.channels}, -1e-3, 1e-3);  // d_y may be added to many times
  }
  const auto& [a, b] = args.d_y_product;
  return task_of(
      made, causal_conv_backward, args, args.d_x, {args.x, args.d_y, args.weight, args.bias, a, b},
      {args.d_x, args.d_weight, args.d_bias},
      {.flops = product ? 2 * static_cast<double>(inner) * of.elements() : 0, .exponentials = of.elements()});
}

SelectiveScanInputs scan_inputs(BenchmarkTensors& made, const Workload& of, std::int64_t states) {
  return {.u = made.random(of.dtype, of.rows()),
          .delta = made.random(of.dtype, of.rows(), -5, -1),
          .z = made.random(of.dtype, of.rows()),
          .A = made.random(of.wide(), {of.channels, states}, -16, -1),
          .B = made.random(of.dtype, {of.tokens, states}),
          .C = made.random(of.dtype, {of.tokens, states}),
          .D = made.random(of.wide(), {of.channels}),
          .delta_bias = made.random(of.wide(), {of.channels}),
          .segments = of.segments};
}

TensorView scan_states(BenchmarkTensors& made, const Workload& of, std::int64_t states) {
  return made.empty(of.wide(), {ceil_div(of.tokens, selective_scan_block), of.channels, states});
}

/// One exponential for each element and state: exp(ΔA).
Least scan_least(const Workload& of, std::int64_t states) {
  return {.exponentials = of.elements() * static_cast<double>(states)};
}

template <std::int64_t states>
Task selective_scan_forward_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const SelectiveScanInputs in = scan_inputs(*made, of, states);
  const SelectiveScanForward args{
      .in = in, .y = made->empty(of.dtype, of.rows()), .states = scan_states(*made, of, states)};
  return task_of(made, selective_scan_forward, args, args.y,
                 {in.u, in.delta, in.z, in.A, in.B, in.C, in.D, in.delta_bias}, {args.y}, scan_least(of, states));
}

template <std::int64_t states>
Task selective_scan_backward_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const SelectiveScanInputs in = scan_inputs(*made, of, states);
  const Shape narrow{of.tokens, states};
  const TensorView y = made->empty(of.dtype, of.rows()), saved = scan_states(*made, of, states);
  selective_scan_forward(of.stream, {.in = in, .y = y, .states = saved});
  const SelectiveScanBackward args{.in = in,
                                   .states = saved,
                                   .d_y = made->random(of.dtype, of.rows()),
                                   .d_u = y,
                                   .d_delta = made->empty(of.dtype, of.rows()),
                                   .d_B = made->empty(of.dtype, narrow),
                                   .d_C = made->empty(of.dtype, narrow),
                                   .d_z = made->empty(of.dtype, of.rows()),
                                   .d_A = made->empty(of.wide(), {of.channels, states}),
                                   .d_D = made->empty(of.wide(), {of.channels}),
                                   .d_delta_bias = made->empty(of.wide(), {of.channels})};
  return task_of(made, selective_scan_backward, args, args.d_u,
                 {in.u, in.delta, in.z, in.A, in.B, in.C, in.D, in.delta_bias, args.d_y},
                 {args.d_u, args.d_delta, args.d_z, args.d_B, args.d_C, args.d_A, args.d_D, args.d_delta_bias},
                 scan_least(of, states));
}

GatedConvInputs gated_inputs(BenchmarkTensors& made, const Workload& of) {
  return {.q = made.random(of.dtype, of.rows()),
          .k = made.random(of.dtype, of.rows()),
          .v = made.random(of.dtype, of.rows()),
          .skip = made.random(of.wide(), {of.channels}),
          .segments = of.segments};
}

GatedConvGradients gated_gradients(BenchmarkTensors& made, const Workload& of) {
  return {.d_y = made.random(of.dtype, of.rows()),
          .d_q = made.empty(of.dtype, of.rows()),
          .d_k = made.empty(of.dtype, of.rows()),
          .d_v = made.empty(of.dtype, of.rows()),
          .d_skip = made.empty(of.wide(), {of.channels})};
}

template <std::int64_t taps>
Task blocked_forward_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const BlockedConvForward args{.in = gated_inputs(*made, of),
                                .taps = made->random(of.wide(), {groups_of(of.channels), taps}, -0.1, 0.1),
                                .y = made->empty(of.dtype, of.rows())};
  return task_of(made, blocked_conv_forward, args, args.y, {args.in.q, args.in.k, args.in.v, args.taps}, {args.y},
                 {.flops = 2. * static_cast<double>(taps) * of.elements()});
}

template <std::int64_t taps>
Task blocked_backward_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const BlockedConvBackward args{.in = gated_inputs(*made, of),
                                 .taps = made->random(of.wide(), {groups_of(of.channels), taps}, -0.1, 0.1),
                                 .gradients = gated_gradients(*made, of),
                                 .d_taps = made->empty(of.wide(), {groups_of(of.channels), taps})};
  const GatedConvGradients& g = args.gradients;
  // three convolutions: c again for d_q, the gradient of the product, and the gradient of the taps
  return task_of(made, blocked_conv_backward, args, g.d_v, {args.in.q, args.in.k, args.in.v, args.taps, g.d_y},
                 {g.d_q, g.d_k, g.d_v, args.d_taps}, {.flops = 6. * static_cast<double>(taps) * of.elements()});
}

/// Rates of filters that decay over a few tokens to a few hundred.
TensorView rates(BenchmarkTensors& made, const Workload& of) {
  return made.random(of.wide(), {of.channels, modes}, -6, -1);
}
TensorView residues(BenchmarkTensors& made, const Workload& of) {
  return made.random(of.wide(), {of.channels, modes}, -0.05, 0.05);
}
TensorView modal_states(BenchmarkTensors& made, const Workload& of) {
  return made.empty(of.wide(), {ceil_div(of.tokens, modal_conv_block), of.channels, modes});
}

Task modal_forward_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const ModalConvForward args{.in = gated_inputs(*made, of),
                              .residues = residues(*made, of),
                              .log_rates = rates(*made, of),
                              .y = made->empty(of.dtype, of.rows()),
                              .states = modal_states(*made, of)};
  return task_of(made, modal_conv_forward, args, args.y,
                 {args.in.q, args.in.k, args.in.v, args.residues, args.log_rates}, {args.y});
}

Task modal_backward_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const TensorView saved = modal_states(*made, of);
  const ModalConvBackward args{.in = gated_inputs(*made, of),
                               .residues = residues(*made, of),
                               .log_rates = rates(*made, of),
                               .states = saved,
                               .gradients = gated_gradients(*made, of),
                               .d_residues = made->empty(of.wide(), {of.channels, modes}),
                               .d_log_rates = made->empty(of.wide(), {of.channels, modes})};
  const GatedConvGradients& g = args.gradients;
  modal_conv_forward(
      of.stream, {.in = args.in, .residues = args.residues, .log_rates = args.log_rates, .y = g.d_v, .states = saved});
  return task_of(made, modal_conv_backward, args, g.d_v,
                 {args.in.q, args.in.k, args.in.v, args.residues, args.log_rates, g.d_y},
                 {g.d_q, g.d_k, g.d_v, args.d_residues, args.d_log_rates});
}

/// hyena_block with `taps` taps, or with modes if 0; q, k and v are side by side, as a projection writes them.
template <std::int64_t taps>
HyenaBlockInputs block_inputs(BenchmarkTensors& made, const Workload& of) {
  const TensorView x = made.random(of.dtype, {of.tokens, 3 * of.channels});
  HyenaBlockInputs in{.q = x.slice_columns(0, of.channels),
                      .k = x.slice_columns(of.channels, of.channels),
                      .v = x.slice_columns(2 * of.channels, of.channels),
                      .featurizer = made.random(of.dtype, {3 * of.channels, featurizer_taps}),
                      .skip = made.random(of.wide(), {of.channels}),
                      .segments = of.segments};
  if (taps > 0)
    in.taps = made.random(of.wide(), {groups_of(of.channels), taps}, -0.1, 0.1);
  else
    in.residues = residues(made, of), in.log_rates = rates(made, of);
  return in;
}

template <std::int64_t taps>
Task block_forward_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const HyenaBlockForward args{.in = block_inputs<taps>(*made, of), .y = made->empty(of.dtype, of.rows())};
  const HyenaBlockInputs& in = args.in;
  return task_of(made, hyena_block_forward, args, args.y,
                 {in.q, in.k, in.v, in.featurizer, in.taps, in.residues, in.log_rates}, {args.y},
                 {.flops = 2. * static_cast<double>(taps + 3 * featurizer_taps) * of.elements()});
}

template <std::int64_t taps>
Task block_backward_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const TensorView d_x = made->empty(of.dtype, {of.tokens, 3 * of.channels});
  const auto like = [&](TensorView x) { return x.present() ? made->empty(of.wide(), x.shape) : x; };
  HyenaBlockBackward args{.in = block_inputs<taps>(*made, of),
                          .d_y = made->random(of.dtype, of.rows()),
                          .d_q = d_x.slice_columns(0, of.channels),
                          .d_k = d_x.slice_columns(of.channels, of.channels),
                          .d_v = d_x.slice_columns(2 * of.channels, of.channels)};
  const HyenaBlockInputs& in = args.in;
  args.d_featurizer = like(in.featurizer), args.d_skip = like(in.skip), args.d_taps = like(in.taps);
  args.d_residues = like(in.residues), args.d_log_rates = like(in.log_rates);
  return task_of(made, hyena_block_backward, args, args.d_y,
                 {in.q, in.k, in.v, in.featurizer, in.taps, in.residues, in.log_rates, args.d_y},
                 {args.d_q, args.d_k, args.d_v, args.d_featurizer, args.d_taps, args.d_residues, args.d_log_rates},
                 {.flops = 2. * static_cast<double>(3 * taps + 9 * featurizer_taps) * of.elements()});
}

/// long_conv with as many taps as tokens and one filter for each `channels_per_filter` channels. A kernel need not read
/// taps beyond the longest document.
/// The spectra that forward keeps for backward; absent unless `keeps`.
TensorView kept_spectra(BenchmarkTensors& made, const Workload& of, bool keeps, const GatedConvInputs& in,
                        TensorView taps) {
  return keeps ? made.random(of.wide(), {fft_conv_spectra_values(of.stream, in, taps)}) : TensorView{};
}

template <std::int64_t channels_per_filter, bool keeps = false>
Task long_conv_forward_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const std::int64_t filters = std::max<std::int64_t>(of.channels / channels_per_filter, 1);
  FftConvForward args{.in = {.v = made->random(of.dtype, of.rows()), .segments = of.segments},
                      .taps = made->random(of.dtype, {filters, of.tokens}, -0.01, 0.01),
                      .y = made->empty(of.dtype, of.rows())};
  args.spectra = kept_spectra(*made, of, keeps, args.in, args.taps);
  return task_of(made, fft_conv_forward, args, args.y, {args.in.v, args.taps.slice_columns(0, of.longest_document())},
                 {args.y});
}

template <std::int64_t channels_per_filter, bool keeps = false>
Task long_conv_backward_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const std::int64_t filters = std::max<std::int64_t>(of.channels / channels_per_filter, 1);
  FftConvBackward args{.in = {.v = made->random(of.dtype, of.rows()), .segments = of.segments},
                       .taps = made->random(of.dtype, {filters, of.tokens}, -0.01, 0.01),
                       .gradients = {.d_y = made->random(of.dtype, of.rows()), .d_v = made->empty(of.dtype, of.rows())},
                       .d_taps = made->empty(of.wide(), {filters, of.tokens})};
  args.spectra = kept_spectra(*made, of, keeps, args.in, args.taps);
  const GatedConvGradients& g = args.gradients;
  const auto reached = [&](TensorView taps) { return taps.slice_columns(0, of.longest_document()); };
  return task_of(made, fft_conv_backward, args, g.d_v, {args.in.v, g.d_y, reached(args.taps), reached(args.d_taps)},
                 {g.d_v, reached(args.d_taps)});
}

Shape heads_of(const Workload& of) {
  const std::int64_t heads = std::max<std::int64_t>(of.channels / head, 1);
  return {of.tokens, heads, of.channels / heads};
}

/// `products` dot products of length E and one exponential, for every head and pair of tokens.
Least attention_least(const Workload& of, double products) {
  return {.flops = 2 * products * of.pairs() * static_cast<double>(of.channels),
          .exponentials = of.pairs() * static_cast<double>(heads_of(of)[1])};
}

AttentionInputs attention_inputs(BenchmarkTensors& made, const Workload& of) {
  return {.q = made.random(of.dtype, heads_of(of)),
          .k = made.random(of.dtype, heads_of(of)),
          .v = made.random(of.dtype, heads_of(of)),
          .segments = of.segments};
}

Task attention_forward_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const Shape shape = heads_of(of);
  const AttentionForward args{.in = attention_inputs(*made, of),
                              .y = made->empty(of.dtype, shape),
                              .lse = made->empty(of.wide(), {of.tokens, shape[1]})};
  return task_of(made, attention_forward, args, args.y, {args.in.q, args.in.k, args.in.v}, {args.y, args.lse},
                 attention_least(of, 2));
}

Task attention_backward_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const Shape shape = heads_of(of);
  const AttentionInputs in = attention_inputs(*made, of);
  const TensorView y = made->empty(of.dtype, shape), lse = made->empty(of.wide(), {of.tokens, shape[1]});
  const DType gradients = attention_form(of.stream.device(), in).fused ? of.dtype : of.wide();
  const AttentionBackward args{.in = in,
                               .accumulate = false,
                               .lse = lse,
                               .delta = made->empty(of.wide(), lse.shape),
                               .d_y = made->random(of.dtype, shape),
                               .d_q = made->empty(gradients, shape),
                               .d_k = made->empty(gradients, shape),
                               .d_v = made->empty(gradients, shape)};
  attention_forward(of.stream, {.in = in, .y = y, .lse = lse});
  attention_delta(of.stream, {.y = y, .d_y = args.d_y, .delta = args.delta});
  return task_of(made, attention_backward, args, in.q, {in.q, in.k, in.v, args.d_y, lse, args.delta},
                 {args.d_q, args.d_k, args.d_v}, attention_least(of, 5));
}

Task attention_delta_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const Shape shape = heads_of(of);
  const AttentionDelta args{.y = made->random(of.dtype, shape),
                            .d_y = made->random(of.dtype, shape),
                            .delta = made->empty(of.wide(), {of.tokens, shape[1]})};
  return task_of(made, attention_delta, args, args.y, {args.y, args.d_y}, {args.delta});
}

Task rope_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const Rope args{
      .x = made->random(of.dtype, heads_of(of)), .segments = of.segments, .y = made->empty(of.dtype, heads_of(of))};
  return task_of(made, rope, args, args.y, {args.x}, {args.y});
}

// The scan with 16 states a channel, as in Mamba, and with 64; also where there are few channels or few tokens.
constexpr Size scan_sizes[] = {{16384, 4096}, {65536, 4096}, {2048, 4096}, {8192, 1536}, {2048, 512}};
constexpr Size scan_64_sizes[] = {{8192, 4096}, {2048, 4096}, {2048, 512}};
constexpr Size two_lengths[] = {{16384, 4096}, {65536, 4096}};
constexpr Size attention_sizes[] = {{16384, 4096}, {65536, 4096}, {65536, 4096, 8}, {65536, 4096, 8192}};
constexpr Size one_length[] = {{65536, 4096}};
constexpr Size long_lengths[] = {{8192, 4096}, {65536, 4096}, {262144, 2048}, {1048576, 512}, {524288, 512, 8}};

constexpr OperatorBenchmark benchmarks[] = {
    {"selective_scan forward", true, scan_sizes, selective_scan_forward_task<16>},
    {"selective_scan backward", true, scan_sizes, selective_scan_backward_task<16>},
    {"selective_scan/64 forward", true, scan_64_sizes, selective_scan_forward_task<64>},
    {"selective_scan/64 backward", true, scan_64_sizes, selective_scan_backward_task<64>},
    {"causal_conv forward", true, two_lengths, causal_conv_forward_task},
    {"causal_conv backward", true, two_lengths, causal_conv_backward_task<false>},
    {"causal_conv/product backward", true, two_lengths, causal_conv_backward_task<true>},
    {"hyena_se forward", true, one_length, blocked_forward_task<7>},
    {"hyena_se backward", true, one_length, blocked_backward_task<7>},
    {"hyena_mr forward", true, one_length, blocked_forward_task<128>},
    {"hyena_mr backward", true, one_length, blocked_backward_task<128>},
    {"hyena_li forward", true, one_length, modal_forward_task},
    {"hyena_li backward", true, one_length, modal_backward_task},
    {"hyena_block/se forward", true, one_length, block_forward_task<7>},
    {"hyena_block/se backward", true, one_length, block_backward_task<7>},
    {"hyena_block/mr forward", true, one_length, block_forward_task<128>},
    {"hyena_block/mr backward", true, one_length, block_backward_task<128>},
    {"hyena_block/li forward", true, one_length, block_forward_task<0>},
    {"hyena_block/li backward", true, one_length, block_backward_task<0>},
    {"long_conv forward", true, long_lengths, long_conv_forward_task<1>},
    {"long_conv backward", true, long_lengths, long_conv_backward_task<1>},
    {"long_conv/kept forward", true, long_lengths, long_conv_forward_task<1, true>},
    {"long_conv/kept backward", true, long_lengths, long_conv_backward_task<1, true>},
    {"long_conv/16 forward", true, long_lengths, long_conv_forward_task<16>},
    {"long_conv/16 backward", true, long_lengths, long_conv_backward_task<16>},
    {"attention forward", true, attention_sizes, attention_forward_task},
    {"attention backward", true, attention_sizes, attention_backward_task},
    {"attention_delta", false, one_length, attention_delta_task},
    {"rope", true, one_length, rope_task},
};

}  // namespace

std::span<const OperatorBenchmark> mixer_benchmarks() { return benchmarks; }

}  // namespace causeway
