#include "src/train/settings/train_settings.hpp"

#include <limits>

#include "src/cli/option_range.hpp"

namespace causeway {

void check(const TrainSettings& settings) {
  constexpr auto most = std::numeric_limits<std::int64_t>::max() / 2;
  require(!settings.run.empty(), "--run is missing: expected the run directory");
  if (settings.asked_steps) require_within("steps", *settings.asked_steps, 1, most);
  if (settings.epochs)
    require(*settings.epochs > 0 && *settings.epochs <= 1e6, "--epochs is {}, expected a number above 0, at most 1e6",
            *settings.epochs);
  require_within("pack-tokens", settings.pack_tokens, 1, std::int64_t{1} << 40);
  check_step_options(settings.window, settings.accumulate, settings.memory, settings.compute.shard);
  require_within("warmup-steps", settings.warmup_steps, 0, most);
  require_within("learning-rate", settings.learning_rate, 0, 1e3);
  require_within("learning-rate-floor", settings.learning_rate_floor, 0, 1);
  require_within("beta1", settings.beta1, 0, 0.999999999);
  require_within("beta2", settings.beta2, 0, 0.999999999);
  require_within("weight-decay", settings.weight_decay, 0, 1e3);
  require_within("clip", settings.clip, 0, 1e9);
  require_within("checkpoint-every", settings.checkpoint_every, 0, most);
  require_within("keep-last", settings.keep_last, 0, most);
  require_within("keep-every", settings.keep_every, 0, most);
  require(settings.keep_every == 0 || settings.keep_last > 0,
          "--keep-every is {}, but without --keep-last all checkpoints are kept", settings.keep_every);
  require_within("eval-every", settings.eval_every, 0, most);
  require_within("eval-packs", settings.eval_packs, 0, most);
  require_within("log-every", settings.log_every, 1, most);
  require_within("trace-steps", settings.trace_steps, 1, 1000);
  require(settings.trace_steps == default_trace_steps || !settings.trace.empty(),
          "--trace-steps is {}, but --trace is missing", settings.trace_steps);
  require(settings.seed >= 0, "--seed is {}, expected 0 or more", settings.seed);
  require(settings.resume.empty() || settings.init_from.empty() || settings.resume == "auto",
          "--resume {} and --init-from exclude each other", settings.resume);
  require(settings.eval_every == 0 || !settings.valid_data.empty(), "--eval-every is {}, but --valid-data is missing",
          settings.eval_every);
}

PackingOptions packing_of(const TrainSettings& settings) {
  return {.policy = settings.policy,
          .pack_tokens = settings.pack_tokens,
          .window = settings.window,
          .long_documents = settings.long_documents == "refuse" ? LongDocuments::refuse : LongDocuments::cut};
}

LabelWeights label_weights_of(const TrainSettings& settings) {
  return settings.loss_normalisation == "pack" ? LabelWeights::normalised_in_pack : LabelWeights::as_given;
}

LearningRate schedule_of(const TrainSettings& settings) {
  return {.peak = settings.learning_rate,
          .warmup_steps = settings.warmup_steps,
          .steps = settings.steps,
          .floor = settings.learning_rate_floor};
}

OptimizerOptions optimizer_options_of(const TrainSettings& settings) {
  return {.beta1 = settings.beta1,
          .beta2 = settings.beta2,
          .weight_decay = settings.weight_decay,
          .clip = settings.clip,
          .offload = settings.memory.offloads("optimizer")};
}

}  // namespace causeway
