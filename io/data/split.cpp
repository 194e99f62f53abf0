#include "io/data/split.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <numeric>
#include <span>

#include "io/data/dataset.hpp"
#include "io/data/dataset_writer.hpp"
#include "io/data/name_reader.hpp"
#include "io/file/utf8.hpp"
#include "kernels/core/error.hpp"
#include "kernels/core/random.hpp"

namespace causeway {
namespace {

namespace fs = std::filesystem;

/// The stream of the draw: "split" as bytes.
constexpr std::uint64_t draw_stream = 0x73706c6974;

/// Tokens, and their loss mask and weights if the dataset has them.
struct LabelledTokens {
  std::span<const std::int32_t> tokens;
  std::span<const std::uint8_t> loss_mask;
  std::span<const float> loss_weights;
};

/// How often each token id is a label: every token that is not the first of its document, by its weight.
class LabelCounts {
 public:
  explicit LabelCounts(std::int64_t vocabulary_size) : vocabulary_size_(vocabulary_size) {}

  void add(const LabelledTokens& some, bool starts_document) {
    for (std::size_t t = starts_document ? 1 : 0; t < some.tokens.size(); ++t) {
      if (!some.loss_mask.empty() && some.loss_mask[t] == 0) continue;
      const auto id = static_cast<std::size_t>(some.tokens[t]);
      if (id >= counts_.size()) counts_.resize(id + 1, 0);
      counts_[id] += some.loss_weights.empty() ? 1 : static_cast<double>(some.loss_weights[t]);
    }
  }

  /// Cross entropy (nats per label) of the labels of `other` under these frequencies, each count plus one.
  std::optional<double> cross_entropy(const LabelCounts& other) const {
    const double total = std::accumulate(counts_.begin(), counts_.end(), 0.0) + static_cast<double>(vocabulary_size_);
    double labels = 0, sum = 0;
    for (std::size_t id = 0; id < other.counts_.size(); ++id) {
      const double count = other.counts_[id];
      labels += count;
      sum -= count * std::log((id < counts_.size() ? counts_[id] + 1 : 1.0) / total);
    }
    return labels > 0 ? std::optional(sum / labels) : std::nullopt;
  }

 private:
  std::int64_t vocabulary_size_;
  std::vector<double> counts_;  ///< up to the largest id that occurred
};

/// Tokens [begin, end) of the corpus, all of one document, and the part that they are in.
struct Segment {
  std::int64_t document, begin, end;
  std::size_t part;
};

/// Which part each token is in: by document, or by the place in the corpus.
struct SplitPlan {
  std::vector<std::uint8_t> part_of;  ///< of each document
  std::vector<std::int64_t> ends;     ///< of each part, in tokens; used where part_of is empty
  std::int64_t empty_documents = 0;

  template <class Visit>
  void for_each_segment(std::span<const std::int64_t> cu_seqlens, const Visit& visit) const {
    for (std::size_t d = 0; d + 1 < cu_seqlens.size(); ++d) {
      const auto document = static_cast<std::int64_t>(d);
      if (cu_seqlens[d] == cu_seqlens[d + 1]) continue;
      if (!part_of.empty()) {
        visit(Segment{document, cu_seqlens[d], cu_seqlens[d + 1], part_of[d]});
        continue;
      }
      for (std::size_t part = 0; part < ends.size(); ++part) {
        const std::int64_t begin = std::max(cu_seqlens[d], part == 0 ? 0 : ends[part - 1]),
                           end = std::min(cu_seqlens[d + 1], ends[part]);
        if (begin < end) visit(Segment{document, begin, end, part});
      }
    }
  }
};

/// Whether each document is the reverse complement of the one before it: import --reverse-complement add names them
/// NAME and NAME/rc.
std::vector<bool> second_strands(const Dataset& data) {
  constexpr std::int64_t at_once = 4096;
  std::vector<bool> second;
  std::string before;
  for (std::int64_t begin = 0; begin < data.documents(); begin += at_once) {
    for (std::string& name : data.names(begin, std::min(at_once, data.documents() - begin))) {
      second.push_back(!second.empty() && name == before + "/rc");
      before = std::move(name);
    }
  }
  return second;
}

/// The documents that are not empty and not second strands, in an order that the seed determines.
std::vector<std::int64_t> drawn_order(std::span<const std::int64_t> cu_seqlens, const std::vector<bool>& second,
                                      std::int64_t seed) {
  const RandomStream random(static_cast<std::uint64_t>(seed), draw_stream);
  std::vector<std::pair<std::uint64_t, std::int64_t>> keys;
  for (std::size_t d = 0; d + 1 < cu_seqlens.size(); ++d)
    if (cu_seqlens[d] < cu_seqlens[d + 1] && !second[d])
      keys.emplace_back(random.bits(d), static_cast<std::int64_t>(d));
  std::ranges::sort(keys);
  std::vector<std::int64_t> order;
  for (const auto& [key, document] : keys) order.push_back(document);
  return order;
}

/// `targets`: the tokens of each part; train is the first. Both strands of a sequence are in one part: a
/// model that was trained on one of them knows the other.
void plan_by_document(const Dataset& data, const std::vector<std::int64_t>& targets, std::int64_t seed,
                      SplitPlan& plan) {
  const auto cu_seqlens = data.cu_seqlens();
  const std::vector<bool> second = second_strands(data);
  const std::vector<std::int64_t> order = drawn_order(cu_seqlens, second, seed);
  require(order.size() >= targets.size(),
          "{}: found documents that are not empty: {}, expected at least {}, a whole one for each part; --by tail cuts "
          "documents instead",
          data.path(), order.size(), targets.size());
  std::vector<std::int64_t> tokens(targets.size(), 0);
  plan.part_of.assign(static_cast<std::size_t>(data.documents()), 0);
  for (std::size_t i = 0; i < order.size(); ++i) {
    const auto d = static_cast<std::size_t>(order[i]);
    const std::size_t end = d + 1 < second.size() && second[d + 1] ? d + 2 : d + 1;
    const std::int64_t length = cu_seqlens[end] - cu_seqlens[d];
    const auto missing = [&](std::size_t part) { return targets[part] - tokens[part]; };
    const auto without = static_cast<std::size_t>(std::ranges::count(tokens, 0));
    std::size_t part = 0;
    if (order.size() - i <= without) {  // the part without a document that this one fits best
      std::int64_t least = INT64_MAX;
      for (std::size_t p = 0; p < targets.size(); ++p)
        if (const std::int64_t off = std::abs(missing(p) - length); tokens[p] == 0 && off < least) {
          least = off;
          part = p;
        }
    } else {
      for (std::size_t p = targets.size() - 1; p > 0; --p)
        if (length < 2 * missing(p)) part = p;  // nearer to the target with this document than without
    }
    tokens[part] += length;
    for (std::size_t each = d; each < end; ++each) plan.part_of[each] = static_cast<std::uint8_t>(part);
  }
}

SplitPlan make_plan(const Dataset& data, const SplitOptions& options, std::size_t parts) {
  const auto held_out = static_cast<std::int64_t>(std::llround(static_cast<double>(data.tokens()) * options.held_out));
  std::vector<std::int64_t> targets(parts, held_out);
  targets[0] = data.tokens() - held_out * static_cast<std::int64_t>(parts - 1);
  SplitPlan plan;
  const auto cu_seqlens = data.cu_seqlens();
  for (std::size_t d = 0; d + 1 < cu_seqlens.size(); ++d) plan.empty_documents += cu_seqlens[d] == cu_seqlens[d + 1];
  if (options.by == "document") {
    plan_by_document(data, targets, options.seed, plan);
    return plan;
  }
  require(held_out > 0 && targets[0] > 0, "{}: holding out {} of {} tokens{} leaves a part empty", data.path(),
          options.held_out, data.tokens(), parts > 2 ? " twice" : "");
  plan.ends.resize(parts);
  std::partial_sum(targets.begin(), targets.end(), plan.ends.begin());
  return plan;
}

/// Reads tokens, loss mask and loss weights of the corpus in large pieces, also where they are asked for in small ones.
class TokenReader {
 public:
  explicit TokenReader(const Dataset& data) : data_(data) {}

  /// Some tokens from `begin` on, at least one and not past `end`. Valid until the next call.
  LabelledTokens some(std::int64_t begin, std::int64_t end) {
    if (begin < begin_ || begin >= begin_ + std::ssize(tokens_)) {
      constexpr std::int64_t most_at_once = 1 << 20;
      begin_ = begin;
      tokens_.resize(static_cast<std::size_t>(std::min(most_at_once, data_.tokens() - begin)));
      data_.read_tokens(begin, tokens_);
      loss_mask_.resize(data_.has_loss_mask() ? tokens_.size() : 0);
      if (data_.has_loss_mask()) data_.read_loss_mask(begin, loss_mask_);
      loss_weights_.resize(data_.has_loss_weights() ? tokens_.size() : 0);
      if (data_.has_loss_weights()) data_.read_loss_weights(begin, loss_weights_);
    }
    const auto first = static_cast<std::size_t>(begin - begin_),
               count = std::min(tokens_.size() - first, static_cast<std::size_t>(end - begin));
    const auto part_of = [&](const auto& values) {
      return std::span(values).subspan(values.empty() ? 0 : first, values.empty() ? 0 : count);
    };
    return {part_of(tokens_), part_of(loss_mask_), part_of(loss_weights_)};
  }

 private:
  const Dataset& data_;
  std::int64_t begin_ = 0;
  std::vector<std::int32_t> tokens_;
  std::vector<std::uint8_t> loss_mask_;
  std::vector<float> loss_weights_;
};

/// One file, also where it does not exist yet and the paths are written differently.
bool is_same(const std::string& a, const std::string& b) {
  std::error_code ignored;
  const auto whole = [&](const std::string& path) {
    return fs::weakly_canonical(fs::absolute(path, ignored), ignored);
  };
  return a == b || same_file(a, b) || whole(a) == whole(b);
}

void check_options(const std::string& path, const SplitOptions& options, const std::vector<SplitPart>& parts) {
  require(options.by == "document" || options.by == "tail", "--by is '{}', expected document or tail", options.by);
  require(options.seed >= 0, "--seed is {}, expected 0 or more", options.seed);
  require(options.held_out > 0 && options.held_out < 1, "--held-out is {}, expected more than 0 and less than 1",
          options.held_out);
  require(parts.size() < 3 || options.held_out < 0.5,
          "--held-out is {}, expected less than 0.5: --valid and --test each hold out that part", options.held_out);
  for (std::size_t p = 0; p < parts.size(); ++p) {
    require(!is_same(parts[p].path, path), "{}: is the dataset to be split, expected another name for its parts",
            parts[p].path);
    for (std::size_t before = 0; before < p; ++before)
      require(!is_same(parts[p].path, parts[before].path), "--{} and --{} are the same file, {}", parts[before].name,
              parts[p].name, parts[p].path);
    check_target(parts[p].path, options.existing());
  }
}

/// All files get their names, or none does: a train part beside a held-out part of another split would be wrong without
/// a sign.
void publish_all(std::vector<std::unique_ptr<DatasetWriter>>& writers, const std::vector<SplitPart>& parts) {
  for (const auto& writer : writers) writer->complete();
  std::size_t published = 0;
  try {
    for (; published < writers.size(); ++published) writers[published]->publish();
  } catch (...) {
    for (std::size_t p = 0; p < published; ++p) ::unlink(parts[p].path.c_str());
    throw;
  }
}

}  // namespace

DatasetSplit split_dataset(const std::string& path, const SplitOptions& options) {
  DatasetSplit split;
  split.parts = {{.name = "train", .path = options.train}, {.name = "valid", .path = options.valid}};
  if (!options.test.empty()) split.parts.push_back({.name = "test", .path = options.test});
  check_options(path, options, split.parts);
  const Dataset data(path);
  const SplitPlan plan = make_plan(data, options, split.parts.size());
  split.tokens = data.tokens();
  split.empty_documents = plan.empty_documents;

  std::vector<std::unique_ptr<DatasetWriter>> writers;
  std::vector<LabelCounts> labels(split.parts.size(), LabelCounts(data.vocabulary_size()));
  for (const SplitPart& part : split.parts)
    writers.push_back(std::make_unique<DatasetWriter>(part.path, data.vocabulary_size(), path, data.label_lists(),
                                                      options.existing()));
  NameReader names(data);
  TokenReader reader(data);
  std::string name;
  std::int64_t named = -1;  // the document that has `name`
  plan.for_each_segment(data.cu_seqlens(), [&](const Segment& segment) {
    for (; named < segment.document; ++named) name = names.next();
    const std::int64_t offset = segment.begin - data.cu_seqlens()[static_cast<std::size_t>(segment.document)];
    if (offset == 0 && !is_utf8(name)) ++split.latin1_names;
    DatasetWriter& writer = *writers[segment.part];
    writer.begin_document(offset == 0 ? name : fmt::format("{}:{}", name, offset));
    for (std::int64_t at = segment.begin; at < segment.end;) {
      const LabelledTokens some = reader.some(at, segment.end);
      writer.append(some.tokens, some.loss_mask, some.loss_weights);
      labels[segment.part].add(some, at == segment.begin);
      at += std::ssize(some.tokens);
      if (options.progress) options.progress(at, data.tokens());
    }
  });
  for (; named + 1 < data.documents(); ++named) names.next();  // all are checked
  publish_all(writers, split.parts);

  for (std::size_t p = 0; p < split.parts.size(); ++p) {
    SplitPart& part = split.parts[p];
    part.documents = writers[p]->documents();
    part.tokens = writers[p]->tokens();
    part.asked = p == 0 ? 1 - options.held_out * static_cast<double>(split.parts.size() - 1) : options.held_out;
    if (p > 0) part.unigram_loss = labels[0].cross_entropy(labels[p]);
  }
  return split;
}

}  // namespace causeway
