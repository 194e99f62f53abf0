/// `--fp8`: which products have operands in FP8, their adjoint, and that no cut of a pack changes a token's result.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "kernels/activation.hpp"
#include "kernels/core/trace.hpp"
#include "src/model/dense/dense.hpp"
#include "src/model/parameters/fp8_shapes.hpp"
#include "tests/src/model_support.hpp"
#include "tests/support/gpu.hpp"

namespace causeway::test {
namespace {

constexpr Fp8Level levels[] = {Fp8Level::off, Fp8Level::projections, Fp8Level::all};

WholePack awkward_pack() { return random_pack(Segments({0, 1, 3, 12, 16, 46}), 11, 3); }

/// Values that this format has and the other one has not: four significant bits, or a range of 2^24.
std::vector<double> representable(std::int64_t rows, std::int64_t columns, Fp8Format format, int seed) {
  std::vector<double> values;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < columns; ++c) {
      const double value = (static_cast<double>((r * 37 + c * 11 + seed) % 31) - 15) / 8;
      values.push_back(format == Fp8Format::e4m3 ? value : std::ldexp(value < 0 ? -1 : 1, static_cast<int>(c % 9) * 3));
    }
  return values;
}

/// With operands that 8-bit floats represent, products in FP8 are those of the operands themselves: dense() and its
/// adjoint, to the bit. With other operands they are not.
TEST(Fp8Products, AreExactForNumbersOfTheFormats) {
  constexpr std::int64_t tokens = 5, inputs = 7, outputs = 9;
  const Stream stream;
  const Tensor weight(stream, DType::f32, {outputs, inputs}), x(stream, DType::f32, {tokens, inputs}),
      d_y(stream, DType::f32, {tokens, outputs});
  for (const bool exact : {true, false}) {
    assign(weight, representable(outputs, inputs, Fp8Format::e4m3, 1));
    assign(x, representable(tokens, inputs, Fp8Format::e4m3, 2));
    assign(d_y, representable(tokens, outputs, Fp8Format::e5m2, 3));
    if (!exact)
      for (const TensorView values : {weight.view(), x.view(), d_y.view()})
        assign(values, values_of(random_tensor(stream, DType::f32, values.shape, 4, -1, 1)));
    std::vector<std::vector<double>> results[2], gradients[2];
    for (const bool fp8 : {false, true}) {
      const Tensor d_weight = Tensor::zeros(stream, DType::f32, weight.view().shape);
      const Parameter parameter{.spec = dense_spec("w", outputs, inputs, 1),
                                .in_part = {},
                                .flat = {},
                                .weight = weight,
                                .gradient = d_weight,
                                .fp8 = fp8};
      results[fp8] = {values_of(dense(stream, parameter, x)), values_of(dense_backward(stream, parameter, x, d_y))};
      gradients[fp8] = {values_of(d_weight)};
    }
    EXPECT_EQ(results[0][0] == results[1][0], exact);
    EXPECT_EQ(results[0][1] == results[1][1], exact);
    EXPECT_EQ(gradients[0] == gradients[1], exact);
  }
}

/// Calls of round_to_fp8 in Model::train: two operands for each product, forward, for d_x and for the weight.
std::ptrdiff_t rounded_operands(const std::string& layer, std::int64_t ffn, Fp8Level level) {
  ModelOptions shape = small_model_of({layer});
  shape.ffn = ffn;
  std::ptrdiff_t count = 0;
  on_ranks(1, [&](Communicator& world) {
    Runtime runtime = one_rank_runtime(world.split(0, 0));
    Model model({.shape = shape, .fp8 = level});
    model.parameters().allocate(runtime.stream, 1);
    model.parameters().initialise(1, runtime.stream);
    const RankPack part = shard(awkward_pack(), runtime, Layout::contiguous);
    Trace trace(runtime.stream);
    runtime.stream.trace_in(&trace);
    train_now(model, {runtime, *part.sharding}, part.batch());
    runtime.stream.trace_in(nullptr);
    trace.wait_for_times();
    count = std::ranges::count(trace.spans(), "round_to_fp8", &TraceSpan::name);
  });
  return count;
}

TEST(Fp8Products, AreThoseOfTheLevel) {
  constexpr std::ptrdiff_t of_product = 6, of_mlp = 2;
  for (const Layer& layer : layers())
    for (const std::int64_t ffn : {0, 10}) {
      const std::string name(layer.name);
      // Of Mamba's four one has a shape for which FP8 does not pay: dt_proj [24, 1].
      const std::ptrdiff_t dense_products = name == "mamba" ? 3 : 2, all = dense_products + (ffn > 0 ? of_mlp : 0);
      if (rounded_operands(name, ffn, Fp8Level::all) == 0) return;  // this process runs no rank
      EXPECT_EQ(rounded_operands(name, ffn, Fp8Level::off), 0) << name;
      EXPECT_EQ(rounded_operands(name, ffn, Fp8Level::projections), of_product) << name;
      EXPECT_EQ(rounded_operands(name, ffn, Fp8Level::all), of_product * all) << name;
    }
}

static_assert(fp8_pays(8192, 2048) && fp8_pays(2048, 4096) && fp8_pays(22016, 4096) && fp8_pays(4096, 11008));
static_assert(!fp8_pays(160, 4096) && !fp8_pays(4096, 128) && !fp8_pays(192, 5120));  // x_proj, dt_proj
static_assert(fp8_pays(512, 8192) && !fp8_pays(256, 8192) && fp8_pays(8192, 512));
static_assert(fp8_pays(36, 12) && fp8_pays(1, 8) && !fp8_pays(1, 9));

/// Scales are of one token or one output, so a cut moves none of the rounding. (That a rank's sums round differently in
/// the last bit can move a value from one 8-bit float to the next, so the comparison is in f64.)
TEST(Fp8Products, DoNotDependOnTheCutOfAPack) {
  const std::vector<WholePack> packs{awkward_pack()};
  for (const Fp8Level level : levels) {
    const Model::Options options{.shape = small_model_of({"mamba", "se", "mr"}), .dtype = DType::f64, .fp8 = level};
    const PassResult one = run_pass(options, packs, {});
    for (const int ranks : {2, 3, 5, 7}) {
      const PassResult cut = run_pass(options, packs, {.ranks = ranks});
      if (IsSkipped()) return;
      EXPECT_NEAR(one.loss, cut.loss, 1e-10 * one.loss) << name_of(level) << ranks;
      for (const auto& [name, gradient] : one.gradients)
        for (std::size_t i = 0; i < gradient.size(); ++i)
          EXPECT_NEAR(gradient[i], cut.gradients.at(name)[i], 1e-9) << name << ranks;
    }
  }
}

/// On a GPU products of 8-bit floats themselves, or of the numbers that they stand for: as on the CPU.
TEST(Fp8Products, OnAGpuAreThoseOfTheCpu) {
  const std::optional<Stream> gpu = gpu_stream();
  if (!gpu) GTEST_SKIP() << "no usable GPU";
  const Stream cpu;
  struct Extents {
    std::int64_t tokens, inputs, outputs;
  };
  for (const auto& [tokens, inputs, outputs] : {Extents{37, 64, 48}, {1, 16, 160}, {130, 256, 32}, {20, 24, 40}}) {
    const Tensor w = random_tensor(cpu, DType::bf16, {outputs, inputs}, 1),
                 x = random_tensor(cpu, DType::bf16, {tokens, inputs}, 2),
                 d_y = random_tensor(cpu, DType::bf16, {tokens, outputs}, 3, -1e-6, 1e-6);
    std::vector<double> without = values_of(d_y);  // a token whose gradient is 0, like a document's last one
    std::fill_n(without.begin(), tokens > 1 ? outputs : 0, 0);
    assign(d_y, without);
    std::vector<std::vector<double>> results[2];
    for (const Stream* stream : {&cpu, &*gpu}) {
      const Tensor weight = moved(w, cpu, *stream), input = moved(x, cpu, *stream), gradient = moved(d_y, cpu, *stream),
                   d_weight = Tensor::zeros(*stream, DType::f32, w.view().shape);
      const Parameter parameter{.spec = dense_spec("w", outputs, inputs, 1),
                                .in_part = {},
                                .flat = {},
                                .weight = weight,
                                .gradient = d_weight,
                                .fp8 = true};
      const Tensor y = dense(*stream, parameter, input), d_x = dense_backward(*stream, parameter, input, gradient);
      stream->wait();
      // Rows of which only codes exist give the same bits.
      if (multiplies_codes(*stream, parameter)) {
        const Tensor again = Tensor::zeros(*stream, DType::f32, w.view().shape);
        Parameter other = parameter;
        other.gradient = again;
        const TokenRows rows = TokenRows::of(*stream, parameter, moved(x, cpu, *stream));
        const Fp8Copy d_codes = Fp8Copy::by_rows(*stream, gradient, Fp8Format::e5m2);
        const Tensor y2 = dense(*stream, other, rows),
                     d_x2 = dense_backward(*stream, other, rows, RowsView(TensorView(), d_codes));
        stream->wait();
        EXPECT_FALSE(rows.values.present());
        for (const auto& [first, second] : {std::pair{&y, &y2}, {&d_x, &d_x2}, {&d_weight, &again}})
          EXPECT_TRUE(same_bits(moved(*first, *stream, cpu), moved(*second, *stream, cpu)));
      }
      for (const Tensor* of : {&y, &d_x, &d_weight})
        results[stream == &cpu ? 0 : 1].push_back(values_of(moved(*of, *stream, cpu)));
    }
    for (std::size_t i = 0; i < 3; ++i)
      EXPECT_LT(relative_error(results[1][i], results[0][i]), 2e-3) << i << " of " << tokens << " " << inputs;
  }
}

/// A rank without tokens has rows of which only codes exist, like any other.
TEST(Fp8Products, OfCodesWithoutTokens) {
  constexpr std::int64_t inputs = 32, outputs = 16;
  std::vector<Stream> streams(1);
  if (const std::optional<Stream> gpu = gpu_stream()) streams.push_back(*gpu);
  for (const Stream& stream : streams) {
    const Tensor weight = Tensor::zeros(stream, DType::bf16, {outputs, inputs}),
                 d_weight = Tensor::zeros(stream, DType::f32, {outputs, inputs});
    fill(stream, {.value = 7, .y = d_weight});
    const Parameter parameter{.spec = dense_spec("w", outputs, inputs, 1),
                              .in_part = {},
                              .flat = {},
                              .weight = weight,
                              .gradient = d_weight,
                              .fp8 = true,
                              .gradient_unwritten = true};
    const Fp8Copy x(stream, {0, inputs}, Fp8Format::e4m3), d_y(stream, {0, outputs}, Fp8Format::e5m2);
    EXPECT_EQ(dense(stream, parameter, RowsView({}, x)).view().shape, Shape({0, outputs}));
    EXPECT_EQ(dense_backward(stream, parameter, RowsView({}, x), RowsView({}, d_y)).view().shape, Shape({0, inputs}));
    stream.wait();
    const Tensor gradient = moved(d_weight, stream, streams.front());
    EXPECT_EQ(values_of(gradient), std::vector<double>(outputs * inputs, 0));
  }
}

TEST(Fp8Products, ChangeTheLossALittle) {
  const std::vector<WholePack> packs{awkward_pack()};
  const ModelOptions shape = small_published_model();
  const PassResult off = run_pass({.shape = shape, .dtype = DType::f64}, packs, {});
  for (const Fp8Level level : {Fp8Level::projections, Fp8Level::all}) {
    const PassResult fp8 = run_pass({.shape = shape, .dtype = DType::f64, .fp8 = level}, packs, {});
    if (IsSkipped()) return;
    EXPECT_NE(fp8.loss, off.loss);
    EXPECT_NEAR(fp8.loss, off.loss, 0.01 * off.loss);
    double difference = 0, norm = 0;
    for (const auto& [name, gradient] : off.gradients)
      for (std::size_t i = 0; i < gradient.size(); ++i) {
        difference += std::pow(gradient[i] - fp8.gradients.at(name)[i], 2);
        norm += std::pow(gradient[i], 2);
      }
    EXPECT_LT(std::sqrt(difference / norm), 0.1) << name_of(level);
  }
}

TEST(Fp8Products, NotANumberStaysInItsDocument) { expect_nan_stays_in_its_document(Fp8Level::all, {}); }

}  // namespace
}  // namespace causeway::test
