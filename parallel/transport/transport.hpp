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

/// One message out and one in, to and from the same peer; either may be empty. peer == rank() copies locally, within
/// one start().
struct Transfer {
  int peer = 0;
  std::span<const std::byte> send;
  std::span<std::byte> recv;
};

enum class Reduction : std::uint8_t { sum, max };

/// Communication in flight. After wait() the bytes are there for whatever is enqueued next on the stream it was started
/// on: the host's on the CPU, a GPU's may still be under way when it returns. The destructor waits too, except while an
/// exception unwinds: the peers may then wait for this rank in their turn, and whoever catches the exception ends the
/// job.
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
    } catch (...) {  // the error has been or will be seen by the wait that somebody asked for
    }
  }
  void wait() {
    if (const auto finish = std::exchange(finish_, nullptr)) finish();
  }

 private:
  std::function<void()> finish_;
  int unwinding_ = std::uncaught_exceptions();
};

/// Bytes between the ranks of one group, ordered on a stream and in its device's memory. Knows no tensor and no
/// operator. Every rank calls the same operations in the same order. The messages from one rank to another arrive in
/// the order in which they were started, empty ones not counted, and must be as long as the receiver expects.
/// Reductions add in rank order, ((x₀ + x₁) + x₂) + …: the same inputs give the same bits.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// Starts all transfers at once; the bytes are there when the returned handle has been waited for. Buffers stay
  /// untouched until then.
  virtual Pending start(std::span<const Transfer> transfers, const Stream& stream) = 0;
  /// recv = every rank's send, in rank order; all sends equally long. send may be this rank's own part of recv.
  virtual void all_gather(std::span<const std::byte> send, std::span<std::byte> recv, const Stream& stream) = 0;
  virtual void broadcast(std::span<std::byte> data, int root, const Stream& stream) = 0;
  /// In place; f64, f32 or i64. The maximum of anything and NaN is NaN.
  virtual void all_reduce(void* data, std::int64_t count, DType type, Reduction op, const Stream& stream) = 0;
  /// recv[0, counts[rank]) = this rank's part of the element-wise reduction of every rank's send; parts follow each
  /// other in rank order. recv may be that part of send itself.
  virtual void reduce_scatter(const void* send, void* recv, std::span<const std::int64_t> counts, DType type,
                              Reduction op, const Stream& stream) = 0;
  virtual void barrier() = 0;
  /// The ranks that gave the same color (>= 0), ordered by (key, rank).
  virtual std::unique_ptr<Transport> split(int color, int key) = 0;
  /// Ends the whole job at once with this exit code, peers blocked in communication included: they throw (threads) or
  /// die (processes).
  virtual void abort(int exit_code) noexcept = 0;
};

/// What a rank's communication throws when another rank has ended the job: a consequence, told apart from the error
/// that is its cause.
class PeerFailed : public Error {
 public:
  using Error::Error;
};

/// All processes mpirun or srun started; a process started by hand is a group of one. Initialises MPI unless that was
/// done, and then finalises it when the process exits normally. Longer messages travel in pieces of `piece_bytes`, at
/// most 2^31 - 1 (MPI counts in int). Device memory is staged by the host: device_transport.hpp knows better.
std::unique_ptr<Transport> make_mpi_transport(std::int64_t piece_bytes = std::int64_t{1} << 30);

/// Runs `body` on `ranks` threads of this process, each with its own transport of one group. If a body throws, its
/// peers are released from their waits with a PeerFailed, all threads are joined, and the exception of the lowest rank
/// that threw anything else is rethrown.
void run_local_ranks(int ranks, const std::function<void(std::unique_ptr<Transport>)>& body);

}  // namespace causeway
