#pragma once

#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "io/tensors/tensor_files.hpp"

/// Hugging Face's safetensors: u64 size of the header, the header in JSON (`{name: {"dtype", "shape",
/// "data_offsets"}}`), then the tensors, row-major and little-endian, without gaps
/// (https://github.com/huggingface/safetensors).
namespace causeway {

inline constexpr const char* safetensors_file = "model.safetensors";
inline constexpr const char* safetensors_index_file = "model.safetensors.index.json";

/// What the format calls the types of elements.
inline constexpr std::array<std::pair<std::string_view, TensorType>, 13> safetensors_types = {{
    {"F64", TensorType::f64},
    {"F32", TensorType::f32},
    {"F16", TensorType::f16},
    {"BF16", TensorType::bf16},
    {"I64", TensorType::i64},
    {"I32", TensorType::i32},
    {"I16", TensorType::i16},
    {"I8", TensorType::i8},
    {"U64", TensorType::u64},
    {"U32", TensorType::u32},
    {"U16", TensorType::u16},
    {"U8", TensorType::u8},
    {"BOOL", TensorType::boolean},
}};

/// The tensors of a .safetensors file; of a folder: those of its model.safetensors, or of the files that its
/// model.safetensors.index.json names. Throws Error(corrupt) for anything that a writer of the format does not write:
/// damaged headers, gaps, overlaps, sizes that do not fit the shape, an index that does not fit its files; Error(usage)
/// for a type of elements that is not known, and where there is no such file.
TensorFiles read_safetensors(const std::string& path);

/// Whether the folder has one of the two files.
bool has_safetensors(const std::string& folder);

}  // namespace causeway
