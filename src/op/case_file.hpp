#pragma once

#include <span>
#include <string>
#include <vector>

#include "io/hdf5/hdf5.hpp"
#include "kernels/core/segments.hpp"
#include "parallel/layout/sharding.hpp"
#include "src/op/table.hpp"

namespace causeway {

/// An operator's tensors in a file, every shape, type and boundary checked against every other before any memory is
/// taken for them. Errors name the dataset, what was found and what was expected.
class CaseFile {
 public:
  CaseFile(const std::string& path, const OpRow& row, bool with_d_y);

  const std::string& path() const { return path_; }
  std::int64_t tokens() const { return tokens_; }
  const Segments& segments() const { return segments_; }
  const OpAttributes& attributes() const { return attributes_; }

  /// The datasets that are there, in the row's order.
  std::span<const OpInput> present() const { return present_; }
  Shape shape_of(const OpInput& input) const;
  /// "T=96 D=8 N=16".
  std::string sizes() const;

  /// This rank's part of a dataset ("d_y" too): its rows where there is one a token, else all of it. Converted to
  /// dtype, in the stream's memory.
  Tensor read(const OpInput& input, std::string_view dataset, DType dtype, const Sharding& sharding,
              const Stream& stream) const;

 private:
  void bind(const OpInput& input, const std::string& dataset);
  void read_attributes(const OpRow& row);
  void read_segments();

  std::string path_;
  hdf5::File file_;
  std::map<char, std::pair<std::int64_t, std::string>> sizes_;  ///< of each letter, and the dataset that said so
  std::vector<OpInput> present_;
  std::int64_t tokens_ = 0;
  Segments segments_;
  OpAttributes attributes_;
};

}  // namespace causeway
