#include "io/data/readers/json_records.hpp"

#include <algorithm>

namespace causeway {

JsonRecords::JsonRecords(const ReaderOptions& options, Expected expected, Found found,
                         std::vector<std::size_t> converted)
    : options_(options), expected_(expected), found_(std::move(found)), converted_(std::move(converted)) {
  const auto count_levels = [&](const std::string& key) {
    deepest_ = std::max(deepest_, 1 + static_cast<std::int64_t>(std::ranges::count(key, '.')));
  };
  count_levels(options.text_key);
  std::ranges::for_each(options.name_keys, count_levels);
  begin_record();
}

/// Whether the value that comes now is the member that `path` names, of the record.
bool JsonRecords::at(const std::string& path) const {
  const std::int64_t level = depth_ - record_depth_;
  return lists_ == 0 && level >= 1 && level <= deepest_ && path_ == path;
}

bool JsonRecords::key(string_t& key) {
  seen();
  ++strings_;
  if (lists_ > 0 || depth_ - record_depth_ > deepest_) return true;
  path_.resize(path_lengths_.back());
  path_ += path_.empty() ? key : "." + key;
  return true;
}

bool JsonRecords::string(string_t& value) {
  seen();
  const bool converted = std::ranges::binary_search(converted_, strings_++);
  if (at(options_.text_key)) {
    text_ = std::move(value);
    if (converted)
      found_problem(
          fmt::format("found bytes that are not UTF-8 in \"{}\", expected JSON, which is UTF-8", options_.text_key));
    return true;
  }
  if (at_record() && record_depth_ == 1) {  // a string in the list
    text_ = std::move(value);
    return end_record();
  }
  return take_name(value, converted) || scalar("a string");
}

bool JsonRecords::take_name(std::string& value, bool converted) {
  for (std::size_t i = 0; i < options_.name_keys.size(); ++i) {
    if (!at(options_.name_keys[i])) continue;
    names_[i] = std::move(value);
    names_converted_[i] = converted;
    return true;
  }
  return false;
}

bool JsonRecords::integer(std::string value) {
  seen();
  if (!at(options_.text_key) && take_name(value, false)) return true;
  return scalar("a number");
}

/// A value that is neither a document nor a name.
bool JsonRecords::scalar(const char* what) {
  seen();
  if (at(options_.text_key))
    found_problem(fmt::format("found {} as \"{}\", expected a string", what, options_.text_key));
  if (!at_record()) return true;
  if (record_depth_ == 0) {
    problem_ = fmt::format("found {}, expected {}", what,
                           expected_ == Expected::object ? "an object" : "a list of objects or strings, or an object");
    return false;
  }
  found_problem(fmt::format("found {} in the list, expected an object or a string", what));
  return end_record();
}

bool JsonRecords::open(bool object) {
  seen();
  if (depth_ == 0 && !object && expected_ == Expected::object_or_list) {
    depth_ = record_depth_ = 1;
    return true;
  }
  if (at_record() && !object) {
    if (record_depth_ == 0) return scalar("a list");
    found_problem("found a list in the list, expected an object or a string");
  }
  if (at(options_.text_key))
    found_problem(
        fmt::format("found {} as \"{}\", expected a string", object ? "an object" : "a list", options_.text_key));
  ++depth_;
  if (!object || lists_ > 0)
    ++lists_;  // what is within a list, objects too
  else if (depth_ - record_depth_ <= deepest_)
    path_lengths_.push_back(path_.size());
  return true;
}

bool JsonRecords::close() {
  seen();
  if (depth_ == 1 && record_depth_ == 1) {  // the end of the list of records
    depth_ = record_depth_ = 0;
    return true;
  }
  if (lists_ > 0) {
    --lists_;
  } else if (depth_ - record_depth_ <= deepest_) {
    path_.resize(path_lengths_.back());
    path_lengths_.pop_back();
  }
  --depth_;
  return !at_record() || end_record();
}

bool JsonRecords::parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) {
  if (!problem_.empty()) return false;
  std::string reason = error.what();
  if (const std::size_t colon = reason.rfind(": "); colon != reason.npos) reason = reason.substr(colon + 2);
  problem_ = record_.problem.empty() || expected_ != Expected::object
                 ? fmt::format("found broken JSON at its byte {} ({}), expected {}", position, reason,
                               expected_ == Expected::object ? "an object" : "a list of records, or one")
                 : record_.problem;
  return false;
}

/// The first problem of a record is the one that is told.
void JsonRecords::found_problem(std::string problem) {
  if (record_.problem.empty()) record_.problem = std::move(problem);
}

void JsonRecords::begin_record() {
  text_.reset();
  names_.assign(options_.name_keys.size(), std::nullopt);
  names_converted_.assign(options_.name_keys.size(), false);
  record_ = {.number = record_.number + 1};
  path_.clear();
}

bool JsonRecords::end_record() {
  if (!text_) found_problem(fmt::format("found no \"{}\", expected one in every object", options_.text_key));
  record_.text = std::move(text_).value_or("");
  const auto name = std::ranges::find_if(names_, [](const auto& found) { return found.has_value(); });
  if (name != names_.end()) {
    record_.name_converted = names_converted_[static_cast<std::size_t>(name - names_.begin())];
    record_.name = std::move(*name);
    if (record_.name->size() > longest_name)
      found_problem(fmt::format("found a name of {} bytes, expected at most {}", record_.name->size(), longest_name));
  }
  found_(record_);
  begin_record();
  return true;
}

}  // namespace causeway
