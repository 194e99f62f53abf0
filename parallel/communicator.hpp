#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "kernels/tensor.hpp"
#include "parallel/transport.hpp"

namespace causeway {

/// What went through a communicator since it was made (splits count for themselves). Bytes that stay on the rank are not counted.
struct Traffic {
  std::int64_t bytes_sent = 0;
  std::int64_t messages_sent = 0;
  double exposed_s = 0;  ///< seconds this rank waited in communication
  double hidden_s = 0;   ///< seconds communication was in flight behind other work
};

/// A transport with a counter, and the collectives spelled for tensors.
class Communicator {
 public:
  explicit Communicator(std::unique_ptr<Transport> transport) : transport_(std::move(transport)) {}

  int rank() const { return transport_->rank(); }
  int size() const { return transport_->size(); }
  Transport& transport() { return *transport_; }
  const Traffic& traffic() const { return traffic_; }

  Pending start(std::span<const Transfer> transfers, const Stream& stream);
  void exchange(std::span<const Transfer> transfers, const Stream& stream);
  void all_gather(std::span<const std::byte> send, std::span<std::byte> recv, const Stream& stream);
  void broadcast(std::span<std::byte> data, int root, const Stream& stream);
  void all_reduce(TensorView data, Reduction op, const Stream& stream);
  void reduce_scatter(TensorView send, TensorView recv, std::span<const std::int64_t> counts, Reduction op, const Stream& stream);
  void barrier();
  Communicator split(int color, int key);

  /// Host scalars, for control: the same value on every rank.
  std::int64_t sum(std::int64_t value);
  double sum(double value);
  std::int64_t max(std::int64_t value);
  double max(double value);
  std::string broadcast(std::string text, int root);

 private:
  std::unique_ptr<Transport> transport_;
  Traffic traffic_;
};

/// Runs `local` on every rank, then lets all ranks agree: if it threw anywhere, every rank throws the lowest failing rank's Error (same code,
/// same message) as an AgreedError. This is how a bad file or a full disk on one rank ends all ranks the same way, without a hang. `local` must not
/// communicate over `ranks`.
void collectively(Communicator& ranks, const std::function<void()>& local);

}  // namespace causeway
