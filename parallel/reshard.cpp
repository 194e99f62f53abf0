#include "parallel/reshard.hpp"

#include <memory>
#include <vector>

#include "kernels/activation.hpp"
#include "kernels/reorder.hpp"

namespace causeway {
namespace {

std::vector<Range> chunks_of(const ShardLayout& layout, int rank) {
  std::vector<Range> chunks;
  for (const int c : layout.chunks_of(rank)) chunks.push_back(layout.chunk(c));
  return chunks;
}

TensorView rows_of(TensorView whole, const Range& tokens) { return whole.slice_rows(tokens.begin, tokens.size()); }

void copy(const Stream& stream, TensorView from, TensorView to) {
  const RowRange all[] = {{.from = 0, .to = 0, .count = from.rows()}};
  copy_rows(stream, {.x = from, .ranges = all, .y = to});
}

void check(const Sharding& sharding, const Communicator& ranks) {
  ensure(ranks.size() == sharding.layout().ranks() && ranks.rank() == sharding.rank(),
         "a sharding of rank {} of {} on rank {} of {}", sharding.rank(), sharding.layout().ranks(), ranks.rank(),
         ranks.size());
}

}  // namespace

Range Dealing::share(int ranks, int rank) const {
  ensure(groups > 0 && channels % groups == 0, "{} channels in {} groups", channels, groups);
  const auto cut = [](Range range, std::int64_t parts, std::int64_t part) {
    return Range{range.begin + range.size() * part / parts, range.begin + range.size() * (part + 1) / parts};
  };
  const Range mine = cut(cut({0, groups}, ranks, rank), slices, slice);
  const std::int64_t wide = channels / groups;
  return {mine.begin * wide, mine.end * wide};
}

Pending start_tokens_to_channels(const Sharding& sharding, const Dealing& dealing,
                                 std::span<const LocalAndWhole> tensors, Communicator& ranks, const Stream& stream) {
  check(sharding, ranks);
  const int me = ranks.rank(), size = ranks.size();
  const ShardLayout& layout = sharding.layout();
  const Range mine = dealing.share(size, me);
  std::vector<Transfer> transfers;
  auto buffers = std::make_shared<std::vector<Tensor>>();
  for (const auto& [local, whole] : tensors)
    for (int peer = 0; peer < size; ++peer) {
      const Range theirs = dealing.share(size, peer);
      if (peer == me) {
        for (const Chunk& chunk : sharding.chunks())
          copy(stream, chunk.rows(local).slice_columns(mine.begin, mine.size()), rows_of(whole, chunk.tokens));
        continue;
      }
      for (const Chunk& chunk : sharding.chunks()) {
        const TensorView packed = buffers->emplace_back(stream, local.dtype, Shape{chunk.tokens.size(), theirs.size()});
        copy(stream, chunk.rows(local).slice_columns(theirs.begin, theirs.size()), packed);
        transfers.push_back({.peer = peer, .send = packed.as_bytes()});
      }
      for (const Range& chunk : chunks_of(layout, peer))
        transfers.push_back({.peer = peer, .recv = rows_of(whole, chunk).as_bytes()});
    }
  return Pending([buffers, pending = std::make_shared<Pending>(ranks.start(transfers, stream))] { pending->wait(); });
}

Pending start_channels_to_tokens(const Sharding& sharding, const Dealing& dealing,
                                 std::span<const LocalAndWhole> tensors, Communicator& ranks, const Stream& stream) {
  check(sharding, ranks);
  const int me = ranks.rank(), size = ranks.size();
  const ShardLayout& layout = sharding.layout();
  const Range mine = dealing.share(size, me);
  struct Received {
    Tensor packed;
    TensorView to;
  };
  auto received = std::make_shared<std::vector<Received>>();
  std::vector<Transfer> transfers;
  for (const auto& [local, whole] : tensors)
    for (int peer = 0; peer < size; ++peer) {
      const Range theirs = dealing.share(size, peer);
      if (peer == me) {
        for (const Chunk& chunk : sharding.chunks())
          copy(stream, rows_of(whole, chunk.tokens), chunk.rows(local).slice_columns(mine.begin, mine.size()));
        continue;
      }
      for (const Range& chunk : chunks_of(layout, peer))
        transfers.push_back({.peer = peer, .send = rows_of(whole, chunk).as_bytes()});
      for (const Chunk& chunk : sharding.chunks()) {
        received->push_back({Tensor(stream, local.dtype, {chunk.tokens.size(), theirs.size()}),
                             chunk.rows(local).slice_columns(theirs.begin, theirs.size())});
        transfers.push_back({.peer = peer, .recv = received->back().packed.view().as_bytes()});
      }
    }
  return Pending([received, stream, pending = std::make_shared<Pending>(ranks.start(transfers, stream))] {
    pending->wait();
    for (const Received& part : *received) copy(stream, part.packed, part.to);
  });
}

Pending start_gather_tokens(const Sharding& sharding, std::span<const LocalAndWhole> tensors, Communicator& ranks,
                            const Stream& stream) {
  check(sharding, ranks);
  std::vector<Transfer> transfers;
  for (const auto& [local, whole] : tensors) {
    for (const Chunk& chunk : sharding.chunks()) copy(stream, chunk.rows(local), rows_of(whole, chunk.tokens));
    for (int peer = 0; peer < ranks.size(); ++peer) {
      if (peer == ranks.rank()) continue;
      for (const Chunk& chunk : sharding.chunks())
        transfers.push_back({.peer = peer, .send = rows_of(whole, chunk.tokens).as_bytes()});
      for (const Range& chunk : chunks_of(sharding.layout(), peer))
        transfers.push_back({.peer = peer, .recv = rows_of(whole, chunk).as_bytes()});
    }
  }
  return ranks.start(transfers, stream);
}

void reduce_tokens(const Sharding& sharding, std::span<const LocalAndWhole> tensors, Communicator& ranks,
                   const Stream& stream) {
  check(sharding, ranks);
  const int me = ranks.rank(), size = ranks.size();
  std::vector<Transfer> transfers;
  std::vector<Tensor> sent, parts;  // parts: a tensor, a rank, a chunk
  for (const auto& [local, whole] : tensors)
    for (int peer = 0; peer < size; ++peer) {
      if (peer != me)
        for (const Range& chunk : chunks_of(sharding.layout(), peer)) {
          TensorView rows = rows_of(whole, chunk);
          if (whole.dtype != local.dtype) {
            const TensorView narrow = sent.emplace_back(stream, local.dtype, rows.shape);
            scale(stream, {.x = rows, .y = narrow});
            rows = narrow;
          }
          transfers.push_back({.peer = peer, .send = rows.as_bytes()});
        }
      for (const Chunk& chunk : sharding.chunks()) {
        parts.emplace_back(stream, peer == me ? whole.dtype : local.dtype, Shape{chunk.tokens.size(), local.columns()});
        if (peer == me)
          copy(stream, rows_of(whole, chunk.tokens), parts.back());
        else
          transfers.push_back({.peer = peer, .recv = parts.back().view().as_bytes()});
      }
    }
  ranks.exchange(transfers, stream);
  for (auto part = parts.begin(); const auto& [local, whole] : tensors) {
    const Tensor sum = Tensor::zeros(stream, accumulator_of(local.dtype), {local.rows(), local.columns()});
    for (int peer = 0; peer < size; ++peer)
      for (const Chunk& chunk : sharding.chunks())
        scale(stream, {.x = *part++, .accumulate = true, .y = chunk.rows(sum)});
    scale(stream, {.x = sum, .y = local});
  }
}

}  // namespace causeway
