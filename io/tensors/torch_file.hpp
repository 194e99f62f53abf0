#pragma once

#include <string>

#include "io/tensors/tensor_files.hpp"

/// Files of torch.save: an uncompressed ZIP archive with data.pkl, a pickle that describes the tensors, and their
/// storages as members data/KEY
/// (https://github.com/pytorch/pytorch/blob/main/torch/serialization.py).
namespace causeway {

/// The tensors of a state_dict in a file of torch.save; `path` can name one of the parts of a file that was cut
/// (file_parts.hpp). The dictionary is the top of the file, or is found there as "module", "model" or "state_dict".
/// Nothing of the pickle is executed. Values that are not tensors, and all that is named …_extra_state (of FP8
/// training), are left out. Throws Error(usage) for what a state_dict does not have: other globals, other values of the
/// pickle, overlapping strides, element types that are not known; for files of torch before 1.6, and big-endian ones.
/// Throws Error(corrupt) for a damaged file.
TensorFiles read_torch_file(const std::string& path);

/// Whether the file starts as torch.save's archives do, or as torch's files before 1.6, which read_torch_file() names
/// in its error.
bool is_torch_file(const std::string& path);

}  // namespace causeway
