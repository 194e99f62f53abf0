#pragma once

#include "parallel/transport/transport.hpp"

namespace causeway {

/// Parts that transports share. Collectives are made of Transport::start alone, for transports that have nothing better
/// of their own. Arguments as in Transport. The reductions add in rank order whatever the transport, which the
/// libraries' own reductions do not promise; their scratch memory is bounded.

/// The transfers among `transfers` of `rank` with itself: the k-th message out is copied to where the k-th message in
/// is expected.
void exchange_with_self(std::span<const Transfer> transfers, int rank, const Stream& stream);

void all_gather_by_exchange(Transport& ranks, std::span<const std::byte> send, std::span<std::byte> recv,
                            const Stream& stream);
void broadcast_by_exchange(Transport& ranks, std::span<std::byte> data, int root, const Stream& stream);
void all_reduce_in_rank_order(Transport& ranks, void* data, std::int64_t count, DType type, Reduction op,
                              const Stream& stream);
void reduce_scatter_in_rank_order(Transport& ranks, const void* send, void* recv, std::span<const std::int64_t> counts,
                                  DType type, Reduction op, const Stream& stream);

/// A transport all of whose collectives are these.
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
