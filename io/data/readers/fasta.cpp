#include "io/data/readers/reader.hpp"

namespace causeway {

void read_fasta(LineReader& lines, DocumentSink& out) {
  bool in_header = false, in_record = false;
  FirstWord name;
  while (const auto part = lines.next()) {
    std::string_view text = part->text;
    if (part->first) {
      in_header = text.starts_with('>');
      if (in_header) {
        text.remove_prefix(1);
        name.clear();
      }
    }
    if (in_header) {
      name.add(text, lines);
      if (part->last) out.begin(name.get());
      in_record = true;
      continue;
    }
    if (!in_record) {
      const std::size_t found = text.find_first_not_of(" \t");
      if (found == text.npos) continue;
      lines.refuse("found {}, expected '>' and a name, at the start of a line, before the first sequence",
                   shown(text[found]));
    }
    append_sequence(text, lines, out);
  }
}

}  // namespace causeway
