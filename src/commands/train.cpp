#include <filesystem>
#include <optional>

#include "src/cli/command.hpp"
#include "src/cli/log.hpp"
#include "src/model/model_options.hpp"
#include "src/run/run_ending.hpp"
#include "src/train/run_directory.hpp"
#include "src/train/trainer.hpp"

namespace causeway {
namespace {

OptionGroup data_group(TrainSettings& settings) {
  OptionGroup group{
      "Data",
      {{"data", &settings.data, "FILE[:WEIGHT]",
        "a dataset made by causeway import; with several, each document is drawn from one of them with a "
        "probability in proportion to its weight"},
       {.name = "pack-tokens",
        .field = &settings.pack_tokens,
        .value = "N",
        .help = "tokens of a pack, all of its context ranks together",
        .binary_units = true},
       {"long-documents",
        &settings.long_documents,
        "",
        "what happens to a document longer than a pack: it is cut, or the run ends with an error",
        {"cut", "refuse"}},
       {"deal",
        &settings.deal,
        "",
        "which packs a data group gets. in_order: the packs in turn; balanced: packs of about the same cost follow "
        "each "
        "other, within each 512, and all groups get about the same sum; auto: balanced if a layer is attention and the "
        "training has 2048 packs, else in_order: without attention full packs cost the same, and a shorter training "
        "would end before the costly ones",
        {"auto", "in_order", "balanced"}},
       {"valid-data", &settings.valid_data, "FILE",
        "held-out dataset; its loss is measured before training, after training, and every --eval-every steps"},
       {"eval-every", &settings.eval_every, "N", "steps between two evaluations; 0: none during training"},
       {"eval-packs", &settings.eval_packs, "N", "packs per evaluation; 0: all"}}};
  insert_after(group, "pack-tokens", packing_options(settings.policy, settings.window));
  return group;
}

OptionGroup training_group(TrainSettings& settings) {
  OptionGroup group{
      "Training",
      {{"run", &settings.run, "DIRECTORY", "run directory: receives checkpoints, metrics and all other files"},
       {.name = "steps",
        .field = &settings.asked_steps,
        .value = "N",
        .help = "optimizer steps in total",
        .shown_default = fmt::format("{}", default_steps),
        .excludes = "epochs"},
       {.name = "epochs",
        .field = &settings.epochs,
        .value = "X",
        .help = "instead of --steps: as many steps as take X times the tokens of the data. Of several datasets an "
                "epoch has all their tokens, drawn by weight",
        .excludes = "steps"},
       accumulate_option(settings.accumulate),
       {"learning-rate", &settings.learning_rate, "X", "peak learning rate of AdamW"},
       {"warmup-steps", &settings.warmup_steps, "N",
        "steps of linear warm-up to the peak; after them the rate follows half a cosine"},
       {"learning-rate-floor", &settings.learning_rate_floor, "X",
        "learning rate of the last step, as a fraction of the peak"},
       {"beta1", &settings.beta1, "X", "decay rate of AdamW's first moment"},
       {"beta2", &settings.beta2, "X", "decay rate of AdamW's second moment"},
       {"weight-decay", &settings.weight_decay, "X",
        "weight decay of matrices; biases, norms, long filters, A_log and D have none"},
       {"loss-normalisation",
        &settings.loss_normalisation,
        "",
        "where the data have loss weights. step: the loss is Σ weight · loss / Σ weight over the step; pack: before, "
        "each pack's weights are scaled to a mean of 1 over its labels, as in Evo 2's training",
        {"step", "pack"}},
       {"clip", &settings.clip, "X", "maximum global gradient L2 norm; 0: no clipping"},
       {"seed", &settings.seed, "N", "seed of the initial weights and of the order of documents"}}};
  insert_after(group, "seed", memory_options(settings.memory));
  return group;
}

OptionGroup checkpoint_group(TrainSettings& settings) {
  return {
      "Checkpoints and resuming",
      {{"checkpoint-every", &settings.checkpoint_every, "N",
        "steps between two checkpoints; 0: only one, after the last step, which always has one"},
       {"keep-last", &settings.keep_last, "N", "keep only the newest N checkpoints; 0: keep all"},
       {"keep-every", &settings.keep_every, "N",
        "with --keep-last: also keep the checkpoints of every N-th step; 0: none"},
       {"resume", &settings.resume, "auto|DIRECTORY",
        "resume from this checkpoint; auto: from the newest undamaged checkpoint of the run, or start if the run "
        "has none"},
       {"allow-changed-data", &settings.allow_changed_data, "",
        "resume on data with another content than the run was trained on, which is an error otherwise. config.ini does "
        "not contain this option"},
       {"init-from", &settings.init_from, "DIRECTORY", "start a new run with the weights of a checkpoint"}}};
}

OptionGroup report_group(TrainSettings& settings) {
  return {
      "Progress, traces and dry run",
      {{"log-every", &settings.log_every, "N",
        "print a line of progress every N steps; one is also printed after the first step, after the last step, and "
        "after ten seconds without a line"},
       {"tensorboard", &settings.tensorboard, "",
        "also write the figures of metrics.jsonl as TensorBoard event files into the run directory; tensorboard "
        "--logdir then shows the curves of all runs in a folder, also while they train"},
       {"trace", &settings.trace, "FILE",
        "write a trace of some steps as JSON, which ui.perfetto.dev and chrome://tracing show: what each rank "
        "computes, sends and waits for. An existing file is replaced. config.ini does not contain this option"},
       {"trace-steps", &settings.trace_steps, "N",
        "number of steps that --trace records, 1 to 1000, after the first step of this start"},
       {"dry-run", &settings.dry_run, "",
        "train nothing; print what would be trained, how strategies were chosen, whether it fits into memory, how many "
        "epochs it is, and how long a step takes here, for which a few steps run if that takes seconds"}}};
}

CommandLine declare(TrainSettings& settings) {
  return {
      .usage = "--data FILE --run DIRECTORY --model PRESET [options]",
      .description =
          "Trains a model on packs of documents. The tokens of each pack are sharded over the context ranks.\n\n"
          "The run directory receives README.txt, which explains the other files: config.ini, environment.json, "
          "metrics.jsonl, ranks.txt, attempts.jsonl, checkpoints (step-N/), latest, exit.json and lock. On the signals "
          "TERM, USR1 and USR2, and on the first Ctrl-C, the run writes a checkpoint after the current step, prints "
          "the command that resumes it, and ends with exit code 75; --resume auto then continues it bit for bit.",
      .groups = {data_group(settings), model_group(settings.model), training_group(settings),
                 checkpoint_group(settings), report_group(settings), fault_group(settings.faults),
                 compute_group(settings.compute), launch_group(settings.launch)},
      .examples =
          "causeway train --data train.h5 --valid-data valid.h5 --run runs/first --model mamba-tiny --steps 500\n"
          "mpirun -n 4 causeway train --data a.h5:3 --data b.h5:1 --run runs/mix --layers \"mamba*4\" --width 96 "
          "--pack-tokens 65536\n"
          "mpirun -n 4 causeway train --config runs/mix/config.ini --resume auto",
      .origin = &settings.origin};
}

/// Writes exit.json for a run that could not start.
void try_write_ending(const std::string& run, const Error& error) {
  try {
    write_failed_start(run, error);
  } catch (const Error&) {  // the caller reports why the run did not start, which matters more
  }
}

/// So that config.ini means the same from every folder. Links are kept, and a weight after the path stays behind it.
void make_paths_absolute(TrainSettings& settings) {
  const auto make_absolute = [](std::string& path) {
    std::error_code failed;
    const std::string whole = std::filesystem::absolute(path, failed).string();
    if (!path.empty() && !failed) path = whole;
  };
  for (std::string& path : settings.data) make_absolute(path);
  for (std::string& path : settings.valid_data) make_absolute(path);
  make_absolute(settings.run);
  make_absolute(settings.init_from);
  if (settings.resume != "auto") make_absolute(settings.resume);
}

ExitCode execute(const TrainSettings& given) {
  check(given);
  TrainSettings settings = given;
  settings.run = run_of_config(given.origin, given.run);
  const auto config = [](TrainSettings used) {
    used.faults.inject.clear();       // a resumed run must not fail again
    used.allow_changed_data = false;  // it is for one attempt: the next one resumes on these data
    used.trace.clear();               // the same: a resumed run would replace the file
    used.trace_steps = default_trace_steps;
    make_paths_absolute(used);
    return to_ini(declare(used));
  };
  const StopSignals signals;
  return launch(settings.launch, [&](Communicator world) {
    const bool first = world.rank() == 0;
    if (settings.run != given.run)
      Log(world.rank()).info("the run was moved from {} to {}", one_line(given.run), one_line(settings.run));
    std::optional<Trainer> trainer;
    try {
      trainer.emplace(settings, config, std::move(world), signals);
    } catch (const AgreedError& error) {
      // After a wrong option no file is written: the folder may belong to another run.
      const bool damage =
          error.code() == ExitCode::corrupt || error.code() == ExitCode::io || error.code() == ExitCode::non_finite;
      if (first && damage && !settings.dry_run && std::filesystem::is_directory(settings.run))
        try_write_ending(settings.run, error);
      throw;
    }
    if (!settings.dry_run) return trainer->run();
    const std::string answers = trainer->dry_run();
    print_answer(answers + "\n", first ? 0 : 1);
    return ExitCode::ok;
  });
}

}  // namespace

Command train_command() {
  return make_command<TrainSettings, declare, execute>("train", "train a model; its context is sharded over ranks");
}

}  // namespace causeway
