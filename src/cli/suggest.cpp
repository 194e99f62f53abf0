#include "src/cli/suggest.hpp"

#include <algorithm>
#include <cctype>
#include <numeric>
#include <sstream>
#include <utility>

namespace causeway {
namespace {

/// The Levenshtein distance: the least number of insertions, deletions and replacements between two words.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j)
      diagonal =
          std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)}));
  }
  return row.back();
}

/// What other programs call an option or a command, and what Causeway has instead.
struct Elsewhere {
  std::string_view theirs;      ///< names, separated by spaces
  std::string_view ours;        ///< the hint is given where the command has one of these options: the first that it has
  std::string_view words = "";  ///< about it; the whole hint if `ours` is empty
};

constexpr Elsewhere options_elsewhere[] = {
    {"lr max-lr peak-lr base-lr", "learning-rate"},
    {"min-lr lr-min end-lr", "learning-rate-floor", "a fraction of --learning-rate"},
    {"warmup warmup-iters num-warmup-steps lr-warmup-steps lr-warmup-iters warmup-ratio", "warmup-steps"},
    {"num-epochs n-epochs num-train-epochs max-epochs train-epochs epoch", "epochs steps"},
    {"max-steps train-iters max-iters iters iterations num-steps total-steps num-train-steps train-steps", "steps"},
    {"batch-size batch bs train-batch-size micro-batch-size global-batch-size per-device-train-batch-size "
     "device-batch-size",
     "pack-tokens", "tokens of a pack; --accumulate and the data-parallel ranks set the packs of a step"},
    {"seq-length seq-len seqlen max-seq-len max-seq-length sequence-length max-length block-size context-length "
     "context-size ctx-len n-ctx model-max-length max-position-embeddings",
     "pack-tokens", "tokens of a pack, which holds documents of any length"},
    {"n np nproc nproc-per-node num-processes world-size nnodes num-nodes gpus ngpus num-gpus devices workers threads "
     "num-threads num-workers",
     "ranks", "with --transport local; or start the ranks with mpirun -n N causeway …"},
    {"output-dir out-dir outdir save-dir save-path save work-dir logdir log-dir logging-dir default-root-dir o out "
     "output run-dir",
     "run out"},
    {"wandb wandb-project wandb-entity report-to project mlflow comet tensorboard-dir use-tensorboard", "tensorboard",
     "event files in the run directory; its metrics.jsonl has every figure, and causeway watch shows them"},
    {"bf16 fp16 fp32 float32 half amp mixed-precision precision tf32 autocast param-dtype", "dtype",
     "bf16, f32 or f64; bf16 keeps float32 master weights"},
    {"grad-accum grad-accum-steps gradient-accumulation gradient-accumulation-steps accumulate-grad-batches "
     "accum-steps",
     "accumulate"},
    {"checkpoint ckpt ckpt-path load load-checkpoint checkpoint-path checkpoint-dir resume-from "
     "resume-from-checkpoint continue",
     "checkpoint resume", "in train --init-from starts a new run with the weights of another"},
    {"model-path model-name model-name-or-path pretrained pretrained-model from-pretrained model",
     "checkpoint init-from"},
    {"save-every save-steps save-interval save-freq checkpoint-interval ckpt-every checkpoint-steps",
     "checkpoint-every"},
    {"save-total-limit max-checkpoints keep-checkpoints", "keep-last"},
    {"eval-steps eval-interval eval-freq val-every val-interval evaluation-interval", "eval-every"},
    {"val-data eval-data validation-data valid val validation-file val-file dev-data test-data", "valid-data"},
    {"train-data dataset datasets train-file data-path data-dir input train dataset-path", "data"},
    {"log-interval logging-steps print-every", "log-every"},
    {"max-grad-norm clip-grad grad-clip clip-grad-norm gradient-clip-val gradient-clipping", "clip"},
    {"wd decay", "weight-decay"},
    {"adam-beta1 beta-1", "beta1"},
    {"adam-beta2 beta-2", "beta2"},
    {"hidden-size hidden-dim d-model dim n-embd embed-dim emb-dim", "width"},
    {"num-layers n-layer n-layers num-hidden-layers depth", "layers-count"},
    {"num-heads n-head n-heads num-attention-heads", "heads"},
    {"ffn-hidden-size intermediate-size d-ff mlp-dim ffn-dim", "ffn"},
    {"vocab-size vocab n-vocab padded-vocab-size", "vocabulary"},
    {"rope-theta rotary-base rotary-emb-base", "rope-base"},
    {"rope-scaling-factor rotary-emb-scaling-factor rotary-seq-len-interpolation-factor", "rope-scaling"},
    {"rms-norm-eps layer-norm-epsilon layernorm-epsilon", "norm-eps"},
    {"cp cp-size context-parallel-size sequence-parallel sequence-parallel-size sp-size", "context-parallel"},
    {"dp dp-size data-parallel-size", "data-parallel"},
    {"tp tp-size tensor-parallel tensor-model-parallel-size tensor-parallel-size", "context-parallel",
     "ranks share the tokens of a pack instead of the matrices"},
    {"gradient-checkpointing activation-checkpointing recompute-activations checkpoint-activations", "recompute"},
    {"cpu-offload offload-optimizer zero-offload optimizer-cpu-offload activation-offloading", "offload"},
    {"grad-reduce-in-bf16 grad-dtype gradient-accumulation-dtype reduce-dtype", "gradient-dtype"},
    {"zero zero-stage fsdp deepspeed use-distributed-optimizer", "shard",
     "optimizer (ZeRO-1, always), gradients (ZeRO-2) or parameters (ZeRO-3)"},
    {"gpu cuda use-gpu use-cuda no-cuda accelerator", "device", "cpu or cuda"},
    {"random-seed manual-seed random-state", "seed"},
    {"max-new-tokens max-tokens num-tokens n-tokens length n-predict", "tokens"},
    {"temp", "temperature"},
    {"topk k", "top-k"},
    {"text prompt-text", "prompt"},
};

constexpr Elsewhere commands_elsewhere[] = {
    {"evaluate eval test predict infer inference perplexity likelihood embed embeddings", "score"},
    {"sample complete completion chat decode", "generate"},
    {"finetune fine-tune", "train", "--init-from DIRECTORY starts from the weights of a checkpoint"},
    {"resume continue", "train", "--config RUN/config.ini --resume auto continues a run"},
    {"pretrain fit run launch", "train"},
    {"tokenize preprocess prepare prepare-data build-dataset load ingest", "import"},
    {"info ls show stat describe list summary summarize view dump", "inspect"},
    {"verify check validate", "inspect", "--verify checks every checksum and value"},
    {"monitor tail top tui status logs", "watch"},
    {"plot tensorboard dashboard", "watch", "scripts/plot draws pictures, train --tensorboard writes event files"},
    {"table csv tsv to-csv to-tsv results dataframe", "export"},
    {"benchmark profile perf", "bench"},
    {"divide partition", "split"},
};

template <std::size_t rows>
const Elsewhere* find_elsewhere(const Elsewhere (&table)[rows], std::string_view typed) {
  std::string name(typed);
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return c == '_' ? '-' : std::tolower(c); });
  if (name.empty() || name.find(' ') != name.npos) return nullptr;
  for (const Elsewhere& row : table)
    if (fmt::format(" {} ", row.theirs).find(fmt::format(" {} ", name)) != std::string::npos) return &row;
  return nullptr;
}

/// The hint of the row, if any of ours is known.
std::string hint_of(const Elsewhere* row, std::span<const std::string> known, std::string_view dashes) {
  if (row == nullptr) return "";
  std::istringstream ours{std::string(row->ours)};
  for (std::string name; ours >> name;)
    if (std::ranges::find(known, name) != known.end())
      return fmt::format("; here it is '{}{}'{}{}", dashes, name, row->words.empty() ? "" : ": ", row->words);
  return "";
}

}  // namespace

std::string option_hint(std::string_view typed, std::span<const std::string> known, std::string_view dashes) {
  const std::string hint = hint_of(find_elsewhere(options_elsewhere, typed), known, dashes);
  return hint.empty() ? did_you_mean(typed, known, dashes) : hint;
}

std::string command_hint(std::string_view typed, std::span<const std::string> known) {
  const std::string hint = hint_of(find_elsewhere(commands_elsewhere, typed), known, "causeway ");
  return hint.empty() ? did_you_mean(typed, known) : hint;
}

std::string did_you_mean(std::string_view typed, std::span<const std::string> known, std::string_view dashes) {
  constexpr std::size_t longest_word = 64;  // the time is quadratic in the length
  if (typed.empty() || typed.size() > longest_word) return "";
  const std::string* best = nullptr;
  // Two exchanged letters count as two replacements. In a word of three letters two replacements fit any word.
  std::size_t nearest = 1 + (typed.size() < 4 ? 1 : std::max<std::size_t>(2, typed.size() / 3));
  for (const std::string& word : known) {
    const bool begins = typed.size() >= 3 && word.starts_with(typed);
    const std::size_t apart = begins ? 1 : distance(typed, word);
    if (apart >= nearest) continue;
    nearest = apart;
    best = &word;
  }
  return best == nullptr ? "" : fmt::format("; did you mean '{}{}'?", dashes, *best);
}

}  // namespace causeway
