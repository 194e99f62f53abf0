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
      .usage = "--data FILE --run FOLDER --model PRESET [options]",
      .description =
          "Trains a model on packs of documents, each pack's tokens sharded over the context ranks.\n\n"
          "The run's folder receives config.ini, environment.json, metrics.jsonl, step-N/ checkpoints, latest and "
          "exit.json. TERM, USR1 and USR2 "
          "checkpoint at the next step and end with 75; --resume auto goes on bit for bit.",
      .groups =
          {{"Data",
            {{"data", &settings.data, "FILE[:WEIGHT]",
              "a dataset of causeway import; documents are drawn from several by weight"},
             {"pack-tokens", &settings.pack_tokens, "N", "tokens of a pack, over all of its context ranks"},
             {"policy", &settings.policy, "", "how documents are packed; causeway pack --report compares", policies},
             {"window", &settings.window, "N", "documents a policy looks ahead"},
             {"long-documents",
              &settings.long_documents,
              "",
              "what becomes of a document longer than a pack",
              {"cut", "refuse"}},
             {"valid-data", &settings.valid_data, "FILE",
              "held-out data: its loss is measured before and after, and in between as --eval-every says"},
             {"eval-every", &settings.eval_every, "N", "steps between two evaluations; 0: none in between"},
             {"eval-packs", &settings.eval_packs, "N", "packs of an evaluation; 0: all"}}},
           model_group(settings.model),
           {"Training",
            {{"run", &settings.run, "FOLDER", "where everything the run leaves behind goes"},
             {"steps", &settings.steps, "N", "updates of the weights"},
             {"accumulate", &settings.accumulate, "N", "packs of a step and data group, one after the other"},
             {"learning-rate", &settings.learning_rate, "X", "AdamW's, at its highest"},
             {"warmup-steps", &settings.warmup_steps, "N", "steps to get there; then a half cosine"},
             {"learning-rate-floor", &settings.learning_rate_floor, "X", "the last step's, as a part of the highest"},
             {"beta1", &settings.beta1, "X", "decay of AdamW's mean"},
             {"beta2", &settings.beta2, "X", "decay of its mean square"},
             {"weight-decay", &settings.weight_decay, "X",
              "of matrices; biases, norms, long filters, A_log and D have none"},
             {"clip", &settings.clip, "X", "longest gradient over all parameters and ranks; 0: any"},
             {"seed", &settings.seed, "N", "of weights and document order"},
             {"recompute", &settings.recompute, "",
              "keep each block's input alone and run it again on the way back: less memory, a third more work"},
             {"recompute-blocks", &settings.recompute_blocks, "N",
              "with --recompute: keep the input of every N-th block alone, for yet less memory and yet a third more "
              "work"}}},
           {"Stopping and going on",
            {{"checkpoint-every", &settings.checkpoint_every, "N",
              "steps between two checkpoints; the last step always has one"},
             {"keep-last", &settings.keep_last, "N", "keep the newest N checkpoints alone; 0: all"},
             {"keep-every", &settings.keep_every, "N", "and for good those of steps that N divides; 0: no others"},
             {"resume", &settings.resume, "auto|FOLDER",
              "go on from the newest checkpoint of the run that is whole, if it has any; or from this one"},
             {"init-from", &settings.init_from, "FOLDER", "start a new run with a checkpoint's weights"},
             {"log-every", &settings.log_every, "N", "steps a line on the screen"},
             {"dry-run", &settings.dry_run, "", "say what would be trained, and stop"}}},
           fault_group(settings.faults),
           compute_group(settings.compute),
           launch_group(settings.launch)},
      .examples =
          "causeway train --data train.h5 --valid-data valid.h5 --run runs/first --model mamba-tiny --steps 500\n"
          "mpirun -n 4 causeway train --data a.h5:3 --data b.h5:1 --run runs/mix --layers \"mamba*4\" --width 96 "
          "--pack-tokens 65536\n"
          "mpirun -n 4 causeway train --config runs/mix/config.ini --resume auto"};
}

void try_to_tell(const std::string& run, const Error& error) {
  try {
    write_failed_start(run, error);
  } catch (const Error&) {  // why the run did not start matters more
  }
}

ExitCode execute(const TrainSettings& settings) {
  check(settings);
  const auto config = [](TrainSettings used) {
    used.faults.inject.clear();  // a run that goes on is not to fail again
    return to_ini(declare(used));
  };
  const StopSignals signals;
  return launch(settings.launch, [&](Communicator world) {
    const bool first = world.rank() == 0;
    std::optional<Trainer> trainer;
    try {
      trainer.emplace(settings, config, std::move(world), signals);
    } catch (const AgreedError& error) {
      // Of a wrong option nothing is written: the folder may be another run's.
      const bool damage = error.code() == ExitCode::corrupt || error.code() == ExitCode::io;
      if (first && damage && !settings.dry_run && std::filesystem::is_directory(settings.run))
        try_to_tell(settings.run, error);
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
