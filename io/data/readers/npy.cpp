#include <filesystem>
#include <optional>

#include "io/data/readers/array_format.hpp"
#include "io/data/readers/npy_array.hpp"
#include "io/file/look_up.hpp"
#include "kernels/core/error.hpp"

namespace causeway {
namespace {

constexpr std::string_view ending = ".npy", boundaries_ending = ".cu_seqlens.npy", mask_ending = ".loss_mask.npy";

/// The file beside NAME.npy.
std::string beside(const std::string& path, std::string_view other_ending) {
  const std::size_t kept = path.size() - (path.ends_with(ending) ? ending.size() : 0);
  return path.substr(0, kept) + std::string(other_ending);
}

ArrayFiles find(const std::string& path) {
  require_file(path);
  for (const std::string_view other : {boundaries_ending, mask_ending}) {
    const std::string tokens = path.ends_with(other) ? path.substr(0, path.size() - other.size()) + ".npy" : "";
    require(tokens.empty() || !is_there(tokens), "{}: belongs to {}; give only that, which reads this file too", path,
            tokens);
  }
  ArrayFiles files{.paths = {path}};
  if (const std::string boundaries = beside(path, boundaries_ending); is_there(boundaries))
    files.paths.push_back(boundaries);
  if (const std::string mask = beside(path, mask_ending); is_there(mask)) {
    files.paths.push_back(mask);
    const ByteSource file(mask);
    const bool fractions = read_npy_header(file).type().kind == NumberType::Kind::floating;
    (fractions ? files.loss_weights : files.loss_mask) = true;
  }
  return files;
}

/// An array of a file beside, and the file.
struct Beside {
  ByteSource file;
  NumberArray array;

  explicit Beside(const std::string& path) : file(path), array(read_npy_header(file)) {}
};

void read(const std::string& path, DocumentSink& out, const std::function<void(std::int64_t)>& progress) {
  const ByteSource file(path);
  const NumberArray tokens = read_npy_header(file);
  require(tokens.type().is_integer(), "{}: holds {}, expected token ids, integers", path, tokens.type().to_string());
  std::optional<Beside> boundaries, mask;
  if (const std::string other = beside(path, boundaries_ending); is_there(other)) {
    boundaries.emplace(other);
    require(boundaries->array.type().is_integer(), "{}: holds {}, expected integers", other,
            boundaries->array.type().to_string());
    require_boundaries(boundaries->array, tokens.size());
  }
  if (const std::string other = beside(path, mask_ending); is_there(other)) {
    mask.emplace(other);
    require(mask->array.size() == tokens.size(), "{}: has {} elements, expected {} as {} has", other,
            mask->array.size(), tokens.size(), path);
  }
  const std::string shown = std::filesystem::path(path).filename().string();
  const std::int64_t documents = boundaries ? boundaries->array.size() - 1 : 1;
  std::int64_t done = 0;
  for (std::int64_t document = 0; document < documents; ++document) {
    out.begin(boundaries ? fmt::format("{}:{}", shown, document) : shown);
    const std::int64_t begin = boundaries ? boundaries->array.at(document) : 0,
                       end = boundaries ? boundaries->array.at(document + 1) : tokens.size();
    out.accepts([&] {
      append_ids(tokens, {.begin = begin, .count = end - begin, .document = document}, mask ? &mask->array : nullptr,
                 out, [&](std::int64_t count) { progress((done += count) * tokens.type().bytes); });
    });
    out.end();
  }
  progress(file.size());
  out.require_vocabulary();
}

}  // namespace

const ArrayFormat npy_format = {find, read};

}  // namespace causeway
