#include "src/watch/run_reader.hpp"

#include <filesystem>

#include "io/checkpoint/checkpoint_folders.hpp"
#include "src/run/json_fields.hpp"
#include "src/run/regular_file.hpp"

namespace causeway {
namespace {

constexpr std::size_t largest_json = std::size_t{1}
                                     << 24;  // environment.json has a line for each of thousands of ranks

nlohmann::json object_in(const std::string& path) { return json_object(read_regular(path, largest_json).value_or("")); }

RunSetup setup_of(const nlohmann::json& environment) {
  const auto part = [&](const char* name) {
    const auto found = environment.find(name);
    return found == environment.end() ? nlohmann::json::object() : *found;
  };
  const nlohmann::json run = part("run"), mesh = part("mesh"), hosts = part("hosts");
  RunSetup setup{.model = text_field(run, "model"),
                 .dtype = text_field(run, "dtype"),
                 .device = text_field(run, "device"),
                 .layout = text_field(mesh, "layout"),
                 .transport = text_field(mesh, "transport"),
                 .revision = text_field(part("build"), "revision"),
                 .parameters = integer_field(run, "parameters"),
                 .steps = integer_field(run, "steps"),
                 .ranks = integer_field(mesh, "ranks"),
                 .data = integer_field(mesh, "data"),
                 .context = integer_field(mesh, "context")};
  if (hosts.is_array())
    for (const nlohmann::json& host : hosts)
      if (host.is_string()) setup.hosts.push_back(host.get<std::string>());
  return setup;
}

std::optional<RunEnd> end_of(const std::string& path) {
  const std::optional<std::string> text = read_regular(path, largest_json);
  if (!text) return std::nullopt;
  const nlohmann::json exit = json_object(*text);
  return RunEnd{.code = integer_field(exit, "exit_code"),
                .step = integer_field(exit, "step"),
                .reason = text_field(exit, "reason"),
                .seconds = number_field(exit, "seconds")};
}

/// The N of the step-N that the link `latest` points to.
std::optional<std::int64_t> latest_step(const std::filesystem::path& run) {
  std::error_code error;
  const std::string name = std::filesystem::read_symlink(run / "latest", error).string();
  return error ? std::nullopt : step_of_folder(name);
}

std::vector<RankLine> ranks_of(const std::string& path) {
  std::vector<RankLine> ranks;
  for (std::optional<RankLine>& line : read_rank_board(path))
    if (line) ranks.push_back(*std::move(line));
  return ranks;
}

}  // namespace

RunReader::RunReader(std::string run) : run_(std::move(run)), metrics_(run_ + "/metrics.jsonl") {}

RunState RunReader::poll(double seconds) {
  // exit.json is read before metrics.jsonl, so that an ended run is shown with all its lines.
  std::optional<RunEnd> end = end_of(run_ + "/exit.json");
  metrics_.poll(seconds);
  return {.path = run_,
          .setup = setup_of(object_in(run_ + "/environment.json")),
          .history = metrics_.history(),
          .metrics_modified = metrics_.modified(),
          .unread_bytes = metrics_.unread_bytes(),
          .latest_checkpoint = latest_step(run_),
          .ranks = ranks_of(run_ + "/ranks.txt"),
          .attempts = read_attempts(run_),
          .end = std::move(end)};
}

}  // namespace causeway
