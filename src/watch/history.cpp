#include "src/watch/history.hpp"

#include "src/run/json_fields.hpp"

namespace causeway {

std::optional<StepRecord> StepRecord::parse(std::string_view line) {
  const nlohmann::json object = json_object(line);
  const std::optional<std::int64_t> step = integer_field(object, "step");
  if (!step || *step < 0) return std::nullopt;
  constexpr double largest = 1e18;  // more than any real number of seconds or bytes; sums stay finite
  const auto positive = [&](const char* name) {
    const std::optional<double> value = number_field(object, name);
    return value && *value >= 0 && *value <= largest ? value : std::nullopt;
  };
  return StepRecord{.step = *step,
                    .loss = number_field(object, "loss"),
                    .learning_rate = number_field(object, "learning_rate"),
                    .grad_norm = number_field(object, "grad_norm"),
                    .tokens = positive("tokens"),
                    .step_s = positive("step_s"),
                    .compute_s = positive("compute_s"),
                    .comm_exposed_s = positive("comm_exposed_s"),
                    .comm_hidden_s = positive("comm_hidden_s"),
                    .bytes_sent = positive("bytes_sent"),
                    .memory_bytes = positive("memory_bytes"),
                    .balance = positive("balance"),
                    .mfu = positive("mfu"),
                    .eval_loss = number_field(object, "eval_loss"),
                    .eval_s = positive("eval_s"),
                    .checkpoint_s = positive("checkpoint_s"),
                    .slowest_rank = integer_field(object, "slowest_rank"),
                    .checkpoint_step = integer_field(object, "checkpoint_step"),
                    .checkpoint_write_s = positive("checkpoint_write_s"),
                    .checkpoint_bytes = positive("checkpoint_bytes")};
}

void History::add(const StepRecord& record) {
  constexpr double weight = 0.05;  // of the newest loss: an average over about twenty steps
  if (lines++ == 0) first_step = record.step;
  last = record;
  if (record.loss) {
    losses.add(record.step, *record.loss);
    if (!first_loss) first_loss = record.loss;
    smoothed_loss = smoothed_loss ? (1 - weight) * *smoothed_loss + weight * *record.loss : *record.loss;
  }
  if (record.eval_loss) {
    evaluations.add(record.step, *record.eval_loss);
    last_evaluation = {.step = record.step, .loss = *record.eval_loss};
    if (!best_evaluation || *record.eval_loss < *best_evaluation->loss) best_evaluation = last_evaluation;
  } else if (record.eval_s) {
    last_evaluation = {.step = record.step, .loss = std::nullopt};
  }
  beside_s += record.eval_s.value_or(0) + record.checkpoint_s.value_or(0);
  if (record.checkpoint_s) last_checkpoint_s = record.checkpoint_s;
  if (record.checkpoint_step)
    published = {.step = *record.checkpoint_step,
                 .lost_s = last_checkpoint_s,
                 .write_s = record.checkpoint_write_s,
                 .bytes = record.checkpoint_bytes};
  if (!record.step_s) return;
  ++steps;
  step_s += *record.step_s;
  tokens += record.tokens.value_or(0);
  bytes_sent += record.bytes_sent.value_or(0);
  recent.push_back(record);
  if (recent.size() > most_recent) recent.pop_front();
}

}  // namespace causeway
