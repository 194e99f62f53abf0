#include "src/train/checkpointing.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <sstream>
#include <vector>

#include "io/checkpoint/checkpoint_folders.hpp"
#include "io/checkpoint/corrupt_errors.hpp"
#include "io/file/look_up.hpp"
#include "src/cli/number_format.hpp"
#include "src/model/model_checkpoint.hpp"

namespace causeway {
namespace {

/// The steps of the run's checkpoints, the newest first, as rank 0 lists the run directory.
std::vector<std::int64_t> steps_of(const std::string& run, Communicator& world) {
  std::string text;
  collectively(world, [&] {
    if (world.rank() == 0) text = fmt::format("{}", fmt::join(published_steps(run), " "));
  });
  std::istringstream words(world.broadcast(text, 0));
  std::vector<std::int64_t> steps;
  for (std::int64_t step = 0; words >> step;) steps.push_back(step);
  return steps;
}

/// The newest of the run's checkpoints without damage; no value where the run has no checkpoint. Adds the steps of
/// newer ones to `damaged`.
std::optional<Checkpoint> newest_undamaged(const std::string& run, Communicator& world, const Log& log,
                                           const std::function<void()>& heartbeat, std::vector<std::int64_t>& damaged) {
  const std::vector<std::int64_t> steps = steps_of(run, world);
  std::string reason;
  for (const std::int64_t step : steps) {
    try {
      Checkpoint checkpoint((std::filesystem::path(run) / step_folder(step)).string(), world, heartbeat);
      collectively(world, [&] {
        training_state_of(checkpoint);
        require_tensors_of_its_model(checkpoint, true, world.rank(), world.size());
      });
      return checkpoint;
    } catch (const AgreedError& error) {
      // Only wrong content makes an older checkpoint the newest good one. A file that cannot be read now may be good.
      if (error.code() == ExitCode::io)
        throw AgreedError(ExitCode::io,
                          fmt::format("{}; --resume auto takes no older checkpoint because of that: make {}/{} "
                                      "readable and resume again",
                                      error.what(), run, step_folder(step)));
      if (error.code() != ExitCode::corrupt) throw;
      damaged.push_back(step);
      if (log.prints()) log.warn("{}", error.what());
      if (reason.empty()) reason = error.what();
    }
  }
  collectively(world, [&] {
    latest_checkpoint(run);  // throws where the link exists and its checkpoint is missing
    if (!steps.empty())
      fail(ExitCode::corrupt, "{}: all of its {} checkpoints are damaged; the newest: {}", run, steps.size(), reason);
  });
  return std::nullopt;
}

/// The settings that decide which tokens a step takes. The cursor counts packs made with them.
std::map<std::string, hdf5::Value> data_order_of(const TrainSettings& settings) {
  return {{"pack_tokens", settings.pack_tokens}, {"policy", settings.policy}, {"window", settings.window}};
}

/// Throws Error(usage) for a setting with which the sequence of packs would differ from the checkpoint's. Checkpoints
/// written before these attributes existed pass.
void require_same_data_order(const hdf5::Object& state, const TrainSettings& settings, const std::string& checkpoint) {
  const auto text = [](const hdf5::Value& any) {
    return std::visit([](const auto& held) { return fmt::format("{}", held); }, any);
  };
  for (const auto& [name, wanted] : data_order_of(settings)) {
    if (!state.has_attribute(name)) continue;
    std::string option = name;
    std::ranges::replace(option, '_', '-');
    const hdf5::Value found = state.attribute(name);
    require(found == wanted,
            "--{} is {}, but {} was trained with {}; the run could not continue with the same sequence of packs",
            option, text(wanted), checkpoint, text(found));
  }
}

/// A cursor that no run can have reached is damage: finding its place in the data would take as long as it is large.
void check_cursor(const hdf5::Object& state, const TrainingState& run) {
  // Every pack has at least one token.
  require(run.cursor >= 0 && run.cursor <= run.tokens_seen, "{}: cursor is {}, expected 0 to {}, the tokens seen",
          state.where(), run.cursor, run.tokens_seen);
  require(run.cursor >= run.step, "{}: cursor is {}, expected at least {}, a pack in each step", state.where(),
          run.cursor, run.step);
  if (state.has_attribute("most_packs_a_step")) {
    const double most = static_cast<double>(run.step) * static_cast<double>(run.most_packs_a_step);
    require(run.most_packs_a_step >= 1 && static_cast<double>(run.cursor) <= most,
            "{}: cursor is {}, expected at most {:.0f}, {} packs in each of {} steps", state.where(), run.cursor, most,
            run.most_packs_a_step, run.step);
  }
  // Two packs in a row have more tokens than one holds, except at the end of a window of first_fit_decreasing.
  if (state.has_attribute("pack_tokens") && state.string_attribute("policy") != "first_fit_decreasing") {
    const double least =
        static_cast<double>(run.cursor / 2) * static_cast<double>(state.integer_attribute("pack_tokens"));
    require(static_cast<double>(run.tokens_seen) >= least,
            "{}: cursor is {}, but {} tokens were seen, expected at least {:.0f} in as many packs", state.where(),
            run.cursor, run.tokens_seen, least);
  }
}

}  // namespace

TrainingState training_state_of(const Checkpoint& checkpoint) {
  return usage_errors_as_corrupt([&] {
    const hdf5::Object state = checkpoint.state();
    TrainingState run{.step = state.integer_attribute("step"),
                      .tokens_seen = state.integer_attribute("tokens_seen"),
                      .cursor = state.integer_attribute("cursor"),
                      .most_packs_a_step =
                          state.has_attribute("most_packs_a_step") ? state.integer_attribute("most_packs_a_step") : 0,
                      .seed = state.integer_attribute("seed"),
                      .loss = std::nullopt};
    const std::int64_t step = checkpoint.manifest() ? checkpoint.manifest()->step : run.step;
    require(run.step == step && step >= 0, "{}: step is {}, expected {}", state.where(), run.step, step);
    if (const double loss = state.number_attribute("loss"); !std::isnan(loss)) run.loss = loss;
    check_cursor(state, run);
    try {
      model_options_of(checkpoint);
      parse_dtype(checkpoint.text("dtype"));
      fp8_level_of(checkpoint);
    } catch (const Error& error) {
      fail(ExitCode::corrupt, "{}: the description of the model is invalid: {}", checkpoint.path(), error.what());
    }
    return run;
  });
}

StartingPoint find_starting_point(const TrainSettings& settings, Communicator& world, const Log& log,
                                  const std::function<void()>& heartbeat) {
  StartingPoint start;
  if (!settings.dry_run)
    collectively(world, [&] {
      if (world.rank() != 0 || kind_of(settings.run) != std::filesystem::file_type::directory) return;
      // A requeued job may start while its last attempt is still ending. On NFS the lock of a lost node stays for 90 s.
      start.lock = RunLock(settings.run, std::chrono::seconds(settings.resume.empty() ? 0 : 120));
      if (!start.lock.warning().empty()) log.warn("{}", start.lock.warning());
      recover_checkpoints(settings.run, start.lock.warning().empty());
    });
  if (settings.resume == "auto") {
    start.checkpoint = newest_undamaged(settings.run, world, log, heartbeat, start.damaged);
    std::error_code unknown;
    if (!start.checkpoint)
      log.info("--resume auto: no checkpoint in {}; a new run starts",
               one_line(std::filesystem::absolute(settings.run, unknown).string()));
    if (start.checkpoint && !settings.dry_run)  // a crash may have come before `latest` pointed to it
      collectively(world, [&] {
        if (world.rank() == 0) point_latest_at(settings.run, start.checkpoint->state().integer_attribute("step"));
      });
  } else if (!settings.resume.empty()) {
    start.checkpoint.emplace(settings.resume, world, heartbeat);
  }
  start.resumes = start.checkpoint.has_value();
  if (!start.resumes && !settings.init_from.empty()) start.checkpoint.emplace(settings.init_from, world, heartbeat);
  const bool checked = start.resumes && settings.resume == "auto";
  if (start.checkpoint && !checked)
    collectively(world,
                 [&] { require_tensors_of_its_model(*start.checkpoint, start.resumes, world.rank(), world.size()); });
  if (settings.resume == "auto") return start;

  const std::vector<std::int64_t> steps = steps_of(settings.run, world);
  collectively(world, [&] {
    if (steps.empty()) return;
    require(start.resumes,
            "{}: contains a run already; use --resume auto to continue it, or another --run to start a new one",
            settings.run);
    const std::int64_t from = start.checkpoint->state().integer_attribute("step");
    require(
        steps.front() <= from,
        "{}: contains {} already, which is newer than step {} that --resume names; remove the newer checkpoints, or "
        "use another --run",
        settings.run, step_folder(steps.front()), from);
  });
  return start;
}

Model::Options model_to_train(const TrainSettings& settings, const StartingPoint& start, Communicator& world) {
  Model::Options options = training_options_of(settings.compute, settings.memory);
  collectively(world, [&] {
    if (!start.checkpoint) {
      options.shape = resolve(settings.model, preset_options(default_preset));
    } else {
      const Checkpoint& checkpoint = *start.checkpoint;
      options.shape = resolve(settings.model, model_options_of(checkpoint));
      require_same_model(checkpoint, options.shape);
      // Weights are converted to another dtype, but a resumed run must compute the same bits.
      require(!start.resumes || checkpoint.text("dtype") == settings.compute.dtype,
              "{}: the checkpoint's dtype is {}, but --dtype is {}", checkpoint.path(), checkpoint.text("dtype"),
              settings.compute.dtype);
      require(!start.resumes || fp8_level_of(checkpoint) == options.fp8,
              "{}: the checkpoint was trained with --fp8 {}, but --fp8 is {}", checkpoint.path(),
              name_of(fp8_level_of(checkpoint)), settings.compute.fp8);
    }
    options.shape.check();
  });
  return options;
}

void restore_weights(const Checkpoint& checkpoint, Model& model, Runtime& runtime) {
  collectively(runtime.mesh.world, [&] { load_parameters(checkpoint, model.parameters(), runtime.stream); });
}

TrainingState restore_run(const Checkpoint& checkpoint, const TrainSettings& settings, const Model& model,
                          const Optimizer& optimizer, Runtime& runtime) {
  TrainingState run;
  Communicator& world = runtime.mesh.world;
  collectively(world, [&] {
    load_optimizer(checkpoint, model.parameters(), optimizer, runtime.stream);
    run = training_state_of(checkpoint);
    require(run.seed == settings.seed, "--seed is {}, but {} was trained with {}", settings.seed, checkpoint.path(),
            run.seed);
    require_same_data_order(checkpoint.state(), settings, checkpoint.path());
    require(run.step <= settings.steps, "--steps is {}, but {} has completed {}", settings.steps, checkpoint.path(),
            run.step);
  });
  return run;
}

RunCheckpoints::RunCheckpoints(const TrainSettings& settings, ResumeRecord record, Runtime& runtime, const Log& log,
                               std::vector<std::int64_t> damaged, CheckpointHook hook)
    : settings_(settings),
      record_(std::move(record)),
      runtime_(runtime),
      log_(log),
      asynchronous_(hdf5::thread_safe()),
      writer_({.run = settings.run,
               .retention = {.last = settings.keep_last, .every = settings.keep_every, .damaged = std::move(damaged)},
               .hook = std::move(hook),
               .on_own_thread = asynchronous_},
              runtime.mesh.world, runtime.stream) {}

std::optional<PublishedCheckpoint> RunCheckpoints::save(const TrainingState& state, const Model& model,
                                                        const Optimizer& optimizer) {
  std::optional<PublishedCheckpoint> published = finish();
  model.parameters().await_updates(runtime_.stream);
  std::map<std::string, hdf5::Value> kept = data_order_of(settings_);
  kept.insert(record_.begin(), record_.end());
  kept.insert({{"step", state.step},
               {"tokens_seen", state.tokens_seen},
               {"cursor", state.cursor},
               {"most_packs_a_step", state.most_packs_a_step},
               {"seed", settings_.seed},
               {"loss", state.loss.value_or(std::numeric_limits<double>::quiet_NaN())},
               {"strategies", settings_.compute.strategy},
               {"one_way_layers", std::int64_t{runtime_.one_way_layers}}});
  writer_.start(state.step,
                {.attributes = attributes_of(model.options().shape, model.options().dtype, model.options().fp8),
                 .state = std::move(kept),
                 .tensors = checkpoint_tensors(model.parameters(), optimizer)});
  return asynchronous_ ? published : finish();
}

std::optional<PublishedCheckpoint> RunCheckpoints::advance(CheckpointProgress sum) {
  return announced(writer_.advance(sum));
}

std::optional<PublishedCheckpoint> RunCheckpoints::finish() { return announced(writer_.finish()); }

std::optional<PublishedCheckpoint> RunCheckpoints::announced(std::optional<PublishedCheckpoint> published) const {
  if (!published) return published;
  log_.info("checkpoint {}/{}: {} in {}", settings_.run, step_folder(published->step),
            binary_bytes(static_cast<double>(published->bytes)), short_time(published->seconds));
  for (const std::string& reason : published->not_removed)
    log_.warn("an older checkpoint could not be removed: {}", reason);
  return published;
}

}  // namespace causeway
