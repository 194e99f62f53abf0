#include "src/run/run_ending.hpp"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "io/file/atomic_file.hpp"
#include "src/cli/exit_codes.hpp"
#include "src/run/attempts.hpp"
#include "src/run/json_fields.hpp"
#include "src/run/utc_text.hpp"

namespace causeway {
namespace {

void write_exit(const std::string& run, const nlohmann::ordered_json& exit) {
  write_text((std::filesystem::path(run) / "exit.json").string(), json_document(exit));
}

}  // namespace

void write_ending(const std::string& run, const RunEnding& ending) {
  const double now = seconds_since_1970();
  const std::vector<Attempt> attempts = read_attempts(run);
  const std::optional<ExitCodeRow> row = exit_code_row(static_cast<std::int64_t>(ending.code));
  nlohmann::ordered_json exit{{"exit_code", static_cast<int>(ending.code)},
                              {"exit", row ? row->name : ""},
                              {"reason", ending.reason},
                              {"step", ending.step},
                              {"loss", number_or_null(ending.loss)}};
  exit["time"] = utc_text(now);
  if (!attempts.empty()) {
    exit["attempt"] = attempts.back().number;
    exit["seconds"] = now - attempts.back().started;
    exit["resumed_step"] = attempts.back().resumed_step;
  }
  if (!ending.ranks.empty()) exit["ranks"] = ending.ranks;
  write_exit(run, exit);
  if (!attempts.empty())
    append_end(run, attempts.back().number,
               {.time = utc_text(now),
                .reason = ending.reason,
                .code = static_cast<std::int64_t>(ending.code),
                .step = ending.step,
                .seconds = now - attempts.back().started});
}

void write_failed_start(const std::string& run, const Error& error) {
  const std::optional<ExitCodeRow> row = exit_code_row(static_cast<std::int64_t>(error.code()));
  const nlohmann::ordered_json exit{{"exit_code", static_cast<int>(error.code())},
                                    {"exit", row ? row->name : ""},
                                    {"reason", error.what()},
                                    {"time", utc_text(seconds_since_1970())}};
  write_exit(run, exit);
}

}  // namespace causeway
