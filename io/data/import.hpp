#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace causeway {

/// A row of the table of formats.
struct ImportFormat {
  std::string_view name;
  std::string_view endings;  ///< of file names, before ".gz", between blanks: ".fa .fasta"
  std::string_view summary;
};
std::span<const ImportFormat> import_formats();

struct ImportProgress {
  std::string_view file;
  std::int64_t bytes_done = 0, bytes_total = 0;  ///< of the files as they lie on the disk
  std::int64_t documents = 0, tokens = 0;
};

struct ImportOptions {
  std::vector<std::string> files;
  std::string out;
  std::string format = "auto";  ///< of all files; "auto": of each by its name's ending
  std::int64_t vocabulary_size = 512;
  bool uppercase = false;
  std::function<void(const ImportProgress&)> progress;
};

struct ImportReport {
  std::int64_t documents = 0, tokens = 0;
  std::int64_t empty_documents = 0;  ///< of the documents
};

/// Reads the files in their order, in bounded memory, into one dataset. Either all is written or, with Error, nothing:
/// Error(usage) for a wrong option or what is in the files, Error(io) for the disk.
ImportReport import_files(const ImportOptions& options);

}  // namespace causeway
