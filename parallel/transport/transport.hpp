#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <utility>

#include "kernels/core/dtype.hpp"
#include "kernels/core/error.hpp"
#include "kernels/core/stream.hpp"

namespace causeway {

/// One message to a peer and one message from it; either may be empty (then it is not sent). With peer == rank() the
/// k-th message sent within one start() is copied to the k-th message expected.
struct Transfer {
  int peer = 0;
  std::span<const std::byte> send;
  std::span<std::byte> recv;
};

enum class Reduction : std::uint8_t { sum, max };

/// Communication in flight. After wait(), work enqueued on the stream on which it was started sees the received bytes.
/// On the CPU they are in memory when wait() returns; on a GPU the copy may still be running. The destructor waits too,
/// except while an exception unwinds: then the peers may be waiting for this rank, and the code that catches the
/// exception ends the job.
class [[nodiscard]] Pending {
 public:
  Pending() = default;
  explicit Pending(std::function<void()> finish) : finish_(std::move(finish)) {}
  Pending(Pending&& other) noexcept : finish_(std::exchange(other.finish_, nullptr)), unwinding_(other.unwinding_) {}
  Pending& operator=(Pending&& other) noexcept {
    std::swap(finish_, other.finish_);
    std::swap(unwinding_, other.unwinding_);
    return *this;
  }
  Pending(const Pending&) = delete;
  Pending& operator=(const Pending&) = delete;
  ~Pending() {
    if (std::uncaught_exceptions() > unwinding_) return;
    try {
      wait();
    } catch (...) {  // a destructor must not throw; an explicit wait() reports the error
    }
  }
  void wait() {
    if (const auto finish = std::exchange(finish_, nullptr)) finish();
  }

 private:
  std::function<void()> finish_;
  int unwinding_ = std::uncaught_exceptions();
};

/// Moves bytes between the ranks of one group, in the memory of a stream's device and in the order of that stream.
/// Does not depend on tensors or operators. Every rank must call the same operations in the same order. The messages
/// from one rank to another arrive in the order in which they were started, and must be as long as the receiver
/// expects. Reductions add in rank order, ((x₀ + x₁) + x₂) + …, so that the same inputs give the same bits on every
/// transport.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// Starts all transfers at once. The received bytes are there after the returned handle's wait(); until then the
  /// buffers must not be freed, read or written.
  virtual Pending start(std::span<const Transfer> transfers, const Stream& stream) = 0;
  /// recv = every rank's send, in rank order; all sends have the same length. send may be this rank's part of recv.
  virtual void all_gather(std::span<const std::byte> send, std::span<std::byte> recv, const Stream& stream) = 0;
  virtual void broadcast(std::span<std::byte> data, int root, const Stream& stream) = 0;
  /// In place, of f64, f32 or i64. A maximum with a NaN is NaN.
  virtual void all_reduce(void* data, std::int64_t count, DType type, Reduction op, const Stream& stream) = 0;
  /// recv[0, counts[rank]) = this rank's part of the element-wise reduction of every rank's send. The parts follow each
  /// other in rank order, counts[r] elements for rank r. recv may be this rank's part of send itself.
  virtual void reduce_scatter(const void* send, void* recv, std::span<const std::int64_t> counts, DType type,
                              Reduction op, const Stream& stream) = 0;
  virtual void barrier() = 0;
  /// A transport of the ranks that passed the same color (>= 0), ordered by (key, rank).
  virtual std::unique_ptr<Transport> split(int color, int key) = 0;
  /// Ends the whole job at once with this exit code, also ranks that are blocked in communication: they throw
  /// PeerFailed (threads) or are killed (processes).
  virtual void abort(int exit_code) noexcept = 0;
};

/// Thrown by a rank's communication when another rank has ended the job: the consequence of an error, not its cause.
class PeerFailed : public Error {
 public:
  using Error::Error;
};

/// The group of all processes that mpirun or srun started; a process started without them is a group of one.
/// Initialises MPI unless that was done, and then finalises it when the process exits normally. Longer messages are
/// sent in pieces of `piece_bytes`, at most 2^31 - 1 (MPI counts in int). Device memory is copied through host memory:
/// make_device_transport (device_transport.hpp) finds a faster way where there is one.
std::unique_ptr<Transport> make_mpi_transport(std::int64_t piece_bytes = std::int64_t{1} << 30);

/// Ends this process's part in MPI, for one that goes on without its peers: none of its MPI transports can be used any
/// more, and MPI cannot be started again. Nothing happens if MPI was not started.
void finish_mpi() noexcept;

/// Runs `body` on `ranks` threads of this process, each with its own transport of one group. If a body throws, the
/// waits of the other ranks end with a PeerFailed, all threads are joined, and the exception of the lowest rank that
/// threw anything other than a PeerFailed is rethrown.
void run_local_ranks(int ranks, const std::function<void(std::unique_ptr<Transport>)>& body);

}  // namespace causeway
