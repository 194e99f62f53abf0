#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace causeway {

/// A value that a pickle describes. Nothing is called: what Python would get from a call is a `call`, with the function
/// and its arguments as values.
struct PickleValue {
  enum class Kind : std::uint8_t {
    none,
    boolean,
    integer,  ///< also `boolean`
    real,
    text,        ///< a string
    bytes,       ///< contents are not kept
    tuple,       ///< items
    list,        ///< items
    dictionary,  ///< items: key, value, key, value, …
    global,      ///< text: "module name"
    call,        ///< items: function, tuple of arguments
    persistent   ///< items: the tuple that torch stores in place of a storage
  };
  Kind kind = Kind::none;
  std::int64_t integer = 0;
  double real = 0;
  std::string_view text;  ///< into the pickle
  std::vector<const PickleValue*> items;

  bool is(Kind other) const { return kind == other; }
  /// Whether it is a call of this global ("module name").
  bool is_call_of(std::string_view global) const {
    return is(Kind::call) && items[0]->is(Kind::global) && items[0]->text == global;
  }
};

/// Reads a pickle (Python's serialization, protocols 2 to 5) without executing it. It knows only those
/// operations of the stack machine that make values; a global is only a name, and must be one of `known`. Values can
/// contain themselves or one another many times, as in Python: code that walks over them must bound the depth. Memory
/// is bounded by `most_values`. https://github.com/python/cpython/blob/main/Lib/pickletools.py describes every opcode.
class Pickle {
 public:
  /// `known`: globals as "module name", module and name separated by a blank. `where`: file and entry, for messages.
  /// Throws Error(usage) with the position for another opcode or global, Error(corrupt) for damage.
  Pickle(std::string bytes, std::string where, std::span<const std::string_view> known);
  Pickle(const Pickle&) = delete;  // values point into bytes_
  Pickle& operator=(const Pickle&) = delete;

  const PickleValue& root() const { return *root_; }

  static constexpr std::size_t most_values = 1 << 21;

 private:
  friend class PickleReader;
  std::string bytes_;
  std::deque<PickleValue> values_;
  std::deque<std::string> names_;  ///< of globals
  const PickleValue* root_ = nullptr;
};

}  // namespace causeway
