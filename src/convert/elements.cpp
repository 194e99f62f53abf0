#include "src/convert/elements.hpp"

#include <algorithm>

#include "kernels/core/error.hpp"

namespace causeway {

Elements zeros(std::int64_t count, TensorType type) {
  return {.type = type, .bytes = std::vector<std::byte>(static_cast<std::size_t>(count * size_of(type)))};
}

std::vector<double> doubles_of(Elements elements) {
  const Elements wide = converted(std::move(elements), TensorType::f64);
  std::vector<double> values(static_cast<std::size_t>(wide.count()));
  std::ranges::copy(wide.bytes, std::as_writable_bytes(std::span(values)).begin());
  return values;
}

Elements converted(Elements elements, TensorType type) {
  if (elements.type == type) return elements;
  Elements out = zeros(elements.count(), type);
  convert_elements(elements.type, elements.bytes, type, out.bytes);
  return out;
}

TensorType common_type(TensorType a, TensorType b) {
  if (holds_all_of(a, b)) return a;
  if (holds_all_of(b, a)) return b;
  return TensorType::f32;  // f16 and bf16
}

TensorType common_type(std::span<const TensorType> types) {
  TensorType common = types.front();
  for (const TensorType type : types) common = common_type(common, type);
  return common;
}

Elements concatenated(std::vector<Elements> parts) {
  ensure(!parts.empty(), "no tensors to concatenate");
  Elements whole = std::move(parts.front());
  TensorType type = whole.type;
  for (std::size_t p = 1; p < parts.size(); ++p) type = common_type(type, parts[p].type);
  whole = converted(std::move(whole), type);
  for (std::size_t p = 1; p < parts.size(); ++p) {
    const Elements part = converted(std::move(parts[p]), type);
    whole.bytes.insert(whole.bytes.end(), part.bytes.begin(), part.bytes.end());
  }
  return whole;
}

std::vector<Elements> divided(const Elements& whole, const std::vector<std::int64_t>& counts) {
  std::vector<Elements> parts;
  auto at = whole.bytes.begin();
  for (const std::int64_t count : counts) {
    const auto end = at + count * size_of(whole.type);
    parts.push_back({whole.type, {at, end}});
    at = end;
  }
  ensure(at == whole.bytes.end(), "a tensor of {} elements has other parts", whole.count());
  return parts;
}

}  // namespace causeway
