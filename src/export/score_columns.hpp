#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/hdf5/hdf5.hpp"
#include "io/results/table_file.hpp"

namespace causeway {

/// A dataset of numbers [rows] or [rows, k] as one or k columns of a table, read a block of rows at a time.
class NumberColumns {
 public:
  static constexpr std::int64_t most_columns = 64;

  /// Whether a dataset has this form: numbers, `rows` rows, at most most_columns columns.
  static bool fits(const hdf5::Dataset& dataset, std::int64_t rows);
  /// The columns are called `name`, or "name_LABEL" for each of k labels; without labels "name_0" to "name_(k-1)".
  NumberColumns(hdf5::Dataset dataset, const std::string& name, const std::vector<std::string>& labels = {});

  const std::vector<std::string>& names() const { return names_; }
  /// Reads rows [begin, begin + count).
  void load(std::int64_t begin, std::int64_t count);
  /// Adds the cells of a row to `cells`; `index` counts from the first row that was read.
  void add_cells(std::int64_t index, std::vector<TableCell>& cells) const;
  /// The value of a row of floating-point numbers, of a dataset with one column.
  double value(std::int64_t index) const { return numbers_[static_cast<std::size_t>(index)]; }

 private:
  hdf5::Dataset dataset_;
  hdf5::ElementType type_;
  std::vector<std::string> names_;
  std::vector<double> numbers_;         // of a floating-point dataset
  std::vector<std::int64_t> integers_;  // of any other
};

}  // namespace causeway
