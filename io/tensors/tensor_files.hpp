#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "io/file/byte_source.hpp"
#include "io/tensors/tensor_type.hpp"

namespace causeway {

/// The number of elements; 0 if an extent is 0.
std::int64_t elements_in(std::span<const std::int64_t> shape);

/// A tensor in a file of another program: where its elements are.
struct FileTensor {
  std::string name;
  TensorType type = TensorType::f32;
  std::vector<std::int64_t> shape;    ///< empty: a scalar
  std::vector<std::int64_t> strides;  ///< in elements, one for each axis
  std::size_t source = 0;             ///< number of the ByteSource
  std::int64_t begin = 0;             ///< its first element's byte
  std::uint32_t crc32 = 0;            ///< of its bytes as they are stored; 0: the file has none

  std::int64_t elements() const { return elements_in(shape); }
  std::int64_t bytes() const { return elements() * size_of(type); }
  bool is_row_major() const;
};

/// The strides of a tensor without gaps, the last axis the fastest.
std::vector<std::int64_t> row_major_strides(std::span<const std::int64_t> shape);

/// The tensors of one or several files. Readers of a format fill it; nothing of a tensor is read before read().
class TensorFiles {
 public:
  /// Returns the number of the source.
  std::size_t add_source(ByteSource source);
  /// Throws Error(corrupt) for a name that is there already, a shape whose bytes do not fit in 64 bits, and elements
  /// outside of the source.
  void add(FileTensor tensor);

  const std::vector<FileTensor>& tensors() const { return tensors_; }
  const FileTensor* find(const std::string& name) const;
  const ByteSource& source(std::size_t number) const { return sources_[number]; }
  std::string where(const FileTensor& tensor) const;  ///< "model.safetensors: tensor 'a.weight'"
  /// The tensor's elements in row-major order, little-endian; `out` has tensor.bytes() bytes. Throws Error(corrupt) for
  /// bytes that do not have their checksum.
  void read(const FileTensor& tensor, std::span<std::byte> out) const;
  /// The row-major elements from `first` on, as many as fit into `out`. Only for a tensor that is_row_major().
  void read_part(const FileTensor& tensor, std::int64_t first, std::span<std::byte> out) const;

 private:
  void check(const FileTensor& tensor, std::span<const std::byte> stored) const;

  std::vector<ByteSource> sources_;
  std::vector<FileTensor> tensors_;
  std::map<std::string, std::size_t> by_name_;
};

}  // namespace causeway
