#include <algorithm>

#include "io/data/readers/reader.hpp"

namespace causeway {
namespace {

class Fastq {
 public:
  Fastq(LineReader& lines, DocumentSink& out) : lines_(lines), out_(out) {}

  void read() {
    while (const auto part = lines_.next()) {
      if (part->first && part->text.starts_with('@')) lost_ = false;
      if (!lost_ && !out_.accepts([&] { read_part(*part); }, counts())) recover(*part);
    }
    if (!lost_ && expected_ != Line::name)
      out_.accepts(
          [&] {
            lines_.refuse("found the end of the file within record '{}', expected a sequence, '+' and qualities",
                          name_.get());
          },
          counts());
    out_.end();
  }

 private:
  enum class Line : std::uint8_t { name, sequence, plus, quality };

  /// Whether a fault is one of its own, and does not follow from the one before.
  bool counts() const { return !doubtful_ && !broken_; }

  void read_part(const LinePart& part) {
    switch (expected_) {
      case Line::name:
        return read_name(part);
      case Line::sequence:
        return read_sequence(part);
      case Line::plus:
        return end_plus(part);
      case Line::quality:
        return read_qualities(part);
    }
  }

  void read_name(const LinePart& part) {
    std::string_view text = part.text;
    if (part.first) {
      if (part.last && text.find_first_not_of(" \t") == text.npos) return;
      if (!text.starts_with('@')) lines_.refuse("found {}, expected '@' and a name", shown(text.front()));
      text.remove_prefix(1);
      name_.clear();
      bases_ = qualities_ = sequence_lines_ = 0;
      broken_ = false;
    }
    name_.add(text, lines_);
    if (!part.last) return;
    out_.begin(name_.get());
    expected_ = Line::sequence;
  }

  void read_sequence(const LinePart& part) {
    if (part.first && part.text.starts_with('+')) {
      expected_ = Line::plus;
      return end_plus(part);
    }
    if (part.first && part.text.starts_with('@'))
      lines_.refuse("found '@' within record '{}', expected its sequence, or '+'", name_.get());
    const std::int64_t count = broken_ ? std::ranges::count_if(part.text, [](char c) { return c != ' ' && c != '\t'; })
                                       : append_sequence(part.text, lines_, out_);
    bases_ += count;
    in_line_ = (part.first ? 0 : in_line_) + count;
    if (part.last && in_line_ > 0) ++sequence_lines_;
  }

  void end_plus(const LinePart& part) {
    if (part.last) expected_ = Line::quality;
    if (part.last && bases_ == 0) end_record();  // its line of qualities is blank, or missing
  }

  /// A sequence of one line has its qualities in one line, so that a record that lacks some is found where it ends.
  void read_qualities(const LinePart& part) {
    const std::string_view text = part.text;
    const auto bad = std::ranges::find_if(text, [](char byte) { return byte < '!' || byte > '~'; });
    if (bad != text.end() && !broken_) lines_.refuse("found {} among the qualities, expected '!' to '~'", shown(*bad));
    qualities_ += std::ssize(text);
    if (!part.last || (sequence_lines_ > 1 && qualities_ < bases_)) return;
    if (qualities_ != bases_ && !broken_)
      lines_.refuse("found {} qualities of record '{}', expected {} as its sequence has letters", qualities_,
                    name_.get(), bases_);
    end_record();
  }

  void end_record() {
    out_.end();
    expected_ = Line::name;
    doubtful_ = false;
  }

  /// Looks for the next record after a fault in `part`.
  void recover(const LinePart& part) {
    const Line before = expected_;
    if (before == Line::name) {
      lost_ = true;
    } else if (part.first && part.text.starts_with('@')) {
      // Perhaps the name of the next record: this one was cut off. A line of qualities may also start with '@'; then
      // the next line shows it, and is not counted as another fault.
      expected_ = Line::name;
      doubtful_ = before == Line::quality;
      lost_ = !out_.accepts([&] { read_part(part); }, counts());
    } else {
      broken_ = true;  // its other lines are still those of a record
      read_part(part);
    }
  }

  LineReader& lines_;
  DocumentSink& out_;
  Line expected_ = Line::name;
  FirstWord name_;
  std::int64_t bases_ = 0, qualities_ = 0, sequence_lines_ = 0, in_line_ = 0;
  bool broken_ = false, lost_ = false, doubtful_ = false;
};

}  // namespace

void read_fastq(LineReader& lines, const ReaderOptions&, DocumentSink& out) { Fastq(lines, out).read(); }

}  // namespace causeway
