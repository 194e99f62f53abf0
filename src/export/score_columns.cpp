#include "src/export/score_columns.hpp"

#include <fmt/format.h>

#include <utility>

namespace causeway {
namespace {

using Kind = hdf5::ElementType::Kind;

}  // namespace

bool NumberColumns::fits(const hdf5::Dataset& dataset, std::int64_t rows) {
  const hdf5::ElementType type = dataset.type();
  const std::vector<std::int64_t> shape = dataset.shape();
  return (type.kind == Kind::floating || type.kind == Kind::integer) && (shape.size() == 1 || shape.size() == 2) &&
         shape[0] == rows && (shape.size() == 1 || (shape[1] >= 1 && shape[1] <= most_columns));
}

NumberColumns::NumberColumns(hdf5::Dataset dataset, const std::string& name, const std::vector<std::string>& labels)
    : dataset_(std::move(dataset)), type_(dataset_.type()) {
  const std::vector<std::int64_t> shape = dataset_.shape();
  if (shape.size() == 1) names_ = {name};
  for (std::int64_t c = 0; shape.size() == 2 && c < shape[1]; ++c)
    names_.push_back(fmt::format("{}_{}", name, std::ssize(labels) == shape[1] ? labels[c] : fmt::to_string(c)));
}

void NumberColumns::load(std::int64_t begin, std::int64_t count) {
  const auto values = static_cast<std::size_t>(count) * names_.size();
  if (type_.kind == Kind::floating) {
    numbers_.resize(values);
    dataset_.read_rows(begin, std::span(numbers_));
  } else {
    integers_.resize(values);
    dataset_.read_rows(begin, std::span(integers_));
  }
}

void NumberColumns::add_cells(std::int64_t index, std::vector<TableCell>& cells) const {
  const auto first = static_cast<std::size_t>(index) * names_.size();
  for (std::size_t i = first; i < first + names_.size(); ++i) {
    if (type_.kind != Kind::floating)
      cells.emplace_back(integers_[i]);
    else if (type_.bytes > 4)
      cells.emplace_back(numbers_[i]);
    else  // as a float32: a double would be written with more digits
      cells.emplace_back(static_cast<float>(numbers_[i]));
  }
}

}  // namespace causeway
