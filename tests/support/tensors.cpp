#include "tests/support/tensors.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/core/random.hpp"

namespace causeway::test {
namespace {

constexpr double sentinel = 119;  // exact in every dtype

/// dispatch() for all dtypes, integers too.
template <class Body>
decltype(auto) dispatch_number(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::i64:
      return body.template operator()<std::int64_t>();
    case DType::i32:
      return body.template operator()<std::int32_t>();
    case DType::u8:
      return body.template operator()<std::uint8_t>();
    default:
      return dispatch(dtype, std::forward<Body>(body));
  }
}

template <class T>
T number(double value) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(std::floor(value));
  else if constexpr (std::is_same_v<T, double>)
    return value;
  else
    return T(static_cast<float>(value));
}

}  // namespace

Tensor random_tensor(const Stream& stream, DType dtype, Shape shape, std::uint64_t seed, double low, double high) {
  const RandomStream draws(seed, 0x7e57);
  std::vector<double> values(static_cast<std::size_t>(shape.size()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = low + (high - low) * draws.uniform(i);
  return tensor_of(stream, dtype, shape, values);
}

Tensor tensor_of(const Stream& stream, DType dtype, Shape shape, std::span<const double> values) {
  Tensor result(stream, dtype, shape);
  assign(result, values);
  return result;
}

Tensor converted(const Stream& stream, TensorView x, DType dtype) {
  return tensor_of(stream, dtype, x.shape, values_of(x));
}

Tensor moved(TensorView x, const Stream& from, const Stream& to) {
  Tensor copy(to, x.dtype, x.shape);
  const Stream& mover = from.device() == Device::cpu ? to : from;
  mover.copy(copy.view().data, x.as_bytes().data(), x.bytes());
  mover.wait();
  return copy;
}

std::vector<double> values_of(TensorView x) {
  std::vector<double> values;
  if (!x.present()) return values;
  values.reserve(static_cast<std::size_t>(x.size()));
  dispatch_number(x.dtype, [&]<class T>() {
    for (std::int64_t r = 0; r < x.rows(); ++r)
      for (std::int64_t c = 0; c < x.columns(); ++c) values.push_back(static_cast<double>(x.row<T>(r)[c]));
  });
  return values;
}

void assign(TensorView x, std::span<const double> values) {
  ensure(x.size() == static_cast<std::int64_t>(values.size()), "{} values for a tensor {}", values.size(),
         x.shape.to_string());
  auto next = values.begin();
  dispatch_number(x.dtype, [&]<class T>() {
    for (std::int64_t r = 0; r < x.rows(); ++r)
      for (std::int64_t c = 0; c < x.columns(); ++c) x.row<T>(r)[c] = number<T>(*next++);
  });
}

Padded::Padded(const Stream& stream, TensorView values, std::int64_t left, std::int64_t right)
    : wide_(stream, values.dtype, {values.rows(), left + values.columns() + right}),
      left_(left),
      columns_(values.columns()) {
  assign(wide_, std::vector<double>(static_cast<std::size_t>(wide_.view().size()), sentinel));
  assign(view(), values_of(values));
}

TensorView Padded::view() const { return wide_.view().slice_columns(left_, columns_); }

bool Padded::padding_untouched() const {
  const TensorView wide = wide_.view();
  return dispatch_number(wide.dtype, [&]<class T>() {
    for (std::int64_t r = 0; r < wide.rows(); ++r)
      for (std::int64_t c = 0; c < wide.columns(); ++c)
        if ((c < left_ || c >= left_ + columns_) && static_cast<double>(wide.row<T>(r)[c]) != sentinel) return false;
    return true;
  });
}

double norm(std::span<const double> a) { return std::sqrt(dot(a, a)); }

double dot(std::span<const double> a, std::span<const double> b) {
  ensure(a.size() == b.size(), "dot of {} and {} values", a.size(), b.size());
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

double dot(TensorView a, TensorView b) { return dot(values_of(a), values_of(b)); }

double relative_error(std::span<const double> a, std::span<const double> b) {
  constexpr double never = std::numeric_limits<double>::infinity();
  if (a.size() != b.size()) return never;
  double difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) difference += (a[i] - b[i]) * (a[i] - b[i]);
  const double scale = norm(b), error = std::sqrt(difference) / (scale > 0 ? scale : 1);
  return std::isfinite(error) ? error : never;
}

double relative_error(TensorView a, TensorView b) { return relative_error(values_of(a), values_of(b)); }

bool same_bits(TensorView a, TensorView b) {
  if (a.dtype != b.dtype || a.shape != b.shape) return false;
  const auto row_bytes = static_cast<std::size_t>(a.columns() * size_of(a.dtype));
  for (std::int64_t r = 0; r < a.rows(); ++r) {
    const auto at = [&](TensorView x) {
      return static_cast<const std::byte*>(x.data) + r * x.row_stride * size_of(x.dtype);
    };
    if (row_bytes > 0 && std::memcmp(at(a), at(b), row_bytes) != 0) return false;
  }
  return true;
}

std::vector<double> finite_differences(TensorView x, const std::function<double()>& loss, double step) {
  ensure(x.dtype == DType::f64, "finite differences of {} values, expected f64", name_of(x.dtype));
  std::vector<double> gradient;
  for (std::int64_t r = 0; r < x.rows(); ++r)
    for (std::int64_t c = 0; c < x.columns(); ++c) {
      double& element = x.row<double>(r)[c];
      const double here = element;
      element = here + step;
      const double above = loss();
      element = here - step;
      const double below = loss();
      element = here;
      gradient.push_back((above - below) / (2 * step));
    }
  return gradient;
}

double adjoint_mismatch(std::span<const double> Lx, std::span<const double> y, std::span<const double> x,
                        std::span<const double> LTy) {
  const double scale = norm(Lx) * norm(y) + norm(x) * norm(LTy);
  return std::abs(dot(Lx, y) - dot(x, LTy)) / (scale > 0 ? scale : 1);
}

Segments random_segments(std::int64_t tokens, std::uint64_t seed) {
  const RandomStream draws(seed, 0x5e6);
  std::vector<std::int64_t> cu_seqlens{0};
  std::uint64_t index = 0;
  while (cu_seqlens.back() < tokens) {
    const std::uint64_t kind = draws.below(index++, 4);
    const std::uint64_t longest = kind == 3 ? static_cast<std::uint64_t>(tokens) : 8;
    const auto length =
        kind < 2 ? static_cast<std::int64_t>(kind) : static_cast<std::int64_t>(1 + draws.below(index++, longest));
    cu_seqlens.push_back(std::min(tokens, cu_seqlens.back() + length));
  }
  if (draws.below(index, 2) == 1) cu_seqlens.push_back(tokens);
  return Segments(std::move(cu_seqlens));
}

}  // namespace causeway::test
