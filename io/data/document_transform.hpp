#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "io/data/dataset_writer.hpp"
#include "io/file/spool.hpp"

namespace causeway {

/// What import changes in documents. A token below 256 is a byte here, whatever the format of the file.
struct TransformOptions {
  enum class Strands : std::uint8_t { given, both, complement };

  bool uppercase = false;                   ///< a–z become A–Z, after weights are taken
  std::optional<std::int64_t> append_eod;   ///< a token that ends each document, empty ones too
  Strands strands = Strands::given;         ///< both: the reverse complement of NAME follows it, as NAME/rc
  std::optional<double> lower_case_weight;  ///< loss weight of a–z
  bool mask_ambiguous = false;  ///< weight 0 for all tokens but A, C, G, T, a, c, g, t and the end of a document
  std::string mask_between;     ///< a character, or "" for none: weight 0 from one of it to the next, both included

  bool makes_weights() const { return lower_case_weight || mask_ambiguous || !mask_between.empty(); }
};

/// Throws Error(usage) for a value that is out of range, with the name of its option.
void require_transform(const TransformOptions& options, std::int64_t vocabulary_size);

/// The step between the readers of import and the dataset: upper case, reverse complement, loss weights, end of
/// document. Memory is bounded: a document that has to be known whole is kept in a Spool.
///
/// The weight of a token is that of the token as it was read: 1, or what the reader gave, times 0 in tags
/// (mask_between), times 0 if it is ambiguous, times lower_case_weight if it is lower-case. In a reverse complement it
/// keeps its token. The end-of-document token, append_eod or else 0 as in Evo 2's data, weighs 1.
class DocumentTransform {
 public:
  struct Settings {
    TransformOptions options;
    LabelLists lists;               ///< those of the dataset; makes_weights() needs loss_weights
    bool may_drop = false;          ///< drop() is possible: each document is kept until its end
    std::string beside;             ///< temporary files are made beside this path
    std::size_t memory = 64 << 20;  ///< bytes of a document that are kept in memory
  };
  DocumentTransform(Settings settings, DatasetWriter& dataset);

  void begin(const std::string& name);
  void append(std::span<const std::int32_t> tokens, std::span<const float> weights);
  /// Throws RecordError, and drops the document, if a tag has no end.
  void end();
  void drop();

  std::int64_t empty_documents() const { return empty_; }

 private:
  bool keeps() const { return settings_.may_drop || settings_.options.strands != TransformOptions::Strands::given; }
  void write_kept(bool reverse_complement);
  void write(std::span<const std::int32_t> tokens, std::span<const float> weights, bool complement);
  void write_part(std::span<const std::int32_t> tokens, std::span<const float> weights, bool complement);
  float weight_of(std::int32_t token);
  void end_document();

  static constexpr std::size_t part = 4096;

  Settings settings_;
  DatasetWriter& dataset_;
  std::int32_t tag_ = -1, end_of_document_ = 0;  ///< tag_: the character of mask_between, -1 for none
  std::string name_;
  Spool tokens_, weights_;  ///< of the document that is kept
  std::int64_t tags_ = 0, length_ = 0, empty_ = 0;
  bool inside_tag_ = false;
  std::array<std::int32_t, part> part_tokens_;
  std::array<float, part> part_weights_;
  std::array<std::uint8_t, part> part_mask_;
};

}  // namespace causeway
