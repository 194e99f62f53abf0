#include "src/convert/yaml_keys.hpp"

#include <fmt/ranges.h>

#include <charconv>
#include <cmath>
#include <sstream>

#include "io/file/byte_source.hpp"
#include "kernels/core/error.hpp"

#if CAUSEWAY_YAML
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>
#endif

namespace causeway {
namespace {

constexpr std::int64_t largest_file = std::int64_t{1} << 20;

/// The start of a text from a file, for messages: without control characters.
std::string printable(std::string_view text) {
  std::string shown(text.substr(0, 80));
  for (char& letter : shown)
    if (static_cast<unsigned char>(letter) < ' ' || letter == '\x7f') letter = '?';
  return shown;
}

template <class Number>
std::optional<Number> parsed(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

#if CAUSEWAY_YAML

/// Takes the parser's events, so that nothing is built of what is refused: an alias could multiply, levels recurse.
class YamlHandler final : public YAML::EventHandler {
 public:
  explicit YamlHandler(YamlKeys& keys) : keys_(keys) {}

  bool ended_map() const { return ended_map_; }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override { scalar("null"); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { refuse(mark, "an alias"); }
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t, const std::string& value) override {
    if (!in_map_) refuse(mark, "no map");
    scalar(value);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    if (!in_map_ || !key_ || in_list_) refuse(mark, "a list inside a list or a list as key");
    in_list_ = true;
    value_ = {.is_list = true};
  }
  void OnSequenceEnd() override {
    in_list_ = false;
    store();
  }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    if (in_map_) refuse(mark, "a map inside of a map or a list");
    in_map_ = true;
  }
  void OnMapEnd() override { ended_map_ = true; }

 private:
  [[noreturn]] void refuse(const YAML::Mark& mark, const char* found) const {
    fail(ExitCode::usage, "{}: line {} has {}, expected keys with numbers, words or lists of them", keys_.where_,
         mark.line + 1, found);
  }
  void scalar(const std::string& value) {
    require(++count_ <= most_values, "{}: has more than {} values", keys_.where_, most_values);
    if (in_list_) return value_.items.push_back(value);
    if (!key_) {
      key_ = value;
      return;
    }
    value_ = {.items = {value}};
    store();
  }
  void store() {
    const auto [entry, is_new] = keys_.values_.emplace(*key_, value_);
    require(is_new || entry->second == value_, "{}: {} is there twice, as {} and as {}", keys_.where_, printable(*key_),
            entry->second.shown(), value_.shown());
    key_.reset();
  }

  static constexpr std::size_t most_values = 100'000;
  YamlKeys& keys_;
  bool in_map_ = false, in_list_ = false, ended_map_ = false;
  std::size_t count_ = 0;
  std::optional<std::string> key_;
  YamlKeys::Value value_;
};

void YamlKeys::parse() {
  YamlHandler handler(*this);
  std::istringstream stream(text_);
  try {
    YAML::Parser parser(stream);
    parser.HandleNextDocument(handler);
  } catch (const YAML::Exception& error) {
    fail(ExitCode::usage, "{}: is not YAML: {}", where_, printable(error.what()));
  }
  require(handler.ended_map(), "{}: has no keys, expected those of a model in YAML", where_);
}

#else

void YamlKeys::parse() {
  fail(ExitCode::usage,
       "{}: cannot be read: this build of Causeway has no yaml-cpp; install it (libyaml-cpp-dev) and build again",
       where_);
}

#endif

YamlKeys::YamlKeys(const std::string& text, std::string where) : text_(text), where_(std::move(where)) { parse(); }

YamlKeys YamlKeys::read(const std::string& path) {
  const ByteSource file(path);
  require(file.size() <= largest_file, "{}: has {} bytes, expected at most {} for a model's configuration", path,
          file.size(), largest_file);
  return {file.text(0, file.size()), path};
}

std::string YamlKeys::where(std::string_view key) const { return fmt::format("{}: {}", where_, key); }

std::string YamlKeys::Value::shown() const {
  return printable(is_list ? fmt::format("[{}]", fmt::join(items, ", ")) : items[0]);
}

const YamlKeys::Value* YamlKeys::find(std::string_view key) const {
  known_.emplace(key);
  const auto found = values_.find(key);
  if (found == values_.end()) return nullptr;
  const Value& value = found->second;
  const bool null = !value.is_list && (value.items[0].empty() || value.items[0] == "null" || value.items[0] == "~");
  return null ? nullptr : &value;
}

const std::string* YamlKeys::scalar(std::string_view key, bool optional) const {
  const Value* value = find(key);
  require(value != nullptr || optional, "{} is missing", where(key));
  if (value == nullptr) return nullptr;
  if (value->is_list) refuse(key, "one value");
  return &value->items[0];
}

void YamlKeys::refuse(std::string_view key, const std::string& expected) const {
  fail(ExitCode::usage, "{} is {}, expected {}", where(key), find(key)->shown(), expected);
}

std::int64_t YamlKeys::integer(std::string_view key, std::optional<std::int64_t> otherwise) const {
  const std::string* text = scalar(key, otherwise.has_value());
  if (text == nullptr) return *otherwise;
  const auto value = parsed<std::int64_t>(*text);
  if (!value || *value < 0 || *value > INT32_MAX) refuse(key, fmt::format("a number of 0 to {}", INT32_MAX));
  return *value;
}

double YamlKeys::number(std::string_view key, std::optional<double> otherwise) const {
  const std::string* text = scalar(key, otherwise.has_value());
  if (text == nullptr) return *otherwise;
  const auto value = parsed<double>(text->starts_with('+') ? std::string_view(*text).substr(1) : *text);
  if (!value || !std::isfinite(*value)) refuse(key, "a number");
  return *value;
}

bool YamlKeys::boolean(std::string_view key, std::optional<bool> otherwise) const {
  const std::string* text = scalar(key, otherwise.has_value());
  if (text == nullptr) return *otherwise;
  for (const char* yes : {"true", "True", "TRUE"})
    if (*text == yes) return true;
  for (const char* no : {"false", "False", "FALSE"})
    if (*text == no) return false;
  refuse(key, "true or false");
}

std::string YamlKeys::word(std::string_view key, const std::string& otherwise) const {
  const std::string* text = scalar(key, true);
  return text == nullptr ? otherwise : *text;
}

std::vector<std::int64_t> YamlKeys::integers(std::string_view key) const {
  const Value* list = find(key);
  if (list == nullptr) return {};
  if (!list->is_list) refuse(key, "a list of numbers");
  std::vector<std::int64_t> values;
  for (const std::string& item : list->items) {
    const auto value = parsed<std::int64_t>(item);
    if (!value || *value < 0) refuse(key, "a list of numbers that are not negative");
    values.push_back(*value);
  }
  return values;
}

void YamlKeys::refuse_others() const {
  std::vector<std::string> others;
  for (const auto& [key, value] : values_)
    if (!known_.contains(key)) others.push_back(fmt::format("{} ({})", printable(key), value.shown()));
  require(others.empty(), "{}: has {} that Causeway does not know, and cannot honour: {}", where_,
          others.size() == 1 ? "a key" : "keys", fmt::join(others, ", "));
}

}  // namespace causeway
