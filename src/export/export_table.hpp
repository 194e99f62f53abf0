#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "io/results/table_file.hpp"

namespace causeway {

/// What a table is made from.
struct ExportRequest {
  std::string source;   ///< a file, or the directory of a run
  bool tokens = false;  ///< of scores: a row for each token, not for each document
  std::function<void(std::int64_t done, std::int64_t rows)> progress = {};
};

/// A kind of file that can be exported: a row of the table in export_table.cpp.
struct ExportKind {
  std::string_view name;  ///< "scores"
  std::string_view what;  ///< "a file of causeway score"
  std::string_view row;   ///< what has a row: "document"
  bool by_token = false;  ///< --tokens has a meaning
  void (*write)(const ExportRequest& request, TableFile& table) = nullptr;
};
std::span<const ExportKind> export_kinds();

/// The kind of a file or directory, by its content. Throws Error(usage) that lists the kinds for any other.
const ExportKind& export_kind_of(const std::string& source);

}  // namespace causeway
