#include "io/data/split.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "io/file/atomic_file.hpp"
#include "kernels/core/error.hpp"

namespace causeway {
namespace {

/// How often each token id is a label: every token that is not the first of its document, if its loss mask is not 0.
class LabelCounts {
 public:
  explicit LabelCounts(std::int64_t vocabulary_size) : counts_(static_cast<std::size_t>(vocabulary_size), 0) {}

  void add(std::span<const std::int32_t> tokens, std::span<const std::uint8_t> loss_mask, bool starts_document) {
    for (std::size_t t = starts_document ? 1 : 0; t < tokens.size(); ++t)
      if (loss_mask.empty() || loss_mask[t] != 0) ++counts_[static_cast<std::size_t>(tokens[t])];
  }

  /// Cross entropy (nats per label) of the labels of `other` under these frequencies, each count plus one.
  double cross_entropy(const LabelCounts& other) const {
    double total = 0, labels = 0, sum = 0;
    for (const std::int64_t count : counts_) total += static_cast<double>(count) + 1;
    for (std::size_t id = 0; id < counts_.size(); ++id) {
      const auto count = static_cast<double>(other.counts_[id]);
      labels += count;
      sum -= count * std::log((static_cast<double>(counts_[id]) + 1) / total);
    }
    return labels > 0 ? sum / labels : 0;
  }

 private:
  std::vector<std::int64_t> counts_;
};

/// Copies tokens [begin, end) of the corpus, document by document, in bounded memory.
void copy_range(const Dataset& data, std::int64_t begin, std::int64_t end, DatasetWriter& writer, LabelCounts& counts) {
  constexpr std::int64_t most_at_once = 1 << 20;
  const auto cu_seqlens = data.cu_seqlens();
  const auto start_of = [&](std::int64_t document) { return cu_seqlens[static_cast<std::size_t>(document)]; };
  std::vector<std::int32_t> tokens;
  std::vector<std::uint8_t> loss_mask;
  std::int64_t document = std::upper_bound(cu_seqlens.begin(), cu_seqlens.end(), begin) - cu_seqlens.begin() - 1;
  for (; document < data.documents() && start_of(document) < end; ++document) {
    const std::int64_t first = std::max(begin, start_of(document));
    const std::int64_t last = std::min(end, start_of(document + 1));
    if (first == last) continue;
    const std::int64_t offset = first - start_of(document);
    writer.begin_document(offset == 0 ? data.name(document) : fmt::format("{}:{}", data.name(document), offset));
    for (std::int64_t at = first; at < last; at += most_at_once) {
      const auto size = static_cast<std::size_t>(std::min(most_at_once, last - at));
      tokens.resize(size);
      data.read_tokens(at, tokens);
      if (data.has_loss_mask()) {
        loss_mask.resize(size);
        data.read_loss_mask(at, loss_mask);
      }
      writer.append(tokens, loss_mask);
      counts.add(tokens, loss_mask, at == first);
    }
  }
}

}  // namespace

DatasetSplit split_dataset(const Dataset& data, double held_out, const std::string& train, const std::string& valid) {
  require(held_out > 0 && held_out < 1, "the part to hold out is {}, expected more than 0 and less than 1", held_out);
  const auto cut =
      data.tokens() - static_cast<std::int64_t>(std::llround(static_cast<double>(data.tokens()) * held_out));
  for (const std::string& part : {train, valid})
    require(!same_file(part, data.path()), "{}: is the dataset to be split, expected another name for its parts", part);
  require(cut > 0 && cut < data.tokens(), "{}: holding out {} of {} tokens leaves one part empty", data.path(),
          held_out, data.tokens());

  LabelCounts train_labels(data.vocabulary_size()), valid_labels(data.vocabulary_size());
  DatasetWriter train_writer(train, data.vocabulary_size(), data.path(), data.has_loss_mask());
  copy_range(data, 0, cut, train_writer, train_labels);
  DatasetWriter valid_writer(valid, data.vocabulary_size(), data.path(), data.has_loss_mask());
  copy_range(data, cut, data.tokens(), valid_writer, valid_labels);
  train_writer.finish();
  valid_writer.finish();
  return {.train_tokens = train_writer.tokens(),
          .train_documents = train_writer.documents(),
          .valid_tokens = valid_writer.tokens(),
          .valid_documents = valid_writer.documents(),
          .unigram_loss = train_labels.cross_entropy(valid_labels)};
}

}  // namespace causeway
