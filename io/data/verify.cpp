#include <algorithm>
#include <cmath>
#include <set>

#include "io/data/dataset.hpp"
#include "io/data/name_reader.hpp"
#include "io/file/utf8.hpp"
#include "io/hdf5/hdf5.hpp"
#include "kernels/core/error.hpp"

namespace causeway {
namespace {

constexpr std::int64_t values_at_once = 65536;

/// Reads everything in an HDF5 file that this program can read, known or not, but not the values of `read_before`.
class FileReader {
 public:
  FileReader(const hdf5::File& file, std::set<std::string> read_before)
      : file_(file), read_before_(std::move(read_before)) {
    read_attributes(file);
    read_group("");
  }
  /// A line for each object that could not be read, with the reason.
  const std::vector<std::string>& not_read() const { return not_read_; }

 private:
  /// Damage is an error. What is only of another form than this program reads is noted.
  template <class Work>
  void note_refusals(Work&& work) {
    try {
      work();
    } catch (const Error& error) {
      if (error.code() != ExitCode::usage) throw;
      not_read_.push_back(fmt::format("not checked: {}", error.what()));
    }
  }

  void read_attributes(const hdf5::Object& object) {
    for (const std::string& name : object.attribute_names()) note_refusals([&] { object.attribute(name); });
  }

  void read_group(const std::string& path) {
    constexpr std::ptrdiff_t deepest = 32;
    require(std::ranges::count(path, '/') < deepest, "{}:{}: is in more than {} groups", file_.path(), path, deepest);
    for (const std::string& name : file_.list(path.empty() ? "/" : path))
      note_refusals([&] { read_object(path + "/" + name); });
  }

  void read_object(const std::string& path) {
    if (!seen_.insert(file_.address(path)).second) return;  // a group may contain itself
    if (file_.is_dataset(path)) {
      const hdf5::Dataset dataset = file_.dataset(path);
      read_attributes(dataset);
      if (!read_before_.contains(path)) read_values(dataset);
    } else {
      read_attributes(file_.group(path));
      read_group(path);
    }
  }

  void read_values(const hdf5::Dataset& dataset) {
    using Kind = hdf5::ElementType::Kind;
    const hdf5::ElementType type = dataset.type();
    const std::int64_t rows = dataset.rows(), row = dataset.row_size();
    if (rows == 0 || row == 0) return;
    if (type.kind == Kind::string) {
      for (std::int64_t begin = 0; begin < rows; begin += values_at_once)
        dataset.read_strings(begin, std::min(values_at_once, rows - begin));
      return;
    }
    require(type.kind != Kind::other, "{}: holds values that are neither numbers nor strings", dataset.where());
    constexpr std::int64_t longest_row = std::int64_t{1} << 24;
    require(row <= longest_row, "{}: has rows of {} values, expected at most {}", dataset.where(), row, longest_row);
    const std::int64_t at_once = std::max<std::int64_t>(1, values_at_once / row);
    std::vector<double> values;
    for (std::int64_t begin = 0; begin < rows; begin += at_once) {
      values.resize(static_cast<std::size_t>(std::min(at_once, rows - begin) * row));
      dataset.read_rows(begin, std::span(values));
    }
  }

  const hdf5::File& file_;
  std::set<std::string> read_before_;
  std::set<std::uint64_t> seen_;
  std::vector<std::string> not_read_;
};

/// Throws Error(corrupt) if an attribute of the root says something else than the documents.
void check_attributes(const hdf5::File& file, const Dataset& data) {
  const auto cu_seqlens = data.cu_seqlens();
  std::int64_t shortest = 0, longest = 0;
  for (std::int64_t d = 0; d < data.documents(); ++d) {
    const std::int64_t length = cu_seqlens[static_cast<std::size_t>(d) + 1] - cu_seqlens[static_cast<std::size_t>(d)];
    shortest = d == 0 ? length : std::min(shortest, length);
    longest = std::max(longest, length);
  }
  const double mean =
      data.documents() == 0 ? 0 : static_cast<double>(data.tokens()) / static_cast<double>(data.documents());
  const std::pair<const char*, std::int64_t> counts[] = {
      {"documents", data.documents()}, {"tokens", data.tokens()}, {"min_length", shortest}, {"max_length", longest}};
  for (const auto& [name, expected] : counts)
    if (file.has_attribute(name) && file.integer_attribute(name) != expected)
      fail(ExitCode::corrupt, "{}: attribute {} is {}, expected {} as the documents in /cu_seqlens have it",
           file.path(), name, file.integer_attribute(name), expected);
  constexpr double rounding = 1e-6;
  if (file.has_attribute("mean_length") &&
      !(std::abs(file.number_attribute("mean_length") - mean) <= rounding * (1 + mean)))
    fail(ExitCode::corrupt, "{}: attribute mean_length is {}, expected {}", file.path(),
         file.number_attribute("mean_length"), mean);
}

/// Throws Error(corrupt) if the histogram counts other lengths than the documents have.
void check_histogram(const hdf5::File& file, const Dataset& data) {
  constexpr std::int64_t most_bins = 65;
  const char* const name = "statistics/length_histogram";
  if (!file.exists(name)) return;
  const hdf5::Dataset dataset = file.dataset(name);
  std::vector<std::int64_t> found = dataset.read_all<std::int64_t>(most_bins), expected(most_bins, 0);
  found.resize(most_bins, 0);
  const auto cu_seqlens = data.cu_seqlens();
  for (std::size_t d = 0; d + 1 < cu_seqlens.size(); ++d) ++expected[histogram_bin(cu_seqlens[d + 1] - cu_seqlens[d])];
  const auto [wrong, right] = std::ranges::mismatch(found, expected);
  if (wrong != found.end())
    fail(ExitCode::corrupt, "{}: bin {} is {}, expected {} as the documents in /cu_seqlens have it", dataset.where(),
         wrong - found.begin(), *wrong, *right);
}

}  // namespace

std::vector<std::string> Dataset::verify(const std::function<void(std::int64_t)>& read) const {
  std::vector<std::int32_t> values(static_cast<std::size_t>(std::min(tokens(), values_at_once)));
  std::vector<std::uint8_t> mask(has_loss_mask() ? values.size() : 0);
  std::vector<float> weights(has_loss_weights() ? values.size() : 0);
  for (std::int64_t begin = 0; begin < tokens(); begin += values_at_once) {
    const auto count = static_cast<std::size_t>(std::min(values_at_once, tokens() - begin));
    read_tokens(begin, std::span(values).first(count));
    if (has_loss_mask()) read_loss_mask(begin, std::span(mask).first(count));
    if (has_loss_weights()) read_loss_weights(begin, std::span(weights).first(count));
    if (read) read(begin + static_cast<std::int64_t>(count));
  }
  NameReader names(*this);
  std::int64_t not_utf8 = 0;
  for (std::int64_t d = 0; d < documents(); ++d) not_utf8 += is_utf8(names.next()) ? 0 : 1;
  const auto file = hdf5::File::open(path(), hdf5::Access::read);
  check_attributes(file, *this);
  check_histogram(file, *this);
  std::vector<std::string> notes =
      FileReader(file, {"/tokens", "/cu_seqlens", "/names", "/loss_mask", "/loss_weight"}).not_read();
  if (not_utf8 > 0)
    notes.push_back(
        fmt::format("{}:/names: {} of {} strings are not UTF-8, which h5py refuses; causeway split and "
                    "import store them as UTF-8",
                    path(), not_utf8, documents()));
  return notes;
}

}  // namespace causeway
