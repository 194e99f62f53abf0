#include "parallel/transport/collectives.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/activation.hpp"
#include "kernels/core/dry_run/dry_run.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {
namespace {

/// If the gathered buffers are no longer than this, every rank gathers and reduces all of them: one latency, not two.
constexpr std::int64_t small_bytes = std::int64_t{64} << 10;

template <class T>
void accumulate(T* total, const T* x, std::int64_t count, Reduction op) {
  if (op == Reduction::sum) {
    for (std::int64_t i = 0; i < count; ++i) total[i] += x[i];
  } else {
    for (std::int64_t i = 0; i < count; ++i)
      if (!(x[i] <= total[i]) && total[i] == total[i]) total[i] = x[i];  // a NaN in either operand stays
  }
}

void accumulate_on_host(void* total, const void* x, std::int64_t count, DType type, Reduction op) {
  const auto as = [&]<class T>(T*) { accumulate(static_cast<T*>(total), static_cast<const T*>(x), count, op); };
  switch (type) {
    case DType::f64:
      return as(static_cast<double*>(nullptr));
    case DType::f32:
      return as(static_cast<float*>(nullptr));
    case DType::i64:
      return as(static_cast<std::int64_t*>(nullptr));
    default:
      fail(ExitCode::internal, "reduction: dtype {}, expected f64, f32 or i64", name_of(type));
  }
}

/// total = total + x, or max(total, x), in the memory of the stream's device.
void accumulate(std::byte* total, std::byte* x, std::int64_t count, DType type, Reduction op, const Stream& stream) {
  if (count == 0 || is_dry_run(stream)) return;
  if (stream.device() == Device::cpu) return accumulate_on_host(total, x, count, type, op);
  if (op == Reduction::sum && (type == DType::f32 || type == DType::f64))
    return scale(stream, {.x = view_of(x, type, {count}), .accumulate = true, .y = view_of(total, type, {count})});
  // On a GPU maxima and integers are control values, not gradients: they may wait for the host.
  const std::int64_t bytes = count * size_of(type);
  const Tensor both(stream.host(), type, {2, count});
  stream.copy(both.view().row<std::byte>(0), total, bytes);
  stream.copy(both.view().row<std::byte>(0) + bytes, x, bytes);
  stream.wait();
  accumulate_on_host(both.view().data, both.view().row<std::byte>(0) + bytes, count, type, op);
  stream.copy(total, both.view().data, bytes);
  stream.wait();
}

/// total = ((part 0 + part 1) + part 2) + …, or the maximum; `parts` has a row of bytes for each rank. The one place
/// that fixes the order in which the parts of a reduction are combined.
void combine_in_rank_order(std::byte* total, const Tensor& parts, std::int64_t count, DType type, Reduction op,
                           const Stream& stream) {
  stream.copy(total, parts.view().row<std::byte>(0), count * size_of(type));
  for (std::int64_t rank = 1; rank < parts.view().rows(); ++rank)
    accumulate(total, parts.view().row<std::byte>(rank), count, type, op, stream);
}

/// The most scratch memory of a reduction, for the parts of all ranks together. It is larger on a GPU, where longer
/// pieces hide the latency of a message.
std::int64_t reduction_scratch_bytes(Device device) { return std::int64_t{device == Device::cpu ? 16 : 64} << 20; }

}  // namespace

void check_peers(std::span<const Transfer> transfers, int ranks) {
  for (const Transfer& transfer : transfers)
    ensure(transfer.peer >= 0 && transfer.peer < ranks, "transfer: peer {}, expected 0 to {}", transfer.peer,
           ranks - 1);
}

void exchange_with_self(std::span<const Transfer> transfers, int rank, const Stream& stream) {
  std::vector<std::span<const std::byte>> sent;
  std::vector<std::span<std::byte>> expected;
  for (const auto& [peer, send, recv] : transfers) {
    if (peer == rank && !send.empty()) sent.push_back(send);
    if (peer == rank && !recv.empty()) expected.push_back(recv);
  }
  ensure(sent.size() == expected.size(), "rank {1} sends {0} messages to itself and expects {2}", sent.size(), rank,
         expected.size());
  for (std::size_t i = 0; i < sent.size(); ++i) {
    ensure(sent[i].size() == expected[i].size(), "rank {} sends {} bytes to itself and expects {}", rank,
           sent[i].size(), expected[i].size());
    if (expected[i].data() != sent[i].data()) stream.copy(expected[i].data(), sent[i].data(), std::ssize(sent[i]));
  }
}

void all_gather_by_exchange(Transport& ranks, std::span<const std::byte> send, std::span<std::byte> recv,
                            const Stream& stream) {
  std::vector<Transfer> transfers;
  for (int peer = 0; peer < ranks.size(); ++peer)
    transfers.push_back({peer, send, recv.subspan(static_cast<std::size_t>(peer) * send.size(), send.size())});
  ranks.start(transfers, stream).wait();
}

void broadcast_by_exchange(Transport& ranks, std::span<std::byte> data, int root, const Stream& stream) {
  std::vector<Transfer> transfers;
  if (ranks.rank() != root) {
    transfers.push_back({root, {}, data});
  } else {
    for (int peer = 0; peer < ranks.size(); ++peer)
      if (peer != root) transfers.push_back({peer, data, {}});
  }
  ranks.start(transfers, stream).wait();
}

void reduce_scatter_in_rank_order(Transport& ranks, const void* send, void* recv, std::span<const std::int64_t> counts,
                                  DType type, Reduction op, const Stream& stream) {
  const int size = ranks.size(), rank = ranks.rank();
  ensure(std::ssize(counts) == size, "reduce_scatter: {1} counts for {0} ranks", size, counts.size());
  const std::int64_t element = size_of(type);
  const auto* const from = static_cast<const std::byte*>(send);
  auto* const into = static_cast<std::byte*>(recv);
  std::vector<std::int64_t> offsets(counts.size());
  std::exclusive_scan(counts.begin(), counts.end(), offsets.begin(), std::int64_t{0});

  const std::int64_t longest = *std::max_element(counts.begin(), counts.end()),
                     mine = counts[static_cast<std::size_t>(rank)];
  const std::int64_t piece = std::clamp(reduction_scratch_bytes(stream.device()) / (element * size), std::int64_t{1},
                                        std::max(longest, std::int64_t{1}));
  const Tensor scratch(stream, DType::u8, {size, std::min(piece, mine) * element});
  const auto length_of = [&](std::int64_t count, std::int64_t begin) {
    return std::clamp(count - begin, std::int64_t{0}, piece);
  };
  for (std::int64_t begin = 0; begin < longest; begin += piece) {
    const std::int64_t length = length_of(mine, begin);
    std::vector<Transfer> transfers;
    for (int peer = 0; peer < size; ++peer) {
      const auto p = static_cast<std::size_t>(peer);
      transfers.push_back(
          {peer,
           {from + (offsets[p] + begin) * element, static_cast<std::size_t>(length_of(counts[p], begin) * element)},
           {scratch.view().row<std::byte>(peer), static_cast<std::size_t>(length * element)}});
    }
    ranks.start(transfers, stream).wait();
    combine_in_rank_order(into + begin * element, scratch, length, type, op, stream);
  }
}

void all_reduce_in_rank_order(Transport& ranks, void* data, std::int64_t count, DType type, Reduction op,
                              const Stream& stream) {
  const int size = ranks.size(), rank = ranks.rank();
  if (size == 1 || count == 0) return;
  const std::int64_t element = size_of(type);
  auto* const bytes = static_cast<std::byte*>(data);
  if (count * element * size <= small_bytes) {
    const Tensor all(stream, DType::u8, {size, count * element});
    ranks.all_gather({bytes, static_cast<std::size_t>(count * element)}, all.view().as_bytes(), stream);
    combine_in_rank_order(bytes, all, count, type, op, stream);
    return;
  }
  std::vector<std::int64_t> counts(static_cast<std::size_t>(size), count / size);
  for (std::int64_t extra = 0; extra < count % size; ++extra) ++counts[static_cast<std::size_t>(extra)];
  std::vector<std::span<std::byte>> parts;
  for (std::int64_t begin = 0; const std::int64_t part : counts) {
    parts.emplace_back(bytes + begin * element, static_cast<std::size_t>(part * element));
    begin += part;
  }
  const std::span<std::byte> mine = parts[static_cast<std::size_t>(rank)];
  ranks.reduce_scatter(data, mine.data(), counts, type, op, stream);
  std::vector<Transfer> transfers;
  for (int peer = 0; peer < size; ++peer)
    if (peer != rank) transfers.push_back({peer, mine, parts[static_cast<std::size_t>(peer)]});
  ranks.start(transfers, stream).wait();
}

}  // namespace causeway
