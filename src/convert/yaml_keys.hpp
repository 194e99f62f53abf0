#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace causeway {

/// The keys of a configuration in YAML that has one level: each value is a scalar or a list of scalars. A key without a
/// value, and null, count as missing. A value of the wrong kind is Error(usage) with file and key.
class YamlKeys {
 public:
  /// `where`: the file, for messages. Throws Error(usage) for text that is not YAML, for aliases, deeper levels and a
  /// key with two values, and where this build has no yaml-cpp.
  YamlKeys(const std::string& text, std::string where);
  /// Reads a file, which may have at most 1 MiB.
  static YamlKeys read(const std::string& path);

  const std::string& text() const { return text_; }
  std::string where(std::string_view key) const;
  bool has(std::string_view key) const { return find(key) != nullptr; }

  /// Without `otherwise` the key must be there. Integers are not negative.
  std::int64_t integer(std::string_view key, std::optional<std::int64_t> otherwise = {}) const;
  double number(std::string_view key, std::optional<double> otherwise = {}) const;
  bool boolean(std::string_view key, std::optional<bool> otherwise = {}) const;
  std::string word(std::string_view key, const std::string& otherwise) const;
  /// A list; empty if the key is missing.
  std::vector<std::int64_t> integers(std::string_view key) const;

  /// Marks a key as known, whatever its value is.
  void ignore(std::string_view key) const { find(key); }
  /// Throws, with all of them, if there are keys that none of the functions above was called for.
  void refuse_others() const;

 private:
  struct Value {
    bool is_list = false;
    std::vector<std::string> items;  ///< one for a scalar
    bool operator==(const Value&) const = default;
    std::string shown() const;
  };
  friend class YamlHandler;
  void parse();
  const Value* find(std::string_view key) const;
  /// Null if the key is missing and may be.
  const std::string* scalar(std::string_view key, bool optional) const;
  [[noreturn]] void refuse(std::string_view key, const std::string& expected) const;

  std::string text_, where_;
  std::map<std::string, Value, std::less<>> values_;
  mutable std::set<std::string, std::less<>> known_;
};

}  // namespace causeway
