#pragma once

#include <span>
#include <string>
#include <vector>

#include "io/hdf5/hdf5.hpp"
#include "kernels/core/segments.hpp"
#include "parallel/layout/sharding.hpp"
#include "src/op/table.hpp"

namespace causeway {

/// A case file, opened for an operator. The constructor checks shapes, types, attributes and cu_seqlens, and that they
/// fit each other, before memory for any tensor is allocated. It throws Error(usage) with the dataset, what was found
/// and what was expected.
class CaseFile {
 public:
  CaseFile(const std::string& path, const OpRow& row, bool with_d_y);

  const std::string& path() const { return path_; }
  std::int64_t tokens() const { return tokens_; }
  const Segments& segments() const { return segments_; }
  const OpAttributes& attributes() const { return attributes_; }

  /// The inputs whose datasets the file has, in the order of the row.
  std::span<const OpInput> present() const { return present_; }
  Shape shape_of(const OpInput& input) const;
  /// The size of each axis: "D=8 N=16 T=96".
  std::string sizes() const;
  /// What tells different files apart without their tensors: sizes, datasets, attributes, documents.
  std::string outline() const;
  /// The datasets and root attributes that neither the operator nor this program knows, as a text of bounded length:
  /// "dataset biass, attribute activaton". "" without any. Groups and d_y do not count.
  std::string ignored() const;

  /// This rank's part of a dataset of an input (or of "d_y", which is like the first input), converted to `dtype`, in
  /// the stream's memory: the rows of this rank where the input has one for each token, else all of it.
  Tensor read(const OpInput& input, std::string_view dataset, DType dtype, const Sharding& sharding,
              const Stream& stream) const;

 private:
  void bind(const OpInput& input, const std::string& dataset);
  void read_attributes(const OpRow& row);
  void read_segments();

  std::string path_;
  hdf5::File file_;
  /// By letter: its size, and the first dataset with it.
  std::map<char, std::pair<std::int64_t, std::string>> sizes_;
  std::vector<OpInput> present_;
  std::vector<std::string> known_datasets_, known_attributes_;
  std::int64_t tokens_ = 0;
  Segments segments_;
  OpAttributes attributes_;
};

}  // namespace causeway
