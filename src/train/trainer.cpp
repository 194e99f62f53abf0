#include "src/train/trainer.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <filesystem>

#include "kernels/core/integer.hpp"
#include "kernels/core/profile_range.hpp"
#include "src/model/flops.hpp"
#include "src/run/run_ending.hpp"
#include "src/runtime/gemm_rate.hpp"
#include "src/runtime/host_copy.hpp"
#include "src/runtime/strategy_choice.hpp"
#include "src/runtime/wall_clock.hpp"
#include "src/train/non_finite.hpp"
#include "src/train/run_folder.hpp"
#include "src/train/step_shares.hpp"

namespace causeway {
namespace {

template <std::size_t count>
std::array<double, count> sum_over_ranks(Communicator& world, std::array<double, count> values) {
  world.all_reduce(view_of(values.data(), DType::f64, {count}), Reduction::sum, Stream());
  return values;
}

Traffic traffic_of(const Mesh& mesh) {
  const Traffic &world = mesh.world.traffic(), &context = mesh.context.traffic();
  return {world.bytes_sent + context.bytes_sent, world.messages_sent + context.messages_sent,
          world.exposed_s + context.exposed_s, world.hidden_s + context.hidden_s};
}

DataMixture open_on_all(const std::vector<std::string>& sources, std::int64_t vocabulary, const TrainSettings& settings,
                        Communicator& world) {
  DataMixture mixture;
  if (sources.empty()) return mixture;
  collectively(world, [&] {
    mixture = DataMixture::open(sources, vocabulary);
    if (settings.long_documents == "refuse") mixture.refuse_longer(settings.pack_tokens);
  });
  return mixture;
}

std::string rate(double per_second) {
  return per_second >= 1e4 ? fmt::format("{:.1f}k", per_second / 1e3) : fmt::format("{:.0f}", per_second);
}

}  // namespace

struct Trainer::Step {
  std::int64_t number = 0, tokens = 0;
  double loss = 0, learning_rate = 0, gradient_norm = 0;
  StepShares shares;
  std::optional<double> mfu;  ///< model FLOP utilisation: training_flops a second of the rate of one large product
  bool stop = false;          ///< some rank got a signal
  std::optional<double> eval_loss, eval_s, checkpoint_s;
  std::array<double, 2> writing{};  ///< of the checkpoint in the making: RunCheckpoints::progress() of all ranks
  std::optional<PublishedCheckpoint> published;  ///< the last that came to be there in this step

  void note(std::optional<PublishedCheckpoint> checkpoint) {
    if (checkpoint) published = std::move(checkpoint);
  }

  double tokens_per_s() const { return shares.step_s > 0 ? static_cast<double>(tokens) / shares.step_s : 0; }
  nlohmann::ordered_json line() const {
    nlohmann::ordered_json line{{"step", number},
                                {"loss", loss},
                                {"learning_rate", learning_rate},
                                {"grad_norm", gradient_norm},
                                {"tokens", tokens},
                                {"tokens_per_s", tokens_per_s()},
                                {"step_s", shares.step_s},
                                {"compute_s", shares.compute_s},
                                {"comm_exposed_s", shares.exposed_s},
                                {"comm_hidden_s", shares.hidden_s},
                                {"bytes_sent", shares.bytes_sent},
                                {"memory_bytes", shares.memory_bytes},
                                {"balance", shares.balance},
                                {"slowest_rank", shares.slowest_rank}};
    if (mfu) line["mfu"] = *mfu;
    if (eval_loss) line["eval_loss"] = *eval_loss;
    if (eval_s) line["eval_s"] = *eval_s;
    if (checkpoint_s) line["checkpoint_s"] = *checkpoint_s;
    if (published) {
      line["checkpoint_step"] = published->step;
      line["checkpoint_write_s"] = published->seconds;
      line["checkpoint_bytes"] = published->bytes;
    }
    return line;
  }
};

Trainer::Trainer(const TrainSettings& settings, const Config& config, Communicator world, const StopSignals& signals)
    : settings_(settings),
      faults_(make_faults(settings.faults, world)),
      rank_progress_(make_rank_progress(faults_)),
      watchdog_({.limit_s = settings.faults.watchdog, .rank = world.rank()}, rank_progress_,
                world.transport().split(0, world.rank())),
      runtime_(make_runtime(settings.compute, std::move(world), rank_progress_)),
      layout_(parse_layout(settings.compute.layout)),
      log_(runtime_.mesh.world.rank()),
      signals_(signals),
      start_(find_starting_point(settings_, runtime_.mesh.world, log_, [&] { rank_progress_->heartbeat(); })),
      model_(model_to_train(settings_, start_, runtime_.mesh.world)) {
  inject_nan(faults_, rank_progress_, model_);
  const std::int64_t vocabulary = model_.options().shape.vocabulary;
  data_ = open_on_all(settings_.data, vocabulary, settings_, runtime_.mesh.world);
  valid_ = open_on_all(settings_.valid_data, vocabulary, settings_, runtime_.mesh.world);
  packs_.emplace(data_, packing_of(settings_), static_cast<std::uint64_t>(settings_.seed));
  if (!settings_.dry_run) make_run_folder();
  rank_progress_->enter(Phase::start);
  choose();
  if (settings_.dry_run) return;
  rank_progress_->enter(Phase::restore);
  model_.parameters().allocate(runtime_.stream, runtime_.mesh.world.size());
  restore();
  open_run_folder(config);
}

/// Each operator's strategy: as forced, or as the run it goes on from had it, so that it gives the same bits; else by
/// measurement.
void Trainer::choose() {
  Communicator& world = runtime_.mesh.world;
  const bool forced = !runtime_.strategies.names().empty();
  if (start_.resumes)
    collectively(world, [&] {
      const hdf5::Object state = start_.checkpoint->state();
      if (state.has_attribute("strategies"))
        runtime_.strategies.add(usable_strategies(state.string_attribute("strategies"), layout_));
    });
  choice_ = choose_strategies(runtime_, model_.calls(), model_.options().dtype, layout_, settings_.pack_tokens,
                              !start_.resumes ? "forced"
                              : forced        ? "forced, or as before"
                                              : "as before");
  settings_.compute.strategy = strategies_text(runtime_.strategies.names());
}

/// Weights and optimizer as they start: fresh, from another run's weights, or where this run stopped.
void Trainer::restore() {
  ParameterSet& parameters = model_.parameters();
  if (start_.checkpoint)
    restore_weights(*start_.checkpoint, model_, runtime_);
  else
    parameters.initialise(static_cast<std::uint64_t>(settings_.seed), runtime_.stream);
  optimizer_.emplace(optimizer_options_of(settings_), parameters, runtime_.mesh.world, runtime_.stream);
  if (start_.resumes) {
    const RunState run = restore_run(*start_.checkpoint, settings_, model_, *optimizer_, runtime_);
    step_ = run.step;
    tokens_seen_ = run.tokens_seen;
    loss_ = run.loss;
    packs_->advance_to(run.cursor);
    log_.info("resumed from {} (step {}, {} tokens seen)", start_.checkpoint->path(), step_, tokens_seen_);
  }
  start_.checkpoint.reset();
}

/// The folder, with the ranks' board in it, which tells of all that takes long from here on.
void Trainer::make_run_folder() {
  Communicator& world = runtime_.mesh.world;
  const std::filesystem::path run = settings_.run;
  collectively(world, [&] {
    if (world.rank() != 0) return;
    std::error_code error;
    std::filesystem::create_directories(run, error);
    if (error) fail(ExitCode::io, "{}: cannot make the folder: {}", settings_.run, error.message());
    if (!start_.lock.asked()) start_.lock = RunLock(settings_.run, std::chrono::seconds(0));
    std::filesystem::remove(run / "exit.json", error);
    RankBoard::create(run / "ranks.txt", world.size());
  });
  watchdog_.open(run / "ranks.txt", run / "exit.json");
}

void Trainer::open_run_folder(const Config& config) {
  Communicator& world = runtime_.mesh.world;
  nlohmann::ordered_json environment = describe_environment(settings_, model_, runtime_);
  if (runtime_.stream.device() != Device::cpu) {
    gemm_rate_ = gemm_rate(Stopwatch(runtime_.stream, 0), model_.options().dtype);
    runtime_.stream.memory().reset_peak();
    environment["gemm_flops_per_s"] = *gemm_rate_;
  }
  collectively(world, [&] {
    if (world.rank() != 0) return;
    const std::filesystem::path run = settings_.run;
    write_start(settings_.run, {.config = config(settings_), .environment = environment, .resumed_step = step_});
    metrics_.emplace(run / "metrics.jsonl", step_);
  });
  checkpoints_.emplace(settings_, runtime_, log_, start_.damaged,
                       [rank_progress = rank_progress_](CheckpointStage stage, const std::string& path) {
                         rank_progress->record_writing(stage, path);
                       });
}

Trainer::Step Trainer::train_step(std::int64_t number) {
  const WallClock watch;
  const Traffic before = traffic_of(runtime_.mesh);
  Step step{.number = number, .learning_rate = schedule_of(settings_).at(number)};

  rank_progress_->begin_step(number);
  const ProfileRange range(fmt::format("step {}", number));
  std::vector<Pack> mine;
  double flops = 0;
  for (std::int64_t k = 0; k < settings_.accumulate; ++k)
    for (int group = 0; group < runtime_.mesh.data_size; ++group) {
      Pack pack = packs_->next();
      step.tokens += pack.tokens();
      flops += training_flops(model_, segments_of(pack));
      if (group == runtime_.mesh.data_index) mine.push_back(std::move(pack));
    }

  const Stream& stream = runtime_.stream;
  Communicator& world = runtime_.mesh.world;
  model_.parameters().zero_gradients(stream);
  const Tensor report = Tensor::zeros(stream, DType::f64, {3});
  const TensorView loss = report.view().slice_rows(0, 1), norm = report.view().slice_rows(1, 1),
                   factor = report.view().slice_rows(2, 1);
  double labels = 0;
  std::int64_t own_tokens = 0;
  for (const Pack& pack : mine) {
    rank_progress_->enter(Phase::data);
    const PackOnRank work = place_pack(data_, pack, layout_, runtime_);
    model_.train(pass(work), work.batch(), loss);
    labels += static_cast<double>(work.labelled);
    own_tokens += work.sharding->local_tokens();
  }
  rank_progress_->enter(Phase::optimizer);
  world.all_reduce(loss, Reduction::sum, stream);
  const auto [written, failed] = checkpoints_->progress();
  const auto [total_labels, stops, all_written, all_failed] =
      sum_over_ranks(world, std::array{labels, signals_.raised() ? 1.0 : 0.0, written, failed});
  step.stop = stops > 0;
  step.writing = {all_written, all_failed};
  optimizer_->step(number, step.learning_rate, total_labels > 0 ? 1 / total_labels : 0, loss, norm, factor);

  const std::vector<double> known = host_values<double>(stream, report);  // the one time a step waits for the device
  step.loss = total_labels > 0 ? known[0] / total_labels : 0;
  step.gradient_norm = known[1];
  const auto spelled = [](double x) { return std::isnan(x) ? std::string("NaN") : fmt::format("{}", x); };
  if (!std::isfinite(known[0])) report_non_finite(number, mine, "the loss is " + spelled(known[0]));
  if (!std::isfinite(known[2])) report_non_finite(number, mine, "the gradient's norm is " + spelled(known[1]));

  const Traffic after = traffic_of(runtime_.mesh);
  const RankShare own{.step_s = watch.seconds(),
                      .exposed_s = after.exposed_s - before.exposed_s,
                      .hidden_s = after.hidden_s - before.hidden_s,
                      .bytes_sent = after.bytes_sent - before.bytes_sent,
                      .memory_bytes = stream.memory().peak_bytes()};
  step.shares = gather_shares(world, own);
  if (gemm_rate_) step.mfu = flops / (step.shares.step_s * *gemm_rate_ * world.size());
  tokens_seen_ += step.tokens;
  rank_progress_->record_figures({.step_s = own.step_s,
                                  .compute_s = std::max(0.0, own.step_s - own.exposed_s),
                                  .comm_exposed_s = own.exposed_s,
                                  .tokens = own_tokens,
                                  .memory_bytes = own.memory_bytes});
  return step;
}

/// Ends all ranks with ExitCode::non_finite before the weights are touched.
void Trainer::report_non_finite(std::int64_t step, const std::vector<Pack>& packs, const std::string& what) {
  const std::string where = find_non_finite(model_, runtime_, data_, packs, layout_);
  collectively(runtime_.mesh.world, [&] {
    fail(ExitCode::non_finite, "step {}: {}; {}. The weights are those of step {}", step, what, where, step - 1);
  });
  fail(ExitCode::internal, "collectively() returned");
}

double Trainer::evaluate() {
  Packer packer = make_packer_in_order(valid_, packing_of(settings_));
  double loss = 0, labels = 0;
  for (std::int64_t index = 0; settings_.eval_packs == 0 || index < settings_.eval_packs; ++index) {
    const std::optional<Pack> pack = packer.next();
    if (!pack) break;
    if (index % runtime_.mesh.data_size != runtime_.mesh.data_index) continue;
    rank_progress_->enter(Phase::evaluate);
    const PackOnRank work = place_pack(valid_, *pack, layout_, runtime_);
    const Tensor losses(runtime_.stream, accumulator_of(model_.options().dtype), {work.sharding->local_tokens()});
    model_.evaluate(pass(work), work.batch(), losses);
    loss += sum_in_order(runtime_.stream, losses);
    labels += static_cast<double>(work.labelled);
  }
  const auto [total_loss, total_labels] = sum_over_ranks(runtime_.mesh.world, std::array{loss, labels});
  return total_labels > 0 ? total_loss / total_labels : 0;
}

void Trainer::save(Step& step) {
  rank_progress_->enter(Phase::checkpoint);
  const WallClock watch;
  const RunState run{.step = step_, .tokens_seen = tokens_seen_, .cursor = packs_->cursor(), .loss = loss_};
  step.note(checkpoints_->save(run, model_, *optimizer_));
  if (step.stop || step_ == settings_.steps) step.note(checkpoints_->finish());
  step.checkpoint_s = watch.seconds();
  write_metrics(step, true);
}

void Trainer::write_metrics(const Step& step, bool amend) {
  collectively(runtime_.mesh.world, [&] {
    if (!metrics_) return;
    if (amend)
      metrics_->amend(step.line());
    else
      metrics_->append(step.line());
  });
}

ExitCode Trainer::run() {
  try {
    const ExitCode code = train();
    rank_progress_->enter(Phase::done);
    write_exit(code, code == ExitCode::ok ? "done"
                     : step_ == 0         ? "stopped by a signal before the first step"
                                          : "checkpointed after a signal");
    return code;
  } catch (const AgreedError& error) {
    finish_checkpoint();
    write_exit(error.code(), error.what());
    throw;
  } catch (const PeerFailed&) {
    throw;  // whoever it was has said it
  } catch (const std::exception& exception) {
    write_exit_of_own(error_of(exception));
    throw;
  }
}

/// All ranks are here, so that what is being written can be of use to whoever goes on.
void Trainer::finish_checkpoint() {
  try {
    checkpoints_->finish();
  } catch (const Error& error) {
    if (log_.speaks()) log_.warn("{}", error.what());  // how the run ended matters more
  }
}

ExitCode Trainer::train() {
  log_.info("{}", plan());
  // Whoever was asked to stop while the run was made ready: nothing is there that would have to be kept.
  const bool stop = runtime_.mesh.world.max(std::int64_t{signals_.raised()}) != 0;
  if (stop && step_ < settings_.steps) return ExitCode::requeue;
  const bool evaluates = !valid_.datasets.empty();
  if (evaluates && step_ == 0) {
    const WallClock watch;
    const double eval_loss = evaluate();
    const double eval_s = watch.seconds();
    log_.info("step 0/{}  held-out {:.4f}", settings_.steps, eval_loss);
    collectively(runtime_.mesh.world, [&] {
      if (metrics_) metrics_->append({{"step", 0}, {"eval_loss", eval_loss}, {"eval_s", eval_s}});
    });
  }
  WallClock interval;
  std::int64_t interval_tokens = 0;
  while (step_ < settings_.steps) {
    Step step = train_step(step_ + 1);
    ++step_;
    loss_ = step.loss;
    const auto due = [&](std::int64_t every) { return step_ == settings_.steps || (every > 0 && step_ % every == 0); };
    interval_tokens += step.tokens;
    if (due(settings_.log_every) || step_ == 1) {
      log_.info("step {}/{}  loss {:.4f}  lr {:.2e}  |g| {:.3f}  {} tokens/s", step_, settings_.steps, step.loss,
                step.learning_rate, step.gradient_norm,
                rate(static_cast<double>(interval_tokens) / interval.seconds()));
      interval = WallClock();
      interval_tokens = 0;
    }
    if (evaluates && due(settings_.eval_every)) {
      const WallClock watch;
      step.eval_loss = evaluate();
      step.eval_s = watch.seconds();
      log_.info("step {}/{}  held-out {:.4f}", step_, settings_.steps, *step.eval_loss);
    }
    step.note(checkpoints_->advance(step.writing));
    write_metrics(step, false);
    if (due(settings_.checkpoint_every) || step.stop) save(step);
    if (step.stop && step_ < settings_.steps) return ExitCode::requeue;
  }
  return ExitCode::ok;
}

std::string Trainer::plan() const {
  const ModelOptions& shape = model_.options().shape;
  const auto& mesh = runtime_.mesh;
  const ParameterSet& parameters = model_.parameters();
  std::int64_t replicated = 0, sharded = 0;
  for (const ParameterArena& arena : parameters.arenas()) {
    const std::int64_t wide = size_of(accumulator_of(arena.dtype));
    replicated += arena.elements * (size_of(arena.dtype) + (arena.frozen ? 0 : wide));
    if (arena.frozen) continue;
    sharded += 3 * wide * ceil_div(arena.elements, mesh.world.size());
  }
  const auto mib = [](std::int64_t bytes) { return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20)); };
  std::string text = fmt::format(
      "model: {} × {}, {} layers ({}), {} parameters, {}\n"
      "ranks: {} = {} data × {} context ({}); a rank holds {} of weights and gradients and {} of optimizer state\n"
      "step: {} packs of at most {} tokens, at most {} tokens a rank at a time{}; {} steps",
      shape.width, shape.vocabulary, shape.layers.size(), layers_text(shape.layers), parameters.count(),
      name_of(model_.options().dtype), mesh.world.size(), mesh.data_size, mesh.context.size(), name_of(layout_),
      mib(replicated), mib(sharded), settings_.accumulate * mesh.data_size, settings_.pack_tokens,
      ceil_div(settings_.pack_tokens, mesh.context.size()), settings_.recompute ? ", blocks recomputed" : "",
      settings_.steps);
  text += settings_.dry_run ? '\n' + choice_ : fmt::format("\nstrategies: {}", settings_.compute.strategy);
  for (const Dataset& dataset : data_.datasets)
    text += fmt::format("\ndata: {}, {} documents, {} tokens", dataset.path(), dataset.documents(), dataset.tokens());
  return text;
}

/// How one rank ends that the others do not know of.
void Trainer::write_exit_of_own(const Error& error) const {
  write_exit_file(error.code(), fmt::format("rank {} ({}): {}", runtime_.mesh.world.rank(), host_name(), error.what()));
}

void Trainer::write_exit(ExitCode code, const std::string& reason) const {
  if (runtime_.mesh.world.rank() == 0) write_exit_file(code, reason);
}

void Trainer::write_exit_file(ExitCode code, const std::string& reason) const {
  try {
    write_ending(settings_.run, {.code = code, .reason = reason, .step = step_, .loss = loss_});
  } catch (const Error& error) {
    log_.warn("{}", error.what());  // how the run ended matters more
  }
}

}  // namespace causeway
