/// Profiles as JSON. A file may come from anywhere: every member is checked, and one that is not known is refused,
/// because a misspelt member would otherwise leave a default in its place.

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "src/cli/suggest.hpp"
#include "src/cli/text_file.hpp"
#include "src/output/safe_text.hpp"
#include "src/plan/profile.hpp"
#include "src/run/json_fields.hpp"

namespace causeway {
namespace {

using Json = nlohmann::json;

constexpr std::string_view format = "causeway-profile";
constexpr int version = 1;
constexpr std::size_t most_bytes = std::size_t{1} << 20, most_kernels = 4096, longest_text = 2000;

/// An object of the file, which remembers which of its members were read.
class Object {
 public:
  Object(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
    require(json.is_object(), "{}: expected an object", where_);
  }

  const std::string& where() const { return where_; }
  std::string place(std::string_view member) const { return fmt::format("{}: {}", where_, member); }

  const Json& member(const char* name) {
    known_.insert(name);
    const auto found = json_.find(name);
    require(found != json_.end(), "{} is missing", place(name));
    return *found;
  }
  bool has(const char* name) {
    known_.insert(name);
    return json_.contains(name);
  }
  double number(const char* name, double low, double high) {
    const Json& value = member(name);
    const double number = value.is_number() ? value.get<double>() : std::nan("");
    require(number >= low && number <= high, "{} is {}, expected a number from {} to {}", place(name), shown(value),
            low, high);
    return number;
  }
  std::int64_t integer(const char* name, std::int64_t low, std::int64_t high) {
    const double value = number(name, static_cast<double>(low), static_cast<double>(high));
    require(value == std::floor(value), "{} is {}, expected an integer", place(name), value);
    return static_cast<std::int64_t>(value);
  }
  bool flag(const char* name) {
    const Json& value = member(name);
    require(value.is_boolean(), "{} is {}, expected true or false", place(name), shown(value));
    return value.get<bool>();
  }
  std::string text(const char* name) {
    const Json& value = member(name);
    require(value.is_string() && value.get_ref<const std::string&>().size() <= longest_text,
            "{} is {}, expected a text of at most {} bytes", place(name), shown(value), longest_text);
    return value.get<std::string>();
  }
  /// Throws Error(usage) if the object has a member that was not read.
  void require_no_others() const {
    for (const auto& [name, value] : json_.items())
      require(known_.contains(name), "{}: unknown member '{}'{}", where_, one_line(name, 60),
              did_you_mean(name, std::vector<std::string>(known_.begin(), known_.end())));
  }

 private:
  static std::string shown(const Json& value) {
    return one_line(value.dump(-1, ' ', false, Json::error_handler_t::replace), 60);
  }

  const Json& json_;
  std::string where_;
  std::set<std::string, std::less<>> known_;
};

// Limits that no machine of today is near; they keep sums of seconds and bytes finite.
constexpr double least_rate = 1, most_rate = 1e21, most_latency = 100, most_memory = 1e18;

/// f() with the option's own words for an unknown name.
template <class Parse>
auto named(const Object& object, const char* member, Parse parse) {
  try {
    return parse();
  } catch (const Error& error) {
    fail(ExitCode::usage, "{}: {}", object.place(member), error.what());
  }
}

Link parse_link(const Json& json, const std::string& where) {
  Object link(json, where);
  Link parsed{.latency_s = link.number("latency_s", 0, most_latency),
              .bytes_per_s = link.number("bytes_per_s", least_rate, most_rate),
              .all_bytes_per_s = link.number("all_bytes_per_s", least_rate, most_rate)};
  // Profiles of versions 0.2 and earlier have none.
  if (link.has("message_s")) parsed.message_s = link.number("message_s", 0, most_latency);
  link.require_no_others();
  return parsed;
}

KernelKind parse_kind(Object& object) {
  const std::string text = object.text("kind");
  std::vector<std::string> names;
  for (int i = 0; i <= static_cast<int>(last_kernel_kind); ++i) {
    const auto kind = static_cast<KernelKind>(i);
    if (name_of(kind) == text) return kind;
    names.emplace_back(name_of(kind));
  }
  fail(ExitCode::usage, "{} is '{}', expected one of: {}", object.place("kind"), one_line(text, 60),
       fmt::join(names, ", "));
}

KernelRate parse_kernel(const Json& json, const std::string& where) {
  constexpr std::int64_t most = std::int64_t{1} << 50;
  Object object(json, where);
  KernelRate rate;
  rate.kernel.kind = parse_kind(object);
  rate.kernel.width = object.integer("width", 0, most);
  rate.kernel.group = object.integer("group", 1, most);
  rate.kernel.gated = object.flag("gated");
  rate.kernel.backward = object.flag("backward");
  rate.call_s = object.number("call_s", 0, most_latency);
  rate.element_s = object.number("element_s", 0, 1);
  object.require_no_others();
  return rate;
}

}  // namespace

nlohmann::ordered_json to_json(const Profile& profile) {
  const auto link = [](const Link& of) {
    return nlohmann::ordered_json{{"latency_s", of.latency_s},
                                  {"message_s", of.message_s},
                                  {"bytes_per_s", of.bytes_per_s},
                                  {"all_bytes_per_s", of.all_bytes_per_s}};
  };
  const Machine& machine = profile.machine;
  nlohmann::ordered_json gemm = nlohmann::ordered_json::object(), kernels = nlohmann::ordered_json::array(),
                         sources = nlohmann::ordered_json::object();
  for (const auto& [dtype, rate] : profile.gemm_flops_per_s) gemm[std::string(name_of(dtype))] = rate;
  if (profile.fp8_gemm_flops_per_s > 0) gemm["fp8"] = profile.fp8_gemm_flops_per_s;
  for (const auto& [member, text] : profile.sources) sources[member] = text;
  for (const KernelRate& rate : machine.kernels)
    kernels.push_back({{"kind", name_of(rate.kernel.kind)},
                       {"width", rate.kernel.width},
                       {"group", rate.kernel.group},
                       {"gated", rate.kernel.gated},
                       {"backward", rate.kernel.backward},
                       {"call_s", rate.call_s},
                       {"element_s", rate.element_s}});
  return {{"format", format},
          {"version", version},
          {"name", profile.name},
          {"source", profile.source},
          {"device", name_of(profile.device)},
          {"dtype", name_of(profile.dtype)},
          {"ranks_per_host", profile.ranks_per_host},
          {"device_bytes", profile.device_bytes},
          {"host_bytes", profile.host_bytes},
          {"gemm_flops_per_s", std::move(gemm)},
          {"gemm_in_step", profile.gemm_in_step},
          {"copy_bytes_per_s", machine.copy_bytes_per_s},
          {"copy_call_s", machine.copy_call_s},
          {"overlap", machine.overlap},
          {"latency_overlap", machine.latency_overlap},
          {"host_link_bytes_per_s", profile.host_link_bytes_per_s},
          {"host_update_bytes_per_s", profile.host_update_bytes_per_s},
          {"link", link({machine.latency_s, machine.message_s, machine.bytes_per_s, machine.all_bytes_per_s})},
          {"network", link(profile.network)},
          {"kernels", std::move(kernels)},
          {"sources", std::move(sources)}};
}

std::string json_text(const Profile& profile) { return json_document(to_json(profile)); }

Profile parse_profile(std::string_view text, const std::string& where) {
  const Json json = Json::parse(text, nullptr, false);
  require(!json.is_discarded(), "{}: not JSON", where);
  Object object(json, where);
  require(object.text("format") == format, "{} is '{}', expected {}", object.place("format"),
          one_line(object.text("format"), 60), format);
  require(object.integer("version", 0, 1'000'000) == version, "{} is not {}, the only one that this program knows",
          object.place("version"), version);
  Profile profile;
  profile.name = object.text("name");
  profile.source = object.text("source");
  profile.device = named(object, "device", [&] { return parse_device(object.text("device")); });
  profile.dtype = named(object, "dtype", [&] { return parse_dtype(object.text("dtype")); });
  profile.ranks_per_host = static_cast<int>(object.integer("ranks_per_host", 1, 1 << 20));
  profile.device_bytes = object.number("device_bytes", profile.device == Device::cpu ? 0 : 1, most_memory);
  profile.host_bytes = object.number("host_bytes", 1, most_memory);
  Object gemm(object.member("gemm_flops_per_s"), object.place("gemm_flops_per_s"));
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    const std::string name(name_of(dtype));
    if (gemm.has(name.c_str())) profile.gemm_flops_per_s[dtype] = gemm.number(name.c_str(), least_rate, most_rate);
  }
  if (gemm.has("fp8")) profile.fp8_gemm_flops_per_s = gemm.number("fp8", least_rate, most_rate);
  gemm.require_no_others();
  require(profile.gemm_flops_per_s.contains(profile.dtype), "{} has no rate for dtype {}", gemm.where(),
          name_of(profile.dtype));
  profile.gemm_in_step = object.number("gemm_in_step", 1e-3, 1);
  Machine& machine = profile.machine;
  machine.copy_bytes_per_s = object.number("copy_bytes_per_s", least_rate, most_rate);
  machine.copy_call_s = object.number("copy_call_s", 0, most_latency);
  machine.overlap = object.number("overlap", 0, 1);
  machine.latency_overlap = object.number("latency_overlap", 0, 1);
  profile.host_link_bytes_per_s = object.number("host_link_bytes_per_s", least_rate, most_rate);
  profile.host_update_bytes_per_s = object.number("host_update_bytes_per_s", least_rate, most_rate);
  const Link link = parse_link(object.member("link"), object.place("link"));
  machine.latency_s = link.latency_s;
  machine.message_s = link.message_s;
  machine.bytes_per_s = link.bytes_per_s;
  machine.all_bytes_per_s = link.all_bytes_per_s;
  profile.network = parse_link(object.member("network"), object.place("network"));
  const Json& kernels = object.member("kernels");
  require(kernels.is_array() && kernels.size() <= most_kernels, "{}: expected an array of at most {} kernels",
          object.place("kernels"), most_kernels);
  for (std::size_t i = 0; i < kernels.size(); ++i)
    machine.kernels.push_back(parse_kernel(kernels[i], fmt::format("{}[{}]", object.place("kernels"), i)));
  if (object.has("sources")) {
    Object sources(object.member("sources"), object.place("sources"));
    for (const auto& [member, value] : object.member("sources").items())
      profile.sources[member] = sources.text(member.c_str());
  }
  object.require_no_others();
  return profile;
}

Profile read_profile(const std::string& name_or_file) {
  std::vector<std::string> names;
  for (const BuiltInProfile& known : built_in_profiles()) {
    if (known.name == name_or_file) return known.make();
    names.emplace_back(known.name);
  }
  require(name_or_file.find_first_of("/.") != std::string::npos,
          "--profile '{}', expected a file (with a . or / in its name) or one of: {}{}", name_or_file,
          fmt::join(names, ", "), did_you_mean(name_or_file, names));
  return parse_profile(read_text(name_or_file, "--profile", most_bytes), one_line(name_or_file));
}

}  // namespace causeway
