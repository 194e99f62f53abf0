#include "src/infer/scorer.hpp"

#include <unistd.h>

#include <charconv>
#include <cmath>
#include <filesystem>
#include <limits>
#include <optional>

#include "io/file/atomic_file.hpp"
#include "io/file/first_rank.hpp"
#include "src/cli/log.hpp"
#include "src/cli/progress.hpp"
#include "src/health/watchdog.hpp"
#include "src/model/model_checkpoint.hpp"
#include "src/runtime/host_copy.hpp"
#include "src/runtime/strategy_choice.hpp"
#include "src/train/fault_injection.hpp"
#include "src/train/training_data.hpp"

namespace causeway {
namespace {

constexpr std::int64_t rows_in_flight = 65536;  // of the losses
constexpr std::int64_t names_at_once = 4096;
constexpr std::int64_t file_chunk_bytes = 1 << 20;

/// "--embeddings LAYER[:mean|tokens]".
struct EmbeddingRequest {
  std::int64_t layer = 0;
  bool mean = true;

  static std::optional<EmbeddingRequest> parse(const std::string& text, std::int64_t layers) {
    if (text.empty()) return std::nullopt;
    EmbeddingRequest request;
    const std::size_t colon = std::min(text.find(':'), text.size());
    const auto [stop, error] = std::from_chars(text.data(), text.data() + colon, request.layer);
    const std::string kind = colon == text.size() ? "mean" : text.substr(colon + 1);
    request.mean = kind == "mean";
    require(error == std::errc() && stop == text.data() + colon && (kind == "mean" || kind == "tokens"),
            "--embeddings is '{}', expected LAYER, LAYER:mean or LAYER:tokens", text);
    require(request.layer >= 0 && request.layer <= layers,
            "--embeddings names layer {}, expected 0 (the embedding) to {}", request.layer, layers);
    return request;
  }
};

/// A file of this run that goes with it.
class OwnFile {
 public:
  explicit OwnFile(std::string path) : path_(std::move(path)) {}
  ~OwnFile() { ::unlink(path_.c_str()); }
  OwnFile(const OwnFile&) = delete;
  OwnFile& operator=(const OwnFile&) = delete;

 private:
  std::string path_;
};

/// Throws Error(usage) where writing `out` would replace what is read.
void keep_inputs(const std::string& out, const std::string& data, const Checkpoint& checkpoint) {
  require(!same_file(out, data), "--out is '{}', the dataset itself", out);
  for (const auto& entry : std::filesystem::directory_iterator(checkpoint.path()))
    require(!same_file(out, entry.path()), "--out is '{}', a file of the checkpoint {}", out, checkpoint.path());
}

/// A run of whole documents of the dataset, in order: one pack.
struct ScorePack {
  Pack pack;
  std::int64_t first_token = 0;  ///< of the dataset
};

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

/// Brings rows [local tokens, columns] of a pack, held by the ranks of one data group, to rank 0 in the pack's order,
/// `at_once` rows at a time. `layout` is the pack's, `local` this rank's rows (unread outside the group); `take(first
/// row of the pack, values)` runs on rank 0.
template <class T>
void rows_to_first(const ShardLayout& layout, int group, std::span<const T> local, std::int64_t columns,
                   std::int64_t at_once, Mesh& mesh,
                   const std::function<void(std::int64_t, std::span<const T>)>& take) {
  const Stream host;
  std::vector<T> buffer;
  for (int c = 0; c < layout.chunk_count(); ++c) {
    const int owner = group * mesh.context.size() + layout.owner(c);
    if (mesh.world.rank() != 0 && mesh.world.rank() != owner) continue;
    const Range chunk = layout.chunk(c);
    for (std::int64_t at = chunk.begin; at < chunk.end; at += at_once) {
      const auto count = static_cast<std::size_t>(std::min(at_once, chunk.end - at) * columns);
      const auto mine = [&] {
        return local.subspan(static_cast<std::size_t>((layout.first_local_row(c) + at - chunk.begin) * columns), count);
      };
      if (owner == 0) {
        take(at, mine());
      } else if (mesh.world.rank() == owner) {
        const Transfer transfer{.peer = 0, .send = std::as_bytes(mine()), .recv = {}};
        mesh.world.exchange({&transfer, 1}, host);
      } else {
        buffer.resize(count);
        const Transfer transfer{.peer = owner, .send = {}, .recv = std::as_writable_bytes(std::span(buffer))};
        mesh.world.exchange({&transfer, 1}, host);
        take(at, buffer);
      }
    }
  }
}

/// scores.h5, on rank 0. Rows arrive in the dataset's order.
class ScoreFile {
 public:
  ScoreFile(const std::string& path, const Dataset& data, std::optional<EmbeddingRequest> embeddings,
            std::int64_t width)
      : target_(path),
        file_(hdf5::File::open(target_.temporary(), hdf5::Access::create)),
        data_(data),
        embeddings_(embeddings),
        width_(width) {
    const std::int64_t documents = data.documents(), tokens = data.tokens();
    file_.set_attribute("format", "causeway-scores");
    file_.set_attribute("version", std::int64_t{1});
    file_.set_attribute("data", data.path());
    file_.write<std::int64_t>("cu_seqlens", {documents + 1}, data.cu_seqlens());
    hdf5::Dataset names = file_.create_dataset("names", {.shape = {documents}, .type = hdf5::string});
    for (std::int64_t at = 0; at < documents; at += names_at_once) {
      std::vector<std::string> batch;
      for (std::int64_t i = at; i < std::min(documents, at + names_at_once); ++i) batch.push_back(data.name(i));
      names.write_strings(at, batch);
    }
    documents_.assign(static_cast<std::size_t>(documents), 0);
    token_scores_ = file_.create_dataset("token/log_likelihood", rows_of(tokens, 1, hdf5::f32));
    if (!embeddings_) return;
    const std::string name = fmt::format("embeddings/layer_{}", embeddings_->layer);
    rows_ = file_.create_dataset(name, rows_of(embeddings_->mean ? documents : tokens, width, hdf5::f32));
    rows_.set_attribute("layer", embeddings_->layer);
    rows_.set_attribute("of", embeddings_->mean ? "documents" : "tokens");
    sum_.assign(static_cast<std::size_t>(width), 0);
  }

  /// The losses of tokens from `first` on: each is that of the token behind it, 0 at a document's end.
  void losses(std::int64_t first, std::span<const double> values) {
    std::vector<float> scores(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::int64_t token = first + static_cast<std::int64_t>(i);
      advance_to(token, document_of_losses_);
      const bool starts = token == data_.cu_seqlens()[document_of_losses_];
      scores[i] = starts ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(-last_loss_);
      last_loss_ = values[i];
      documents_[static_cast<std::size_t>(document_of_losses_)] -= values[i];
    }
    token_scores_.write_rows(first, std::span<const float>(scores));
  }

  /// The residual stream of tokens from `first` on.
  void embeddings(std::int64_t first, std::span<const float> values) {
    if (!embeddings_->mean) return rows_.write_rows(first, values);
    for (std::size_t i = 0; i < values.size(); i += sum_.size()) {
      const std::int64_t token = first + static_cast<std::int64_t>(i) / width_;
      advance_to(token, document_of_embeddings_);
      for (std::size_t d = 0; d < sum_.size(); ++d) sum_[d] += values[i + d];
      const std::int64_t begin = data_.cu_seqlens()[document_of_embeddings_],
                         end = data_.cu_seqlens()[document_of_embeddings_ + 1];
      if (token + 1 < end) continue;
      std::vector<float> mean(sum_.size());
      for (std::size_t d = 0; d < sum_.size(); ++d)
        mean[d] = static_cast<float>(sum_[d] / static_cast<double>(end - begin));
      rows_.write_rows(document_of_embeddings_, std::span<const float>(mean));
      std::fill(sum_.begin(), sum_.end(), 0);
    }
  }

  void finish() {
    const auto starts = data_.cu_seqlens();
    std::vector<std::int64_t> lengths;
    for (std::size_t s = 0; s + 1 < starts.size(); ++s) lengths.push_back(starts[s + 1] - starts[s]);
    const std::int64_t documents = data_.documents();
    file_.write<double>("document/log_likelihood", {documents}, documents_);
    file_.write<std::int64_t>("document/tokens", {documents}, lengths);
    token_scores_ = {};
    rows_ = {};
    file_.close();
    target_.commit();
  }

  double total() const {
    double sum = 0;
    for (const double document : documents_) sum += document;
    return sum;
  }

 private:
  static hdf5::DatasetOptions rows_of(std::int64_t rows, std::int64_t columns, hdf5::ElementType type) {
    const std::int64_t chunk =
        std::clamp<std::int64_t>(file_chunk_bytes / (columns * type.bytes), 1, std::max<std::int64_t>(1, rows));
    return {.shape = columns == 1 ? std::vector{rows} : std::vector{rows, columns},
            .type = type,
            .chunk_rows = chunk,
            .fletcher32 = true};
  }
  void advance_to(std::int64_t token, std::int64_t& document) const {
    while (data_.cu_seqlens()[document + 1] <= token) ++document;
  }

  AtomicFile target_;
  hdf5::File file_;
  const Dataset& data_;
  std::optional<EmbeddingRequest> embeddings_;
  std::int64_t width_;
  hdf5::Dataset token_scores_, rows_;
  std::vector<double> documents_, sum_;
  std::int64_t document_of_losses_ = 0, document_of_embeddings_ = 0;
  double last_loss_ = 0;  // of the token before
};

}  // namespace

void score(const ScoreSettings& settings, Communicator world_of_all) {
  ComputeSettings compute = settings.compute;
  Model::Options options;
  std::optional<Checkpoint> checkpoint;
  DataMixture data;
  std::optional<EmbeddingRequest> embeddings;
  const std::shared_ptr<RankProgress> rank_progress = make_rank_progress(make_faults(settings.faults, world_of_all));
  const std::string ranks = settings.out + ".ranks.txt";
  std::optional<OwnFile> board;
  Watchdog watchdog({.limit_s = settings.faults.watchdog, .rank = world_of_all.rank()}, rank_progress,
                    world_of_all.transport().split(0, world_of_all.rank()));
  checkpoint.emplace(settings.checkpoint, world_of_all, [rank_progress] { rank_progress->heartbeat(); });
  collectively(world_of_all, [&] {
    options.shape = model_options_of(*checkpoint);
    options.dtype = parse_dtype(compute.dtype.empty() ? checkpoint->text("dtype") : compute.dtype);
    embeddings = EmbeddingRequest::parse(settings.embeddings, std::ssize(options.shape.layers));
    data.datasets.emplace_back(settings.data);
    keep_inputs(settings.out, settings.data, *checkpoint);
    const std::int64_t vocabulary = data.datasets[0].vocabulary_size();
    require(vocabulary <= options.shape.vocabulary, "{}: vocabulary_size is {}, expected at most the model's {}",
            settings.data, vocabulary, options.shape.vocabulary);
    if (world_of_all.rank() != 0) return;
    RankBoard::create(ranks, world_of_all.size());
    board.emplace(ranks);
  });
  watchdog.open(ranks, "");
  rank_progress->enter(Phase::start);
  Runtime runtime = make_runtime(compute, std::move(world_of_all), rank_progress);
  Mesh& mesh = runtime.mesh;
  const Layout layout = parse_layout(compute.layout);
  const std::int64_t width = options.shape.width;

  Model model(options);
  model.parameters().allocate(runtime.stream, 1, false);
  rank_progress->enter(Phase::restore);
  collectively(mesh.world, [&] { load_parameters(*checkpoint, model.parameters(), runtime.stream); });

  const Dataset& dataset = data.datasets[0];
  const std::vector<ScorePack> packs = plan_packs(dataset.cu_seqlens(), settings.pack_tokens);
  FirstRank first_rank(mesh.world);
  std::optional<ScoreFile> file;
  first_rank([&] { file.emplace(settings.out, dataset, embeddings, width); });
  first_rank.agree();

  const Log log(mesh.world.rank());
  choose_strategies(runtime, model.calls(), options.dtype, layout, settings.pack_tokens, "forced");
  log.info("strategies: {}", strategies_text(runtime.strategies.names()));
  Progress progress("score", dataset.tokens(), "tokens", log.speaks());
  for (std::size_t wave = 0; wave < packs.size(); wave += static_cast<std::size_t>(mesh.data_size)) {
    std::vector<double> losses;
    std::vector<float> rows;
    rank_progress->begin_step(static_cast<std::int64_t>(wave) / mesh.data_size + 1);
    if (const std::size_t own = wave + static_cast<std::size_t>(mesh.data_index); own < packs.size()) {
      const PackOnRank placed = place_pack(data, packs[own].pack, layout, runtime, LossMask::ignored);
      const Tensor token_losses(runtime.stream, accumulator_of(options.dtype), {placed.sharding->local_tokens()});
      Model::Observer observer;
      if (embeddings)
        observer = [&](std::int64_t layer, TensorView residual) {
          if (layer == embeddings->layer) rows = host_values<float>(runtime.stream, residual);
        };
      rank_progress->enter(Phase::evaluate);
      model.evaluate({runtime, *placed.sharding}, placed.batch(), token_losses, observer);
      losses = host_values<double>(runtime.stream, token_losses);
    }
    for (int group = 0; group < mesh.data_size; ++group) {
      const std::size_t index = wave + static_cast<std::size_t>(group);
      if (index >= packs.size()) break;
      const std::int64_t first = packs[index].first_token;
      const ShardLayout shards(packs[index].pack.tokens(), mesh.context.size(), layout);
      rank_progress->enter(Phase::write);
      rows_to_first<double>(shards, group, losses, 1, rows_in_flight, mesh,
                            [&](std::int64_t row, std::span<const double> values) {
                              first_rank([&] { file->losses(first + row, values); });
                            });
      if (embeddings)
        rows_to_first<float>(shards, group, rows, width, std::max<std::int64_t>(1, rows_in_flight / width), mesh,
                             [&](std::int64_t row, std::span<const float> values) {
                               first_rank([&] { file->embeddings(first + row, values); });
                             });
      progress.update(first + shards.tokens());
    }
  }
  double total = 0;
  first_rank([&] {
    file->finish();
    total = file->total();
  });
  first_rank.agree();
  progress.finish();
  std::int64_t scored = 0;
  for (const ScorePack& pack : packs) scored += pack.pack.tokens() - std::ssize(pack.pack.pieces);
  log.info("{}: {} documents, {} tokens, {:.4f} nats a token", settings.out, dataset.documents(), dataset.tokens(),
           scored > 0 ? -total / static_cast<double>(scored) : 0.0);
}

}  // namespace causeway
