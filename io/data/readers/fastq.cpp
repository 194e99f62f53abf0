#include <algorithm>

#include "io/data/readers/reader.hpp"

namespace causeway {

void read_fastq(LineReader& lines, DocumentSink& out) {
  enum class Line : std::uint8_t { name, sequence, plus, quality };
  Line expected = Line::name;
  FirstWord name;
  std::int64_t bases = 0, qualities = 0;
  while (const auto part = lines.next()) {
    std::string_view text = part->text;
    switch (expected) {
      case Line::name:
        if (part->first) {
          if (part->last && text.find_first_not_of(" \t") == text.npos) continue;
          if (!text.starts_with('@')) lines.refuse("found {}, expected '@' and a name", shown(text.front()));
          text.remove_prefix(1);
          name.clear();
        }
        name.add(text, lines);
        if (part->last) {
          out.begin(name.get());
          bases = qualities = 0;
        }
        break;
      case Line::sequence:
        bases += append_sequence(text, lines, out);
        break;
      case Line::plus:
        if (part->first && !text.starts_with('+'))
          lines.refuse("found {}, expected '+': a record of '{}' has four lines, its sequence one of them",
                       text.empty() ? "an empty line" : shown(text.front()), name.get());
        break;
      case Line::quality: {
        const auto bad = std::find_if(text.begin(), text.end(), [](char byte) { return byte < '!' || byte > '~'; });
        if (bad != text.end()) lines.refuse("found {} among the qualities, expected '!' to '~'", shown(*bad));
        qualities += static_cast<std::int64_t>(text.size());
        if (part->last && qualities != bases)
          lines.refuse("found {} qualities of record '{}', expected {} as its sequence has letters", qualities,
                       name.get(), bases);
        break;
      }
    }
    if (part->last)
      expected = expected == Line::quality ? Line::name : static_cast<Line>(static_cast<int>(expected) + 1);
  }
  // At the end of the file an empty record may lack its quality line, which is empty too.
  const bool complete = expected == Line::name || (expected == Line::quality && bases == 0);
  if (!complete) lines.refuse("found the end of the file within record '{}', expected four lines", name.get());
}

}  // namespace causeway
