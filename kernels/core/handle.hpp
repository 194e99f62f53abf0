#pragma once

#include <utility>

namespace causeway {

/// Owns one handle of a foreign library and closes it in its destructor. Movable, not copyable. Traits give `type`,
/// `null()` (which is not always type{}: HDF5's is -1) and `close(type) noexcept`.
template <class Traits>
class Handle {
 public:
  using type = typename Traits::type;

  Handle() = default;
  explicit Handle(type value) : value_(value) {}
  Handle(Handle&& other) noexcept : value_(std::exchange(other.value_, Traits::null())) {}
  Handle& operator=(Handle&& other) noexcept {
    if (this != &other) {
      reset();
      value_ = std::exchange(other.value_, Traits::null());
    }
    return *this;
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() { reset(); }

  type get() const noexcept { return value_; }
  explicit operator bool() const noexcept { return value_ != Traits::null(); }
  /// Returns the handle without closing it, for a caller that closes it and checks the result.
  [[nodiscard]] type release() noexcept { return std::exchange(value_, Traits::null()); }
  /// Closes the handle now.
  void reset() noexcept {
    if (value_ != Traits::null()) Traits::close(std::exchange(value_, Traits::null()));
  }

 private:
  type value_ = Traits::null();
};

}  // namespace causeway
