#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "kernels/core/tensor.hpp"
#include "parallel/transport/transport.hpp"

namespace causeway {

/// The traffic that one rank sent through a communicator since its construction (a split-off communicator counts its
/// own). A message counts with its bytes, a copy within the rank not at all. A collective counts with the minimum that
/// a rank must send, independent of the implementation. With N ranks:
///   all_gather       (N-1) · the rank's own bytes           in N-1 messages
///   broadcast        (N-1) · the bytes, at the root only    in N-1
///   all_reduce       2 (N-1)/N · the buffer's bytes         in 2 (N-1)
///   reduce_scatter   (N-1)/N · the buffer's bytes           in N-1
/// Host scalars, text and barriers are control messages and are not counted.
///
/// On the CPU times are measured by the host's clock, on a GPU by events on the streams: there the exposed time is the
/// time in which a stream waited only for communication. Communication that the stream has not reached yet is counted
/// by a later call of traffic().
struct Traffic {
  std::int64_t bytes_sent = 0;
  std::int64_t messages_sent = 0;
  double exposed_s = 0;  ///< seconds in communication calls and in waits for what start() had started
  double hidden_s = 0;   ///< seconds between start() and its wait(): communication in flight during other work
};

/// A transport with a counter of its traffic, and with collectives that take dense tensors. With one rank, a collective
/// is at most a copy in the stream's order and does not call the transport.
class Communicator {
 public:
  explicit Communicator(std::unique_ptr<Transport> transport);

  int rank() const { return transport_->rank(); }
  int size() const { return transport_->size(); }
  Transport& transport() { return *transport_; }
  const Traffic& traffic() const;  ///< does not wait for the device
  /// From now on calls, and messages in flight, are recorded in `trace`; null: not recorded, as at first.
  void trace_in(Trace* trace);

  Pending start(std::span<const Transfer> transfers, const Stream& stream);
  void exchange(std::span<const Transfer> transfers, const Stream& stream);
  /// Sends a tensor and keeps it until it is sent: neither the host nor the stream waits for the peer, except for the
  /// last message but one that was posted.
  void post(Tensor message, int peer, const Stream& stream);
  /// recv = every rank's send, in rank order; send may be this rank's part of recv.
  void all_gather(std::span<const std::byte> send, std::span<std::byte> recv, const Stream& stream);
  void broadcast(std::span<std::byte> data, int root, const Stream& stream);
  void all_reduce(TensorView data, Reduction op, const Stream& stream);
  /// send: the parts of all ranks, one after the other; recv: this rank's counts[rank] elements, which may be that part
  /// of send itself.
  void reduce_scatter(TensorView send, TensorView recv, std::span<const std::int64_t> counts, Reduction op,
                      const Stream& stream);
  void barrier();
  Communicator split(int color, int key);

  /// Host scalars, for control: every rank gets the same result.
  std::int64_t sum(std::int64_t value);
  double sum(double value);
  std::int64_t max(std::int64_t value);
  double max(double value);
  std::string broadcast(std::string text, int root);

 private:
  struct Record;
  /// Counts a call, and the time until the end of the caller's scope as exposed.
  class TimedCall;

  /// A message of post().
  struct Posted {
    Tensor message;
    Pending pending;  // destroyed first, which waits
  };

  std::unique_ptr<Transport> transport_;
  std::shared_ptr<Record> record_;  // shared with Pending handles: the communicator may be moved before their wait()
  std::deque<Posted> posted_;       // oldest first
  Stream host_;
};

/// Runs `local` on every rank, then lets all ranks agree on the outcome: if it threw on any rank, every rank throws an
/// AgreedError with the code and message of the lowest failing rank (an exception that is not an Error counts as one
/// with ExitCode::internal). So a bad file or a full disk on one rank ends all ranks in the same way, without a hang.
/// `local` must not communicate over `ranks`.
void collectively(Communicator& ranks, const std::function<void()>& local);

/// Collective, for what the ranks must have in common: throws the same AgreedError (usage) on every rank unless `mine`
/// is the same text on all: "WHAT: rank 2 has MINE, rank 0 has MINE; expected the same on every rank".
void require_same(Communicator& ranks, std::string_view what, const std::string& mine);

}  // namespace causeway
