#include "io/data/readers/reader.hpp"

namespace causeway {
namespace {

class Fasta {
 public:
  Fasta(LineReader& lines, DocumentSink& out) : lines_(lines), out_(out) {}

  void read() {
    bool lost = false;  // after a wrong record, until the next one
    while (const auto part = lines_.next()) {
      if (part->first)
        kind_ = part->text.starts_with('>')   ? Line::header
                : part->text.starts_with(';') ? Line::comment
                                              : Line::sequence;
      if (part->first && kind_ == Line::header) lost = false;
      if (kind_ != Line::comment && !lost) lost = !out_.accepts([&] { read_part(*part); });
    }
    out_.end();
  }

 private:
  enum class Line : std::uint8_t { header, comment, sequence };

  void read_part(const LinePart& part) {
    std::string_view text = part.text;
    if (kind_ == Line::sequence) {
      if (in_record_)
        append_sequence(text, lines_, out_);
      else if (const std::size_t found = text.find_first_not_of(" \t"); found != text.npos)
        lines_.refuse("found {}, expected '>' and a name, at the start of a line, before the first sequence",
                      shown(text[found]));
      return;
    }
    if (part.first) {
      out_.end();
      in_record_ = true;
      name_.clear();
      text.remove_prefix(1);
    }
    name_.add(text, lines_);
    if (part.last) out_.begin(name_.get());
  }

  LineReader& lines_;
  DocumentSink& out_;
  Line kind_ = Line::sequence;
  bool in_record_ = false;
  FirstWord name_;
};

}  // namespace

void read_fasta(LineReader& lines, const ReaderOptions&, DocumentSink& out) { Fasta(lines, out).read(); }

}  // namespace causeway
