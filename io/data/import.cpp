#include "io/data/import.hpp"

#include <algorithm>
#include <filesystem>

#include "io/data/dataset.hpp"
#include "io/data/dataset_writer.hpp"
#include "io/data/import_formats.hpp"
#include "io/file/atomic_file.hpp"
#include "io/file/compression/compressed_file.hpp"
#include "io/file/look_up.hpp"

namespace causeway {
namespace {

struct Input {
  std::string path;  ///< as it was given
  const FormatRow* format;
  std::vector<std::string> files;  ///< that are read, the first one as progress; none for standard input
  LabelLists lists;                ///< that they give
  std::int64_t bytes = 0;

  std::string shown() const { return path == standard_input ? "standard input" : path; }
};

const FormatRow& checked_format(const std::string& path, const ImportOptions& options) {
  const FormatRow& format = format_of(path, options.format);
  require(format.ids || options.vocabulary_size >= 256,
          "vocabulary is {}, expected at least 256 for a format whose tokens are bytes", options.vocabulary_size);
  return format;
}

Input check_input(const std::string& path, const ImportOptions& options) {
  if (path == standard_input) {
    require(std::ranges::count(options.files, path) == 1, "-: standard input is given twice");
    require(options.format != "auto", "-: standard input has no name that tells its format, expected --format");
    const FormatRow& format = checked_format(path, options);
    require(format.lines != nullptr, "-: the format {} is read at any offset, expected the name of a file",
            format.description.name);
    return {path, &format};
  }
  Input input{path, &checked_format(path, options)};
  if (input.format->lines != nullptr) {
    require_file(path);
    input.files = {path};
  } else {
    ArrayFiles found = input.format->arrays->find(path);
    input.files = std::move(found.paths);
    input.lists = {found.loss_mask, found.loss_weights};
  }
  for (const std::string& file : input.files)
    require(!same_file(file, options.out), "{}: is input and output, expected another name for the dataset", file);
  std::error_code ignored;
  if (kind_of(input.files[0]) == std::filesystem::file_type::regular)
    input.bytes = static_cast<std::int64_t>(std::filesystem::file_size(input.files[0], ignored));
  return input;
}

/// A pattern of the shell finds both files of a pair.
void require_each_pair_once(std::span<const Input> inputs) {
  for (const Input& input : inputs)
    for (const Input& other : inputs)
      require(&input == &other || input.format->arrays == nullptr || input.path == other.path ||
                  other.format != input.format || input.files != other.files,
              "{} and {} are one dataset, expected only one of them", input.path, other.path);
}

std::vector<Input> check_inputs(const ImportOptions& options) {
  require(!options.files.empty(), "--files is missing: expected at least one file to read");
  require(!options.out.empty(), "--out is missing: expected the dataset to write");
  require_transform(options.transform, options.vocabulary_size);
  std::vector<Input> inputs;
  inputs.reserve(options.files.size());
  for (const std::string& path : options.files) inputs.push_back(check_input(path, options));
  require_each_pair_once(inputs);
  check_target(options.out, options.existing());
  return inputs;
}

/// The lists of the dataset: weights that all are 0 or 1 because the files give a mask are stored as a mask.
LabelLists lists_of(std::span<const Input> inputs, const TransformOptions& transform) {
  LabelLists lists{.loss_weights = transform.makes_weights()};
  for (const Input& input : inputs) {
    lists.loss_mask = lists.loss_mask || input.lists.loss_mask;
    lists.loss_weights = lists.loss_weights || input.lists.loss_weights;
  }
  if (lists.loss_weights) lists.loss_mask = false;
  return lists;
}

/// The dataset's attribute `source`: the names of the first files.
std::string source_of(std::span<const Input> inputs) {
  constexpr std::size_t shown_files = 16;
  std::string source;
  for (const Input& input : inputs.first(std::min(inputs.size(), shown_files)))
    source += fmt::format("{}{}", source.empty() ? "" : " ", input.path);
  if (inputs.size() > shown_files) source += fmt::format(" and {} more", inputs.size() - shown_files);
  return source;
}

std::string warning_about(const std::string& path, const DocumentSink::ChangedNames& changed) {
  std::string text = path + ": ";
  if (changed.latin1 > 0) text += fmt::format("names that are not UTF-8, taken as Latin-1: {}", changed.latin1);
  if (changed.nul > 0)
    text += fmt::format("{}names with a NUL, stored as '?': {}", changed.latin1 > 0 ? "; " : "", changed.nul);
  return text + fmt::format("; the first is '{}'", changed.first);
}

}  // namespace

ImportReport import_files(const ImportOptions& options) {
  const std::vector<Input> inputs = check_inputs(options);
  std::int64_t bytes_total = 0, bytes_before = 0;
  for (const Input& input : inputs) bytes_total += input.bytes;

  const LabelLists lists = lists_of(inputs, options.transform);
  DatasetWriter dataset(options.out, options.vocabulary_size, source_of(inputs), lists, options.existing());
  DocumentTransform transform(
      {.options = options.transform, .lists = lists, .may_drop = options.skip_bad, .beside = options.out}, dataset);
  DocumentSink sink;
  sink.begin_document = [&](const std::string& name) { transform.begin(name); };
  sink.append_tokens = [&](auto tokens, auto weights) { transform.append(tokens, weights); };
  sink.end_document = [&] { transform.end(); };
  sink.drop_document = [&] { transform.drop(); };
  sink.vocabulary_size = options.vocabulary_size;
  sink.skip_bad = options.skip_bad;
  std::vector<std::string> warnings;
  for (const Input& input : inputs) {
    const auto progress = [&](std::int64_t done) {
      if (options.progress)
        options.progress({input.path, bytes_before + done, bytes_total, dataset.documents(), dataset.tokens()});
    };
    sink.changed_names = {};
    if (input.format->lines != nullptr) {
      LineReader lines(input.path, progress);
      input.format->lines(lines, options.reader, sink);
    } else {
      input.format->arrays->read(input.path, sink, progress);
    }
    if (sink.changed_names.count() > 0) warnings.push_back(warning_about(input.shown(), sink.changed_names));
    bytes_before += input.bytes;
  }
  require(dataset.tokens() > 0, "{}: found {} documents and no token, expected at least one token", source_of(inputs),
          dataset.documents());
  dataset.finish();
  return {.documents = dataset.documents(),
          .tokens = dataset.tokens(),
          .empty_documents = transform.empty_documents(),
          .warnings = std::move(warnings),
          .passed_over = sink.passed_over};
}

}  // namespace causeway
