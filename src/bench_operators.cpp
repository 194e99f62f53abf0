#include <memory>
#include <numeric>

#include "kernels/adamw.hpp"
#include "kernels/causal_conv.hpp"
#include "kernels/cross_entropy.hpp"
#include "kernels/embedding.hpp"
#include "kernels/gemm.hpp"
#include "kernels/norm.hpp"
#include "kernels/random.hpp"
#include "kernels/selective_scan.hpp"
#include "src/bench.hpp"

namespace causeway {
namespace {

constexpr std::int64_t states = 16, taps = 4, vocabulary = 512;  // Mamba's, and the byte vocabulary

/// What a row is to prepare a task for.
struct Workload {
  const Stream& stream;
  DType dtype;
  std::int64_t tokens, channels;
  SegmentsView segments;

  DType wide() const { return accumulator_of(dtype); }
};

/// The tensors of one task, alive as long as it is.
class Bench {
 public:
  explicit Bench(const Stream& stream) : stream_(stream) {}

  /// 4096 random numbers over and over: drawing each would take longer than what is measured.
  TensorView random(DType dtype, Shape shape, double low = -1, double high = 1) {
    const TensorView x = empty(dtype, shape);
    const RandomStream draws(tensors_.size(), 0);
    std::vector<double> numbers(4096);
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = low + (high - low) * draws.uniform(i);
    dispatch(dtype, [&]<class T>() {
      std::size_t i = 0;
      for (T& element : x.as<T>()) element = static_cast<Accumulator<T>>(numbers[i++ % numbers.size()]);
    });
    return x;
  }
  TensorView ids(std::int64_t count) {
    const TensorView x = empty(DType::i32, {count});
    const RandomStream draws(tensors_.size(), 0);
    std::uint64_t i = 0;
    for (std::int32_t& id : x.as<std::int32_t>()) id = static_cast<std::int32_t>(draws.below(i++, vocabulary));
    return x;
  }
  TensorView empty(DType dtype, Shape shape) { return tensors_.emplace_back(Tensor::zeros(stream_, dtype, shape)); }

  const Stream& stream() const { return stream_; }

 private:
  Stream stream_;
  std::vector<Tensor> tensors_;
};

std::int64_t bytes_of(std::initializer_list<TensorView> tensors) {
  return std::accumulate(tensors.begin(), tensors.end(), std::int64_t{0}, [](std::int64_t sum, const TensorView& x) { return sum + x.bytes(); });
}

/// The task of calling `kernel` with `args`, whose tensors `bench` holds: `reads` and `writes` are those that must travel.
template <class Args>
Task task_of(const std::shared_ptr<Bench>& bench, const Kernel<Args>& kernel, const Args& args, std::initializer_list<TensorView> reads,
             std::initializer_list<TensorView> writes, double flops = 0) {
  return {.run = [bench, &kernel, args] { kernel(bench->stream(), args); }, .bytes = bytes_of(reads) + bytes_of(writes), .flops = flops};
}

Task causal_conv_forward_task(const Workload& of) {
  const auto bench = std::make_shared<Bench>(of.stream);
  const CausalConvForward args{.x = bench->random(of.dtype, {of.tokens, of.channels}), .weight = bench->random(of.dtype, {of.channels, taps}),
                               .bias = bench->random(of.dtype, {of.channels}), .segments = of.segments, .activation = Activation::silu,
                               .y = bench->empty(of.dtype, {of.tokens, of.channels})};
  return task_of(bench, causal_conv_forward, args, {args.x, args.weight, args.bias}, {args.y});
}

Task causal_conv_backward_task(const Workload& of) {
  const auto bench = std::make_shared<Bench>(of.stream);
  const Shape rows{of.tokens, of.channels};
  const CausalConvBackward args{.x = bench->random(of.dtype, rows), .weight = bench->random(of.dtype, {of.channels, taps}),
                                .bias = bench->random(of.dtype, {of.channels}), .segments = of.segments, .activation = Activation::silu,
                                .d_y = bench->random(of.dtype, rows), .d_x = bench->empty(of.dtype, rows),
                                .d_weight = bench->empty(of.wide(), {of.channels, taps}), .d_bias = bench->empty(of.wide(), {of.channels})};
  return task_of(bench, causal_conv_backward, args, {args.x, args.d_y, args.weight, args.bias}, {args.d_x, args.d_weight, args.d_bias});
}

SelectiveScanInputs scan_inputs(Bench& bench, const Workload& of) {
  const Shape rows{of.tokens, of.channels};
  return {.u = bench.random(of.dtype, rows), .delta = bench.random(of.dtype, rows, -5, -1), .z = bench.random(of.dtype, rows),
          .A = bench.random(of.wide(), {of.channels, states}, -16, -1), .B = bench.random(of.dtype, {of.tokens, states}),
          .C = bench.random(of.dtype, {of.tokens, states}), .D = bench.random(of.wide(), {of.channels}),
          .delta_bias = bench.random(of.wide(), {of.channels}), .segments = of.segments};
}

Shape saved_states(const Workload& of) { return {(of.tokens + selective_scan_block - 1) / selective_scan_block, of.channels, states}; }

Task selective_scan_forward_task(const Workload& of) {
  const auto bench = std::make_shared<Bench>(of.stream);
  const SelectiveScanInputs in = scan_inputs(*bench, of);
  const SelectiveScanForward args{.in = in, .y = bench->empty(of.dtype, {of.tokens, of.channels}), .states = bench->empty(of.wide(), saved_states(of))};
  return task_of(bench, selective_scan_forward, args, {in.u, in.delta, in.z, in.A, in.B, in.C, in.D, in.delta_bias}, {args.y, args.states});
}

Task selective_scan_backward_task(const Workload& of) {
  const auto bench = std::make_shared<Bench>(of.stream);
  const SelectiveScanInputs in = scan_inputs(*bench, of);
  const Shape rows{of.tokens, of.channels}, narrow{of.tokens, states};
  const TensorView saved = bench->empty(of.wide(), saved_states(of));
  selective_scan_forward(of.stream, {.in = in, .y = bench->empty(of.dtype, rows), .states = saved});
  const SelectiveScanBackward args{.in = in, .states = saved, .d_y = bench->random(of.dtype, rows), .d_u = bench->empty(of.dtype, rows),
                                   .d_delta = bench->empty(of.dtype, rows), .d_B = bench->empty(of.dtype, narrow), .d_C = bench->empty(of.dtype, narrow),
                                   .d_z = bench->empty(of.dtype, rows), .d_A = bench->empty(of.wide(), {of.channels, states}),
                                   .d_D = bench->empty(of.wide(), {of.channels}), .d_delta_bias = bench->empty(of.wide(), {of.channels})};
  return task_of(bench, selective_scan_backward, args, {in.u, in.delta, in.z, in.B, in.C, saved, args.d_y}, {args.d_u, args.d_delta, args.d_z, args.d_B, args.d_C});
}

Task rms_norm_forward_task(const Workload& of) {
  const auto bench = std::make_shared<Bench>(of.stream);
  const Shape rows{of.tokens, of.channels};
  const RmsNormForward args{.x = bench->random(of.dtype, rows, -1e-3, 1e-3), .residual = bench->random(of.wide(), rows), .weight = bench->random(of.wide(), {of.channels}),
                            .y = bench->empty(of.dtype, rows), .rstd = bench->empty(of.wide(), {of.tokens})};
  return task_of(bench, rms_norm_forward, args, {args.x, args.residual}, {args.residual, args.y, args.rstd});
}

Task rms_norm_backward_task(const Workload& of) {
  const auto bench = std::make_shared<Bench>(of.stream);
  const Shape rows{of.tokens, of.channels};
  const RmsNormBackward args{.residual = bench->random(of.wide(), rows), .weight = bench->random(of.wide(), {of.channels}), .rstd = bench->random(of.wide(), {of.tokens}, 0.5, 2),
                             .d_y = bench->random(of.dtype, rows), .d_residual = bench->empty(of.wide(), rows), .d_weight = bench->empty(of.wide(), {of.channels})};
  return task_of(bench, rms_norm_backward, args, {args.residual, args.rstd, args.d_y, args.d_residual}, {args.d_residual});
}

Task embedding_forward_task(const Workload& of) {
  const auto bench = std::make_shared<Bench>(of.stream);
  const EmbeddingForward args{.ids = bench->ids(of.tokens), .weight = bench->random(of.dtype, {vocabulary, of.channels}), .y = bench->empty(of.wide(), {of.tokens, of.channels})};
  return task_of(bench, embedding_forward, args, {args.ids, args.weight}, {args.y});
}

Task embedding_backward_task(const Workload& of) {
  const auto bench = std::make_shared<Bench>(of.stream);
  const EmbeddingBackward args{.ids = bench->ids(of.tokens), .d_y = bench->random(of.dtype, {of.tokens, of.channels}), .d_weight = bench->empty(of.wide(), {vocabulary, of.channels})};
  return task_of(bench, embedding_backward, args, {args.ids, args.d_y, args.d_weight}, {args.d_weight});
}

Task cross_entropy_task(const Workload& of) {
  const auto bench = std::make_shared<Bench>(of.stream);
  const CrossEntropy args{.logits = bench->random(of.dtype, {of.tokens, vocabulary}, -4, 4), .labels = bench->ids(of.tokens), .loss = bench->empty(of.wide(), {of.tokens}),
                          .d_logits = bench->empty(of.dtype, {of.tokens, vocabulary})};
  return task_of(bench, cross_entropy, args, {args.logits, args.labels}, {args.loss, args.d_logits});
}

Task adamw_task(const Workload& of) {
  const auto bench = std::make_shared<Bench>(of.stream);
  const Shape flat{of.tokens * of.channels};
  const AdamW args{.gradient = bench->random(of.wide(), flat), .learning_rate = 1e-6, .weight_decay = 0.1, .master = bench->random(of.wide(), flat),
                   .exp_avg = bench->empty(of.wide(), flat), .exp_avg_sq = bench->empty(of.wide(), flat)};
  return task_of(bench, adamw, args, {args.gradient, args.master, args.exp_avg, args.exp_avg_sq}, {args.master, args.exp_avg, args.exp_avg_sq});
}

/// in_proj's: [tokens, channels] times [channels, 2·channels].
Task gemm_task(const Workload& of) {
  const auto bench = std::make_shared<Bench>(of.stream);
  const Gemm args{.a = bench->random(of.dtype, {of.tokens, of.channels}), .b = bench->random(of.dtype, {2 * of.channels, of.channels}), .transpose_b = true,
                  .c = bench->empty(of.dtype, {of.tokens, 2 * of.channels})};
  return task_of(bench, gemm, args, {args.a, args.b}, {args.c}, 4. * static_cast<double>(of.tokens * of.channels * of.channels));
}

/// Its weight's gradient: a sum over all tokens.
Task gemm_gradient_task(const Workload& of) {
  const auto bench = std::make_shared<Bench>(of.stream);
  const Gemm args{.a = bench->random(of.dtype, {of.tokens, 2 * of.channels}), .b = bench->random(of.dtype, {of.tokens, of.channels}), .transpose_a = true,
                  .c = bench->empty(of.wide(), {2 * of.channels, of.channels})};
  return task_of(bench, gemm, args, {args.a, args.b}, {args.c}, 4. * static_cast<double>(of.tokens * of.channels * of.channels));
}

struct OperatorBenchmark {
  std::string_view name;
  bool packed;  ///< whether the documents' boundaries matter to it
  Task (*prepare)(const Workload&);
};

constexpr OperatorBenchmark benchmarks[] = {
    {"causal_conv forward", true, causal_conv_forward_task},
    {"causal_conv backward", true, causal_conv_backward_task},
    {"selective_scan forward", true, selective_scan_forward_task},
    {"selective_scan backward", true, selective_scan_backward_task},
    {"rms_norm forward", false, rms_norm_forward_task},
    {"rms_norm backward", false, rms_norm_backward_task},
    {"embedding forward", false, embedding_forward_task},
    {"embedding backward", false, embedding_backward_task},
    {"cross_entropy", false, cross_entropy_task},
    {"adamw", false, adamw_task},
    {"gemm", false, gemm_task},
    {"gemm weight gradient", false, gemm_gradient_task},
};

struct Size {
  std::int64_t tokens, channels;
};
/// A long pack of a narrow model; a short one of mamba-130m's inner width.
constexpr Size sizes[] = {{65536, 256}, {8192, 1536}};
constexpr std::int64_t short_document = 8;

}  // namespace

void bench_operators(const BenchSettings& settings, const std::function<void(const Measurement&)>& report) {
  require(settings.tokens >= 0 && settings.channels >= 0 && (settings.tokens > 0) == (settings.channels > 0),
          "--tokens {} and --channels {}: expected both, and positive", settings.tokens, settings.channels);
  const Size asked{settings.tokens, settings.channels};
  const Stream stream;
  for (const OperatorBenchmark& benchmark : benchmarks) {
    if (benchmark.name.find(settings.filter) == std::string_view::npos) continue;
    for (const Size& size : settings.tokens > 0 ? std::span(&asked, 1) : std::span(sizes)) {
      for (const std::int64_t length : {size.tokens, short_document}) {
        std::vector<std::int64_t> cu_seqlens{0};
        while (cu_seqlens.back() < size.tokens) cu_seqlens.push_back(std::min(size.tokens, cu_seqlens.back() + length));
        const PlacedSegments documents(stream, std::move(cu_seqlens), size.tokens);
        const Task task = benchmark.prepare({.stream = stream, .dtype = parse_dtype(settings.dtype), .tokens = size.tokens, .channels = size.channels,
                                             .segments = documents.view()});
        report({.name = std::string(benchmark.name), .shape = Shape{size.tokens, size.channels}.to_string(),
                .documents = benchmark.packed ? documents.view().count : 0,
                .seconds = median_seconds(task, stream, settings.least_seconds), .bytes = task.bytes, .flops = task.flops});
        if (!benchmark.packed) break;
      }
    }
  }
}

}  // namespace causeway
