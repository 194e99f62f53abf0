#include <iterator>

#include "io/data/readers/json_records.hpp"

namespace causeway {
namespace {

/// The bytes of the file, for nlohmann's parser.
class Bytes {
 public:
  Bytes(LineReader& lines, std::int64_t longest) : lines_(lines), longest_(longest) { fill(); }

  bool ended() const { return held_.empty(); }
  char front() const { return held_.front(); }
  void next() {
    require(++since_ <= longest_, "{}: found more than {} bytes in one string, expected fewer, or a larger --max-line",
            lines_.path(), longest_);
    held_.remove_prefix(1);
    if (held_.empty()) fill();
  }
  /// The parser has used what it read, and kept nothing.
  void used() { since_ = 0; }

 private:
  void fill() { held_ = lines_.next_bytes(); }

  LineReader& lines_;
  std::int64_t longest_, since_ = 0;
  std::string_view held_;
};

class Iterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = char;

  explicit Iterator(Bytes* bytes) : bytes_(bytes) {}
  char operator*() const { return bytes_->front(); }
  Iterator& operator++() {
    bytes_->next();
    return *this;
  }
  /// Only compared with the end, Iterator(nullptr).
  bool operator==(const Iterator&) const { return bytes_ == nullptr || bytes_->ended(); }

 private:
  Bytes* bytes_;
};

/// Tells `Bytes` of every value, so that its limit is one of a value and not of the file.
class Counted : public JsonRecords {
 public:
  Counted(Bytes& bytes, const ReaderOptions& options, Found found)
      : JsonRecords(options, Expected::object_or_list, std::move(found)), bytes_(bytes) {}

 private:
  void seen() override { bytes_.used(); }

  Bytes& bytes_;
};

}  // namespace

void read_json(LineReader& lines, const ReaderOptions& options, DocumentSink& out) {
  const auto found = [&](JsonRecord& record) {
    out.accepts([&] {
      if (!record.problem.empty())
        throw RecordError(fmt::format("{}: record {}: {}", lines.path(), record.number, record.problem));
      out.begin(record.name.value_or(fmt::format("{}:{}", lines.file_name(), record.number)), record.name_converted);
      out.append_bytes(record.text);
      out.end();
    });
  };
  Bytes bytes(lines, options.longest_json);
  Counted records(bytes, options, found);
  const bool complete = nlohmann::json::sax_parse(Iterator(&bytes), Iterator(nullptr), &records);
  require(records.problem().empty(), "{}: {}{}", lines.path(), records.problem(),
          records.problem().starts_with("found broken") ? "; one object a line is --format jsonl" : "");
  ensure(complete, "{}: unexplained JSON error", lines.path());
}

}  // namespace causeway
