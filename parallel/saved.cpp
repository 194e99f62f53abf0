#include "parallel/saved.hpp"

#include <fmt/format.h>

namespace causeway {

void Saved::put(std::string_view slot, Tensor tensor) {
  const bool added = slots_.try_emplace(std::string(slot), std::move(tensor)).second;
  ensure(added, "saved tensors of '{}': forward put slot '{}' twice", name_, slot);
}

Tensor Saved::take(std::string_view slot) {
  const auto found = slots_.find(slot);
  ensure(found != slots_.end(), "saved tensors of '{}': backward takes slot '{}', which forward did not put", name_,
         slot);
  Tensor tensor = std::move(found->second);
  slots_.erase(found);
  return tensor;
}

Saved& Saved::scope(std::string_view name) {
  std::unique_ptr<Saved>& found = scopes_[std::string(name)];
  if (found == nullptr)
    found = std::make_unique<Saved>(name_.empty() ? std::string(name) : fmt::format("{}/{}", name_, name));
  return *found;
}

bool Saved::empty() const { return leftovers().empty(); }

void Saved::ensure_empty() const {
  const std::string left = leftovers();
  ensure(left.empty(), "saved tensors that backward did not take:{}", left);
}

std::string Saved::leftovers() const {
  std::string text;
  for (const auto& [slot, tensor] : slots_) text += fmt::format(" '{}' of '{}'", slot, name_);
  for (const auto& [name, below] : scopes_) text += below->leftovers();
  return text;
}

}  // namespace causeway
