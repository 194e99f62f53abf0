#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/data/document_transform.hpp"
#include "io/data/readers/reader.hpp"
#include "io/file/atomic_file.hpp"

namespace causeway {

/// A file format of `causeway import`.
struct ImportFormat {
  std::string_view name;
  /// Endings of file names, without that of a compression, separated by blanks: ".fa .fasta".
  std::string_view endings;
  std::string_view summary;
};
std::span<const ImportFormat> import_formats();

struct ImportProgress {
  std::string_view file;
  std::int64_t bytes_done = 0, bytes_total = 0;  ///< of the files on disk
  std::int64_t documents = 0, tokens = 0;
};

struct ImportOptions {
  std::vector<std::string> files;
  std::string out;
  bool force = false;           ///< replaces `out` if it exists
  std::string format = "auto";  ///< of all files; "auto": for each file by the ending of its name
  std::int64_t vocabulary_size = 512;
  TransformOptions transform;
  ReaderOptions reader;
  bool skip_bad = false;  ///< wrong records are passed over and counted
  std::function<void(const ImportProgress&)> progress;

  Existing existing() const { return force ? Existing::replaced : Existing::refused; }
};

struct ImportReport {
  std::int64_t documents = 0, tokens = 0;
  std::int64_t empty_documents = 0;   ///< counted in documents too
  std::vector<std::string> warnings;  ///< at most one for each file: about names that could not be stored as they are
  PassedOver passed_over;             ///< with skip_bad
};

/// Reads the files in order, in bounded memory, into one dataset. Writes the whole dataset, or throws and writes
/// nothing: Error(usage) for a wrong option or wrong content of a file, Error(io) for the disk. An existing output is
/// refused before anything is read. Damaged compression and a damaged index are errors with skip_bad too.
ImportReport import_files(const ImportOptions& options);

}  // namespace causeway
