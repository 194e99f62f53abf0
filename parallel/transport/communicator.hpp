#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "kernels/core/tensor.hpp"
#include "parallel/transport/transport.hpp"

namespace causeway {

/// What one rank sent through a communicator since it was made (splits count for themselves). Messages are counted as
/// they are: their bytes, and nothing for what stays on the rank. Collectives, which an implementation may cut as it
/// likes, are counted as what a rank has to send at least. With N ranks:
///   all_gather       (N-1) · the rank's own bytes           in N-1 messages
///   broadcast        (N-1) · the bytes, at the root alone   in N-1
///   all_reduce       2 (N-1)/N · the buffer's bytes         in 2 (N-1)
///   reduce_scatter   (N-1)/N · the buffer's bytes           in N-1
/// Host scalars and text, which steer and do not compute, are not counted, nor is barrier.
///
/// Times on the CPU are the host's. On a GPU they are its streams', told apart by events: exposed is how long a stream
/// had nothing but communication to wait for. What it has not come to yet is counted by a later traffic().
struct Traffic {
  std::int64_t bytes_sent = 0;
  std::int64_t messages_sent = 0;
  double exposed_s = 0;  ///< seconds this rank spent in communication calls and in waiting for what start() had started
  double hidden_s = 0;   ///< seconds between start() and the wait for it: communication in flight behind other work
};

/// A transport with a counter, and the collectives spelled for tensors (dense ones). A collective of one rank, on any
/// device, is at most a copy in the stream's order and does not reach the transport.
class Communicator {
 public:
  explicit Communicator(std::unique_ptr<Transport> transport);

  int rank() const { return transport_->rank(); }
  int size() const { return transport_->size(); }
  Transport& transport() { return *transport_; }
  const Traffic& traffic() const;  ///< does not wait for the device

  Pending start(std::span<const Transfer> transfers, const Stream& stream);
  void exchange(std::span<const Transfer> transfers, const Stream& stream);
  /// send may be this rank's own part of recv.
  void all_gather(std::span<const std::byte> send, std::span<std::byte> recv, const Stream& stream);
  void broadcast(std::span<std::byte> data, int root, const Stream& stream);
  void all_reduce(TensorView data, Reduction op, const Stream& stream);
  /// send: all parts one after the other; recv: this rank's counts[rank] elements, which may be that part of send
  /// itself.
  void reduce_scatter(TensorView send, TensorView recv, std::span<const std::int64_t> counts, Reduction op,
                      const Stream& stream);
  void barrier();
  Communicator split(int color, int key);

  /// Host scalars, for control: the same value on every rank.
  std::int64_t sum(std::int64_t value);
  double sum(double value);
  std::int64_t max(std::int64_t value);
  double max(double value);
  std::string broadcast(std::string text, int root);

 private:
  struct Record;
  /// Counts a collective and the time until the end of the caller's scope.
  class Timed;

  std::unique_ptr<Transport> transport_;
  std::shared_ptr<Record> record_;  // shared with what is in flight: a communicator may move meanwhile
  Stream host_;
};

/// Runs `local` on every rank, then lets all ranks agree: if it threw anywhere, every rank throws the lowest failing
/// rank's Error (same code, same message; what is not an Error becomes one with ExitCode::internal) as an AgreedError.
/// This is how a bad file or a full disk on one rank ends all ranks the same way, without a hang. `local` must not
/// communicate over `ranks`.
void collectively(Communicator& ranks, const std::function<void()>& local);

}  // namespace causeway
