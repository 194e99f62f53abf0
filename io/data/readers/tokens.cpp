#include <limits>

#include "io/data/readers/reader.hpp"

namespace causeway {
namespace {

class TokenLines {
 public:
  TokenLines(LineReader& lines, DocumentSink& out) : lines_(lines), out_(out) {}

  void read() {
    bool lost = false;  // after a fault, until the next line
    while (const auto part = lines_.next()) {
      if (part->first) {
        begun_ = lost = false;
        value_ = -1;
      }
      if (!lost) lost = !out_.accepts([&] { read_part(*part); });
      if (part->last) out_.end();
    }
    out_.require_vocabulary();
  }

 private:
  void read_part(const LinePart& part) {
    constexpr std::int64_t largest = std::numeric_limits<std::int64_t>::max() / 10 - 1;
    tokens_.clear();
    for (const char byte : part.text) {
      if (byte == ' ' || byte == '\t')
        end_number();
      else if (byte >= '0' && byte <= '9')
        value_ = value_ > largest ? value_ : std::max<std::int64_t>(value_, 0) * 10 + (byte - '0');
      else
        lines_.refuse("found {}, expected token ids between blanks", shown(byte));
    }
    if (part.last) end_number();
    if (tokens_.empty()) return;
    if (!begun_) out_.begin(fmt::format("{}:{}", lines_.file_name(), lines_.line()));
    begun_ = true;
    out_.append(tokens_);
  }

  void end_number() {
    if (value_ < 0) return;
    const std::int64_t id = value_;
    value_ = -1;
    const bool fits = out_.fits(id, [&] { return fmt::format("{}:{}", lines_.path(), lines_.line()); });
    tokens_.push_back(fits ? static_cast<std::int32_t>(id) : 0);
  }

  LineReader& lines_;
  DocumentSink& out_;
  std::vector<std::int32_t> tokens_;  // of this part of the line
  std::int64_t value_ = -1;           // of the current number, which may continue in the next part; -1: none
  bool begun_ = false;
};

}  // namespace

void read_tokens(LineReader& lines, const ReaderOptions&, DocumentSink& out) { TokenLines(lines, out).read(); }

}  // namespace causeway
