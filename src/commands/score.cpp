#include "src/cli/command.hpp"
#include "src/infer/scorer.hpp"

namespace causeway {
namespace {

CommandLine declare(ScoreSettings& settings) {
  OptionGroup compute = compute_group(settings.compute);
  for (Option& option : compute.options)
    if (option.name == "dtype")
      option = {"dtype", &settings.compute.dtype, "f32|f64|bf16",
                "type of activations and weights, else the checkpoint's"};
  return {
      .usage = "--checkpoint FOLDER --data FILE --out FILE [options]",
      .description =
          "Scores documents: the log-likelihood of every token and document under a trained model, in nats.\n\n"
          "The result holds /document/log_likelihood and /document/tokens, /token/log_likelihood (NaN at a document's "
          "first token), "
          "/cu_seqlens and /names. Every token is scored, whatever a loss_mask says.",
      .groups =
          {{"Scoring",
            {{"checkpoint", &settings.checkpoint, "FOLDER",
              "a run, whose latest checkpoint it then is, or one of its step-N"},
             {"data", &settings.data, "FILE", "a dataset of causeway import"},
             {"out", &settings.out, "FILE", "the scores (HDF5)"},
             {"pack-tokens", &settings.pack_tokens, "N",
              "tokens computed at a time, over all context ranks; a longer document makes a pack of its own, uncut"},
             {"embeddings", &settings.embeddings, "LAYER[:mean|tokens]",
              "also write the residual stream after that many layers, a row a document or a token"}}},
           compute,
           fault_group(settings.faults),
           launch_group(settings.launch)},
      .examples =
          "mpirun -n 4 causeway score --checkpoint runs/first --data valid.h5 --out scores.h5\n"
          "causeway score --checkpoint runs/first/step-500 --data genes.h5 --out embedded.h5 --embeddings 2:mean"};
}

ExitCode execute(const ScoreSettings& settings) {
  const auto given = [](std::string_view option, const std::string& value) {
    require(!value.empty(), "--{} is missing", option);
  };
  given("checkpoint", settings.checkpoint);
  given("data", settings.data);
  given("out", settings.out);
  require(settings.pack_tokens >= 1, "--pack-tokens is {}, expected 1 or more", settings.pack_tokens);
  return launch(settings.launch, [&](Communicator world) {
    score(settings, std::move(world));
    return ExitCode::ok;
  });
}

}  // namespace

Command score_command() {
  return make_command<ScoreSettings, declare, execute>("score", "log-likelihoods of documents under a trained model");
}

}  // namespace causeway
