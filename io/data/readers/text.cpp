#include "io/data/readers/reader.hpp"

namespace causeway {

void read_text(LineReader& lines, const ReaderOptions&, DocumentSink& out) {
  out.begin(lines.file_name());
  for (std::string_view bytes = lines.next_bytes(); !bytes.empty(); bytes = lines.next_bytes()) out.append_bytes(bytes);
  out.end();
}

}  // namespace causeway
