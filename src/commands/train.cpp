#include <filesystem>
#include <optional>

#include "src/cli/command.hpp"
#include "src/run/run_ending.hpp"
#include "src/train/run_directory.hpp"
#include "src/train/trainer.hpp"

namespace causeway {
namespace {

CommandLine declare(TrainSettings& settings) {
  std::vector<std::string> policies;
  for (const PackingPolicy& policy : packing_policies()) policies.emplace_back(policy.name);
  return {
      .usage = "--data FILE --run DIRECTORY --model PRESET [options]",
      .description =
          "Trains a model on packs of documents. The tokens of each pack are sharded over the context ranks.\n\n"
          "The run directory receives config.ini, environment.json, metrics.jsonl, ranks.txt, step-N/ checkpoints, "
          "latest and exit.json. After a TERM, USR1 or USR2 signal the run writes a checkpoint at the end of the step "
          "and "
          "exits with 75; --resume auto continues it with exactly the same results.",
      .groups =
          {{"Data",
            {{"data", &settings.data, "FILE[:WEIGHT]",
              "a dataset written by causeway import; from several, documents are drawn by weight"},
             {"pack-tokens", &settings.pack_tokens, "N", "tokens of a pack, over all of its context ranks"},
             {"policy", &settings.policy, "", "how documents are packed; causeway pack --report compares them",
              policies},
             {"window", &settings.window, "N", "number of documents among which a policy chooses"},
             {"long-documents",
              &settings.long_documents,
              "",
              "documents longer than a pack are cut into pieces, or refused",
              {"cut", "refuse"}},
             {"valid-data", &settings.valid_data, "FILE",
              "held-out dataset; its loss is measured before training, after training and every --eval-every steps"},
             {"eval-every", &settings.eval_every, "N", "steps between two evaluations; 0: none during training"},
             {"eval-packs", &settings.eval_packs, "N", "number of packs of an evaluation; 0: all"}}},
           model_group(settings.model),
           {"Training",
            {{"run", &settings.run, "DIRECTORY", "run directory: all files of the run are written there"},
             {"steps", &settings.steps, "N", "number of training steps, each one update of the weights"},
             {"accumulate", &settings.accumulate, "N",
              "packs that each data group computes, one after another, in a step"},
             {"learning-rate", &settings.learning_rate, "X", "peak learning rate of AdamW"},
             {"warmup-steps", &settings.warmup_steps, "N",
              "steps of linear warm-up to the peak; then the rate decays along a half cosine"},
             {"learning-rate-floor", &settings.learning_rate_floor, "X",
              "learning rate of the last step, as a fraction of the peak"},
             {"beta1", &settings.beta1, "X", "AdamW's decay rate of the first moment"},
             {"beta2", &settings.beta2, "X", "AdamW's decay rate of the second moment"},
             {"weight-decay", &settings.weight_decay, "X",
              "weight decay of matrices; biases, norms, long filters, A_log and D have none"},
             {"clip", &settings.clip, "X", "maximum global gradient L2 norm; 0: no clipping"},
             {"seed", &settings.seed, "N", "seed of the initial weights and of the document order"},
             {"recompute", &settings.recompute, "",
              "keep only each block's input and run the block again in backward: less memory, a third more work"},
             {"recompute-blocks", &settings.recompute_blocks, "N",
              "with --recompute: keep only the input of every N-th block: still less memory, another third more "
              "work"}}},
           {"Checkpoints and resuming",
            {{"checkpoint-every", &settings.checkpoint_every, "N",
              "steps between two checkpoints; 0: only after the last step, which always has one"},
             {"keep-last", &settings.keep_last, "N", "keep only the newest N checkpoints; 0: all"},
             {"keep-every", &settings.keep_every, "N",
              "with --keep-last: also keep the checkpoints of steps divisible by N; 0: no others"},
             {"resume", &settings.resume, "auto|DIRECTORY",
              "auto: continue from the run's newest undamaged checkpoint, or start if it has none; DIRECTORY: continue "
              "from this checkpoint"},
             {"init-from", &settings.init_from, "DIRECTORY", "start a new run with the weights of this checkpoint"},
             {"log-every", &settings.log_every, "N", "steps between two log lines"},
             {"dry-run", &settings.dry_run, "", "print what would be trained, and stop"}}},
           fault_group(settings.faults),
           compute_group(settings.compute),
           launch_group(settings.launch)},
      .examples =
          "causeway train --data train.h5 --valid-data valid.h5 --run runs/first --model mamba-tiny --steps 500\n"
          "mpirun -n 4 causeway train --data a.h5:3 --data b.h5:1 --run runs/mix --layers \"mamba*4\" --width 96 "
          "--pack-tokens 65536\n"
          "mpirun -n 4 causeway train --config runs/mix/config.ini --resume auto"};
}

void try_to_report(const std::string& run, const Error& error) {
  try {
    write_failed_start(run, error);
  } catch (const Error&) {  // the error that ended the start matters more
  }
}

ExitCode execute(const TrainSettings& settings) {
  check(settings);
  const auto config = [](TrainSettings used) {
    used.faults.inject.clear();  // a resumed run must not fail again
    return to_ini(declare(used));
  };
  const StopSignals signals;
  return launch(settings.launch, [&](Communicator world) {
    const bool first = world.rank() == 0;
    std::optional<Trainer> trainer;
    try {
      trainer.emplace(settings, config, std::move(world), signals);
    } catch (const AgreedError& error) {
      // After a wrong option nothing is written, because the directory may be another run's.
      const bool damage = error.code() == ExitCode::corrupt || error.code() == ExitCode::io;
      if (first && damage && !settings.dry_run && std::filesystem::is_directory(settings.run))
        try_to_report(settings.run, error);
      throw;
    }
    if (!settings.dry_run) return trainer->run();
    if (first) fmt::print("{}\n", trainer->plan());
    return ExitCode::ok;
  });
}

}  // namespace

Command train_command() {
  return make_command<TrainSettings, declare, execute>("train", "train a model, its context sharded over ranks");
}

}  // namespace causeway
