#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "src/export/export_table.hpp"

namespace causeway {

/// One for each kind. They read in bounded memory and trust no file: a wrong form is Error(usage), damage is
/// Error(corrupt).

/// scores.h5: name, tokens, log_likelihood, per_token (over the tokens - 1 that are scored), perplexity =
/// exp(-per_token); with `tokens`: document, name, position, log_likelihood, empty at a document's first token. Then
/// every other dataset of numbers in /document or /token with a row for each of them. Without others the first is what
/// `score --tsv` writes.
void export_scores(const ExportRequest& request, TableFile& table);

/// metrics.jsonl or its run: a row for each step. Members of all lines are columns.
void export_metrics(const ExportRequest& request, TableFile& table);

/// The JSON object in a file of at most 64 MiB; an empty one for other texts. Throws Error(io), Error(usage).
nlohmann::ordered_json read_report(const std::string& path);
/// The JSON of `bench --json` and `pack --json`: a row for each member of `results`, after the members that all have in
/// common. Without `results` one row.
void export_report(const ExportRequest& request, TableFile& table);

/// A dataset: name, tokens, weight: the sum of its tokens' weights as labels.
void export_dataset(const ExportRequest& request, TableFile& table);

}  // namespace causeway
