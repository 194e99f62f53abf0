#include "kernels/core/integer.hpp"
#include "kernels/fft_conv.hpp"

#include <gtest/gtest.h>

#include "kernels/activation.hpp"
#include "kernels/blocked_conv.hpp"
#include "kernels/modal_conv.hpp"
#include "tests/support/gated_convolution.hpp"

namespace causeway {
namespace {

using namespace causeway::test;

struct Convolution {
  GatedConvolution of;
};

/// The pack is not divided: the kernel needs whole documents.
void run(const Stream& stream, const Views& in, const Views& out, const Segments& segments,
         const std::vector<std::int64_t>&) {
  const std::int64_t T = segments.tokens();
  const auto cu_seqlens = segments.slice(0, T);
  const GatedConvInputs inputs = gated_inputs(in, 0, T, segments_view(cu_seqlens, T));
  fft_conv_forward(stream, {.in = inputs, .taps = view(in, "taps"), .y = view(out, "y")});
  fft_conv_backward(stream, {.in = inputs,
                             .taps = view(in, "taps"),
                             .gradients = gated_gradients(in, out, 0, T),
                             .d_taps = view(out, "d_taps")});
}

PackedCase packed(const Convolution& c) {
  PackedCase result = packed(c.of);
  result.run = run;
  return result;
}

const std::vector<PackedCase> cases = packed_cases<Convolution>({
    {{"one document", 3, 2, 256, {0, 256}, false}},
    {{"documents of every length", 2, 2, 250, {0, 1, 3, 6, 10, 15, 21, 28, 36, 60, 97, 250}, false}},
    {{"one-token documents", 2, 1, 5, {0, 1, 2, 3, 4, 5}, false}},
    {{"a short filter", 4, 1, 40, {0, 64, 192}, false}},
    {{"a filter longer than any document", 1, 5, 300, {0, 7, 40, 61}, false}},
    {{"gates", 3, 3, 30, {0, 12, 50, 51, 80}}},
    {{"gates, no skip", 2, 2, 17, {0, 29, 61}, true, false}},
    {{"one channel", 1, 1, 33, {0, 33}, false, false}},
    {{"groups over several items of work", 2, 60, 20, {0, 3, 40}}},
    {{"one group of many channels", 1, 97, 20, {0, 3, 40}, false}},
    {{"many groups", 101, 1, 12, {0, 3, 40}, false}},
    {{"no token", 2, 2, 4, {0}, false}},
    {{"no channel", 0, 4, 7, {0, 20}, false}},
});

constexpr Tolerances limits{.f64 = 1e-13, .f32 = 3e-6, .bf16 = 6e-3};

TEST(FftConv, EqualsTheFormulaInEveryTypeAndShape) { expect_equal_to_the_formula(cases, limits); }
TEST(FftConv, GradientsEqualFiniteDifferences) { expect_gradients_equal_to_finite_differences(cases); }
TEST(FftConv, BackwardIsTheAdjointOfForward) { expect_backward_is_the_adjoint(cases); }
TEST(FftConv, PackedEqualsOneDocumentAtATime) { expect_packed_equal_to_one_document_at_a_time(cases, limits); }
TEST(FftConv, WritesResultsAndAddsToParameterGradients) {
  expect_results_are_written_and_parameter_gradients_added_to(cases);
}
TEST(FftConv, AcceptsColumnsOfWiderMatrices) { expect_row_strides_are_free(cases); }

TEST(FftConv, NonFiniteValuesStayInTheirDocument) {
  expect_non_finite_values_stay_in_their_document(packed({{"of one length", 3, 3, 40, {0, 30, 60, 90}}}));
  expect_non_finite_values_stay_in_their_document(packed({{"of several", 2, 2, 40, {0, 50, 59, 140}}}));
}

TEST(FftConv, GivesTheSameBitsOnAnyNumberOfThreads) {
  expect_same_bits_on_any_number_of_threads(packed({{"long", 3, 50, 400, growing_documents(2000)}}));
}

TEST(FftConv, AgreesWithTheModalAndTheDirectMethodOfHyenaLi) {
  const Stream stream;
  constexpr std::int64_t T = 300, D = 5, M = 16;
  const std::vector<std::int64_t> cu_seqlens{0, 40, 41, 300};
  const auto tokenwise = [&](std::uint64_t seed) { return random_tensor(stream, DType::f64, {T, D}, seed); };
  const Tensor q = tokenwise(1), k = tokenwise(2), v = tokenwise(3), d_y = tokenwise(4),
               skip = random_tensor(stream, DType::f64, {D}, 5);
  const Tensor residues = random_tensor(stream, DType::f64, {D, M}, 6),
               log_rates = random_tensor(stream, DType::f64, {D, M}, 7, -8, 0);
  const GatedConvInputs in{.q = q, .k = k, .v = v, .skip = skip, .segments = segments_view(cu_seqlens, T)};
  struct Result {
    Tensor y, d_q, d_k, d_v, d_skip, d_residues, d_log_rates;
    GatedConvGradients gradients(TensorView of) const {
      return {.d_y = of, .d_q = d_q, .d_k = d_k, .d_v = d_v, .d_skip = d_skip};
    }
    std::vector<TensorView> all() const { return {y, d_q, d_k, d_v, d_skip, d_residues, d_log_rates}; }
  };
  const auto zeros = [&](Shape shape) { return Tensor::zeros(stream, DType::f64, shape); };
  const auto result = [&] {
    return Result{zeros({T, D}), zeros({T, D}), zeros({T, D}), zeros({T, D}), zeros({D}), zeros({D, M}), zeros({D, M})};
  };
  const Result modal = result(), direct = result(), fft = result();
  const Tensor states = zeros({ceil_div(T, modal_conv_block), D, M}), taps = zeros({D, T});
  modal_conv_forward(
      stream, {.in = in, .residues = residues, .log_rates = log_rates, .state_in = {}, .y = modal.y, .states = states});
  modal_conv_backward(stream, {.in = in,
                               .residues = residues,
                               .log_rates = log_rates,
                               .states = states,
                               .adjoint_in = {},
                               .gradients = modal.gradients(d_y),
                               .d_residues = modal.d_residues,
                               .d_log_rates = modal.d_log_rates});
  modal_filter(stream, {.residues = residues, .log_rates = log_rates, .taps = taps});
  for (const Result* of : {&direct, &fft}) {
    const Tensor d_taps = zeros({D, T});
    if (of == &direct) {
      blocked_conv_forward(stream, {.in = in, .halo = {}, .taps = taps, .y = of->y});
      blocked_conv_backward(
          stream,
          {.in = in, .halo = {}, .taps = taps, .gradients = of->gradients(d_y), .d_halo = {}, .d_taps = d_taps});
    } else {
      fft_conv_forward(stream, {.in = in, .taps = taps, .y = of->y});
      fft_conv_backward(stream, {.in = in, .taps = taps, .gradients = of->gradients(d_y), .d_taps = d_taps});
    }
    modal_filter_backward(stream, {.residues = residues,
                                   .log_rates = log_rates,
                                   .d_taps = d_taps,
                                   .d_residues = of->d_residues,
                                   .d_log_rates = of->d_log_rates});
    for (std::size_t i = 0; i < modal.all().size(); ++i)
      EXPECT_LE(relative_error(of->all()[i], modal.all()[i]), 1e-12) << i;
  }
}

TEST(FftConv, RefusesDocumentsThatReachBeyondTheRun) {
  const Stream stream;
  const Tensor v = random_tensor(stream, DType::f32, {12, 4}, 1), taps = random_tensor(stream, DType::f32, {2, 3}, 2),
               y(stream, DType::f32, {12, 4});
  for (const auto& [cu_seqlens, whole] : std::vector<std::pair<std::vector<std::int64_t>, bool>>{
           {{0, 12}, true}, {{-3, 12}, false}, {{0, 5, 14}, false}}) {
    const auto call = [&] {
      fft_conv_forward(stream, {.in = {.q = {}, .k = {}, .v = v, .skip = {}, .segments = segments_view(cu_seqlens, 12)},
                                .taps = taps,
                                .y = y});
    };
    if (whole)
      EXPECT_NO_THROW(call());
    else
      EXPECT_THROW(call(), Error);
  }
}

}  // namespace
}  // namespace causeway
