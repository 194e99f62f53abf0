#include "io/data/readers/document_sink.hpp"

#include <algorithm>

#include "io/data/dataset.hpp"
#include "io/data/dataset_format.hpp"
#include "io/file/utf8.hpp"

namespace causeway {

void DocumentSink::begin(const std::string& name, bool latin1) {
  end();
  latin1 = latin1 || !is_utf8(name);
  const bool nul = name.find('\0') != std::string::npos;
  const std::string stored = stored_name(name);
  if (changed_names.count() == 0 && (latin1 || nul)) changed_names.first = stored;
  changed_names.latin1 += latin1 ? 1 : 0;
  changed_names.nul += nul ? 1 : 0;
  begin_document(stored);
  open_ = true;
}

void DocumentSink::append_bytes(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::size_t count = std::min(bytes.size(), tokens_.size());
    for (std::size_t i = 0; i < count; ++i) tokens_[i] = static_cast<unsigned char>(bytes[i]);
    append(std::span(tokens_).first(count));
    bytes.remove_prefix(count);
  }
}

void DocumentSink::append(std::span<const std::int32_t> tokens, std::span<const float> weights) {
  if (open_) append_tokens(tokens, weights);
}

void DocumentSink::end() {
  if (!open_) return;
  open_ = false;
  accepts([&] { end_document(); });
}

void DocumentSink::pass_over(const char* reason, bool counts) {
  if (open_) drop_document();
  open_ = false;
  if (!counts) return;
  if (passed_over.records++ < static_cast<std::int64_t>(PassedOver::shown)) passed_over.reasons.emplace_back(reason);
}

void DocumentSink::misfit(std::int64_t id, const std::string& where) {
  const std::string found = fmt::format("{}: found token {}, expected 0 to {}", where, id, vocabulary_size - 1);
  if (id < 0 || skip_bad) throw RecordError(found);
  first_misfit_ = found;
}

void DocumentSink::require_vocabulary() {
  if (largest_id_ < 0) return;
  throw RecordError(
      largest_id_ < dataset_format::largest_vocabulary
          ? fmt::format("{}; --vocabulary {} is the smallest that fits this file", first_misfit_, largest_id_ + 1)
          : fmt::format("{}, and no vocabulary has more than {} ids", first_misfit_,
                        dataset_format::largest_vocabulary));
}

}  // namespace causeway
