#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <utility>

#include "kernels/dtype.hpp"
#include "kernels/stream.hpp"

namespace causeway {

/// One message out and one in, to and from the same peer; either may be empty. peer == rank() copies locally.
struct Transfer {
  int peer = 0;
  std::span<const std::byte> send;
  std::span<std::byte> recv;
};

enum class Reduction : std::uint8_t { sum, max };

/// Communication in flight. wait() returns once the bytes are there; the destructor waits too.
class [[nodiscard]] Pending {
 public:
  Pending() = default;
  explicit Pending(std::function<void()> finish) : finish_(std::move(finish)) {}
  Pending(Pending&& other) noexcept : finish_(std::exchange(other.finish_, nullptr)) {}
  Pending& operator=(Pending&& other) noexcept {
    std::swap(finish_, other.finish_);
    return *this;
  }
  Pending(const Pending&) = delete;
  Pending& operator=(const Pending&) = delete;
  ~Pending() {
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
};

/// Bytes between the ranks of one group, ordered on a stream. Knows no tensor and no operator. Every rank calls the same operations in the
/// same order. Reductions have a fixed order: the same inputs give the same bits. Two transfers between the same pair of ranks in one
/// start() match in list order.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// Starts all transfers at once; the bytes are there when the returned handle has been waited for. Buffers stay untouched until then.
  virtual Pending start(std::span<const Transfer> transfers, const Stream& stream) = 0;
  /// recv = every rank's send, in rank order; all sends equally long.
  virtual void all_gather(std::span<const std::byte> send, std::span<std::byte> recv, const Stream& stream) = 0;
  virtual void broadcast(std::span<std::byte> data, int root, const Stream& stream) = 0;
  /// In place; f64, f32 or i64.
  virtual void all_reduce(void* data, std::int64_t count, DType type, Reduction op, const Stream& stream) = 0;
  /// recv[0, counts[rank]) = this rank's part of the element-wise reduction of every rank's send; parts follow each other in rank order.
  virtual void reduce_scatter(const void* send, void* recv, std::span<const std::int64_t> counts, DType type, Reduction op,
                              const Stream& stream) = 0;
  virtual void barrier() = 0;
  /// The ranks that gave the same color, ordered by (key, rank).
  virtual std::unique_ptr<Transport> split(int color, int key) = 0;
  /// Ends the whole job at once with this exit code, peers blocked in communication included: they throw (threads) or die (processes).
  virtual void abort(int exit_code) noexcept = 0;
};

/// All processes mpirun or srun started. Initialises MPI on the first call and finalises it when the process exits normally.
std::unique_ptr<Transport> make_mpi_transport();

/// Runs `body` on `ranks` threads of this process, each with its own transport of one group. If a body throws, its peers are released from
/// their waits with an Error, all threads are joined, and the first rank's original exception is rethrown.
void run_local_ranks(int ranks, const std::function<void(std::unique_ptr<Transport>)>& body);

}  // namespace causeway
