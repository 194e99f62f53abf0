#include "io/data/dataset_writer.hpp"

#include <algorithm>
#include <array>

#include "io/data/dataset_format.hpp"
#include "io/data/identity.hpp"
#include "io/data/name_reader.hpp"
#include "io/hdf5/hdf5.hpp"
#include "kernels/core/error.hpp"

namespace causeway {
namespace {

/// A chunk is 128 KiB of 16-bit tokens: small enough that a reader of one pack inflates few other tokens, large enough
/// to compress well.
constexpr std::int64_t chunk_tokens = 65536;
constexpr std::int64_t chunk_documents = 4096;
constexpr int deflate_level = 1;  // level 6 takes 5 times as long and saves 3 % of the bytes of tokens

}  // namespace

struct DatasetWriter::State {
  AtomicFile target;
  std::int64_t vocabulary_size;
  LabelLists lists;
  hdf5::File file;
  hdf5::Dataset tokens, loss_mask, loss_weights, cu_seqlens, names;

  std::vector<std::int32_t> pending_tokens;
  std::vector<std::uint8_t> pending_mask;
  std::vector<float> pending_weights;
  std::vector<std::int64_t> pending_ends;
  std::vector<std::string> pending_names;
  std::int64_t written_tokens = 0, written_ends = 0, written_names = 0;
  std::uint32_t names_checksum = 0;
  IdentityDigest identity;

  std::int64_t document_count = 0, document_start = 0;
  std::int64_t shortest = 0, longest = 0;
  std::array<std::int64_t, 65> histogram{};

  State(const std::string& path, std::int64_t vocabulary, LabelLists wanted, Existing existing)
      : target(path, existing), vocabulary_size(vocabulary), lists(wanted), identity(wanted) {}

  std::int64_t token_count() const { return written_tokens + static_cast<std::int64_t>(pending_tokens.size()); }
  /// Adds the end of the current document.
  void end_document() {
    if (document_count == 0) return;
    const std::int64_t length = token_count() - document_start;
    shortest = document_count == 1 ? length : std::min(shortest, length);
    longest = std::max(longest, length);
    ++histogram[histogram_bin(length)];
    pending_ends.push_back(token_count());
    if (static_cast<std::int64_t>(pending_ends.size()) == chunk_documents) flush_ends();
  }
  template <class T>
  void flush(hdf5::Dataset& list, std::vector<T>& pending, std::int64_t written) {
    list.extend(written + std::ssize(pending));
    list.write_rows<T>(written, pending);
    pending.clear();
  }
  void flush_tokens() {
    const std::int64_t end = token_count();
    identity.add_tokens(pending_tokens);
    flush(tokens, pending_tokens, written_tokens);
    if (lists.loss_mask) {
      identity.add_loss_mask(pending_mask);
      flush(loss_mask, pending_mask, written_tokens);
    }
    if (lists.loss_weights) {
      identity.add_loss_weights(pending_weights);
      flush(loss_weights, pending_weights, written_tokens);
    }
    written_tokens = end;
  }
  void flush_ends() {
    const std::int64_t end = written_ends + std::ssize(pending_ends);
    identity.add_boundaries(pending_ends);
    flush(cu_seqlens, pending_ends, written_ends);
    written_ends = end;
  }
  void flush_names() {
    names.extend(written_names + static_cast<std::int64_t>(pending_names.size()));
    names.write_strings(written_names, pending_names);
    written_names += static_cast<std::int64_t>(pending_names.size());
    pending_names.clear();
  }
};

DatasetWriter::DatasetWriter(const std::string& path, std::int64_t vocabulary_size, const std::string& source,
                             LabelLists lists, Existing existing) {
  require(vocabulary_size >= 1 && vocabulary_size <= dataset_format::largest_vocabulary,
          "vocabulary size is {}, expected 1 to {}", vocabulary_size, dataset_format::largest_vocabulary);
  state_ = std::make_unique<State>(path, vocabulary_size, lists, existing);
  State& state = *state_;
  state.file = hdf5::File::open(state.target.temporary(), hdf5::Access::create);
  const auto make_list = [&](const char* name, hdf5::ElementType type, std::int64_t chunk) {
    // HDF5 has no checksum for strings: they are on its heap, where filters do not apply. NameReader uses `crc32`
    // instead.
    return state.file.create_dataset(name, {.shape = {0},
                                            .type = type,
                                            .chunk_rows = chunk,
                                            .shuffle = true,
                                            .deflate = deflate_level,
                                            .fletcher32 = type != hdf5::string});
  };
  state.tokens =
      make_list("tokens", vocabulary_size <= dataset_format::u16_vocabulary ? hdf5::u16 : hdf5::u32, chunk_tokens);
  if (lists.loss_mask) state.loss_mask = make_list("loss_mask", hdf5::u8, chunk_tokens);
  if (lists.loss_weights) state.loss_weights = make_list("loss_weight", hdf5::f32, chunk_tokens);
  state.cu_seqlens = make_list("cu_seqlens", hdf5::i64, chunk_documents);
  state.names = make_list("names", hdf5::string, chunk_documents);
  state.file.set_attribute("source", source);
  state.pending_ends.push_back(0);
}

DatasetWriter::~DatasetWriter() = default;

void DatasetWriter::begin_document(const std::string& name) {
  State& state = *state_;
  state.end_document();
  ++state.document_count;
  state.document_start = state.token_count();
  std::string text = stored_name(name);
  state.names_checksum = names_checksum(state.names_checksum, text);
  state.pending_names.push_back(std::move(text));
  if (static_cast<std::int64_t>(state.pending_names.size()) == chunk_documents) state.flush_names();
}

void DatasetWriter::append(std::span<const std::int32_t> tokens, std::span<const std::uint8_t> loss_mask,
                           std::span<const float> loss_weights) {
  State& state = *state_;
  ensure(state.document_count > 0, "append() before the first begin_document()");
  ensure(loss_mask.size() == (state.lists.loss_mask ? tokens.size() : 0), "{} loss mask values for {} tokens",
         loss_mask.size(), tokens.size());
  ensure(loss_weights.size() == (state.lists.loss_weights ? tokens.size() : 0), "{} loss weights for {} tokens",
         loss_weights.size(), tokens.size());
  dataset_format::require_loss_weights(loss_weights, state.token_count(), state.target.path() + ":/loss_weight");
  const auto move_to = [](auto& pending, auto& values, std::size_t count) {
    const auto some = values.first(std::min(count, values.size()));
    pending.insert(pending.end(), some.begin(), some.end());
    values = values.subspan(some.size());
  };
  while (!tokens.empty()) {
    const std::size_t free_tokens = static_cast<std::size_t>(chunk_tokens) - state.pending_tokens.size(),
                      count = std::min(free_tokens, tokens.size());
    for (const std::int32_t token : tokens.first(count))
      require(token >= 0 && token < state.vocabulary_size,
              "token {} of document {}, expected less than the vocabulary's {}", token, state.document_count - 1,
              state.vocabulary_size);
    move_to(state.pending_tokens, tokens, count);
    move_to(state.pending_mask, loss_mask, count);
    move_to(state.pending_weights, loss_weights, count);
    if (static_cast<std::int64_t>(state.pending_tokens.size()) == chunk_tokens) state.flush_tokens();
  }
}

void DatasetWriter::finish() {
  complete();
  publish();
}

void DatasetWriter::publish() { state_->target.publish(); }

void DatasetWriter::complete() {
  State& state = *state_;
  state.end_document();
  state.flush_tokens();
  state.flush_ends();
  state.flush_names();
  const std::size_t bins = state.document_count == 0 ? 1 : histogram_bin(state.longest) + 1;
  state.file
      .write<std::int64_t>("statistics/length_histogram", {static_cast<std::int64_t>(bins)},
                           std::span(state.histogram).first(bins))
      .set_attribute("bins", std::string("bin 0: empty documents; bin k: 2^(k-1) <= length < 2^k"));
  state.names.set_attribute("crc32", static_cast<std::int64_t>(state.names_checksum));
  state.file.set_attribute("identity", state.identity.finish());
  state.file.set_attribute("format", std::string(dataset_format::name));
  state.file.set_attribute("version", dataset_format::version);
  state.file.set_attribute("vocabulary_size", state.vocabulary_size);
  state.file.set_attribute("documents", documents());
  state.file.set_attribute("tokens", tokens());
  state.file.set_attribute("min_length", state.shortest);
  state.file.set_attribute("max_length", state.longest);
  state.file.set_attribute("mean_length",
                           documents() == 0 ? 0.0 : static_cast<double>(tokens()) / static_cast<double>(documents()));
  for (hdf5::Dataset* dataset : {&state.tokens, &state.loss_mask, &state.loss_weights, &state.cu_seqlens, &state.names})
    *dataset = {};
  state.file.close();
  state.target.sync();
}

std::int64_t DatasetWriter::documents() const { return state_->document_count; }
std::int64_t DatasetWriter::tokens() const { return state_->token_count(); }

}  // namespace causeway
