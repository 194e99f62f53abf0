#pragma once

#include "parallel/transport/transport.hpp"

namespace causeway {

/// Collectives made of Transport::start only, for transports whose library has nothing faster. The arguments are those
/// of Transport. The reductions add in rank order on every transport, which MPI's and NCCL's own reductions do not
/// guarantee. Their scratch memory is bounded.

/// Throws unless the peer of every transfer is one of `ranks` ranks. A transport calls it before it starts the first of
/// them, so that none is in flight when it throws.
void check_peers(std::span<const Transfer> transfers, int ranks);

/// Executes the transfers of `rank` with itself: copies the k-th message sent to the k-th message expected.
void exchange_with_self(std::span<const Transfer> transfers, int rank, const Stream& stream);

void all_gather_by_exchange(Transport& ranks, std::span<const std::byte> send, std::span<std::byte> recv,
                            const Stream& stream);
void broadcast_by_exchange(Transport& ranks, std::span<std::byte> data, int root, const Stream& stream);
void all_reduce_in_rank_order(Transport& ranks, void* data, std::int64_t count, DType type, Reduction op,
                              const Stream& stream);
void reduce_scatter_in_rank_order(Transport& ranks, const void* send, void* recv, std::span<const std::int64_t> counts,
                                  DType type, Reduction op, const Stream& stream);

/// A transport that uses these functions for all its collectives.
class ExchangingTransport : public Transport {
 public:
  void all_gather(std::span<const std::byte> send, std::span<std::byte> recv, const Stream& stream) override {
    all_gather_by_exchange(*this, send, recv, stream);
  }
  void broadcast(std::span<std::byte> data, int root, const Stream& stream) override {
    broadcast_by_exchange(*this, data, root, stream);
  }
  void all_reduce(void* data, std::int64_t count, DType type, Reduction op, const Stream& stream) override {
    all_reduce_in_rank_order(*this, data, count, type, op, stream);
  }
  void reduce_scatter(const void* send, void* recv, std::span<const std::int64_t> counts, DType type, Reduction op,
                      const Stream& stream) override {
    reduce_scatter_in_rank_order(*this, send, recv, counts, type, op, stream);
  }
};

}  // namespace causeway
