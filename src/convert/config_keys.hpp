#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "kernels/core/error.hpp"

namespace causeway {

inline constexpr std::int64_t most_config_bytes = std::int64_t{1} << 20;

/// The keys of a model's configuration in JSON. A value of the wrong kind is Error(usage) with file and key.
class ConfigKeys {
 public:
  /// `where`: the file, and the key that holds the object if it is not the outermost one.
  ConfigKeys(nlohmann::json object, std::string where) : object_(std::move(object)), where_(std::move(where)) {
    require(object_.is_object(), "{}: is not a JSON object", where_);
  }

  std::string where(std::string_view key) const { return fmt::format("{}: {}", where_, key); }
  std::string text() const { return object_.dump(); }
  /// Whether the key is there and not null.
  bool has(std::string_view key) const { return object_.contains(key) && !object_[std::string(key)].is_null(); }

  std::int64_t integer(std::string_view key, std::int64_t otherwise) const {
    if (!has(key)) return otherwise;
    const auto& value = at(key);
    const bool fits = value.is_number_unsigned() && value.get<std::uint64_t>() <= std::uint64_t{INT32_MAX};
    require(fits, "{} is {}, expected a number of 0 to {}", where(key), shown(key), INT32_MAX);
    return value.get<std::int64_t>();
  }
  /// 0 for "auto" and for a key that is missing.
  std::int64_t integer_or_auto(std::string_view key) const {
    return has(key) && at(key) == "auto" ? 0 : integer(key, 0);
  }
  double positive(std::string_view key, double otherwise) const {
    if (!has(key)) return otherwise;
    require(at(key).is_number() && at(key).get<double>() > 0, "{} is {}, expected a number above 0", where(key),
            shown(key));
    return at(key).get<double>();
  }
  bool boolean(std::string_view key, bool otherwise) const {
    if (!has(key)) return otherwise;
    require(at(key).is_boolean(), "{} is {}, expected true or false", where(key), shown(key));
    return at(key).get<bool>();
  }
  ConfigKeys object(std::string_view key) const {
    return has(key) ? ConfigKeys(at(key), where(key)) : ConfigKeys(nlohmann::json::object(), where(key));
  }
  /// Throws unless the value is `wanted`, or the key is missing.
  void expect(std::string_view key, const nlohmann::json& wanted) const {
    require(!has(key) || at(key) == wanted, "{} is {}, expected {}", where(key), shown(key), wanted.dump());
  }
  /// Throws if the key has a value.
  void refuse(std::string_view key, std::string_view why) const {
    require(!has(key), "{} is {}: {}, which Causeway cannot honour", where(key), shown(key), why);
  }

 private:
  const nlohmann::json& at(std::string_view key) const { return object_.at(std::string(key)); }
  std::string shown(std::string_view key) const {
    if (!has(key)) return "missing";
    return at(key).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).substr(0, 80);
  }

  nlohmann::json object_;
  std::string where_;
};

}  // namespace causeway
