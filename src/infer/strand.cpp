#include "src/infer/strand.hpp"

#include <algorithm>
#include <vector>

#include "io/data/complement.hpp"
#include "src/runtime/host_copy.hpp"

namespace causeway {
namespace {

constexpr std::int32_t end_of_document = 0;
/// Tokens that are read at a time while zeros are counted: a document has no zeros, or one at an end.
constexpr std::int64_t zeros_at_once = 64;

}  // namespace

ReverseDocument::ReverseDocument(const Dataset& data, std::int64_t document)
    : data_(data),
      offset_(data.cu_seqlens()[document]),
      tokens_(data.cu_seqlens()[document + 1] - data.cu_seqlens()[document]) {
  leading_ = zeros_at_start();
  if (leading_ < tokens_) trailing_ = zeros_at_end();
}

std::int64_t ReverseDocument::zeros_at_start() const {
  std::vector<std::int32_t> tokens;
  for (std::int64_t begin = 0; begin < tokens_; begin += std::ssize(tokens)) {
    tokens.resize(static_cast<std::size_t>(std::min(zeros_at_once, tokens_ - begin)));
    data_.read_tokens(offset_ + begin, tokens);
    const auto other = std::ranges::find_if(tokens, [](std::int32_t token) { return token != end_of_document; });
    if (other != tokens.end()) return begin + (other - tokens.begin());
  }
  return tokens_;
}

std::int64_t ReverseDocument::zeros_at_end() const {
  std::vector<std::int32_t> tokens;
  for (std::int64_t end = tokens_; end > 0; end -= std::ssize(tokens)) {
    tokens.resize(static_cast<std::size_t>(std::min(zeros_at_once, end)));
    data_.read_tokens(offset_ + end - std::ssize(tokens), tokens);
    const auto other =
        std::find_if(tokens.rbegin(), tokens.rend(), [](std::int32_t token) { return token != end_of_document; });
    if (other != tokens.rend()) return tokens_ - end + (other - tokens.rbegin());
  }
  return tokens_;
}

void ReverseDocument::read(std::int64_t begin, std::span<std::int32_t> out) const {
  const std::int64_t end = begin + std::ssize(out), core_end = tokens_ - trailing_;
  const auto part = [&](std::int64_t from, std::int64_t to) {  // of the reverse strand
    return out.subspan(static_cast<std::size_t>(from - begin), static_cast<std::size_t>(to - from));
  };
  const std::int64_t zeros = std::clamp(leading_, begin, end), core = std::clamp(core_end, zeros, end);
  std::ranges::fill(part(begin, zeros), end_of_document);
  std::ranges::fill(part(core, end), end_of_document);
  const auto between = part(zeros, core);
  if (between.empty()) return;
  data_.read_tokens(offset_ + opposite(core - 1), between);
  std::ranges::reverse(between);
  for (std::int32_t& token : between) token = complement_of(token);
}

StrandOnRank place_strand(const Dataset& data, const Pack& pack, Strand strand, Layout layout, const Runtime& runtime) {
  StrandOnRank placed;
  placed.sharding = sharding_of(pack, layout, runtime);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(placed.sharding->local_tokens())), tokens;
  std::vector<std::int32_t> labels(ids.size(), -1);
  for_each_local_run(pack, *placed.sharding, [&](const LocalRun& run) {
    const std::int64_t count = run.tokens.size(), with_label = run.ends_piece ? count - 1 : count;
    tokens.resize(static_cast<std::size_t>(with_label + 1));
    if (strand == Strand::forward)
      data.read_tokens(data.cu_seqlens()[run.piece.document] + run.tokens.begin, tokens);
    else
      ReverseDocument(data, run.piece.document).read(run.tokens.begin, tokens);
    std::copy_n(tokens.begin(), count, ids.begin() + run.row);
    std::copy_n(tokens.begin() + 1, with_label, labels.begin() + run.row);
  });
  placed.ids = on_device<std::int32_t>(runtime.stream, ids);
  placed.labels = on_device<std::int32_t>(runtime.stream, labels);
  return placed;
}

}  // namespace causeway
