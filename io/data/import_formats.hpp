#pragma once

#include <span>
#include <string>

#include "io/data/import.hpp"
#include "io/data/readers/array_format.hpp"

namespace causeway {

/// A row of the table of formats: either `lines` or `arrays` is set.
struct FormatRow {
  ImportFormat description;
  LineFormat lines = nullptr;
  const ArrayFormat* arrays = nullptr;
  bool ids = false;  ///< its tokens are ids of any vocabulary, not bytes
};

/// The format of a file: `asked`, or with "auto" that of the ending of its name. Throws Error(usage).
const FormatRow& format_of(const std::string& file, const std::string& asked);

}  // namespace causeway
