#include "io/data/readers/reader.hpp"

namespace causeway {

void read_lines(LineReader& lines, const ReaderOptions&, DocumentSink& out) {
  while (const auto part = lines.next()) {
    if (part->first && !part->text.empty()) out.begin(fmt::format("{}:{}", lines.file_name(), lines.line()));
    out.append_bytes(part->text);
    if (part->last) out.end();
  }
}

}  // namespace causeway
