#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/data/dataset_writer.hpp"

namespace causeway::test {

/// Documents of the given lengths; token i of the whole dataset is i mod 500, its mask i mod 3, its weight
/// (i mod 5) / 4.
inline void write_dataset(const std::string& path, const std::vector<std::int64_t>& lengths, LabelLists lists = {}) {
  DatasetWriter writer(path, 512, "test", lists);
  std::int64_t token = 0;
  for (const std::int64_t length : lengths) {
    writer.begin_document("d");
    for (std::int64_t i = 0; i < length; ++i, ++token) {
      const std::int32_t id = static_cast<std::int32_t>(token % 500);
      const std::uint8_t mask = static_cast<std::uint8_t>(token % 3);
      const float weight = static_cast<float>(token % 5) / 4;
      writer.append({&id, 1}, lists.loss_mask ? std::span(&mask, 1) : std::span<const std::uint8_t>(),
                    lists.loss_weights ? std::span(&weight, 1) : std::span<const float>());
    }
  }
  writer.finish();
}

inline const std::vector<std::int64_t> lengths{3, 0, 40, 1, 7, 100, 12, 5, 5, 31};

}  // namespace causeway::test
