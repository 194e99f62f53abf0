#include "src/run/tensorboard_log.hpp"

#include <vector>

#include "src/cli/log.hpp"
#include "src/run/json_fields.hpp"
#include "src/run/utc_text.hpp"

namespace causeway {
namespace {

constexpr TensorBoardTag tags[] = {
    {"loss", "train/loss"},
    {"learning_rate", "train/learning_rate"},
    {"grad_norm", "train/gradient_norm"},
    {"eval_loss", "valid/loss"},
    {"tokens_per_s", "speed/tokens_per_s"},
    {"mfu", "speed/mfu"},
    {"balance", "speed/balance"},
    {"step_s", "seconds/step"},
    {"compute_s", "seconds/compute"},
    {"comm_exposed_s", "seconds/communication_exposed"},
    {"comm_hidden_s", "seconds/communication_hidden"},
    {"eval_s", "seconds/evaluation"},
    {"checkpoint_s", "seconds/checkpoint"},
    {"checkpoint_write_s", "seconds/checkpoint_write"},
    {"memory_bytes", "bytes/memory"},
    {"bytes_sent", "bytes/sent"},
};

}  // namespace

std::span<const TensorBoardTag> tensorboard_tags() { return tags; }

TensorBoardLog::TensorBoardLog(const std::string& run, std::int64_t resumed_step)
    : file_(run, host_name(), seconds_since_1970()) {
  if (resumed_step > 0) file_.restart_at(resumed_step + 1, seconds_since_1970());
}

void TensorBoardLog::add(const nlohmann::ordered_json& line) {
  const nlohmann::json values = line;
  const bool amends = last_.is_object() && last_.at("step") == line.at("step");
  std::vector<Scalar> scalars;
  for (const TensorBoardTag& row : tags) {
    if (amends && last_.contains(row.member)) continue;
    if (const auto value = number_field(values, row.member))
      scalars.push_back({.tag = row.tag, .value = static_cast<float>(*value)});
  }
  file_.add(line.at("step").get<std::int64_t>(), seconds_since_1970(), scalars);
  last_ = line;
}

}  // namespace causeway
