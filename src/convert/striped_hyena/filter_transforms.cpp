#include "src/convert/striped_hyena/filter_transforms.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>

#include "kernels/core/error.hpp"

namespace causeway {
namespace {

/// Logarithms of the rates -0 and +0, so that both come back; exp() of them is 0 in every type.
constexpr double log_of_minus_zero = -1e4, log_of_zero = -2e4;

double log_rate(double x) {
  require(!(x > 0), "has a pole with logarithm {}, expected none above 0: its filter grows without bound", x);
  if (x == 0) return std::signbit(x) ? log_of_minus_zero : log_of_zero;
  return std::log(-x);
}

double pole_of(double log_rate) { return log_rate == log_of_zero ? 0.0 : -std::exp(log_rate); }

Elements of_doubles(std::span<const double> values) {
  const auto bytes = std::as_bytes(values);
  return {.type = TensorType::f64, .bytes = {bytes.begin(), bytes.end()}};
}

/// In f64.
Elements mapped(Elements elements, double (*function)(double)) {
  std::vector<double> values = doubles_of(std::move(elements));
  std::ranges::transform(values, values.begin(), function);
  return of_doubles(values);
}

Elements with_reversed_rows(Elements elements, std::int64_t taps) {
  const std::int64_t each = size_of(elements.type), row = taps * each;
  Elements out = zeros(elements.count(), elements.type);
  for (std::int64_t at = 0; at < std::ssize(out.bytes); at += each) {
    const std::int64_t inside = at % row;
    std::memcpy(out.bytes.data() + at, elements.bytes.data() + (at - inside) + (row - each - inside),
                static_cast<std::size_t>(each));
  }
  return out;
}

Elements to_model(Elements stored, const StoredFilter& filter) {
  if (filter.reversed) stored = with_reversed_rows(std::move(stored), filter.taps);
  if (filter.repeated == 1) return stored;
  const std::int64_t row = filter.taps * size_of(stored.type);
  Elements out{.type = stored.type, .bytes = {}};
  for (std::int64_t group = 0; group < filter.groups; ++group)
    for (std::int64_t copy = 0; copy < filter.repeated; ++copy)
      out.bytes.insert(out.bytes.end(), stored.bytes.begin() + group * row, stored.bytes.begin() + (group + 1) * row);
  return out;
}

Elements to_stored(Elements parameter, const StoredFilter& filter) {
  const std::int64_t row = filter.taps * size_of(parameter.type);
  Elements out{.type = parameter.type, .bytes = {}};
  for (std::int64_t group = 0; group < filter.groups; ++group) {
    const auto first = parameter.bytes.begin() + group * filter.repeated * row;
    for (std::int64_t copy = 1; copy < filter.repeated; ++copy)
      require(std::equal(first, first + row, first + copy * row),
              "has different filters in group {}, expected one: the format has {} groups", group, filter.groups);
    out.bytes.insert(out.bytes.end(), first, first + row);
  }
  return filter.reversed ? with_reversed_rows(std::move(out), filter.taps) : out;
}

/// The first `taps` elements of each of `rows` rows.
std::vector<double> leading(Elements elements, std::int64_t rows, std::int64_t taps) {
  const std::vector<double> all = doubles_of(std::move(elements));
  const std::int64_t columns = std::ssize(all) / rows;
  std::vector<double> values;
  for (std::int64_t row = 0; row < rows; ++row)
    values.insert(values.end(), all.begin() + row * columns, all.begin() + row * columns + taps);
  return values;
}

template <class Function>
Elements combined(Elements values, Elements others, double neutral, Function function) {
  const std::vector<double> second = doubles_of(std::move(others));
  if (std::ranges::all_of(second, [=](double each) { return each == neutral; })) return values;
  std::vector<double> first = doubles_of(std::move(values));
  std::ranges::transform(first, second, first.begin(), function);
  return of_doubles(first);
}

}  // namespace

Transform stored_filter(const StoredFilter& filter) {
  return {.to_parameter = [=](std::vector<Elements> tensors) { return to_model(std::move(tensors.at(0)), filter); },
          .to_tensors =
              [=](Elements parameter, const std::vector<std::int64_t>&) {
                return std::vector{to_stored(std::move(parameter), filter)};
              }};
}

Transform product_of_leading_taps(const StoredFilter& filter) {
  const auto product = [=](std::vector<Elements> tensors) {
    const TensorType type = common_type(tensors.at(0).type, tensors.at(1).type);
    std::vector<double> values = leading(std::move(tensors[0]), filter.groups, filter.taps);
    const std::vector<double> factors = leading(std::move(tensors[1]), filter.groups, filter.taps);
    std::ranges::transform(values, factors, values.begin(), std::multiplies());
    return to_model(converted(of_doubles(values), type), filter);
  };
  return {.to_parameter = product, .to_tensors = nullptr};
}

Transform log_of_rate() {
  return {.result_type = TensorType::f64,
          .to_parameter = [](std::vector<Elements> tensors) { return mapped(std::move(tensors.at(0)), log_rate); },
          .to_tensors =
              [](Elements parameter, const std::vector<std::int64_t>&) {
                return std::vector{mapped(std::move(parameter), pole_of)};
              }};
}

Transform kept_in_other(std::int64_t count, double value) {
  Transform transform = constant(count, value);
  transform.to_tensors = [](Elements, const std::vector<std::int64_t>&) { return std::vector<Elements>(); };
  return transform;
}

Elements product_of(Elements values, Elements factors) {
  return combined(std::move(values), std::move(factors), 1, std::multiplies());
}
Elements sum_of(Elements values, Elements summands) {
  return combined(std::move(values), std::move(summands), 0, std::plus());
}

Elements computed_frequencies(double base, std::int64_t channels) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < channels; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(channels);
    values.push_back(1.0F / static_cast<float>(std::pow(base, static_cast<double>(exponent))));
  }
  return converted(of_doubles(values), TensorType::f32);
}

}  // namespace causeway
