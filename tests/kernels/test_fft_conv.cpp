#include "kernels/fft_conv.hpp"

#include <gtest/gtest.h>

#include "kernels/activation.hpp"
#include "kernels/blocked_conv.hpp"
#include "kernels/modal_conv.hpp"
#include "tests/support/packed_operator.hpp"

namespace causeway {
namespace {

using namespace causeway::test;

struct Convolution {
  std::string name;
  std::int64_t groups, group_size, length;
  std::vector<std::int64_t> cu_seqlens;
  bool gates = false, skip = true;
};

Values reference(const Convolution& c, const Values& in) {
  const std::int64_t D = c.groups * c.group_size, T = c.cu_seqlens.back();
  const auto at = [&](const char* name, std::int64_t i, double otherwise) { return in.contains(name) ? in.at(name)[static_cast<std::size_t>(i)] : otherwise; };
  Values out;
  for (const char* name : {"y", "d_q", "d_k", "d_v"}) out[name].resize(static_cast<std::size_t>(T * D));
  out["d_taps"].resize(static_cast<std::size_t>(c.groups * c.length));
  out["d_skip"].resize(static_cast<std::size_t>(D));
  for (std::size_t s = 0; s + 1 < c.cu_seqlens.size(); ++s)
    for (std::int64_t t = c.cu_seqlens[s]; t < c.cu_seqlens[s + 1]; ++t)
      for (std::int64_t d = 0; d < D; ++d) {
        const std::int64_t i = t * D + d, tap = d / c.group_size * c.length;
        const double dc = at("d_y", i, 0) * at("q", i, 1);
        double sum = 0;
        for (std::int64_t j = 0; j < std::min(c.length, t - c.cu_seqlens[s] + 1); ++j) {
          const std::int64_t from = i - j * D;
          const double k = at("k", from, 1), v = at("v", from, 0), h = at("taps", tap + j, 0) + (j == 0 ? at("skip", d, 0) : 0);
          sum += h * k * v;
          out["d_k"][static_cast<std::size_t>(from)] += h * dc * v;
          out["d_v"][static_cast<std::size_t>(from)] += h * dc * k;
          out["d_taps"][static_cast<std::size_t>(tap + j)] += dc * k * v;
          if (j == 0) out["d_skip"][static_cast<std::size_t>(d)] += dc * k * v;
        }
        out["y"][static_cast<std::size_t>(i)] = at("q", i, 1) * sum;
        out["d_q"][static_cast<std::size_t>(i)] = at("d_y", i, 0) * sum;
      }
  for (const char* name : {"q", "k", "skip"})
    if (!in.contains(name)) out.erase(std::string("d_") + name);
  return out;
}

PackedCase packed(const Convolution& c) {
  const std::int64_t D = c.groups * c.group_size, T = c.cu_seqlens.back();
  PackedCase result{.name = c.name, .cu_seqlens = c.cu_seqlens, .inputs = {{"d_y", {T, D}}, {"v", {T, D}}}, .linear_in = "v", .run = {}, .reference = {}};
  if (c.gates) result.inputs.insert(result.inputs.end(), {{"q", {T, D}}, {"k", {T, D}}});
  result.inputs.push_back({.name = "taps", .shape = {c.groups, c.length}, .tokenwise = false});
  if (c.skip) result.inputs.push_back({.name = "skip", .shape = {D}, .tokenwise = false});
  result.run = [](const Stream& stream, const Views& in, const Views& out, const Segments& segments, const std::vector<std::int64_t>&) {
    const auto cu_seqlens = segments.slice(0, segments.tokens());
    const GatedConvInputs inputs{.q = view(in, "q"), .k = view(in, "k"), .v = view(in, "v"), .skip = view(in, "skip"),
                                 .segments = segments_view(cu_seqlens, segments.tokens())};
    fft_conv_forward(stream, {.in = inputs, .taps = view(in, "taps"), .y = view(out, "y")});
    fft_conv_backward(stream, {.in = inputs,
                               .taps = view(in, "taps"),
                               .gradients = {.d_y = view(in, "d_y"), .d_q = view(out, "d_q"), .d_k = view(out, "d_k"), .d_v = view(out, "d_v"), .d_skip = view(out, "d_skip")},
                               .d_taps = view(out, "d_taps")});
  };
  result.reference = [c](const Values& in) { return reference(c, in); };
  return result;
}

std::vector<PackedCase> packed(const std::vector<Convolution>& convolutions) {
  std::vector<PackedCase> result;
  for (const Convolution& c : convolutions) result.push_back(packed(c));
  return result;
}

const std::vector<PackedCase> cases = packed({
    {"one document", 3, 2, 256, {0, 256}},
    {"documents of every length", 2, 2, 250, {0, 1, 3, 6, 10, 15, 21, 28, 36, 60, 97, 250}},
    {"one-token documents", 2, 1, 5, {0, 1, 2, 3, 4, 5}},
    {"a short filter", 4, 1, 40, {0, 64, 192}},
    {"a filter longer than any document", 1, 5, 300, {0, 7, 40, 61}},
    {"gates", 3, 3, 30, {0, 12, 50, 51, 80}, true},
    {"gates, no skip", 2, 2, 17, {0, 29, 61}, true, false},
    {"one channel", 1, 1, 33, {0, 33}, false, false},
    {"groups over several items of work", 2, 60, 20, {0, 3, 40}, true},
    {"one group of many channels", 1, 97, 20, {0, 3, 40}},
    {"many groups", 101, 1, 12, {0, 3, 40}},
    {"no token", 2, 2, 4, {0}},
    {"no channel", 0, 4, 7, {0, 20}},
});

constexpr Tolerances limits{.f64 = 1e-13, .f32 = 3e-6, .bf16 = 6e-3};

TEST(FftConv, EqualsTheFormulaInEveryTypeAndShape) { expect_equal_to_the_formula(cases, limits); }
TEST(FftConv, GradientsEqualFiniteDifferences) { expect_gradients_equal_to_finite_differences(cases); }
TEST(FftConv, BackwardIsTheAdjointOfForward) { expect_backward_is_the_adjoint(cases); }
TEST(FftConv, PackedEqualsOneDocumentAtATime) { expect_packed_equal_to_one_document_at_a_time(cases, limits); }
TEST(FftConv, TakesAndGivesColumnsOfWiderMatrices) { expect_row_strides_are_free(cases); }

TEST(FftConv, NonFiniteValuesStayInTheirDocument) {
  expect_non_finite_values_stay_in_their_document(packed(Convolution{"of one length", 3, 3, 40, {0, 30, 60, 90}, true}));
  expect_non_finite_values_stay_in_their_document(packed(Convolution{"of several", 2, 2, 40, {0, 50, 59, 140}, true}));
}

TEST(FftConv, GivesTheSameBitsOnAnyNumberOfThreads) {
  Convolution c{"long", 3, 50, 400, {0}, true};
  for (std::int64_t end = 1; end < 2000; end += 1 + end / 7) c.cu_seqlens.push_back(end);
  expect_same_bits_on_any_number_of_threads(packed(c));
}

TEST(FftConv, AgreesWithTheModalAndTheDirectMethodOfHyenaLi) {
  const Stream stream;
  constexpr std::int64_t T = 300, D = 5, M = 16;
  const std::vector<std::int64_t> cu_seqlens{0, 40, 41, 300};
  const auto tokenwise = [&](std::uint64_t seed) { return random_tensor(stream, DType::f64, {T, D}, seed); };
  const Tensor q = tokenwise(1), k = tokenwise(2), v = tokenwise(3), d_y = tokenwise(4), skip = random_tensor(stream, DType::f64, {D}, 5);
  const Tensor residues = random_tensor(stream, DType::f64, {D, M}, 6), log_rates = random_tensor(stream, DType::f64, {D, M}, 7, -8, 0);
  const GatedConvInputs in{.q = q, .k = k, .v = v, .skip = skip, .segments = segments_view(cu_seqlens, T)};
  struct Result {
    Tensor y, d_q, d_k, d_v, d_skip, d_residues, d_log_rates;
    GatedConvGradients gradients(TensorView of) const { return {.d_y = of, .d_q = d_q, .d_k = d_k, .d_v = d_v, .d_skip = d_skip}; }
    std::vector<TensorView> all() const { return {y, d_q, d_k, d_v, d_skip, d_residues, d_log_rates}; }
  };
  const auto zeros = [&](Shape shape) { return Tensor::zeros(stream, DType::f64, shape); };
  const auto result = [&] { return Result{zeros({T, D}), zeros({T, D}), zeros({T, D}), zeros({T, D}), zeros({D}), zeros({D, M}), zeros({D, M})}; };
  const Result modal = result(), direct = result(), fft = result();
  const Tensor states = zeros({(T + modal_conv_block - 1) / modal_conv_block, D, M}), taps = zeros({D, T});
  modal_conv_forward(stream, {.in = in, .residues = residues, .log_rates = log_rates, .state_in = {}, .y = modal.y, .states = states});
  modal_conv_backward(stream, {.in = in, .residues = residues, .log_rates = log_rates, .states = states, .adjoint_in = {}, .gradients = modal.gradients(d_y),
                               .d_residues = modal.d_residues, .d_log_rates = modal.d_log_rates});
  modal_filter(stream, {.residues = residues, .log_rates = log_rates, .taps = taps});
  for (const Result* of : {&direct, &fft}) {
    const Tensor d_taps = zeros({D, T});
    if (of == &direct) {
      blocked_conv_forward(stream, {.in = in, .halo = {}, .taps = taps, .y = of->y});
      blocked_conv_backward(stream, {.in = in, .halo = {}, .taps = taps, .gradients = of->gradients(d_y), .d_halo = {}, .d_taps = d_taps});
    } else {
      fft_conv_forward(stream, {.in = in, .taps = taps, .y = of->y});
      fft_conv_backward(stream, {.in = in, .taps = taps, .gradients = of->gradients(d_y), .d_taps = d_taps});
    }
    modal_filter_backward(stream, {.residues = residues, .log_rates = log_rates, .d_taps = d_taps, .d_residues = of->d_residues, .d_log_rates = of->d_log_rates});
    for (std::size_t i = 0; i < modal.all().size(); ++i) EXPECT_LE(relative_error(of->all()[i], modal.all()[i]), 1e-12) << i;
  }
}

TEST(FftConv, RefusesDocumentsThatReachBeyondTheRun) {
  const Stream stream;
  const Tensor v = random_tensor(stream, DType::f32, {12, 4}, 1), taps = random_tensor(stream, DType::f32, {2, 3}, 2), y(stream, DType::f32, {12, 4});
  for (const auto& [cu_seqlens, whole] : std::vector<std::pair<std::vector<std::int64_t>, bool>>{{{0, 12}, true}, {{-3, 12}, false}, {{0, 5, 14}, false}}) {
    const auto call = [&] {
      fft_conv_forward(stream, {.in = {.q = {}, .k = {}, .v = v, .skip = {}, .segments = segments_view(cu_seqlens, 12)}, .taps = taps, .y = y});
    };
    if (whole) EXPECT_NO_THROW(call());
    else EXPECT_THROW(call(), Error);
  }
}

}  // namespace
}  // namespace causeway
