#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "parallel/layout/shard_layout.hpp"
#include "parallel/transport/mesh.hpp"

namespace causeway {

/// Brings the rows [tokens, columns] of one pack, which the ranks of data group `group` hold by `layout`, to rank 0 in
/// the pack's order, at most `at_once` rows at a time. `local` are this rank's rows, which are not read outside the
/// group. On rank 0 calls take(first row of the pack, values) for each part. Collective over the world; no rank waits
/// for ranks that have nothing to send.
template <class T>
void gather_rows_on_first_rank(const ShardLayout& layout, int group, std::span<const T> local, std::int64_t columns,
                               std::int64_t at_once, Mesh& mesh,
                               const std::function<void(std::int64_t first, std::span<const T> values)>& take) {
  const Stream host;
  std::vector<T> buffer;
  for (int number = 0; number < layout.chunk_count(); ++number) {
    const int owner = group * mesh.context.size() + layout.owner(number);
    if (mesh.world.rank() != 0 && mesh.world.rank() != owner) continue;
    const Range chunk = layout.chunk(number);
    for (std::int64_t begin = chunk.begin; begin < chunk.end; begin += at_once) {
      const auto count = static_cast<std::size_t>(std::min(at_once, chunk.end - begin) * columns);
      const auto part = [&] {
        const std::int64_t row = layout.first_local_row(number) + begin - chunk.begin;
        return local.subspan(static_cast<std::size_t>(row * columns), count);
      };
      if (owner == 0) {
        take(begin, part());
      } else if (mesh.world.rank() == owner) {
        const Transfer transfer{.peer = 0, .send = std::as_bytes(part()), .recv = {}};
        mesh.world.exchange({&transfer, 1}, host);
      } else {
        buffer.resize(count);
        const Transfer transfer{.peer = owner, .send = {}, .recv = std::as_writable_bytes(std::span(buffer))};
        mesh.world.exchange({&transfer, 1}, host);
        take(begin, buffer);
      }
    }
  }
}

}  // namespace causeway
