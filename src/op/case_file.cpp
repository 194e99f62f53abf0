#include "src/op/case_file.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "io/file/sha256.hpp"
#include "src/watch/text.hpp"

namespace causeway {
namespace {

/// How many rows to read at a time, so that the f32 buffer between the file and a bf16 tensor takes about 4 MiB.
std::int64_t rows_at_a_time(std::int64_t row_size) {
  return std::max<std::int64_t>(1, (std::int64_t{1} << 20) / std::max<std::int64_t>(1, row_size));
}

std::string text_of(const hdf5::Value& value) {
  return std::visit(
      [](const auto& held) -> std::string {
        if constexpr (std::is_same_v<std::decay_t<decltype(held)>, std::string>)
          return held;
        else
          return fmt::format("{}", static_cast<double>(held));  // the shortest text that reads back as the same number
      },
      value);
}

bool is_number(const hdf5::Value& value) {
  return std::visit(
      [](const auto& held) {
        if constexpr (std::is_same_v<std::decay_t<decltype(held)>, std::string>)
          return false;
        else
          return std::isfinite(static_cast<double>(held));
      },
      value);
}

/// The expected shape of a dataset: "[T, D] with T = 96 (of /u)".
std::string pattern_text(std::string_view pattern, const std::map<char, std::pair<std::int64_t, std::string>>& sizes) {
  std::vector<std::string> axes, known;
  for (const char letter : pattern) {
    axes.emplace_back(1, letter);
    const auto found = sizes.find(letter);
    if (found != sizes.end())
      known.push_back(fmt::format("{} = {} (of /{})", letter, found->second.first, found->second.second));
  }
  return fmt::format("[{}]{}{}", fmt::join(axes, ", "), known.empty() ? "" : " with ", fmt::join(known, ", "));
}

/// Rows [begin, begin + count) of the file into rows of a host tensor.
void read_rows(const hdf5::Dataset& dataset, std::int64_t begin, TensorView out) {
  if (out.size() == 0) return;
  switch (out.dtype) {
    case DType::f64:
      return dataset.read_rows(begin, out.as<double>());
    case DType::f32:
      return dataset.read_rows(begin, out.as<float>());
    default:
      break;
  }
  const std::int64_t step = rows_at_a_time(out.columns());
  std::vector<float> wide(static_cast<std::size_t>(std::min(step, out.rows()) * out.columns()));
  for (std::int64_t row = 0; row < out.rows(); row += step) {
    const TensorView part = out.slice_rows(row, std::min(step, out.rows() - row));
    const std::span<float> values(wide.data(), static_cast<std::size_t>(part.size()));
    dataset.read_rows(begin + row, values);
    std::ranges::copy(values, part.as<bf16>().begin());
  }
}

}  // namespace

CaseFile::CaseFile(const std::string& path, const OpRow& row, bool with_d_y)
    : path_(path), file_(hdf5::File::open(path, hdf5::Access::read, ExitCode::usage)) {
  known_datasets_ = {"cu_seqlens", "d_y"};
  for (const OpInput& input : row.inputs) known_datasets_.emplace_back(input.name);
  known_attributes_ = {"op"};
  for (const OpAttribute& attribute : row.attributes) known_attributes_.emplace_back(attribute.name);
  if (file_.has_attribute("op")) {
    const std::string found = file_.string_attribute("op");
    require(found == row.name, "{}: attribute op is '{}', expected '{}'", path, found, row.name);
  }
  for (const OpInput& input : row.inputs) {
    const std::string name(input.name);
    if (!file_.exists(name)) {
      require(input.optional, "{}:/{} is missing, expected a dataset {}", path, name,
              pattern_text(input.shape, sizes_));
      continue;
    }
    bind(input, name);
    present_.push_back(input);
  }
  if (with_d_y) {
    require(file_.exists("d_y"), "{}:/d_y is missing, expected a dataset {} for --backward", path,
            pattern_text(row.inputs.front().shape, sizes_));
    bind(row.inputs.front(), "d_y");
  }
  for (const OpInput& input : row.inputs) {
    if (input.instead_of.empty()) continue;
    const std::string name(input.name), other(input.instead_of);
    require(file_.exists(name) || file_.exists(other), "{}:/{} is missing, expected a dataset {} or /{}", path, name,
            pattern_text(input.shape, sizes_), other);
    require(!file_.exists(name) || !file_.exists(other), "{}: has /{} and /{}, expected one of both", path, name,
            other);
  }
  for (const auto& [axis, times, of] : row.multiples)
    require(sizes_.at(axis).first == times * sizes_.at(of).first, "{}:/{} has {}={}, expected {} times {}={}", path,
            sizes_.at(axis).second, axis, sizes_.at(axis).first, times, of, sizes_.at(of).first);
  for (const auto& [groups, channels] : row.divides) {
    if (!sizes_.contains(groups)) continue;  // of an input that the case does not have
    require(sizes_.at(channels).first % sizes_.at(groups).first == 0, "{}:/{} has {}={}, expected a divisor of {}={}",
            path, sizes_.at(groups).second, groups, sizes_.at(groups).first, channels, sizes_.at(channels).first);
  }
  tokens_ = sizes_.at('T').first;
  read_attributes(row);
  read_segments();
  if (row.check != nullptr) row.check(*this);
}

void CaseFile::bind(const OpInput& input, const std::string& name) {
  require(file_.is_dataset(name), "{}:/{} is a group, expected a dataset {}", path_, name,
          pattern_text(input.shape, sizes_));
  const hdf5::Dataset dataset = file_.dataset(name);
  const hdf5::ElementType type = dataset.type();
  require(type == hdf5::f64 || type == hdf5::f32, "{}:/{} holds {}, expected f64 or f32", path_, name,
          type.to_string());
  const std::vector<std::int64_t> shape = dataset.shape();
  const auto fits = [&] {
    if (shape.size() != input.shape.size()) return false;
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
      const auto known = sizes_.find(input.shape[axis]);
      if (known != sizes_.end() && known->second.first != shape[axis]) return false;
    }
    return true;
  };
  require(fits(), "{}:/{} has shape [{}], expected {}", path_, name, fmt::join(shape, ", "),
          pattern_text(input.shape, sizes_));
  std::int64_t bytes = 8;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    const char letter = input.shape[axis];
    require(shape[axis] > 0 || letter == 'T', "{}:/{} has shape [{}], expected {} of at least 1", path_, name,
            fmt::join(shape, ", "), letter);
    require(!__builtin_mul_overflow(bytes, std::max<std::int64_t>(shape[axis], 1), &bytes),
            "{}:/{} has shape [{}], more bytes than 64 bits count", path_, name, fmt::join(shape, ", "));
    sizes_.try_emplace(letter, shape[axis], name);
  }
}

void CaseFile::read_attributes(const OpRow& row) {
  for (const OpAttribute& attribute : row.attributes) {
    const std::string name(attribute.name);
    const std::string expected =
        attribute.choices.empty() ? "a number" : fmt::format("{}", fmt::join(attribute.choices, " or "));
    if (!attribute.otherwise.empty() && !file_.has_attribute(name)) {
      attributes_[name] = attribute.otherwise;
      continue;
    }
    require(file_.has_attribute(name), "{}: attribute {} is missing, expected {}", path_, name, expected);
    const hdf5::Value value = file_.attribute(name);
    const std::string found = text_of(value);
    require(attribute.choices.empty() ? is_number(value)
                                      : std::ranges::find(attribute.choices, found) != attribute.choices.end(),
            "{}: attribute {} is '{}', expected {}", path_, name, found, expected);
    attributes_[name] = found;
  }
}

void CaseFile::read_segments() {
  const std::string name = "cu_seqlens", where = path_ + ":/cu_seqlens";
  if (!file_.exists(name)) {
    segments_ = Segments::one_document(tokens_);
    return;
  }
  require(file_.is_dataset(name), "{} is a group, expected a dataset of i64", where);
  const hdf5::Dataset dataset = file_.dataset(name);
  require(dataset.type() == hdf5::i64, "{} holds {}, expected i64", where, dataset.type().to_string());
  require(dataset.shape().size() == 1 && dataset.rows() >= 1,
          "{} has shape [{}], expected one axis with one entry more than documents", where,
          fmt::join(dataset.shape(), ", "));
  // A document that is not empty has a token. The limit bounds the memory for empty documents that a file can claim.
  segments_ = Segments(dataset.read_all<std::int64_t>(2 * std::min<std::int64_t>(tokens_, std::int64_t{1} << 40) +
                                                      (std::int64_t{1} << 20)),
                       where);
  require(segments_.tokens() == tokens_, "{} ends at {}, expected {} (the rows of /{})", where, segments_.tokens(),
          tokens_, sizes_.at('T').second);
}

Shape CaseFile::shape_of(const OpInput& input) const {
  const auto size = [&](std::size_t axis) { return sizes_.at(input.shape[axis]).first; };
  switch (input.shape.size()) {
    case 1:
      return {size(0)};
    case 2:
      return {size(0), size(1)};
    default:
      return {size(0), size(1), size(2)};
  }
}

std::string CaseFile::sizes() const {
  std::vector<std::string> texts;
  for (const auto& [letter, size] : sizes_) texts.push_back(fmt::format("{}={}", letter, size.first));
  return fmt::format("{}", fmt::join(texts, " "));
}

std::string CaseFile::outline() const {
  Sha256 starts;
  starts.add(segments_.cu_seqlens().data(), segments_.cu_seqlens().size_bytes());
  std::string names;
  for (const OpInput& input : present_) names += fmt::format(" {}", input.name);
  for (const auto& [name, value] : attributes_) names += fmt::format(" {}={}", name, value);
  return fmt::format("{},{}, {} documents (cu_seqlens with SHA-256 {})", sizes(), names, segments_.count(),
                     starts.hexadecimal().substr(0, 16));
}

std::string CaseFile::ignored() const {
  constexpr std::size_t most_named = 8, longest_name = 64;
  std::string text;
  std::size_t count = 0;
  const auto add = [&](std::string_view kind, const std::vector<std::string>& known, const std::string& name) {
    if (std::ranges::find(known, name) != known.end()) return;
    if (++count <= most_named)
      text += fmt::format("{}{} {}{}", text.empty() ? "" : ", ", kind, printable(name.substr(0, longest_name), true),
                          name.size() > longest_name ? "…" : "");
  };
  const auto is_group = [&](const std::string& name) {
    try {
      return !file_.is_dataset(name);
    } catch (const Error&) {  // it is damaged, or a link that leads nowhere: not read, so named
      return false;
    }
  };
  for (const std::string& name : file_.list())
    if (!is_group(name)) add("dataset", known_datasets_, name);
  for (const std::string& name : file_.attribute_names()) add("attribute", known_attributes_, name);
  if (count > most_named) text += fmt::format(" and {} more", count - most_named);
  return text;
}

Tensor CaseFile::read(const OpInput& input, std::string_view name, DType dtype, const Sharding& sharding,
                      const Stream& stream) const {
  const hdf5::Dataset dataset = file_.dataset(name);
  const Shape shape = shape_of(input);
  Tensor tensor(stream.host(), dtype, input.per_token() ? shape.with_rows(sharding.local_tokens()) : shape);
  if (input.per_token())
    for (const Chunk& chunk : sharding.chunks())
      read_rows(dataset, chunk.tokens.begin, tensor.view().slice_rows(chunk.first_row, chunk.tokens.size()));
  else
    read_rows(dataset, 0, tensor.view());
  if (stream.device() == Device::cpu) return tensor;
  Tensor copy(stream, dtype, tensor.view().shape);
  stream.copy(copy.view().data, tensor.view().data, tensor.view().bytes());
  stream.wait();  // `tensor` must live until the copy is done
  return copy;
}

}  // namespace causeway
