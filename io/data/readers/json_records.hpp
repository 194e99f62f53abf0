#pragma once

#include <nlohmann/json.hpp>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "io/data/readers/reader.hpp"

namespace causeway {

/// A record of JSON: the document and its name.
struct JsonRecord {
  std::string text;
  std::optional<std::string> name;
  bool name_converted = false;  ///< the name was not UTF-8 and was converted
  std::int64_t number = 0;      ///< of the record, from 1
  std::string problem;          ///< if not "": why the record is refused
};

/// Finds records in a JSON text as nlohmann's parser reads it. No tree is built: only the members that the options name
/// are kept, so a text of a million brackets needs no memory. `found` is called at the end of each record.
class JsonRecords : public nlohmann::json_sax<nlohmann::json> {
 public:
  enum class Expected : std::uint8_t { object, object_or_list };
  using Found = std::function<void(JsonRecord& record)>;

  /// `converted`: the numbers of the strings, keys included, that are not UTF-8 and were converted; sorted.
  JsonRecords(const ReaderOptions& options, Expected expected, Found found, std::vector<std::size_t> converted = {});

  /// Why the text is not what is expected; "" if it is.
  const std::string& problem() const { return problem_; }

  bool key(string_t& key) override;
  bool string(string_t& value) override;
  bool number_integer(number_integer_t value) override { return integer(std::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) override { return integer(std::to_string(value)); }
  bool number_float(number_float_t, const string_t&) override { return scalar("a number"); }
  bool boolean(bool) override { return scalar("a truth value"); }
  bool null() override { return scalar("null"); }
  bool binary(binary_t&) override { return scalar("bytes"); }
  bool start_object(std::size_t) override { return open(true); }
  bool start_array(std::size_t) override { return open(false); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override;

 private:
  /// Called for each value and key that the parser has read.
  virtual void seen() {}
  bool open(bool object);
  bool close();
  bool scalar(const char* what);
  bool integer(std::string value);
  bool at_record() const { return depth_ == record_depth_; }
  bool at(const std::string& path) const;
  bool take_name(std::string& value, bool converted);
  void found_problem(std::string problem);
  void begin_record();
  bool end_record();

  const ReaderOptions& options_;
  Expected expected_;
  Found found_;
  std::vector<std::size_t> converted_;
  std::size_t strings_ = 0;

  std::int64_t depth_ = 0, record_depth_ = 0;  ///< open brackets; those around a record
  std::int64_t lists_ = 0;                     ///< open lists within the record
  std::int64_t deepest_ = 1;                   ///< members are looked for in so many objects, one in the other
  std::string path_;                           ///< of the present member, "a.b.c"
  std::vector<std::size_t> path_lengths_;      ///< of the objects that are open
  std::optional<std::string> text_;
  std::vector<std::optional<std::string>> names_;  ///< by their keys
  std::vector<bool> names_converted_;
  JsonRecord record_;
  std::string problem_;
};

}  // namespace causeway
