#include "io/file/untrusted_json.hpp"

#include <set>
#include <vector>

#include "io/file/byte_source.hpp"
#include "kernels/core/error.hpp"

namespace causeway {

nlohmann::json parse_untrusted_json(const std::string& text, const std::string& where, int deepest) {
  using nlohmann::json;
  std::vector<std::set<std::string>> names;  // of the objects that are open
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > deepest) fail(ExitCode::corrupt, "{}: is nested more than {} deep", where, deepest);
    if (event == json::parse_event_t::object_start) names.emplace_back();
    if (event == json::parse_event_t::object_end) names.pop_back();
    if (event == json::parse_event_t::key && !names.back().insert(parsed.get<std::string>()).second)
      fail(ExitCode::corrupt, "{}: has the name '{}' twice", where, parsed.get<std::string>().substr(0, 200));
    return true;
  };
  try {
    return json::parse(text, watch);
  } catch (const json::exception& error) {
    fail(ExitCode::corrupt, "{}: is not JSON: {}", where, error.what());
  }
}

nlohmann::json read_json_file(const std::string& path, std::int64_t most_bytes) {
  const ByteSource file(path);
  require(file.size() <= most_bytes, "{}: has {} bytes, expected at most {}", path, file.size(), most_bytes);
  return parse_untrusted_json(file.text(0, file.size()), path);
}

}  // namespace causeway
