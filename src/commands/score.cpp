#include "src/cli/command.hpp"
#include "src/infer/scorer.hpp"

namespace causeway {
namespace {

CommandLine declare(ScoreSettings& settings) {
  OptionGroup compute = compute_group(settings.compute);
  find_option(compute, "dtype") = {.name = "dtype",
                                   .field = &settings.compute.dtype,
                                   .value = "f32|f64|bf16",
                                   .help = "type of activations and weights",
                                   .shown_default = "the checkpoint's"};
  return {
      .usage = "--checkpoint DIRECTORY --data FILE --out FILE [options]",
      .description =
          "Scores documents: computes the log-likelihood of every token and of every document under a trained model, "
          "in nats.\n\n"
          "The result contains /document/log_likelihood, /document/tokens, /token/log_likelihood (NaN at the first "
          "token of a document), /cu_seqlens and /names. Every token is scored, also where the loss mask or the loss "
          "weight is 0. If the dataset has a mask or weights, the attribute weighted_loss is the mean loss by them, as "
          "training computes it.\n\n"
          "--reverse-complement also scores the reverse complement of each document. It replaces IUPAC letters of "
          "either case by their complements and leaves other tokens as they are; tokens 0 at a document's ends keep "
          "their place. /document/log_likelihood is then the mean of the two strands, which are in "
          "/document/log_likelihood_forward and /document/log_likelihood_reverse. /token/log_likelihood is that of "
          "the forward strand. /token/log_likelihood_reverse has at each token the score of the opposite token of the "
          "reverse strand. Embeddings and probabilities are of the forward strand.",
      .groups =
          {{"Scoring",
            {{"checkpoint", &settings.checkpoint, "DIRECTORY",
              "a checkpoint (step-N), or a run, which means its latest checkpoint"},
             {"data", &settings.data, "FILE", "a dataset made by causeway import"},
             {"out", &settings.out, "FILE", "the file of scores to write (HDF5); replaces an earlier file of scores"},
             {.name = "pack-tokens",
              .field = &settings.pack_tokens,
              .value = "N",
              .help = "tokens to compute at a time, all context ranks together; a longer document is one pack and is "
                      "not cut",
              .binary_units = true},
             {"tsv", &settings.tsv, "FILE",
              "also write a table: name, tokens, log_likelihood, per_token and perplexity of each document"}}},
           {"More results",
            {{"reverse-complement", &settings.reverse_complement, "",
              "score both strands of nucleotide documents; a document's log-likelihood is their mean"},
             {"embeddings", &settings.embeddings, "LAYER[:mean|tokens],…",
              "also write the residual stream after that many layers, as /embeddings/layer_LAYER: its mean over each "
              "document, or one row per token"},
             {"probabilities", &settings.probabilities, "BYTES",
              "also write, as /token/probability [tokens, BYTES], the probability of each of these bytes at every "
              "token, given the tokens before it in its document (NaN at the first): --probabilities ACGT"},
             {"probabilities-dtype", &settings.probabilities_dtype, "", "how they are stored", {"f32", "f16"}}}},
           compute,
           fault_group(settings.faults),
           launch_group(settings.launch)},
      .examples =
          "mpirun -n 4 causeway score --checkpoint runs/first --data valid.h5 --out scores.h5\n"
          "causeway score --checkpoint runs/first/step-500 --data genes.h5 --out embedded.h5 --embeddings 2,4:tokens\n"
          "causeway score --checkpoint runs/first --data genes.h5 --out both.h5 --reverse-complement --tsv both.tsv"};
}

ExitCode execute(const ScoreSettings& settings) {
  require(!settings.checkpoint.empty(), "--checkpoint is missing: expected a checkpoint or a run");
  require(!settings.data.empty(), "--data is missing: expected a dataset, as causeway import writes it");
  require(!settings.out.empty(), "--out is missing: expected the file of scores to write");
  require(settings.pack_tokens >= 1, "--pack-tokens is {}, expected 1 or more", settings.pack_tokens);
  return launch(settings.launch, [&](Communicator world) {
    score(settings, std::move(world));
    return ExitCode::ok;
  });
}

}  // namespace

Command score_command() {
  return make_command<ScoreSettings, declare, execute>("score",
                                                       "compute log-likelihoods of documents under a trained model");
}

}  // namespace causeway
