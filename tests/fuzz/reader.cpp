// Built for each text format, with CAUSEWAY_READER and CAUSEWAY_ENDING. With a buffer of a few bytes the reader finds
// the same documents as with the whole file in memory, or both refuse the file. An input that starts as gzip does gets
// a name that ends with .gz.
#include <vector>

#include "io/data/readers/reader.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace causeway::fuzz {
namespace {

struct Document {
  std::string name;
  std::vector<std::int32_t> tokens;
  bool operator==(const Document&) const = default;
};

struct Outcome {
  std::vector<Document> documents;
  std::string refusal;
};

Outcome read(const std::string& path, std::size_t buffer_bytes) {
  Outcome outcome;
  DocumentSink sink;
  sink.vocabulary_size = 512;
  sink.begin_document = [&](const std::string& name) { outcome.documents.push_back({name, {}}); };
  sink.end_document = [] {};
  sink.append_tokens = [&](std::span<const std::int32_t> tokens, std::span<const float>) {
    holds(!outcome.documents.empty(), "tokens before the first document");
    for (const std::int32_t token : tokens) holds(token >= 0 && token < 512, "token {}", token);
    std::vector<std::int32_t>& all = outcome.documents.back().tokens;
    all.insert(all.end(), tokens.begin(), tokens.end());
  };
  accepts(
      [&] {
        try {
          LineReader lines(path, {}, buffer_bytes);
          CAUSEWAY_READER(lines, ReaderOptions(), sink);
        } catch (const Error& error) {
          outcome.refusal = error.what();
          throw;
        }
      },
      {ExitCode::usage});
  return outcome;
}

}  // namespace
}  // namespace causeway::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace causeway::fuzz;
  if (size == 0) return 0;
  static const causeway::testing::TemporaryFolder folder;
  const std::string_view text = text_of(data + 1, size - 1);
  const bool compressed = text.starts_with("\x1f\x8b");
  const std::string path = folder.write(std::string("input" CAUSEWAY_ENDING) + (compressed ? ".gz" : ""), text);
  const Outcome whole = read(path, std::size_t{1} << 13), pieces = read(path, 2 + data[0] % 30);
  // In damaged gzip the text before the damage is found depends on the buffer, and so does which of two faults is
  // reported.
  if (compressed)
    holds(whole.refusal.empty() == pieces.refusal.empty(), "'{}' but '{}' in pieces", whole.refusal, pieces.refusal);
  else
    holds(whole.refusal == pieces.refusal, "'{}' but '{}' in pieces", whole.refusal, pieces.refusal);
  if (whole.refusal.empty())
    holds(whole.documents == pieces.documents, "{} documents, {} in pieces, or others", whole.documents.size(),
          pieces.documents.size());
  holds(whole.refusal.find('\n') == std::string::npos, "{}", whole.refusal);
  return 0;
}
