/// The start of a Trainer: data, strategies, initial state, run directory.

#include <chrono>
#include <filesystem>

#include "io/data/identity.hpp"
#include "kernels/core/integer.hpp"
#include "src/cli/progress.hpp"
#include "src/model/flops.hpp"
#include "src/run/run_ending.hpp"
#include "src/runtime/gemm_rate.hpp"
#include "src/runtime/strategy_choice.hpp"
#include "src/train/memory_plan.hpp"
#include "src/train/resume_checks.hpp"
#include "src/train/run_directory.hpp"
#include "src/train/trainer.hpp"

namespace causeway {
namespace {

DataMixture open_on_all(const std::vector<std::string>& sources, std::int64_t vocabulary, const TrainSettings& settings,
                        Communicator& world) {
  DataMixture mixture;
  collectively(world, [&] {
    mixture = DataMixture::open(sources, vocabulary);
    if (settings.long_documents == "refuse") mixture.refuse_longer(settings.pack_tokens);
  });
  for (const Dataset& dataset : mixture.datasets) require_same(world, dataset.path(), outline_of(dataset));
  return mixture;
}

bool is_directly_in(const std::filesystem::path& file, const std::filesystem::path& folder) {
  return file.lexically_normal().parent_path() == (folder / "").lexically_normal().parent_path();
}

}  // namespace

Trainer::Trainer(const TrainSettings& settings, const Config& config, Communicator world, const StopSignals& signals)
    : settings_(settings),
      faults_(make_faults(settings.faults, world)),
      rank_progress_(make_rank_progress(faults_)),
      watchdog_({.limit_s = settings.faults.watchdog, .system_s = settings.faults.watchdog_io, .rank = world.rank()},
                rank_progress_, world.transport().split(0, world.rank())),
      runtime_(make_runtime(settings.compute, std::move(world), rank_progress_)),
      layout_(parse_layout(settings.compute.layout)),
      log_(runtime_.mesh.world.rank()),
      signals_(signals),
      most_packs_a_step_(settings.accumulate * runtime_.mesh.data_size),
      start_([&] {
        const SystemCalls reading(*rank_progress_);
        return find_starting_point(settings_, runtime_.mesh.world, log_, [&] { stop_if_signalled(); });
      }()),
      model_(model_to_train(settings_, start_, runtime_.mesh.world)) {
  inject_nan(faults_, rank_progress_, model_);
  const std::int64_t vocabulary = model_.options().shape.vocabulary;
  {
    const SystemCalls reading(*rank_progress_);
    data_ = open_on_all(settings_.data, vocabulary, settings_, runtime_.mesh.world);
    if (!settings_.valid_data.empty())
      valid_ = open_on_all(settings_.valid_data, vocabulary, settings_, runtime_.mesh.world);
  }
  collectively(runtime_.mesh.world, [&] {
    data_.refuse_too_large_packs(settings_.pack_tokens);
    if (runtime_.mesh.world.rank() == 0)
      data_.refuse_without_labels(packing_of(settings_), [&] { stop_if_signalled(); });
  });
  resolve_deal();
  resolve_steps();
  if (!settings_.dry_run || start_.resumes) identify_data();
  if (!settings_.dry_run) {
    const bool trace_in_run = is_directly_in(settings_.trace, settings_.run);
    if (!trace_in_run) open_trace();  // first, so that a wrong path leaves no run directory
    make_run_directory();
    if (trace_in_run) open_trace();
  }
  try {
    prepare_training(config);
  } catch (const AgreedError& error) {
    if (error.code() == ExitCode::requeue && !settings_.dry_run) write_exit_of_stopped_start(error);
    throw;
  }
}

void Trainer::open_trace() {
  if (settings_.trace.empty()) return;
  trace_.emplace(RunTrace::Options{.path = settings_.trace, .steps = settings_.trace_steps}, runtime_, log_);
}

/// The parts of the start that can take long; on a signal they end.
void Trainer::prepare_training(const Config& config) {
  packs_.emplace(
      data_, packing_of(settings_), static_cast<std::uint64_t>(settings_.seed),
      [this] { agree_on_signals_before_first_step(); }, cost_of_packs());
  rank_progress_->enter(Phase::start);
  choose_operator_strategies();
  if (settings_.dry_run) return;
  agree_on_signals_before_first_step();
  rank_progress_->enter(Phase::restore);
  const ParameterMemory parameters = training_memory_of(settings_.compute, settings_.memory, settings_.accumulate);
  if (settings_.memory.offload != "none")
    require_host_memory(runtime_, memory_of_rank(model_, runtime_, settings_.pack_tokens, parameters));
  model_.parameters().allocate(runtime_.stream, runtime_.mesh.world, parameters);
  set_initial_state();
  model_.reserve_host_memory(runtime_.stream, ceil_div(settings_.pack_tokens, runtime_.mesh.context.size()));
  open_run_directory(config);
}

/// Sets how packs are dealt: as --deal says; in a resumed run as before; else by the model and the number of packs. The
/// mesh has no influence, so that packs have the same order on every mesh. A training that ends within its first
/// windows would get only their cheapest packs, which have no long documents: it deals in order.
void Trainer::resolve_deal() {
  if (settings_.deal != "auto") return;
  constexpr std::int64_t fewest_windows = 4;
  const double packs = settings_.epochs ? *settings_.epochs * static_cast<double>(data_.tokens()) /
                                              static_cast<double>(settings_.pack_tokens)
                                        : static_cast<double>(settings_.asked_steps.value_or(default_steps)) *
                                              static_cast<double>(settings_.accumulate * runtime_.mesh.data_size);
  const bool long_enough = packs >= static_cast<double>(fewest_windows * PackSequence::balanced_window);
  settings_.deal = long_enough && model_.options().shape.uses("attention") ? "balanced" : "in_order";
  if (!start_.resumes) return;
  collectively(runtime_.mesh.world, [&] {
    const hdf5::Object state = start_.checkpoint->state();
    settings_.deal = state.has_attribute("deal") ? state.string_attribute("deal") : "in_order";
  });
}

/// The cost that orders balanced packs; empty for packs in order.
PackSequence::CostOfPack Trainer::cost_of_packs() const {
  if (settings_.deal != "balanced") return {};
  return [this](const Pack& pack) { return training_flops(model_, segments_of(pack)); };
}

/// The number of steps: --steps, or the fewest that take --epochs times the tokens of the data.
void Trainer::resolve_steps() {
  settings_.steps = settings_.asked_steps.value_or(default_steps);
  if (!settings_.epochs) return;
  const double tokens = *settings_.epochs * static_cast<double>(data_.tokens());
  PackSequence packs(
      data_, packing_of(settings_), static_cast<std::uint64_t>(settings_.seed),
      [this] { agree_on_signals_before_first_step(); }, cost_of_packs());
  Progress progress("packs of all epochs", static_cast<std::int64_t>(tokens), "tokens", log_.prints());
  const std::int64_t count = packs.advance_by_tokens(tokens, [&](std::int64_t done) { progress.update(done); });
  settings_.steps = ceil_div(count, settings_.accumulate * runtime_.mesh.data_size);
}

/// Before the first step there is no new state to keep: a signal ends the run at once. For work that a rank does
/// without the others, inside collectively().
void Trainer::stop_if_signalled() const {
  rank_progress_->heartbeat();
  if (signals_.raised())
    fail(ExitCode::requeue, "stopped by a signal before the first step; {}",
         start_.resumes ? "the checkpoint from which it resumes is unchanged" : "there was nothing to checkpoint yet");
}

/// The same for work that all ranks do in the same way; called at the same points on each.
void Trainer::agree_on_signals_before_first_step() {
  if (first_step_dealt_)
    rank_progress_->heartbeat();
  else
    collectively(runtime_.mesh.world, [&] { stop_if_signalled(); });
}

void Trainer::write_exit_of_stopped_start(const AgreedError& error) const {
  if (runtime_.mesh.world.rank() != 0) return;
  try {
    write_failed_start(settings_.run, error);
  } catch (const Error& failure) {
    log_.warn("{}", failure.what());  // the run ends anyway, and its end is reported
  }
}

/// Computes the identities of the data, and compares them and the options with those of the checkpoint from which the
/// run resumes. Before the run directory is touched: other data may mean that this is another run.
void Trainer::identify_data() {
  Communicator& world = runtime_.mesh.world;
  const auto found = [&](const DataMixture& data) {
    return identities_of(data, world, log_, [&] { stop_if_signalled(); });
  };
  const std::vector<DataIdentity> data = found(data_), valid = found(valid_);
  resume_record_ = resume_record(settings_, runtime_.mesh.data_size, data, valid);
  data_identities_ = to_json(data);
  valid_identities_ = to_json(valid);
  if (!start_.resumes) return;
  std::vector<std::string> lines;
  collectively(world, [&] {
    const Checkpoint& checkpoint = *start_.checkpoint;
    lines = compare_with_record(checkpoint.state(), checkpoint.path(), resume_record_, settings_.allow_changed_data);
  });
  for (const std::string& line : lines) log_.info("{}", one_line(line));
}

/// Each operator's strategy: the one --strategy names; else, in a resumed run, the one it had before, so that the run
/// computes the same bits; else the one with the lowest estimated time.
void Trainer::choose_operator_strategies() {
  Communicator& world = runtime_.mesh.world;
  const bool forced = !runtime_.strategies.names().empty();
  runtime_.one_way_layers = one_way_layers(model_.calls());
  if (start_.resumes)
    collectively(world, [&] {
      const hdf5::Object state = start_.checkpoint->state();
      if (state.has_attribute("strategies"))
        runtime_.strategies.add(usable_strategies(state.string_attribute("strategies"), layout_));
      // Versions without the attribute never ran a relay unless they were asked for one.
      runtime_.one_way_layers =
          state.has_attribute("one_way_layers") ? static_cast<int>(state.integer_attribute("one_way_layers")) : 1;
    });
  const UsualPack pack{.layout = layout_,
                       .tokens = settings_.pack_tokens,
                       .document_tokens = data_.mean_document(),
                       .passes = {.repeated = settings_.memory.recompute ? 1.0 : 0.0},
                       .wants_estimates = settings_.dry_run};
  choice_ = choose_strategies(runtime_, model_.calls(), pack,
                              !start_.resumes ? "forced"
                              : forced        ? "forced, or as before"
                                              : "as before");
  settings_.compute.strategy = strategies_text(runtime_.strategies.names());
}

/// Weights and optimizer state: new, or new with another run's weights, or from the checkpoint of this run.
void Trainer::set_initial_state() {
  ParameterSet& parameters = model_.parameters();
  if (start_.checkpoint)
    restore_weights(*start_.checkpoint, model_, runtime_);
  else
    parameters.initialise(static_cast<std::uint64_t>(settings_.seed), runtime_.stream);
  optimizer_.emplace(optimizer_options_of(settings_), parameters, runtime_.mesh.world, runtime_.stream);
  update_.emplace(runtime_, model_, *optimizer_);
  update_->update_beside_passes();
  if (start_.resumes) {
    const TrainingState run = restore_run(*start_.checkpoint, settings_, model_, *optimizer_, runtime_);
    step_ = run.step;
    tokens_seen_ = run.tokens_seen;
    loss_ = run.loss;
    most_packs_a_step_ = std::max(most_packs_a_step_, run.most_packs_a_step);
    Progress progress("packs of earlier steps", run.cursor, "packs", log_.prints());
    packs_->advance_to(run.cursor, [&](std::int64_t done) { progress.update(done); });
    log_.info("resumed from {} (step {}, {} tokens seen)", start_.checkpoint->path(), step_, tokens_seen_);
  }
  start_.checkpoint.reset();
}

/// Creates the run directory with ranks.txt in it. It comes first, so that ranks.txt shows every slow part of the
/// start.
void Trainer::make_run_directory() {
  Communicator& world = runtime_.mesh.world;
  const std::filesystem::path run = settings_.run;
  const SystemCalls writing(*rank_progress_);
  collectively(world, [&] {
    if (world.rank() != 0) return;
    std::error_code error;
    std::filesystem::create_directories(run, error);
    if (error) fail(ExitCode::io, "{}: cannot create the run directory: {}", settings_.run, error.message());
    if (!start_.lock.asked()) {
      start_.lock = RunLock(settings_.run, std::chrono::seconds(0));
      if (!start_.lock.warning().empty()) log_.warn("{}", start_.lock.warning());
    }
    std::filesystem::remove(run / "exit.json", error);
    RankBoard::create(run / "ranks.txt", world.size());
  });
  watchdog_.open(run / "ranks.txt", run / "exit.json");
}

/// Writes the files that describe the run, and opens its metrics and checkpoints.
void Trainer::open_run_directory(const Config& config) {
  Communicator& world = runtime_.mesh.world;
  nlohmann::ordered_json environment = describe_environment(settings_, model_, runtime_);
  environment["data"] = data_identities_;
  environment["valid_data"] = valid_identities_;
  if (runtime_.stream.device() != Device::cpu) {
    if (const GemmRate rate = gemm_rate(Stopwatch(runtime_.stream, 0), model_.options().dtype); rate.repeats)
      gemm_rate_ = rate.flops_per_s;
    runtime_.stream.memory().reset_peak();
    if (gemm_rate_) environment["gemm_flops_per_s"] = *gemm_rate_;
  }
  const SystemCalls writing(*rank_progress_);
  collectively(world, [&] {
    if (world.rank() != 0) return;
    const std::filesystem::path run = settings_.run;
    TrainSettings used = settings_;
    const bool new_model = !start_.resumes && settings_.init_from.empty();
    used.model =
        settings_of(model_.options().shape,
                    settings_.model.model.empty() && new_model ? std::string(default_preset) : settings_.model.model);
    write_start(settings_.run, {.config = config(used), .environment = environment, .resumed_step = step_});
    metrics_.emplace((run / "metrics.jsonl").string(), step_,
                     [this](const std::string& text) { log_.warn("{}", text); });
    if (settings_.tensorboard) tensorboard_.emplace(settings_.run, step_);
  });
  checkpoints_.emplace(settings_, resume_record_, runtime_, log_, start_.damaged,
                       [this](CheckpointStage stage, const std::string& path) {
                         rank_progress_->record_writing(stage, path);
                         if (trace_) trace_->record_stage(stage);
                       });
}

}  // namespace causeway
