#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "io/data/readers/document_sink.hpp"
#include "io/data/readers/number_array.hpp"

namespace causeway {

/// The files of a binary format, which are read at any offset. The given name may stand for several of them.
struct ArrayFiles {
  std::vector<std::string> paths;  ///< all that exist and are read; the first holds the tokens
  bool loss_mask = false;          ///< they give loss weights, which are all 0 or 1
  bool loss_weights = false;       ///< they give other loss weights
};
/// A binary format. `find` throws Error(usage) for a file that is missing or is not what was meant. `read` calls
/// `progress` with the bytes of the first file that were read. Errors name file, document and position.
struct ArrayFormat {
  ArrayFiles (*find)(const std::string& path);
  void (*read)(const std::string& path, DocumentSink& out, const std::function<void(std::int64_t bytes)>& progress);
};

/// An indexed dataset of Megatron-LM, NAME.idx and NAME.bin, given as either of them or as NAME: tokens of any integer
/// type; documents by its document index, named NAME:number from 0.
extern const ArrayFormat megatron_format;

/// A one-dimensional array of integers of numpy.save(). NAME.cu_seqlens.npy beside NAME.npy gives the documents, named
/// NAME.npy:number from 0; without it the array is one document. NAME.loss_mask.npy, bool, integers 0 and 1, or floats
/// from 0 to 1, gives the weight of each token as a label.
extern const ArrayFormat npy_format;

/// Tokens [begin, begin + count) of an array. Errors name each as "FILE: document D, position P".
struct TokenRange {
  std::int64_t begin = 0, count = 0;
  std::int64_t document = 0, position = 0;  ///< D, and P of the first token
};
/// Appends the tokens to the open document, with the weights at the same places if `weights` is not null. `appended` is
/// called with their number after each part. Throws RecordError for a wrong id or weight.
void append_ids(const NumberArray& tokens, const TokenRange& range, const NumberArray* weights, DocumentSink& out,
                const std::function<void(std::int64_t tokens)>& appended);

}  // namespace causeway
