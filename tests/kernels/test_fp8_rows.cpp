/// 8-bit floats that other kernels than quantise_to_fp8 write: in place of their own results, or transposed.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/activation.hpp"
#include "kernels/gemm.hpp"
#include "kernels/norm.hpp"
#include "tests/support/gpu.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();

/// Memory for a matrix in 8-bit floats.
struct Codes {
  Tensor codes, scales;
  Fp8Format format;
  Codes(const Stream& stream, Shape shape, Fp8Format of)
      : codes(stream, DType::u8, shape), scales(stream, DType::f32, {shape[0]}), format(of) {}
  Fp8Matrix matrix() const { return {.codes = codes, .scales = scales, .format = format}; }
};
Codes quantised(const Stream& stream, TensorView x, Fp8Format format) {
  Codes of(stream, x.shape, format);
  quantise_to_fp8(stream, {.x = x, .format = format, .codes = of.codes, .scales = of.scales});
  return of;
}
bool same(const Stream& stream, const Codes& a, const Codes& b) {
  const Stream cpu;
  const auto host = [&](const Tensor& x) { return moved(x, stream, cpu); };
  return same_bits(host(a.codes), host(b.codes)) && same_bits(host(a.scales), host(b.scales));
}

/// Random values over many binades, among them a row of zeros and, if there are enough, NaN and infinity.
Tensor wide_range(const Stream& stream, DType dtype, const Shape& shape, std::uint64_t seed, bool special) {
  const Stream cpu;
  const Tensor x = random_tensor(cpu, dtype, shape, seed, -2, 2);
  std::vector<double> values = values_of(x);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] *= std::ldexp(1, static_cast<int>(i % 13) - 6);
    if (shape[0] > 2 && i / static_cast<std::size_t>(shape[1]) == 1) values[i] = 0;
  }
  if (special && values.size() > 40) values[3] = nan, values[20] = infinity, values[33] = -infinity;
  assign(x, values);
  return moved(x, cpu, stream);
}

constexpr std::array<std::array<std::int64_t, 2>, 9> shapes{
    {{1, 1}, {5, 7}, {3, 64}, {130, 48}, {17, 2048}, {9, 4100}, {3, 9001}, {2, 22016}, {3, 40000}}};

/// On the CPU, whose kernels are the definition, and on a GPU: the bytes of the separate kernel.
class Fp8Rows : public testing::TestWithParam<Device> {
 protected:
  void SetUp() override {
    if (GetParam() == Device::cuda) {
      gpu_ = gpu_stream();
      if (!gpu_) GTEST_SKIP() << "no usable GPU";
    }
  }
  const Stream& stream() const { return gpu_ ? *gpu_ : cpu_; }
  /// Random values on the device.
  Tensor random(DType dtype, const Shape& shape, std::uint64_t seed, double low = -1, double high = 1) const {
    return moved(random_tensor(cpu_, dtype, shape, seed, low, high), cpu_, stream());
  }
  bool same_values(TensorView a, TensorView b) const {
    return same_bits(moved(a, stream(), cpu_), moved(b, stream(), cpu_));
  }

 private:
  Stream cpu_;
  std::optional<Stream> gpu_;
};

TEST_P(Fp8Rows, OfANormAreThoseOfItsResult) {
  std::uint64_t seed = 1;
  for (const auto& [rows, columns] : shapes)
    for (const bool special : {false, true})
      for (const bool adds : {false, true}) {
        const Shape shape{rows, columns};
        const Tensor residual = wide_range(stream(), DType::f32, shape, ++seed, special),
                     x = wide_range(stream(), DType::bf16, shape, ++seed, special),
                     weight = random(DType::f32, {columns}, ++seed), sum(stream(), DType::f32, shape),
                     other_sum(stream(), DType::f32, shape), y(stream(), DType::bf16, shape),
                     also_y(stream(), DType::bf16, shape), rstd(stream(), DType::f32, {rows}),
                     other_rstd(stream(), DType::f32, {rows});
        RmsNormForward args{.x = adds ? x.view() : TensorView{},
                            .residual = residual,
                            .sum = adds ? sum.view() : TensorView{},
                            .weight = weight,
                            .y = y,
                            .rstd = rstd};
        rms_norm_forward(stream(), args);
        const Codes expected = quantised(stream(), y, Fp8Format::e4m3), found(stream(), shape, Fp8Format::e4m3),
                    beside(stream(), shape, Fp8Format::e4m3);
        args.rstd = other_rstd;
        if (adds) args.sum = other_sum;
        args.y = {};
        args.y_codes = found.matrix();
        rms_norm_forward(stream(), args);
        EXPECT_TRUE(same(stream(), found, expected)) << shape.to_string() << special << adds;
        EXPECT_TRUE(same_values(rstd, other_rstd)) << shape.to_string();
        if (adds) {
          EXPECT_TRUE(same_values(sum, other_sum)) << shape.to_string();
        }
        args.y = also_y;
        args.y_codes = beside.matrix();
        rms_norm_forward(stream(), args);
        EXPECT_TRUE(same(stream(), beside, expected)) << shape.to_string();
        EXPECT_TRUE(same_values(y, also_y)) << shape.to_string();
      }
}

TEST_P(Fp8Rows, OfANormsGradientAreThoseOfTheRoundedOne) {
  std::uint64_t seed = 100;
  for (const auto& [rows, columns] : shapes)
    for (const bool special : {false, true})
      for (const double beta : {0., 1.}) {
        const Shape shape{rows, columns};
        const Tensor residual = wide_range(stream(), DType::f32, shape, ++seed, false),
                     d_y = wide_range(stream(), DType::bf16, shape, ++seed, special),
                     weight = random(DType::f32, {columns}, ++seed), rstd = random(DType::f32, {rows}, ++seed, 0.5, 2),
                     narrow(stream(), DType::bf16, shape), also_narrow(stream(), DType::bf16, shape);
        std::vector<Tensor> d_residual, d_weight;
        const Codes found(stream(), shape, Fp8Format::e5m2), beside(stream(), shape, Fp8Format::e5m2);
        const auto backward = [&](TensorView d_narrow, const Fp8Matrix& codes) {
          d_residual.push_back(random(DType::f32, shape, 7));
          d_weight.push_back(random(DType::f32, {columns}, 8));
          rms_norm_backward(stream(), {.residual = residual,
                                       .weight = weight,
                                       .rstd = rstd,
                                       .d_y = d_y,
                                       .beta = beta,
                                       .d_residual = d_residual.back(),
                                       .d_narrow = d_narrow,
                                       .d_weight = d_weight.back(),
                                       .d_narrow_codes = codes});
        };
        backward(narrow, {});
        backward({}, found.matrix());
        backward(also_narrow, beside.matrix());
        const Codes expected = quantised(stream(), narrow, Fp8Format::e5m2);
        EXPECT_TRUE(same(stream(), found, expected)) << shape.to_string() << special << beta;
        EXPECT_TRUE(same(stream(), beside, expected)) << shape.to_string() << special << beta;
        EXPECT_TRUE(same_values(narrow, also_narrow)) << shape.to_string();
        for (const std::size_t i : {std::size_t{1}, std::size_t{2}}) {
          EXPECT_TRUE(same_values(d_residual[0], d_residual[i])) << shape.to_string();
          EXPECT_TRUE(same_values(d_weight[0], d_weight[i])) << shape.to_string();
        }
      }
}

TEST_P(Fp8Rows, OfAGatedActivationAreThoseOfItsResultAndGradients) {
  std::uint64_t seed = 200;
  for (const auto& [rows, columns] : shapes)
    for (const bool special : {false, true})
      for (const Activation activation : {Activation::none, Activation::silu, Activation::gelu}) {
        const Tensor ab = wide_range(stream(), DType::bf16, {rows, 2 * columns}, ++seed, special),
                     d_y = wide_range(stream(), DType::bf16, {rows, columns}, ++seed, special),
                     y(stream(), DType::bf16, {rows, columns}), d_ab(stream(), DType::bf16, {rows, 2 * columns});
        const auto half = [&](const Tensor& of, int which) {
          return of.view().slice_columns(which * columns, columns);
        };
        const Codes found(stream(), y.view().shape, Fp8Format::e4m3),
            found_d(stream(), d_ab.view().shape, Fp8Format::e5m2);
        GatedActivationForward forward{.a = half(ab, 0), .b = half(ab, 1), .activation = activation, .y = y};
        gated_activation_forward(stream(), forward);
        forward.y = {};
        forward.y_codes = found.matrix();
        gated_activation_forward(stream(), forward);
        GatedActivationBackward backward{.a = half(ab, 0),
                                         .b = half(ab, 1),
                                         .activation = activation,
                                         .d_y = d_y,
                                         .d_a = half(d_ab, 0),
                                         .d_b = half(d_ab, 1)};
        gated_activation_backward(stream(), backward);
        backward.d_a = backward.d_b = {};
        backward.d_codes = found_d.matrix();
        gated_activation_backward(stream(), backward);
        EXPECT_TRUE(same(stream(), found, quantised(stream(), y, Fp8Format::e4m3)))
            << rows << " " << columns << name_of(activation) << special;
        EXPECT_TRUE(same(stream(), found_d, quantised(stream(), d_ab, Fp8Format::e5m2)))
            << rows << " " << columns << name_of(activation) << special;
      }
}

INSTANTIATE_TEST_SUITE_P(Devices, Fp8Rows, testing::Values(Device::cpu, Device::cuda),
                         [](const auto& of) { return std::string(name_of(of.param)); });

double value_of(Fp8Format format, std::uint8_t code) {
  if (format == Fp8Format::e4m3) return static_cast<double>(std::bit_cast<E4m3>(code));
  return static_cast<double>(std::bit_cast<E5m2>(code));
}

/// Codes and scales of all kinds: every code, and rows whose scales are far apart.
Codes every_code(const Stream& stream, std::int64_t rows, std::int64_t columns, Fp8Format format) {
  Codes of(stream, {rows, columns}, format);
  for (std::int64_t r = 0; r < rows; ++r) {
    of.scales.view().as<float>()[static_cast<std::size_t>(r)] = std::ldexp(1.f, static_cast<int>(r * r % 45) - 30);
    for (std::int64_t c = 0; c < columns; ++c)
      of.codes.view().row<std::uint8_t>(r)[c] = static_cast<std::uint8_t>(r * 31 + c * 7);
  }
  return of;
}
/// Powers of two, some of them as small or large as scales are.
Tensor other_scales(std::int64_t rows) {
  const Stream cpu;
  Tensor others(cpu, DType::f32, {rows});
  for (std::int64_t r = 0; r < rows; ++r)
    others.view().as<float>()[static_cast<std::size_t>(r)] =
        std::ldexp(1.f, r % 7 == 3 ? -110 : static_cast<int>(r * 5 % 23) - 11);
  return others;
}
/// transpose_fp8 with so many zeros at the end of each row.
Codes transposed(const Stream& stream, const Codes& x, std::int64_t padding, TensorView others = {}) {
  const TensorView codes = x.codes;
  Codes y(stream, {codes.columns(), codes.rows() + padding}, x.format);
  transpose_fp8(stream, {.x = x.matrix(), .others = others, .codes = y.codes, .scales = y.scales});
  return y;
}
double number(const Codes& of, std::int64_t r, std::int64_t c) {
  return of.scales.view().as<float>()[static_cast<std::size_t>(r)] *
         value_of(of.format, of.codes.view().row<std::uint8_t>(r)[c]);
}

TEST(TransposeFp8, HasTheSameNumbersWithOneScale) {
  const Stream stream;
  constexpr std::int64_t rows = 70, columns = 40, padding = 5;
  const Codes x = every_code(stream, rows, columns, Fp8Format::e5m2);
  const Tensor others = other_scales(rows);
  for (const bool with_others : {false, true}) {
    const Codes y = transposed(stream, x, padding, with_others ? others.view() : TensorView{});
    const auto factor = [&](std::int64_t r) {
      return with_others ? values_of(others)[static_cast<std::size_t>(r)] : 1;
    };
    double scale = 0;
    for (std::int64_t r = 0; r < rows; ++r)
      scale = std::max(scale, values_of(x.scales)[static_cast<std::size_t>(r)] * factor(r));
    for (std::int64_t c = 0; c < columns; ++c) {
      EXPECT_EQ(y.scales.view().as<float>()[static_cast<std::size_t>(c)], scale);
      for (std::int64_t r = 0; r < rows; ++r) {
        const double from = number(x, r, c) * factor(r), to = number(y, c, r);
        if (std::isnan(from))
          EXPECT_TRUE(std::isnan(to));
        else if (std::isinf(from) || std::abs(from) >= scale * std::ldexp(1, -14))
          EXPECT_EQ(to, from);
        else
          EXPECT_LE(std::abs(to - from), scale * std::ldexp(1, -17)) << from;
      }
      for (std::int64_t r = rows; r < rows + padding; ++r) EXPECT_EQ(number(y, c, r), 0);
    }
  }
}

TEST(TransposeFp8, KeepsCodesOfE4m3AndLeavesTheirScalesToTheOtherOperand) {
  const Stream stream;
  const Codes x = every_code(stream, 300, 40, Fp8Format::e4m3), y = transposed(stream, x, 4);
  for (std::int64_t c = 0; c < 40; ++c) {
    EXPECT_EQ(y.scales.view().as<float>()[static_cast<std::size_t>(c)], 1);
    for (std::int64_t r = 0; r < 300; ++r)
      ASSERT_EQ(y.codes.view().row<std::uint8_t>(c)[r], x.codes.view().row<std::uint8_t>(r)[c]);
    for (std::int64_t r = 300; r < 304; ++r) EXPECT_EQ(y.codes.view().row<std::uint8_t>(c)[r], 0);
  }
}

/// A sum over tokens of numbers with scales a token. Tokens whose gradient is 0 must not take the others' precision.
TEST(TransposeFp8, MakesSumsOverRowsOfBothOperands) {
  const Stream stream;
  constexpr std::int64_t rows = 48, m = 16, n = 32;
  const Tensor d_y = wide_range(stream, DType::bf16, {rows, m}, 1, false),
               x = random_tensor(stream, DType::bf16, {rows, n}, 2), found(stream, DType::f32, {m, n}),
               expected(stream, DType::f32, {m, n});
  std::vector<double> small = values_of(d_y);
  for (double& value : small) value *= std::ldexp(1, -24);
  assign(d_y, small);
  const Codes of_d_y = quantised(stream, d_y, Fp8Format::e5m2), of_x = quantised(stream, x, Fp8Format::e4m3),
              a = transposed(stream, of_d_y, 0, of_x.scales), b = transposed(stream, of_x, 0);
  fp8_gemm(stream, {.a = a.matrix(), .b = b.matrix(), .c = found});
  round_to_fp8(stream, {.x = d_y, .format = Fp8Format::e5m2, .y = d_y});
  round_to_fp8(stream, {.x = x, .format = Fp8Format::e4m3, .y = x});
  gemm(stream, {.a = d_y, .b = x, .transpose_a = true, .c = expected});
  EXPECT_LT(relative_error(values_of(found), values_of(expected)), 1e-6);
}

class TransposeFp8OnAGpu : public GpuTest {};
INSTANTIATE_TEST_SUITE_P(Fp8, TransposeFp8OnAGpu, testing::Values(DType::bf16),
                         dtype_name<testing::TestParamInfo<DType>>);

TEST_P(TransposeFp8OnAGpu, HasTheBitsOfTheCpu) {
  for (const auto& [rows, columns] :
       {std::array<std::int64_t, 2>{1, 16}, {70, 40}, {300, 256}, {1000, 160}, {129, 33}, {0, 16}, {4, 4096}})
    for (const Fp8Format format : {Fp8Format::e4m3, Fp8Format::e5m2})
      for (const bool with_others : {false, true})
        for (const std::int64_t padding : {std::int64_t{0}, std::int64_t{3}, 16 - rows % 16}) {
          if (with_others && format == Fp8Format::e4m3) continue;
          const Codes x = every_code(cpu(), rows, columns, format);
          const Tensor others = with_others ? other_scales(rows) : Tensor(), others_gpu = to_gpu(others);
          Codes on_gpu(cpu(), {0, 0}, format);
          on_gpu.codes = to_gpu(x.codes);
          on_gpu.scales = to_gpu(x.scales);
          const Codes expected = transposed(cpu(), x, padding, others),
                      found = transposed(gpu(), on_gpu, padding, others_gpu);
          EXPECT_TRUE(same_bits(to_cpu(found.codes), expected.codes)) << rows << " " << columns << " " << padding;
          EXPECT_TRUE(same_bits(to_cpu(found.scales), expected.scales)) << rows << " " << columns << " " << padding;
        }
}

}  // namespace
}  // namespace causeway::test
