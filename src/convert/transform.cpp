#include "src/convert/transform.hpp"

#include <cstring>
#include <span>

#include "kernels/core/error.hpp"

namespace causeway {
namespace {

/// Rows (outer, inner) of equal size to (inner, outer).
Elements swapped(const Elements& in, std::int64_t outer, std::int64_t inner) {
  const auto row = static_cast<std::int64_t>(in.bytes.size()) / (outer * inner);
  ensure(row * outer * inner == std::ssize(in.bytes), "{} bytes are not {}·{} rows", in.bytes.size(), outer, inner);
  Elements out = zeros(in.count(), in.type);
  for (std::int64_t o = 0; o < outer; ++o)
    for (std::int64_t i = 0; i < inner; ++i)
      std::memcpy(out.bytes.data() + (i * outer + o) * row, in.bytes.data() + (o * inner + i) * row,
                  static_cast<std::size_t>(row));
  return out;
}

/// A transform of one tensor, or of several that are concatenated first.
Transform of_whole(std::function<Elements(Elements)> forward, std::function<Elements(Elements)> inverse) {
  return {.to_parameter = [forward = std::move(forward)](
                              std::vector<Elements> tensors) { return forward(concatenated(std::move(tensors))); },
          .to_tensors =
              [inverse = std::move(inverse)](Elements parameter, const std::vector<std::int64_t>& counts) {
                Elements whole = inverse(std::move(parameter));
                if (counts.size() == 1) return std::vector{std::move(whole)};
                return divided(whole, counts);
              }};
}

}  // namespace

Transform stacked() {
  const auto same = [](Elements elements) { return elements; };
  return of_whole(same, same);
}

Transform outer_axes_swapped(std::int64_t outer, std::int64_t inner) {
  return of_whole([=](Elements elements) { return swapped(elements, outer, inner); },
                  [=](Elements elements) { return swapped(elements, inner, outer); });
}

Transform constant(std::int64_t count, double value) {
  return {.result_type = TensorType::f32,
          .to_parameter =
              [=](std::vector<Elements>) {
                const std::vector<float> values(static_cast<std::size_t>(count), static_cast<float>(value));
                const auto bytes = std::as_bytes(std::span(values));
                return Elements{.type = TensorType::f32, .bytes = {bytes.begin(), bytes.end()}};
              },
          .to_tensors =
              [=](Elements parameter, const std::vector<std::int64_t>&) {
                const std::vector<double> values = doubles_of(std::move(parameter));
                for (std::size_t i = 0; i < values.size(); ++i)
                  require(values[i] == value,
                          "is {} at element {}, expected {} everywhere: the format has no such tensor", values[i], i,
                          value);
                return std::vector<Elements>();
              }};
}

}  // namespace causeway
