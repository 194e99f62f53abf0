#pragma once

#include <fmt/format.h>

#include "io/data/dataset_writer.hpp"

namespace causeway::test {

/// A dataset of 20 documents, of 5 to 24 tokens.
inline void write_small_dataset(const std::string& path) {
  DatasetWriter writer(path, 512, "test");
  for (int d = 0; d < 20; ++d) {
    writer.begin_document(fmt::format("document {}", d));
    writer.append(std::vector<std::int32_t>(static_cast<std::size_t>(5 + d), 65 + d % 4), {});
  }
  writer.finish();
}

}  // namespace causeway::test
