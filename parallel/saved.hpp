#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "kernels/core/tensor.hpp"

namespace causeway {

/// The tensors that a forward pass keeps for its backward pass, in named slots. An operator that calls another one
/// gives it a separate scope, so that both can use the same slot names. Backward takes every slot out, which frees a
/// tensor as soon as its user is done with it. All violations are defects: Error(internal) names the scope and the
/// slot.
class Saved {
 public:
  Saved() = default;
  explicit Saved(std::string name) : name_(std::move(name)) {}  ///< `name` begins the scope in error messages

  /// Fails if the slot is in use. An absent tensor can be put, and taken, like any other.
  void put(std::string_view slot, Tensor tensor);
  /// Moves the tensor out; fails if nothing was put into the slot, or if it was taken already.
  Tensor take(std::string_view slot);
  /// The scope of that name within this one; made at the first call. The reference stays valid.
  Saved& scope(std::string_view name);

  bool empty() const;         ///< no slot is in use, in this scope or one below it
  void ensure_empty() const;  ///< to be called after backward: fails with the names of the slots that are left

 private:
  std::string leftovers() const;

  std::string name_;
  std::map<std::string, Tensor, std::less<>> slots_;
  std::map<std::string, std::unique_ptr<Saved>, std::less<>> scopes_;
};

/// The scope of that name within `saved`; null if `saved` is null, which means that no tensor is kept (scoring).
inline Saved* scope_of(Saved* saved, std::string_view name) { return saved == nullptr ? nullptr : &saved->scope(name); }

}  // namespace causeway
