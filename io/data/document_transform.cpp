#include "io/data/document_transform.hpp"

#include <algorithm>
#include <vector>

#include "io/data/complement.hpp"
#include "io/file/line_reader.hpp"
#include "kernels/core/error.hpp"

namespace causeway {
namespace {

constexpr std::int64_t evo2_eod = 0;

bool is_lower_case(std::int32_t token) { return token >= 'a' && token <= 'z'; }

bool is_base(std::int32_t token) {
  const std::int32_t upper = is_lower_case(token) ? token - 'a' + 'A' : token;
  return upper == 'A' || upper == 'C' || upper == 'G' || upper == 'T';
}

}  // namespace

void require_transform(const TransformOptions& options, std::int64_t vocabulary_size) {
  if (const auto eod = options.append_eod)
    require(*eod >= 0 && *eod < vocabulary_size, "--append-eod is {}, expected an id from 0 to {}", *eod,
            vocabulary_size - 1);
  if (const auto weight = options.lower_case_weight)
    require(*weight >= 0 && *weight <= 1, "--lower-case-weight is {}, expected a weight from 0 to 1", *weight);
  const std::string& between = options.mask_between;
  require(between.empty() || (between.size() == 1 && static_cast<unsigned char>(between[0]) < 0x80),
          "--mask-between is '{}', expected one character of ASCII", between);
}

DocumentTransform::DocumentTransform(Settings settings, DatasetWriter& dataset)
    : settings_(std::move(settings)),
      dataset_(dataset),
      end_of_document_(static_cast<std::int32_t>(settings_.options.append_eod.value_or(evo2_eod))),
      tokens_(settings_.beside, settings_.memory),
      weights_(settings_.beside, settings_.memory) {
  if (!settings_.options.mask_between.empty()) tag_ = static_cast<unsigned char>(settings_.options.mask_between[0]);
}

void DocumentTransform::begin(const std::string& name) {
  name_ = name;
  tags_ = length_ = 0;
  inside_tag_ = false;
  if (!keeps()) dataset_.begin_document(name);
}

void DocumentTransform::append(std::span<const std::int32_t> tokens, std::span<const float> weights) {
  length_ += std::ssize(tokens);
  if (tag_ >= 0) tags_ += std::ranges::count(tokens, tag_);
  if (!keeps()) return write(tokens, weights, false);
  tokens_.append(std::as_bytes(tokens));
  weights_.append(std::as_bytes(weights));
}

void DocumentTransform::end() {
  if (tags_ % 2 != 0) {
    drop();
    throw RecordError(fmt::format("document '{}': found '{}' {} times, expected an even number: a tag has no end",
                                  name_, settings_.options.mask_between, tags_));
  }
  using Strands = TransformOptions::Strands;
  const Strands strands = settings_.options.strands;
  if (!keeps()) {
    end_document();
    return;
  }
  if (strands != Strands::complement) {
    dataset_.begin_document(name_);
    write_kept(false);
    end_document();
  }
  if (strands != Strands::given) {
    dataset_.begin_document(strands == Strands::both ? name_ + "/rc" : name_);
    write_kept(true);
    end_document();
  }
  drop();
}

void DocumentTransform::drop() {
  tokens_.clear();
  weights_.clear();
}

void DocumentTransform::end_document() {
  if (!settings_.options.append_eod) {
    empty_ += length_ == 0 ? 1 : 0;
    return;
  }
  const std::int32_t token = end_of_document_;
  const float weight = 1;
  const std::uint8_t mask = 1;
  const LabelLists& lists = settings_.lists;
  dataset_.append({&token, 1}, std::span(&mask, lists.loss_mask ? 1 : 0),
                  std::span(&weight, lists.loss_weights ? 1 : 0));
}

void DocumentTransform::write_kept(bool reverse_complement) {
  constexpr std::int64_t block = 1 << 16;
  std::vector<std::int32_t> tokens;
  std::vector<float> weights;
  inside_tag_ = false;
  for (std::int64_t done = 0; done < length_; done += std::ssize(tokens)) {
    const std::int64_t count = std::min(block, length_ - done),
                       begin = reverse_complement ? length_ - done - count : done;
    tokens.resize(static_cast<std::size_t>(count));
    weights.resize(weights_.size() == 0 ? 0 : tokens.size());
    tokens_.read(begin * 4, std::as_writable_bytes(std::span(tokens)));
    if (!weights.empty()) weights_.read(begin * 4, std::as_writable_bytes(std::span(weights)));
    if (reverse_complement) {
      std::ranges::reverse(tokens);
      std::ranges::reverse(weights);
    }
    write(tokens, weights, reverse_complement);
  }
}

void DocumentTransform::write(std::span<const std::int32_t> tokens, std::span<const float> weights, bool complement) {
  const LabelLists& lists = settings_.lists;
  if (!complement && !settings_.options.uppercase && !lists.loss_mask && !lists.loss_weights)
    return dataset_.append(tokens);
  while (!tokens.empty()) {
    const std::size_t count = std::min(tokens.size(), part);
    write_part(tokens.first(count), weights.first(std::min(count, weights.size())), complement);
    tokens = tokens.subspan(count);
    weights = weights.subspan(std::min(count, weights.size()));
  }
}

void DocumentTransform::write_part(std::span<const std::int32_t> tokens, std::span<const float> weights,
                                   bool complement) {
  const LabelLists& lists = settings_.lists;
  const std::size_t count = tokens.size();
  if (lists.loss_mask || lists.loss_weights) {
    for (std::size_t i = 0; i < count; ++i)
      part_weights_[i] = weight_of(tokens[i]) * (weights.empty() ? 1 : weights[i]);
    for (std::size_t i = 0; i < count; ++i) part_mask_[i] = part_weights_[i] != 0 ? 1 : 0;
  }
  for (std::size_t i = 0; i < count; ++i) {
    const std::int32_t token = complement ? complement_of(tokens[i]) : tokens[i];
    part_tokens_[i] = settings_.options.uppercase && is_lower_case(token) ? token - 'a' + 'A' : token;
  }
  dataset_.append(std::span(part_tokens_).first(count), std::span(part_mask_).first(lists.loss_mask ? count : 0),
                  std::span(part_weights_).first(lists.loss_weights ? count : 0));
}

/// The weight of a token as it was read. Tags are counted in the order of writing, which gives the same in reverse.
float DocumentTransform::weight_of(std::int32_t token) {
  const TransformOptions& options = settings_.options;
  if (tag_ >= 0 && token == tag_) {
    inside_tag_ = !inside_tag_;
    return 0;
  }
  if (inside_tag_) return 0;
  if (options.mask_ambiguous && !is_base(token) && token != end_of_document_) return 0;
  return options.lower_case_weight && is_lower_case(token) ? static_cast<float>(*options.lower_case_weight) : 1;
}

}  // namespace causeway
