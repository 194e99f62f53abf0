#include "src/infer/scorer.hpp"

#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <numeric>
#include <optional>

#include "io/data/identity.hpp"
#include "io/file/look_up.hpp"
#include "io/file/rank_zero_work.hpp"
#include "io/file/temporary_file.hpp"
#include "io/hdf5/hdf5.hpp"
#include "src/cli/log.hpp"
#include "src/cli/progress.hpp"
#include "src/health/watchdog.hpp"
#include "src/infer/gather_rows.hpp"
#include "src/infer/score_file.hpp"
#include "src/infer/score_table.hpp"
#include "src/infer/strand.hpp"
#include "src/infer/token_lists.hpp"
#include "src/model/model_checkpoint.hpp"
#include "src/runtime/host_copy.hpp"
#include "src/runtime/strategy_choice.hpp"
#include "src/train/data/pack_on_rank.hpp"
#include "src/train/fault_injection.hpp"

namespace causeway {
namespace {

/// Values that rank 0 receives at one time.
constexpr std::int64_t values_at_once = 65536;

/// Removes the file when it is destroyed.
class ScopedFile {
 public:
  explicit ScopedFile(std::string path) : path_(std::move(path)) {}
  ~ScopedFile() { ::unlink(path_.c_str()); }
  ScopedFile(const ScopedFile&) = delete;
  ScopedFile& operator=(const ScopedFile&) = delete;

 private:
  std::string path_;
};

/// The dataset to score, and the model that scores it.
struct ScoreInputs {
  Checkpoint checkpoint;
  Model::Options options;
  std::optional<Dataset> data;
  ScoreRequest request;

  const Dataset& dataset() const { return *data; }
};

/// Throws Error(usage) if the value of an option is one of the files that are read, which it would replace.
void require_other_file(std::string_view option, const std::string& out, const std::string& data,
                        const Checkpoint& checkpoint) {
  require(!same_file(out, data), "--{} is '{}', the dataset itself", option, out);
  for (const auto& entry : std::filesystem::directory_iterator(checkpoint.path()))
    require(!same_file(out, entry.path()), "--{} is '{}', a file of the checkpoint {}", option, out, checkpoint.path());
}

ScoreRequest request_of(const ScoreSettings& settings, const ModelOptions& shape, DType dtype, Fp8Level fp8) {
  return {.embeddings = EmbeddingRequest::parse(settings.embeddings, std::ssize(shape.layers)),
          .reverse_complement = settings.reverse_complement,
          .probability_tokens = tokens_of_bytes(settings.probabilities, shape.vocabulary, "probabilities"),
          .score_type = dtype == DType::f64 ? hdf5::f64 : hdf5::f32,
          .probability_type = settings.probabilities_dtype == "f16" ? hdf5::f16 : hdf5::f32,
          .fp8 = fp8};
}

/// Throws Error(usage) if --out is a file that scoring did not write: it is replaced without --force, so it may hold
/// nothing else. An empty file, as mktemp makes it, holds nothing.
void require_earlier_scores(const std::string& out) {
  std::error_code ignored;
  if (kind_of(out) != std::filesystem::file_type::regular || std::filesystem::file_size(out, ignored) == 0) return;
  bool scores = false;
  if (hdf5::is_hdf5(out)) {
    const hdf5::File file = hdf5::File::open(out, hdf5::Access::read);
    scores = file.has_attribute("format") && file.string_attribute("format") == ScoreFile::format;
  }
  require(scores, "{}: exists and is not an earlier result of causeway score, expected another name for --out", out);
}

/// Reads and checks everything but the checkpoint's tensors.
void open_inputs(const ScoreSettings& settings, const Communicator& world, ScoreInputs& inputs) {
  const std::string& dtype = settings.compute.dtype;
  inputs.options.shape = model_options_of(inputs.checkpoint);
  inputs.options.dtype = parse_dtype(dtype.empty() ? inputs.checkpoint.text("dtype") : dtype);
  inputs.options.fp8 = parse_fp8_level(settings.compute.fp8);
  require_tensors_of_its_model(inputs.checkpoint, false, world.rank(), world.size());
  inputs.request = request_of(settings, inputs.options.shape, inputs.options.dtype, inputs.options.fp8);
  inputs.data.emplace(settings.data);
  require_other_file("out", settings.out, settings.data, inputs.checkpoint);
  if (!settings.tsv.empty()) {
    require_other_file("tsv", settings.tsv, settings.data, inputs.checkpoint);
    require(settings.tsv != settings.out && !same_file(settings.tsv, settings.out), "--tsv is '{}', as --out",
            settings.tsv);
  }
  const std::int64_t vocabulary = inputs.dataset().vocabulary_size();
  require(
      vocabulary <= inputs.options.shape.vocabulary,
      "{}: vocabulary_size is {}, expected at most the model's {}; import the data with --vocabulary {} for this model",
      settings.data, vocabulary, inputs.options.shape.vocabulary, inputs.options.shape.vocabulary);
}

/// Consecutive whole documents of the dataset, scored as one pack.
struct ScorePack {
  Pack pack;
  std::int64_t first_token = 0;  ///< its number in the dataset
};

/// Packs of at most `pack_tokens`, or of one longer document. Empty documents are in no pack.
std::vector<ScorePack> plan_packs(std::span<const std::int64_t> cu_seqlens, std::int64_t pack_tokens) {
  std::vector<ScorePack> packs;
  for (std::int64_t document = 0; document + 1 < std::ssize(cu_seqlens); ++document) {
    const std::int64_t begin = cu_seqlens[document], length = cu_seqlens[document + 1] - begin;
    if (length == 0) continue;
    if (packs.empty() || cu_seqlens[document + 1] - packs.back().first_token > pack_tokens)
      packs.push_back({.first_token = begin});
    packs.back().pack.pieces.push_back({.dataset = 0, .document = document, .begin = 0, .end = length});
  }
  return packs;
}

/// This rank's rows of one scored pack.
struct PackScores {
  std::vector<double> losses;                  ///< [local tokens]
  std::vector<double> reverse_losses;          ///< [local tokens], of the reverse strand, if it is asked for
  std::vector<std::vector<float>> embeddings;  ///< [local tokens, width] for each request
  std::vector<float> probabilities;            ///< [local tokens, probability_tokens], of the token after each
};

/// exp(-losses) of the candidates [count, tokens], as [tokens, count].
std::vector<float> probabilities_of(const Stream& stream, TensorView losses) {
  const std::vector<double> values = host_values<double>(stream, losses);
  const std::size_t count = static_cast<std::size_t>(losses.rows()), tokens = values.size() / count;
  std::vector<float> probabilities(values.size());
  for (std::size_t c = 0; c < count; ++c)
    for (std::size_t t = 0; t < tokens; ++t)
      probabilities[t * count + c] = static_cast<float>(std::exp(-values[c * tokens + t]));
  return probabilities;
}

PackScores score_pack(const ScoreInputs& inputs, const Pack& pack, Layout layout, Runtime& runtime, Model& model) {
  PackScores scores;
  const ScoreRequest& request = inputs.request;
  const DType wide = accumulator_of(inputs.options.dtype);
  const auto evaluate = [&](Strand strand, const Model::Observer& observer, bool with_candidates) {
    const StrandOnRank placed = place_strand(inputs.dataset(), pack, strand, layout, runtime);
    const std::int64_t tokens = placed.sharding->local_tokens();
    const Tensor losses(runtime.stream, wide, {tokens});
    Tensor candidates;
    if (with_candidates) candidates = Tensor(runtime.stream, wide, {std::ssize(request.probability_tokens), tokens});
    runtime.rank_progress->enter(Phase::evaluate);
    model.evaluate({runtime, *placed.sharding}, placed.batch(), losses, observer,
                   with_candidates ? Model::Candidates{request.probability_tokens, candidates} : Model::Candidates{});
    if (with_candidates) scores.probabilities = probabilities_of(runtime.stream, candidates);
    return host_values<double>(runtime.stream, losses);
  };
  Model::Observer observer;
  scores.embeddings.resize(request.embeddings.size());
  if (!request.embeddings.empty())
    observer = [&](std::int64_t layer, TensorView residual) {
      for (std::size_t e = 0; e < request.embeddings.size(); ++e)
        if (layer == request.embeddings[e].layer) scores.embeddings[e] = host_values<float>(runtime.stream, residual);
    };
  scores.losses = evaluate(Strand::forward, observer, !request.probability_tokens.empty());
  if (request.reverse_complement) scores.reverse_losses = evaluate(Strand::reverse, {}, false);
  return scores;
}

/// Scores every pack; rank 0 writes the results of all ranks. The data groups score different packs at the same time:
/// in round r group g has pack r·groups + g.
class Scorer {
 public:
  Scorer(const ScoreSettings& settings, const ScoreInputs& inputs, Runtime& runtime, Model& model)
      : inputs_(inputs),
        runtime_(runtime),
        model_(model),
        layout_(parse_layout(settings.compute.layout)),
        packs_(plan_packs(inputs.dataset().cu_seqlens(), settings.pack_tokens)),
        rank_zero_(runtime.mesh.world) {
    const SystemCalls waiting(*runtime_.rank_progress);
    rank_zero_([&] {
      file_.emplace(settings.out, inputs.dataset(), inputs.request, inputs.options.shape.width);
      if (!settings.tsv.empty()) table_.emplace(settings.tsv);
    });
    rank_zero_.agree_on_failure();
  }

  /// What the dataset's scores amount to, on rank 0.
  struct Summary {
    double log_likelihood = 0;            ///< of all documents
    std::optional<double> weighted_loss;  ///< WeightedLoss
  };
  Summary run(Progress& progress) {
    const auto groups = static_cast<std::size_t>(runtime_.mesh.data_size);
    for (std::size_t first = 0, round = 1; first < packs_.size(); first += groups, ++round) {
      runtime_.rank_progress->begin_step(static_cast<std::int64_t>(round));
      PackScores scores;
      const std::size_t mine = first + static_cast<std::size_t>(runtime_.mesh.data_index);
      if (mine < packs_.size())
        scores = score_pack(inputs_, packs_[mine].pack, layout_, runtime_, model_);
      else
        for (int strand = 0; strand < inputs_.request.strands(); ++strand) model_.join_evaluation(runtime_.stream);
      for (std::size_t group = 0; group < groups && first + group < packs_.size(); ++group) {
        const ScorePack& pack = packs_[first + group];
        write(pack, static_cast<int>(group), scores);
        progress.update(pack.first_token + pack.pack.tokens());
      }
    }
    Summary summary;
    const SystemCalls waiting(*runtime_.rank_progress);
    rank_zero_([&] {
      const DocumentScores documents = file_->documents();
      summary.log_likelihood = std::accumulate(documents.log_likelihood.begin(), documents.log_likelihood.end(), 0.0);
      if (table_) table_->write(inputs_.dataset(), documents);
      summary.weighted_loss = file_->weighted_loss();
      file_->finish();
    });
    rank_zero_.agree_on_failure();
    return summary;
  }

  std::int64_t longest_pack() const {
    std::int64_t most = 1;
    for (const ScorePack& pack : packs_) most = std::max(most, pack.pack.tokens());
    return most;
  }

  /// All tokens but the first of each document.
  std::int64_t scored_tokens() const {
    std::int64_t count = 0;
    for (const ScorePack& pack : packs_) count += pack.pack.tokens() - std::ssize(pack.pack.pieces);
    return count;
  }

 private:
  /// `scores` are this rank's rows of the pack; not read on ranks outside its data group.
  void write(const ScorePack& pack, int group, const PackScores& scores) {
    const ScoreRequest& request = inputs_.request;
    runtime_.rank_progress->enter(Phase::write);
    write_rows<double>(pack, group, scores.losses, 1, [&](std::int64_t first, std::span<const double> values) {
      file_->add_losses(Strand::forward, first, values);
    });
    if (request.reverse_complement)
      write_rows<double>(pack, group, scores.reverse_losses, 1,
                         [&](std::int64_t first, std::span<const double> values) {
                           file_->add_losses(Strand::reverse, first, values);
                         });
    for (std::size_t e = 0; e < request.embeddings.size(); ++e)
      write_rows<float>(pack, group, scores.embeddings.empty() ? std::span<const float>() : scores.embeddings[e],
                        inputs_.options.shape.width, [&](std::int64_t first, std::span<const float> values) {
                          file_->add_embeddings(e, first, values);
                        });
    if (!request.probability_tokens.empty())
      write_rows<float>(
          pack, group, scores.probabilities, std::ssize(request.probability_tokens),
          [&](std::int64_t first, std::span<const float> values) { file_->add_probabilities(first, values); });
  }

  /// Brings rows [tokens, columns] of the pack to rank 0, which calls add(number in the dataset of the first, rows).
  template <class T>
  void write_rows(const ScorePack& pack, int group, std::span<const T> local, std::int64_t columns,
                  const std::function<void(std::int64_t, std::span<const T>)>& add) {
    Mesh& mesh = runtime_.mesh;
    const ShardLayout shards(pack.pack.tokens(), mesh.context.size(), layout_);
    const std::int64_t at_once = std::max<std::int64_t>(1, values_at_once / columns);
    gather_rows_on_first_rank<T>(shards, group, local, columns, at_once, mesh,
                                 [&](std::int64_t row, std::span<const T> values) {
                                   const SystemCalls writing(*runtime_.rank_progress);
                                   rank_zero_([&] { add(pack.first_token + row, values); });
                                 });
  }

  const ScoreInputs& inputs_;
  Runtime& runtime_;
  Model& model_;
  Layout layout_;
  std::vector<ScorePack> packs_;
  RankZeroWork rank_zero_;
  std::optional<ScoreFile> file_;    // on rank 0
  std::optional<ScoreTable> table_;  // on rank 0, with --tsv
};

}  // namespace

void score(const ScoreSettings& settings, Communicator world) {
  const std::shared_ptr<RankProgress> rank_progress = make_rank_progress(make_faults(settings.faults, world));
  const std::string ranks_path = name_beside(settings.out, ".ranks.txt");
  std::optional<ScopedFile> ranks_file;
  Watchdog watchdog(
      {.limit_s = settings.faults.watchdog, .system_s = settings.faults.watchdog_io, .rank = world.rank()},
      rank_progress, world.transport().split(0, world.rank()));
  ScoreInputs inputs{
      .checkpoint = Checkpoint(settings.checkpoint, world, [rank_progress] { rank_progress->heartbeat(); }),
      .options = {},
      .data = {},
      .request = {}};
  {
    const SystemCalls writing(*rank_progress);
    collectively(world, [&] { open_inputs(settings, world, inputs); });
    require_same(world, settings.data, outline_of(inputs.dataset()));
    collectively(world, [&] {
      if (world.rank() != 0) return;
      require_earlier_scores(settings.out);
      if (!settings.tsv.empty()) require_earlier_table(settings.tsv);
      RankBoard::create(ranks_path, world.size());
      ranks_file.emplace(ranks_path);
    });
  }
  watchdog.open(ranks_path, "");

  rank_progress->enter(Phase::start);
  Runtime runtime = make_runtime(settings.compute, std::move(world), rank_progress);
  Model model(inputs.options);
  model.parameters().allocate(runtime.stream, runtime.mesh.world,
                              {.level = parse_shard_level(settings.compute.shard), .gradients = false});
  rank_progress->enter(Phase::restore);
  collectively(runtime.mesh.world, [&] { load_parameters(inputs.checkpoint, model.parameters(), runtime.stream); });

  Scorer scorer(settings, inputs, runtime, model);
  const Log log(runtime.mesh.world.rank());
  if (const std::string warning = fp8_warning(inputs.checkpoint, inputs.options.fp8); !warning.empty())
    log.warn("{}", warning);
  const Dataset& dataset = inputs.dataset();
  const auto documents = static_cast<double>(std::max<std::int64_t>(dataset.documents(), 1));
  runtime.one_way_layers = one_way_layers(model.calls());
  choose_strategies(runtime, model.calls(),
                    {.layout = parse_layout(settings.compute.layout),
                     .tokens = scorer.longest_pack(),
                     .document_tokens = static_cast<double>(dataset.tokens()) / documents,
                     .passes = {.forward = 1, .backward = 0}},
                    "forced");
  log.info("strategies: {}", strategies_text(runtime.strategies.names()));
  Progress progress("score", dataset.tokens(), "tokens", log.prints());
  const Scorer::Summary summary = scorer.run(progress);
  progress.finish();
  const std::int64_t scored = scorer.scored_tokens();
  log.info("{}: {} document{}, {} tokens, {} nats a token{}", settings.out, dataset.documents(),
           dataset.documents() == 1 ? "" : "s", dataset.tokens(),
           scored > 0 ? fmt::format("{:.4f}", -summary.log_likelihood / static_cast<double>(scored)) : "–",
           summary.weighted_loss ? fmt::format(", {:.4f} by loss mask and weights", *summary.weighted_loss) : "");
}

}  // namespace causeway
