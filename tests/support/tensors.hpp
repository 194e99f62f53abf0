#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "kernels/core/segments.hpp"
#include "kernels/core/tensor.hpp"

/// Shared by tests: tensors of random numbers, their values as doubles, and comparisons.
namespace causeway::test {

/// Uniform in [low, high), rounded to dtype (i32: floored); the same for the same seed.
Tensor random_tensor(const Stream& stream, DType dtype, Shape shape, std::uint64_t seed, double low = -1,
                     double high = 1);
/// `values`, row-major, converted to dtype.
Tensor tensor_of(const Stream& stream, DType dtype, Shape shape, std::span<const double> values);
/// x in another dtype, dense.
Tensor converted(const Stream& stream, TensorView x, DType dtype);

/// A copy in `to`'s memory of x, which is dense and in `from`'s memory. Complete when this returns.
Tensor moved(TensorView x, const Stream& from, const Stream& to);

/// Every element as a double, row-major, for any row stride.
std::vector<double> values_of(TensorView x);
/// Writes `values`, row-major, converted to x's dtype.
void assign(TensorView x, std::span<const double> values);

/// Half the distance between 1 and the next larger number: the relative error of one rounding to dtype.
constexpr double rounding_of(DType dtype) {
  return dtype == DType::f64 ? 0x1p-53 : dtype == DType::f32 ? 0x1p-24 : 0x1p-9;
}
inline constexpr DType floating_types[] = {DType::f64, DType::f32, DType::bf16};
/// The name of an instance of a test that runs over dtypes, for GoogleTest.
inline std::string dtype_name(const auto& info) { return std::string(name_of(info.param)); }

/// A matrix as columns of a wider matrix, whose other columns hold a sentinel: for tests of row strides.
class Padded {
 public:
  Padded(const Stream& stream, TensorView values, std::int64_t left = 3, std::int64_t right = 2);
  TensorView view() const;
  operator TensorView() const { return view(); }  // NOLINT: converts to a view implicitly
  bool padding_untouched() const;

 private:
  Tensor wide_;
  std::int64_t left_, columns_;
};

double norm(std::span<const double> a);
double dot(std::span<const double> a, std::span<const double> b);
double dot(TensorView a, TensorView b);
/// ‖a - b‖ / ‖b‖; ‖a‖ if b is zero; infinite if either holds a NaN or the sizes differ, so that `<` fails.
double relative_error(std::span<const double> a, std::span<const double> b);
double relative_error(TensorView a, TensorView b);
/// Whether shape, dtype and bits are equal (NaNs of one bit pattern are equal).
bool same_bits(TensorView a, TensorView b);

/// ∂loss/∂x by central differences: changes each element of x (f64) by ±step, calls loss(), and restores it.
std::vector<double> finite_differences(TensorView x, const std::function<double()>& loss, double step = 1e-5);
/// |⟨Lx, y⟩ - ⟨x, Lᵀy⟩| / (‖Lx‖‖y‖ + ‖x‖‖Lᵀy‖): a rounding error if the second map is the adjoint of the first.
double adjoint_mismatch(std::span<const double> Lx, std::span<const double> y, std::span<const double> x,
                        std::span<const double> LTy);

/// Random documents with `tokens` tokens in total: empty ones, one-token ones, short and long ones.
Segments random_segments(std::int64_t tokens, std::uint64_t seed);

}  // namespace causeway::test
