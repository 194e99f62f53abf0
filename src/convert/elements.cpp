#include "src/convert/elements.hpp"

#include "kernels/core/error.hpp"

namespace causeway {

Elements converted(Elements elements, TensorType type) {
  if (elements.type == type) return elements;
  Elements out{.type = type, .bytes = {}};
  out.bytes.resize(static_cast<std::size_t>(elements.count() * size_of(type)));
  convert_elements(elements.type, elements.bytes, type, out.bytes);
  return out;
}

TensorType common_type(TensorType a, TensorType b) {
  if (holds_all_of(a, b)) return a;
  if (holds_all_of(b, a)) return b;
  return TensorType::f32;  // f16 and bf16
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
