#include "parallel/exchange/reshard.hpp"

#include <algorithm>
#include <memory>
#include <vector>

#include "kernels/activation.hpp"
#include "parallel/exchange/row_copies.hpp"

namespace causeway {
namespace {

/// The tokens of each chunk of a rank.
std::vector<Range> chunk_tokens(const ShardLayout& layout, int rank) {
  std::vector<Range> chunks;
  for (const int c : layout.chunks_of(rank)) chunks.push_back(layout.chunk(c));
  return chunks;
}

}  // namespace

Range ChannelPartition::share(int ranks, int rank) const {
  ensure(groups > 0 && channels % groups == 0, "channel partition: {} channels in {} groups, expected equal groups",
         channels, groups);
  const auto cut = [](Range range, std::int64_t parts, std::int64_t part) {
    return Range{range.begin + range.size() * part / parts, range.begin + range.size() * (part + 1) / parts};
  };
  const Range mine = cut(cut({0, groups}, ranks, rank), slices, slice);
  const std::int64_t wide = channels / groups;
  return {mine.begin * wide, mine.end * wide};
}

Pending start_tokens_to_channels(const Sharding& sharding, const ChannelPartition& partition,
                                 std::span<const LocalAndWhole> tensors, Communicator& ranks, const Stream& stream) {
  sharding.ensure_rank(ranks.rank(), ranks.size());
  const int me = ranks.rank(), size = ranks.size();
  const ShardLayout& layout = sharding.layout();
  const Range mine = partition.share(size, me);
  std::vector<Transfer> transfers;
  auto buffers = std::make_shared<std::vector<Tensor>>();
  for (const auto& [local, whole] : tensors)
    for (int peer = 0; peer < size; ++peer) {
      const Range theirs = partition.share(size, peer);
      if (peer == me) {
        for (const Chunk& chunk : sharding.chunks())
          copy_all_rows(stream, columns_of(chunk.rows(local), mine), rows_of(whole, chunk.tokens));
        continue;
      }
      // With many ranks most may have no channels.
      for (const Chunk& chunk : sharding.chunks()) {
        if (theirs.size() == 0) break;
        const TensorView packed = buffers->emplace_back(stream, local.dtype, Shape{chunk.tokens.size(), theirs.size()});
        copy_all_rows(stream, columns_of(chunk.rows(local), theirs), packed);
        transfers.push_back({.peer = peer, .send = packed.as_bytes()});
      }
      if (mine.size() == 0) continue;
      for (const Range& chunk : chunk_tokens(layout, peer))
        transfers.push_back({.peer = peer, .recv = rows_of(whole, chunk).as_bytes()});
    }
  return Pending([buffers, pending = std::make_shared<Pending>(ranks.start(transfers, stream))] { pending->wait(); });
}

namespace {

/// Rows that were received, or kept, for columns of a `local`.
struct Received {
  Tensor packed;
  TensorView to;
};

/// Adds the transfers of one tensor on its way from channels to tokens. This rank's own rows are copied at once, or if
/// `in_place` to a buffer.
void add_channels_to_tokens(const Sharding& sharding, const ChannelPartition& partition, const LocalAndWhole& tensor,
                            bool in_place, Communicator& ranks, const Stream& stream, std::vector<Received>& received,
                            std::vector<Transfer>& transfers) {
  const auto& [local, whole] = tensor;
  const int me = ranks.rank(), size = ranks.size();
  for (int peer = 0; peer < size; ++peer) {
    const Range theirs = partition.share(size, peer);
    if (peer != me && whole.columns() > 0)
      for (const Range& chunk : chunk_tokens(sharding.layout(), peer))
        transfers.push_back({.peer = peer, .send = rows_of(whole, chunk).as_bytes()});
    if (theirs.size() == 0) continue;
    for (const Chunk& chunk : sharding.chunks()) {
      const TensorView to = columns_of(chunk.rows(local), theirs);
      if (peer == me && !in_place) {
        copy_all_rows(stream, rows_of(whole, chunk.tokens), to);
        continue;
      }
      const TensorView packed =
          received.emplace_back(Tensor(stream, local.dtype, {chunk.tokens.size(), theirs.size()}), to).packed;
      if (peer == me)
        copy_all_rows(stream, rows_of(whole, chunk.tokens), packed);
      else
        transfers.push_back({.peer = peer, .recv = packed.as_bytes()});
    }
  }
}

}  // namespace

Pending start_channels_to_tokens(const Sharding& sharding, const ChannelPartition& partition,
                                 std::span<const LocalAndWhole> tensors, Communicator& ranks, const Stream& stream) {
  sharding.ensure_rank(ranks.rank(), ranks.size());
  auto received = std::make_shared<std::vector<Received>>();
  std::vector<Transfer> transfers;
  for (const LocalAndWhole& tensor : tensors)
    add_channels_to_tokens(sharding, partition, tensor, false, ranks, stream, *received, transfers);
  return Pending([received, stream, pending = std::make_shared<Pending>(ranks.start(transfers, stream))] {
    pending->wait();
    for (const Received& part : *received) copy_all_rows(stream, part.packed, part.to);
  });
}

void channels_to_tokens_in_place(const Sharding& sharding, std::span<const SliceOfTensor> tensors, Communicator& ranks,
                                 const Stream& stream) {
  sharding.ensure_rank(ranks.rank(), ranks.size());
  std::vector<Received> received;
  std::vector<Transfer> transfers;
  for (const auto& [partition, tensor] : tensors)
    add_channels_to_tokens(sharding, partition, tensor, true, ranks, stream, received, transfers);
  ranks.exchange(transfers, stream);
  for (const Received& part : received) copy_all_rows(stream, part.packed, part.to);
}

Pending start_gather_tokens(const Sharding& sharding, std::span<const LocalAndWhole> tensors, Communicator& ranks,
                            const Stream& stream) {
  sharding.ensure_rank(ranks.rank(), ranks.size());
  std::vector<Transfer> transfers;
  for (const auto& [local, whole] : tensors) {
    for (const Chunk& chunk : sharding.chunks()) copy_all_rows(stream, chunk.rows(local), rows_of(whole, chunk.tokens));
    for (int peer = 0; peer < ranks.size(); ++peer) {
      if (peer == ranks.rank()) continue;
      for (const Chunk& chunk : sharding.chunks())
        transfers.push_back({.peer = peer, .send = rows_of(whole, chunk.tokens).as_bytes()});
      for (const Range& chunk : chunk_tokens(sharding.layout(), peer))
        transfers.push_back({.peer = peer, .recv = rows_of(whole, chunk).as_bytes()});
    }
  }
  return ranks.start(transfers, stream);
}

namespace {

/// Piece `number` of `count`.
struct Piece {
  int number, count;
  Range of(const Range& tokens) const {
    return {tokens.begin + tokens.size() * number / count, tokens.begin + tokens.size() * (number + 1) / count};
  }
};

void reduce_piece(const Sharding& sharding, const LocalAndWhole& tensor, const Piece& piece, Communicator& ranks,
                  const Stream& stream) {
  const auto& [local, whole] = tensor;
  const int me = ranks.rank(), size = ranks.size();
  std::vector<Transfer> transfers;
  std::vector<Tensor> sent, received, sums;  // received: of every other rank, a tensor for each of this rank's chunks
  for (int peer = 0; peer < size; ++peer) {
    if (peer == me) continue;
    for (const Range& chunk : chunk_tokens(sharding.layout(), peer)) {
      TensorView rows = rows_of(whole, piece.of(chunk));
      if (whole.dtype != local.dtype) {
        const TensorView narrow = sent.emplace_back(stream, local.dtype, rows.shape);
        scale(stream, {.x = rows, .y = narrow});
        rows = narrow;
      }
      transfers.push_back({.peer = peer, .send = rows.as_bytes()});
    }
    for (const Chunk& chunk : sharding.chunks()) {
      received.emplace_back(stream, local.dtype, Shape{piece.of(chunk.tokens).size(), local.columns()});
      transfers.push_back({.peer = peer, .recv = received.back().view().as_bytes()});
    }
  }
  ranks.exchange(transfers, stream);
  for (const Chunk& chunk : sharding.chunks())
    sums.push_back(
        Tensor::zeros(stream, accumulator_of(local.dtype), {piece.of(chunk.tokens).size(), local.columns()}));
  auto part = received.begin();
  for (int peer = 0; peer < size; ++peer)
    for (std::size_t i = 0; const Chunk& chunk : sharding.chunks())
      scale(stream, {.x = peer == me ? rows_of(whole, piece.of(chunk.tokens)) : (part++)->view(),
                     .accumulate = true,
                     .y = sums[i++]});
  for (std::size_t i = 0; const Chunk& chunk : sharding.chunks()) {
    const Range rows = piece.of({0, chunk.tokens.size()});
    scale(stream, {.x = sums[i++], .y = chunk.rows(local).slice_rows(rows.begin, rows.size())});
  }
}

}  // namespace

int pieces_of_long_messages(const ShardLayout& layout, std::int64_t row_bytes) {
  constexpr std::int64_t least_bytes = 32 << 10;
  const std::int64_t bytes = layout.tokens() / layout.ranks() * row_bytes;
  return static_cast<int>(std::clamp<std::int64_t>(bytes / least_bytes, 1, reduce_pieces));
}

void reduce_tokens(const Sharding& sharding, std::span<const LocalAndWhole> tensors, Communicator& ranks,
                   const Stream& stream, int pieces) {
  sharding.ensure_rank(ranks.rank(), ranks.size());
  for (const LocalAndWhole& tensor : tensors)
    for (int piece = 0; piece < pieces; ++piece)
      reduce_piece(sharding, tensor, {.number = piece, .count = pieces}, ranks, stream);
}

}  // namespace causeway
