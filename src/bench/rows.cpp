#include "kernels/activation.hpp"
#include "kernels/adamw.hpp"
#include "kernels/cross_entropy.hpp"
#include "kernels/embedding.hpp"
#include "kernels/fourier.hpp"
#include "kernels/fp8/fp8.hpp"
#include "kernels/gemm.hpp"
#include "kernels/norm.hpp"
#include "kernels/reorder.hpp"
#include "src/bench/workload.hpp"

/// Kernels that work on single rows, elements or parameters; matrix products; and the passes of a Fourier transform
/// over ranks.
namespace causeway {
namespace {

constexpr std::int64_t bytes_vocabulary = 512, text_vocabulary = 50280;

Task rms_norm_forward_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const RmsNormForward args{.x = made->random(of.dtype, of.rows(), -1e-3, 1e-3),
                            .residual = made->random(of.wide(), of.rows()),
                            .weight = made->random(of.wide(), {of.channels}),
                            .y = made->empty(of.dtype, of.rows()),
                            .rstd = made->empty(of.wide(), {of.tokens})};
  return task_of(made, rms_norm_forward, args, args.y, {args.x, args.residual}, {args.residual, args.y, args.rstd});
}

Task rms_norm_backward_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const RmsNormBackward args{.residual = made->random(of.wide(), of.rows()),
                             .weight = made->random(of.wide(), {of.channels}),
                             .rstd = made->random(of.wide(), {of.tokens}, 0.5, 2),
                             .d_y = made->random(of.dtype, of.rows()),
                             .d_residual = made->empty(of.wide(), of.rows()),
                             .d_weight = made->empty(of.wide(), {of.channels})};
  return task_of(made, rms_norm_backward, args, args.d_y, {args.residual, args.rstd, args.d_y, args.d_residual},
                 {args.d_residual});
}

template <Activation activation>
Task gated_forward_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const GatedActivationForward args{.a = made->random(of.dtype, of.rows()),
                                    .b = made->random(of.dtype, of.rows()),
                                    .activation = activation,
                                    .y = made->empty(of.dtype, of.rows())};
  return task_of(made, gated_activation_forward, args, args.y, {args.a, args.b}, {args.y},
                 {.exponentials = of.elements()});
}

template <Activation activation>
Task gated_backward_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const GatedActivationBackward args{.a = made->random(of.dtype, of.rows()),
                                     .b = made->random(of.dtype, of.rows()),
                                     .activation = activation,
                                     .d_y = made->random(of.dtype, of.rows()),
                                     .d_a = made->empty(of.dtype, of.rows()),
                                     .d_b = made->empty(of.dtype, of.rows())};
  return task_of(made, gated_activation_backward, args, args.d_y, {args.a, args.b, args.d_y}, {args.d_a, args.d_b},
                 {.exponentials = of.elements()});
}

Task multiply_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const Multiply args{.a = made->random(of.dtype, of.rows()),
                      .b = made->random(of.dtype, of.rows()),
                      .y = made->empty(of.dtype, of.rows())};
  return task_of(made, multiply, args, args.y, {args.a, args.b}, {args.y});
}

/// Converts master weights to the type of the layers.
Task scale_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const Scale args{.x = made->random(of.wide(), of.rows()), .y = made->empty(of.dtype, of.rows())};
  return task_of(made, scale, args, args.y, {args.x}, {args.y});
}

Task fill_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const Fill args{.value = 0.5, .y = made->empty(of.dtype, of.rows())};
  return task_of(made, fill, args, args.y, {}, {args.y});
}

Task transpose_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const Transpose args{.x = made->random(of.dtype, of.rows()), .y = made->empty(of.dtype, {of.channels, of.tokens})};
  return task_of(made, transpose, args, args.x, {args.x}, {args.y});
}

Task sum_of_squares_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const SumOfSquares args{.x = made->random(of.wide(), of.rows()), .sum = made->empty(DType::f64, {1})};
  return task_of(made, sum_of_squares, args, args.x, {args.x}, {args.sum});
}

Task embedding_forward_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const EmbeddingForward args{.ids = made->ids(of.tokens, bytes_vocabulary),
                              .weight = made->random(of.dtype, {bytes_vocabulary, of.channels}),
                              .y = made->empty(of.wide(), of.rows())};
  return task_of(made, embedding_forward, args, args.y, {args.ids, args.weight}, {args.y});
}

Task embedding_backward_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const EmbeddingBackward args{.ids = made->ids(of.tokens, bytes_vocabulary),
                               .d_y = made->random(of.dtype, of.rows()),
                               .d_weight = made->empty(of.wide(), {bytes_vocabulary, of.channels})};
  return task_of(made, embedding_backward, args, args.d_y, {args.ids, args.d_y, args.d_weight}, {args.d_weight});
}

template <std::int64_t vocabulary>
Task cross_entropy_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const Shape shape{of.tokens, vocabulary};
  const CrossEntropy args{.logits = made->random(of.dtype, shape, -4, 4),
                          .labels = made->ids(of.tokens, vocabulary),
                          .loss = made->empty(of.wide(), {of.tokens}),
                          .d_logits = made->empty(of.dtype, shape)};
  return task_of(made, cross_entropy, args, args.logits, {args.logits, args.labels}, {args.loss, args.d_logits},
                 {.exponentials = static_cast<double>(of.tokens) * static_cast<double>(vocabulary)});
}

Task adamw_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const Shape flat{of.tokens * of.channels};
  const AdamW args{.gradient = made->random(of.wide(), flat),
                   .learning_rate = 1e-6,
                   .weight_decay = 0.1,
                   .master = made->random(of.wide(), flat),
                   .exp_avg = made->empty(of.wide(), flat),
                   .exp_avg_sq = made->empty(of.wide(), flat)};
  return task_of(made, adamw, args, args.master, {args.gradient, args.master, args.exp_avg, args.exp_avg_sq},
                 {args.master, args.exp_avg, args.exp_avg_sq});
}

/// The product c = a·b, summed over `inner`.
Task product_task(const std::shared_ptr<BenchmarkTensors>& made, const Gemm& args, std::int64_t inner) {
  Task task = task_of(made, gemm, args, args.c, {args.a, args.b}, {args.c},
                      {.flops = 2. * static_cast<double>(args.c.size()) * static_cast<double>(inner)});
  task.shape = fmt::format("{}x{}x{}", args.c.rows(), inner, args.c.columns());
  return task;
}

/// The product of in_proj: [tokens, channels] times [channels, 2·channels].
Task gemm_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  return product_task(made,
                      {.a = made->random(of.dtype, of.rows()),
                       .b = made->random(of.dtype, {2 * of.channels, of.channels}),
                       .transpose_b = true,
                       .c = made->empty(of.dtype, {of.tokens, 2 * of.channels})},
                      of.channels);
}

/// The gradient of in_proj's weight: a sum over all tokens.
Task gemm_gradient_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  return product_task(made,
                      {.a = made->random(of.dtype, {of.tokens, 2 * of.channels}),
                       .b = made->random(of.dtype, of.rows()),
                       .transpose_a = true,
                       .c = made->empty(of.wide(), {2 * of.channels, of.channels})},
                      of.tokens);
}

/// A random matrix in 8-bit floats, by rows.
Fp8Matrix fp8_matrix(BenchmarkTensors& made, const Shape& shape, Fp8Format format) {
  const Fp8Matrix matrix{
      .codes = made.empty(DType::u8, shape), .scales = made.empty(DType::f32, {shape[0]}), .format = format};
  quantise_to_fp8(
      made.stream(),
      {.x = made.random(DType::bf16, shape), .format = format, .codes = matrix.codes, .scales = matrix.scales});
  return matrix;
}

/// gemm_task with 8-bit floats; as a gemm where the device has no such product.
Task fp8_gemm_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const TensorView c = made->empty(DType::bf16, {of.tokens, 2 * of.channels});
  if (of.stream.device() == Device::cuda && !has_fp8_gemm(Device::cuda, of.channels, c)) return gemm_task(of);
  const Fp8Gemm args{.a = fp8_matrix(*made, of.rows(), Fp8Format::e4m3),
                     .b = fp8_matrix(*made, {2 * of.channels, of.channels}, Fp8Format::e4m3),
                     .c = c};
  return task_of(made, fp8_gemm, args, c, {args.a.codes, args.b.codes}, {c},
                 {.flops = 2. * static_cast<double>(c.size()) * static_cast<double>(of.channels)});
}

template <bool by_columns>
Task quantise_to_fp8_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const Shape shape = by_columns ? Shape{of.channels, of.tokens} : of.rows();
  const QuantiseToFp8 args{.x = made->random(DType::bf16, of.rows()),
                           .by_columns = by_columns,
                           .codes = made->empty(DType::u8, shape),
                           .scales = made->empty(DType::f32, {shape[0]})};
  return task_of(made, quantise_to_fp8, args, args.x, {args.x}, {args.codes, args.scales});
}

Task transpose_fp8_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const TransposeFp8 args{.x = fp8_matrix(*made, of.rows(), Fp8Format::e5m2),
                          .codes = made->empty(DType::u8, {of.channels, of.tokens}),
                          .scales = made->empty(DType::f32, {of.channels})};
  return task_of(made, transpose_fp8, args, args.x.codes, {args.x.codes}, {args.codes});
}

Shape complex_rows(const Workload& of) { return {of.tokens, of.channels, 2}; }

/// Eight blocks of rows, as on eight ranks.
Task fourier_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const std::int64_t length = std::max<std::int64_t>(of.tokens / 8, 1);
  const FourierTransform args{.length = length,
                              .x = made->empty(of.wide(), {of.tokens / length * length, of.channels,
                                                           2})};  // zeros, so that repeated transforms stay finite
  return task_of(made, fourier_transform, args, args.x, {args.x}, {args.x});
}

Task rotate_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const Rotate args{.x = made->random(of.wide(), complex_rows(of)),
                    .step = 1,
                    .modulus = of.tokens,
                    .y = made->empty(of.wide(), complex_rows(of))};
  return task_of(made, rotate, args, args.y, {args.x}, {args.y});
}

Task complex_multiply_task(const Workload& of) {
  const auto made = std::make_shared<BenchmarkTensors>(of.stream);
  const ComplexMultiply args{.a = made->random(of.wide(), complex_rows(of)),
                             .b = made->random(of.wide(), complex_rows(of)),
                             .y = made->empty(of.wide(), complex_rows(of))};
  return task_of(made, complex_multiply, args, args.y, {args.a, args.b}, {args.y});
}

constexpr Size long_pack[] = {{65536, 4096}};
constexpr Size narrow_and_wide[] = {{65536, 4096}, {524288, 512}};
constexpr Size half_pack[] = {{32768, 4096}};
constexpr Size few_rows[] = {{5000, 4096}};
constexpr Size parameters[] = {{131072, 4096}};

constexpr OperatorBenchmark benchmarks[] = {
    {"rms_norm forward", false, narrow_and_wide, rms_norm_forward_task},
    {"rms_norm backward", false, narrow_and_wide, rms_norm_backward_task},
    {"gated silu forward", false, long_pack, gated_forward_task<Activation::silu>},
    {"gated silu backward", false, long_pack, gated_backward_task<Activation::silu>},
    {"gated gelu forward", false, long_pack, gated_forward_task<Activation::gelu>},
    {"gated gelu backward", false, long_pack, gated_backward_task<Activation::gelu>},
    {"multiply", false, long_pack, multiply_task},
    {"scale", false, long_pack, scale_task},
    {"fill", false, long_pack, fill_task},
    {"transpose", false, long_pack, transpose_task},
    {"sum_of_squares", false, long_pack, sum_of_squares_task},
    {"embedding forward", false, long_pack, embedding_forward_task},
    {"embedding backward", false, long_pack, embedding_backward_task},
    {"cross_entropy bytes", false, long_pack, cross_entropy_task<bytes_vocabulary>},
    {"cross_entropy text", false, few_rows, cross_entropy_task<text_vocabulary>},
    {"adamw", false, parameters, adamw_task},
    {"gemm", false, long_pack, gemm_task},
    {"gemm weight gradient", false, long_pack, gemm_gradient_task},
    {"fp8_gemm", false, long_pack, fp8_gemm_task},
    {"quantise_to_fp8", false, long_pack, quantise_to_fp8_task<false>},
    {"quantise_to_fp8 by columns", false, long_pack, quantise_to_fp8_task<true>},
    {"transpose_fp8", false, long_pack, transpose_fp8_task},
    {"fourier_transform", false, half_pack, fourier_task},
    {"rotate", false, half_pack, rotate_task},
    {"complex_multiply", false, half_pack, complex_multiply_task},
};

}  // namespace

std::span<const OperatorBenchmark> row_benchmarks() { return benchmarks; }

}  // namespace causeway
