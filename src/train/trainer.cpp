#include "src/train/trainer.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/core/trace.hpp"
#include "src/cli/number_format.hpp"
#include "src/model/flops.hpp"
#include "src/run/json_fields.hpp"
#include "src/run/resume_command.hpp"
#include "src/run/run_ending.hpp"
#include "src/runtime/sum_over_ranks.hpp"
#include "src/runtime/wall_clock.hpp"
#include "src/train/non_finite.hpp"
#include "src/train/progress_report.hpp"
#include "src/train/training_plan.hpp"

namespace causeway {

std::string Trainer::plan() const { return describe_plan(settings_, runtime_, model_, data_); }

ExitCode Trainer::run() {
  try {
    const ExitCode code = train();
    if (trace_) trace_->finish();
    rank_progress_->enter(Phase::done);
    write_exit(code, code == ExitCode::ok ? "done" : "checkpointed after a signal");
    if (code == ExitCode::requeue) print_resume_command();
    return code;
  } catch (const AgreedError& error) {
    finish_checkpoint();
    write_exit(error.code(), error.what());
    if (error.code() != ExitCode::requeue) throw;
    print_resume_command();  // a signal came before the first step
    return error.code();
  } catch (const PeerFailed&) {
    throw;  // the rank that failed has reported it
  } catch (const std::exception& exception) {
    write_exit_of_this_rank(error_of(exception));
    throw;
  }
}

ExitCode Trainer::train() {
  log_.paragraph(plan() + "\n");
  if (step_ < settings_.steps)
    agree_on_signals_before_first_step();
  else
    log_.info("all {} steps are done already; a larger --steps continues", grouped(settings_.steps));
  const bool evaluates = !valid_.datasets.empty();
  if (evaluates && step_ == 0) evaluate_before_training();
  const WallClock since_start;
  ProgressSchedule schedule(settings_.log_every, settings_.steps);
  TimeLeft time_left(step_);
  std::int64_t interval_tokens = 0;
  double interval_s = 0;  // of steps only, without evaluations and checkpoints
  while (step_ < settings_.steps) {
    if (trace_) trace_->before_step(step_ + 1, settings_.steps);
    TrainingStep step = train_step(step_ + 1);
    ++step_;
    loss_ = step.loss;
    const auto due = [&](std::int64_t every) { return step_ == settings_.steps || (every > 0 && step_ % every == 0); };
    interval_tokens += step.tokens;
    interval_s += step.measured.step_s;
    const double elapsed_s = since_start.seconds(), left_s = time_left.after(step_, settings_.steps, elapsed_s);
    if (schedule.due(step_, elapsed_s)) {
      log_.info("{}", progress_line({.step = step_,
                                     .steps = settings_.steps,
                                     .epoch = epochs_seen(),
                                     .loss = step.loss,
                                     .tokens_per_s = static_cast<double>(interval_tokens) / std::max(interval_s, 1e-9),
                                     .elapsed_s = elapsed_s,
                                     .left_s = left_s},
                                    log_columns()));
      interval_tokens = 0;
      interval_s = 0;
    }
    if (evaluates && due(settings_.eval_every)) {
      const Evaluation found = timed_evaluation();
      step.eval_loss = found.loss;
      step.eval_s = found.seconds;
    }
    step.add(checkpoints_->advance(step.writing));
    // The line is written before the checkpoint: a run that resumes from it needs the lines of all steps up to it.
    write_metrics(step, false);
    if (due(settings_.checkpoint_every) || step.stop) save(step);
    if (step.stop && step_ < settings_.steps) return ExitCode::requeue;
  }
  return ExitCode::ok;
}

/// Tokens seen in relation to those of the data.
double Trainer::epochs_seen() const { return static_cast<double>(tokens_seen_) / static_cast<double>(data_.tokens()); }

TrainingStep Trainer::train_step(std::int64_t number) {
  const WallClock watch;
  const Traffic before = runtime_.mesh.traffic();
  TrainingStep step{.number = number, .learning_rate = schedule_of(settings_).at(number)};
  rank_progress_->begin_step(number);
  const ProfileRange range(runtime_.stream, fmt::format("step {}", number));

  rank_progress_->enter(Phase::data);
  PreparedStep prepared = prepared_.valid() ? prepared_.get() : prepare_step();
  const DealtPacks& packs = prepared.packs;
  cursor_ = prepared.cursor;
  step.tokens = packs.tokens;
  update_->begin();
  for (const Pack& pack : packs.own) {
    rank_progress_->enter(Phase::data);
    const bool first = &pack == &packs.own.front();
    PackOnRank work = first ? std::move(prepared.first) : read_pack(data_, pack, layout_, runtime_);
    scale_weights(work, label_weights_of(settings_), runtime_);
    update_->add(*work.sharding, work.batch(), work.weight_sum);
  }
  finish(step, packs.own);

  const Traffic after = runtime_.mesh.traffic();
  report(step, update_->tokens(), packs.flops,
         {.step_s = watch.seconds(),
          .exposed_s = after.exposed_s - before.exposed_s,
          .hidden_s = after.hidden_s - before.hidden_s,
          .bytes_sent = after.bytes_sent - before.bytes_sent,
          .memory_bytes = runtime_.stream.memory().peak_bytes()});
  return step;
}

Trainer::PreparedStep Trainer::prepare_step() {
  PreparedStep prepared{.packs = deal_packs(), .cursor = packs_->cursor(), .first = {}};
  prepared.first = read_pack(data_, prepared.packs.own.front(), layout_, runtime_);
  return prepared;
}

/// While the device computes `step`. Communicates with no rank: an error of this one is thrown when the next step asks
/// for what was prepared, so that `step` is recorded and saved first.
void Trainer::prepare_next_step(const TrainingStep& step) {
  if (step.stop || step.number >= settings_.steps) return;
  rank_progress_->enter(Phase::data);
  std::packaged_task<PreparedStep()> prepare([this] { return prepare_step(); });
  prepared_ = prepare.get_future();
  prepare();
  rank_progress_->enter(Phase::optimizer);
}

/// Takes the step's packs from the sequence. All ranks take all of them, and each keeps those of its data group.
Trainer::DealtPacks Trainer::deal_packs() {
  const int groups = runtime_.mesh.data_size, own = runtime_.mesh.data_index;
  DealtPacks packs;
  std::vector<Pack> all;
  std::vector<double> costs;
  for (std::int64_t i = 0; i < settings_.accumulate * groups; ++i) {
    Pack pack = packs_->next();
    packs.tokens += pack.tokens();
    costs.push_back(training_flops(model_, segments_of(pack)));
    packs.flops += costs.back();
    if (settings_.deal == "balanced")
      all.push_back(std::move(pack));
    else if (i % groups == own)
      packs.own.push_back(std::move(pack));
  }
  if (settings_.deal == "balanced") {
    const std::vector<std::vector<std::size_t>> dealt = deal_by_cost(costs, groups);
    for (const std::size_t pack : dealt[static_cast<std::size_t>(own)]) packs.own.push_back(std::move(all[pack]));
  }
  first_step_dealt_ = true;
  return packs;
}

/// Updates the weights. A value that is not finite ends the run; the device has left the weights as they were.
void Trainer::finish(TrainingStep& step, const std::vector<Pack>& packs) {
  rank_progress_->enter(Phase::optimizer);
  const CheckpointProgress writing = checkpoints_->progress();
  const auto [label_weight, stops, done, failed] =
      sum_over_ranks(runtime_.mesh.world,
                     std::array{update_->label_weight(), signals_.raised() ? 1.0 : 0.0, writing.done, writing.failed});
  step.stop = stops > 0;
  step.writing = {.done = done, .failed = failed};
  if (label_weight == 0)
    return;  // a mean over nothing has no gradient: weights, moments and their decay stay as they are
  update_->update(step.number, step.learning_rate, label_weight);
  prepare_next_step(step);
  const auto [loss, gradient_norm, clip_factor] = update_->wait_for_result();
  step.loss = loss / label_weight;
  step.gradient_norm = gradient_norm;
  const auto text = [](double x) { return std::isnan(x) ? std::string("NaN") : fmt::format("{}", x); };
  if (!std::isfinite(loss)) stop_at_non_finite(step.number, packs, "the loss is " + text(loss));
  if (!std::isfinite(clip_factor))
    stop_at_non_finite(step.number, packs, "the gradient's norm is " + text(gradient_norm));
}

/// Combines the ranks' measurements, and records this rank's for ranks.txt.
void Trainer::report(TrainingStep& step, std::int64_t own_tokens, double flops, const RankMeasurements& measured) {
  Communicator& world = runtime_.mesh.world;
  step.measured = gather_measurements(world, measured);
  if (gemm_rate_) step.mfu = flops / (step.measured.step_s * *gemm_rate_ * world.size());
  tokens_seen_ += step.tokens;
  rank_progress_->record_figures({.step_s = measured.step_s,
                                  .compute_s = std::max(0.0, measured.step_s - measured.exposed_s),
                                  .comm_exposed_s = measured.exposed_s,
                                  .tokens = own_tokens,
                                  .memory_bytes = measured.memory_bytes});
}

/// Throws AgreedError(non_finite) on all ranks, with the first layer and rank that had a value that is not finite.
void Trainer::stop_at_non_finite(std::int64_t step, const std::vector<Pack>& packs, const std::string& what) {
  const std::string where = find_non_finite(model_, runtime_, data_, packs, layout_, label_weights_of(settings_));
  collectively(runtime_.mesh.world, [&] {
    fail(ExitCode::non_finite, "step {}: {}; {}. The weights are those of step {}", step, what, where, step - 1);
  });
  fail(ExitCode::internal, "collectively() returned");
}

/// The mean loss in nats over the labels of the held-out packs, by their weights; no value where they have none.
std::optional<double> Trainer::evaluate() {
  Packer packer = make_packer_in_order(valid_, packing_of(settings_));
  double loss = 0, label_weight = 0;
  std::int64_t index = 0;
  for (; settings_.eval_packs == 0 || index < settings_.eval_packs; ++index) {
    const std::optional<Pack> pack = packer.next();
    if (!pack) break;
    if (index % runtime_.mesh.data_size == 0) agree_on_signals_before_first_step();
    if (index % runtime_.mesh.data_size != runtime_.mesh.data_index) continue;
    rank_progress_->enter(Phase::evaluate);
    const PackOnRank work = place_pack(valid_, *pack, layout_, runtime_, label_weights_of(settings_));
    const Tensor losses(runtime_.stream, accumulator_of(model_.options().dtype), {work.sharding->local_tokens()});
    model_.evaluate(pass(work), work.batch(), losses);
    loss += sum_in_order(runtime_.stream, losses);
    label_weight += work.weight_sum;
  }
  // In the last round some data groups may have no pack.
  const std::int64_t last_round = index % runtime_.mesh.data_size;
  if (last_round > 0 && runtime_.mesh.data_index >= last_round) model_.join_evaluation(runtime_.stream);
  const auto [total_loss, total_weight] = sum_over_ranks(runtime_.mesh.world, std::array{loss, label_weight});
  if (total_weight == 0) return std::nullopt;
  return total_loss / total_weight;
}

Trainer::Evaluation Trainer::timed_evaluation() {
  const ProfileRange range(runtime_.stream, "evaluation");
  const WallClock watch;
  Evaluation found{.loss = evaluate()};
  found.seconds = watch.seconds();
  log_.info("step {} of {}  {}", grouped(step_), grouped(settings_.steps), loss_text("held-out", found.loss));
  return found;
}

void Trainer::evaluate_before_training() {
  const Evaluation found = timed_evaluation();
  const SystemCalls writing(*rank_progress_);
  collectively(runtime_.mesh.world, [&] {
    if (!metrics_) return;
    const nlohmann::ordered_json line{
        {"step", 0}, {"eval_loss", number_or_null(found.loss)}, {"eval_s", found.seconds}};
    metrics_->append(line);
    show_in_tensorboard(line);
  });
}

void Trainer::save(TrainingStep& step) {
  rank_progress_->enter(Phase::checkpoint);
  const ProfileRange range(runtime_.stream, "checkpoint");
  const WallClock watch;
  const TrainingState run{.step = step_,
                          .tokens_seen = tokens_seen_,
                          .cursor = cursor_,
                          .most_packs_a_step = most_packs_a_step_,
                          .loss = loss_};
  step.add(checkpoints_->save(run, model_, *optimizer_));
  if (step.stop || step_ == settings_.steps) step.add(checkpoints_->finish());
  step.checkpoint_s = watch.seconds();
  write_metrics(step, true);
}

void Trainer::write_metrics(const TrainingStep& step, bool amend) {
  const SystemCalls writing(*rank_progress_);
  collectively(runtime_.mesh.world, [&] {
    if (!metrics_) return;
    const nlohmann::ordered_json line = step.metrics_line();
    if (amend)
      metrics_->amend(line);
    else
      metrics_->append(line);
    show_in_tensorboard(line);
  });
}

/// An error of the event file does not end the training: metrics.jsonl has the same figures.
void Trainer::show_in_tensorboard(const nlohmann::ordered_json& line) {
  if (!tensorboard_) return;
  try {
    tensorboard_->add(line);
  } catch (const Error& error) {
    log_.warn("{}; TensorBoard will show no later steps of this attempt", error.what());
    tensorboard_.reset();
  }
}

/// After an error that all ranks agree on: all ranks are here, so the checkpoint being written can still be completed.
void Trainer::finish_checkpoint() {
  try {
    checkpoints_->finish();
  } catch (const Error& error) {
    if (log_.prints()) log_.warn("{}", error.what());  // the error that ends the run matters more
  }
}

/// For an error of this rank that the other ranks do not have.
void Trainer::write_exit_of_this_rank(const Error& error) const {
  write_exit_file(error.code(), fmt::format("rank {} ({}): {}", runtime_.mesh.world.rank(), host_name(), error.what()));
}

void Trainer::write_exit(ExitCode code, const std::string& reason) const {
  if (runtime_.mesh.world.rank() == 0) write_exit_file(code, reason);
}

/// The last lines of a run that a signal stopped; the last one can be pasted into a shell.
void Trainer::print_resume_command() const {
  if (!log_.prints()) return;
  log_.info("stopped by a signal at step {} of {}; to resume:", grouped(step_), grouped(settings_.steps));
  log_.info("{}", resume_command(settings_.run, runtime_.mesh.world.size(), uses_mpi(settings_.launch)));
}

void Trainer::write_exit_file(ExitCode code, const std::string& reason) const {
  const SystemCalls writing(*rank_progress_);
  try {
    write_ending(settings_.run, {.code = code, .reason = reason, .step = step_, .loss = loss_});
  } catch (const Error& error) {
    log_.warn("{}", error.what());  // the cause of the end matters more, and is reported elsewhere
  }
}

}  // namespace causeway
