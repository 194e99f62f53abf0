/// Ranks as processes. All point-to-point messages are nonblocking, so that no order of sends and receives can block on
/// a full buffer. Up to 1 MiB is sent from a copy: wait() then does not wait until the peer receives it. MPI returns
/// error codes, and every code is checked. Device memory is copied through page-locked host memory, or passed to MPI
/// directly if this MPI accepts it; in both cases the host first waits for the stream.

#include <mpi.h>
#if defined(OPEN_MPI) && __has_include(<mpi-ext.h>)
#include <mpi-ext.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <limits>
#include <source_location>
#include <string>
#include <vector>

#include "kernels/core/error.hpp"
#include "kernels/core/event.hpp"
#include "kernels/core/handle.hpp"
#include "kernels/core/tensor.hpp"
#include "parallel/transport/collectives.hpp"
#include "parallel/transport/device_transport.hpp"
#include "parallel/transport/transport.hpp"

namespace causeway {
namespace {

void mpi_check(int status, std::source_location where = std::source_location::current()) {
  if (status == MPI_SUCCESS) return;
  std::string text(MPI_MAX_ERROR_STRING, '\0');
  int length = 0;
  if (MPI_Error_string(status, text.data(), &length) != MPI_SUCCESS) length = 0;
  text.resize(static_cast<std::size_t>(length));
  fail(ExitCode::internal, "{}:{}: MPI: {} (code {})", where.file_name(), where.line(), text, status);
}

struct CommunicatorTraits {
  using type = MPI_Comm;
  static type null() { return MPI_COMM_NULL; }
  static void close(type comm) noexcept {
    int finalized = 0;
    if (MPI_Finalized(&finalized) == MPI_SUCCESS && finalized == 0) MPI_Comm_free(&comm);
  }
};
using OwnedCommunicator = Handle<CommunicatorTraits>;

constexpr int tag = 0;  // one tag is enough: MPI keeps the messages of a pair of ranks in order

/// Messages in flight. If an exception unwinds before wait(), the destructor cancels the receives, so that MPI does not
/// write into freed memory, and leaves the sends to MPI.
class Requests {
 public:
  Requests() = default;
  Requests(const Requests&) = delete;
  Requests& operator=(const Requests&) = delete;
  ~Requests() {
    for (MPI_Request& request : sends_)
      if (request != MPI_REQUEST_NULL) MPI_Request_free(&request);
    for (MPI_Request& request : receives_) {
      if (request == MPI_REQUEST_NULL) continue;
      MPI_Cancel(&request);
      MPI_Wait(&request, MPI_STATUS_IGNORE);
    }
  }

  void send(std::span<const std::byte> bytes, int peer, MPI_Comm comm) {
    mpi_check(MPI_Isend(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, peer, tag, comm,
                        &sends_.emplace_back(MPI_REQUEST_NULL)));
  }
  void receive(std::span<std::byte> bytes, int peer, MPI_Comm comm) {
    lengths_.push_back(static_cast<int>(bytes.size()));
    mpi_check(
        MPI_Irecv(bytes.data(), lengths_.back(), MPI_BYTE, peer, tag, comm, &receives_.emplace_back(MPI_REQUEST_NULL)));
  }
  void wait_for_receives() {
    std::vector<MPI_Status> statuses(receives_.size());
    const int result = MPI_Waitall(static_cast<int>(receives_.size()), receives_.data(), statuses.data());
    if (result == MPI_ERR_IN_STATUS)
      for (const MPI_Status& status : statuses)
        if (status.MPI_ERROR != MPI_ERR_PENDING) mpi_check(status.MPI_ERROR);
    mpi_check(result);
    for (std::size_t i = 0; i < statuses.size(); ++i) {
      int length = 0;
      mpi_check(MPI_Get_count(&statuses[i], MPI_BYTE, &length));
      ensure(length == lengths_[i], "rank {} sent {} bytes, expected {}", statuses[i].MPI_SOURCE, length, lengths_[i]);
    }
  }
  void wait_for_sends() { mpi_check(MPI_Waitall(static_cast<int>(sends_.size()), sends_.data(), MPI_STATUSES_IGNORE)); }
  bool all_sent() {
    int done = 0;
    mpi_check(MPI_Testall(static_cast<int>(sends_.size()), sends_.data(), &done, MPI_STATUSES_IGNORE));
    return done != 0;
  }
  /// A copy that lives as long as the messages.
  std::span<const std::byte> copy_of(std::span<const std::byte> bytes) {
    return copies_.emplace_back(bytes.begin(), bytes.end());
  }

 private:
  std::deque<std::vector<std::byte>> copies_;
  std::vector<MPI_Request> sends_, receives_;
  std::vector<int> lengths_;
};

/// Transfers of device memory through copies in page-locked host memory.
class StagedTransfers {
 public:
  StagedTransfers(std::span<const Transfer> transfers, int rank, const Stream& stream) : stream_(stream) {
    const Stream host = stream.host();
    const auto allocate = [&](std::size_t bytes) -> std::span<std::byte> {
      if (bytes == 0) return {};
      return memory_.emplace_back(host, DType::u8, Shape{static_cast<std::int64_t>(bytes)}).view().as_bytes();
    };
    for (const auto& [peer, send, recv] : transfers) {
      if (peer == rank) continue;
      const std::span<std::byte> out = allocate(send.size()), in = allocate(recv.size());
      stream.copy(out.data(), send.data(), std::ssize(send));
      transfers_.push_back({peer, out, in});
      destinations_.push_back(recv);
    }
    if (!transfers_.empty()) stream.wait();
  }

  std::span<const Transfer> transfers() const { return transfers_; }
  /// Enqueues the copies of the received bytes to device memory. This object must live until the event is reached.
  Event copy_to_device() const {
    for (std::size_t i = 0; i < destinations_.size(); ++i)
      stream_.copy(destinations_[i].data(), transfers_[i].recv.data(), std::ssize(destinations_[i]));
    return Event(stream_);
  }

 private:
  Stream stream_;
  std::vector<Tensor> memory_;
  std::vector<Transfer> transfers_;
  std::vector<std::span<std::byte>> destinations_;
};

/// Exchanges whose wait() is over while their sends, which are copies, are in flight.
using SendsInFlight = std::deque<std::shared_ptr<Requests>>;

/// Staged transfers whose copies to the device are in flight, oldest first.
using DeviceCopies = std::deque<std::pair<Event, std::shared_ptr<StagedTransfers>>>;

class MpiTransport final : public Transport {
 public:
  MpiTransport(OwnedCommunicator comm, std::int64_t piece_bytes)
      : comm_(std::move(comm)), piece_bytes_(static_cast<std::size_t>(piece_bytes)) {
    mpi_check(MPI_Comm_set_errhandler(comm_.get(), MPI_ERRORS_RETURN));
    mpi_check(MPI_Comm_rank(comm_.get(), &rank_));
    mpi_check(MPI_Comm_size(comm_.get(), &size_));
  }

  ~MpiTransport() override {
    if (std::uncaught_exceptions() > 0) return;  // the peers may not receive any more
    try {
      for (const auto& requests : *sends_in_flight_) requests->wait_for_sends();
    } catch (...) {  // a destructor must not throw
    }
  }
  MpiTransport(const MpiTransport&) = delete;
  MpiTransport& operator=(const MpiTransport&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  Pending start(std::span<const Transfer> transfers, const Stream& stream) override {
    check_peers(transfers, size_);
    while (!sends_in_flight_->empty() && sends_in_flight_->front()->all_sent()) sends_in_flight_->pop_front();
    if (stream.device() == Device::cpu && sent_bytes(transfers) <= most_copied_bytes) {
      const auto requests = begin(transfers, true);
      exchange_with_self(transfers, rank_, stream);
      return Pending([requests, in_flight = sends_in_flight_] {
        requests->wait_for_receives();
        if (!requests->all_sent()) in_flight->push_back(requests);
      });
    }
    if (stream.device() == Device::cpu || mpi_accepts_device_memory()) {
      stream.wait();
      const auto requests = begin(transfers, false);
      exchange_with_self(transfers, rank_, stream);
      return Pending([requests] {
        requests->wait_for_receives();
        requests->wait_for_sends();
      });
    }
    while (!device_copies_->empty() && device_copies_->front().first.reached()) device_copies_->pop_front();
    exchange_with_self(transfers, rank_, stream);
    const auto staged = std::make_shared<StagedTransfers>(transfers, rank_, stream);
    return Pending([staged, requests = begin(staged->transfers(), false), device_copies = device_copies_] {
      requests->wait_for_receives();
      requests->wait_for_sends();
      device_copies->emplace_back(staged->copy_to_device(), staged);
    });
  }

  void all_gather(std::span<const std::byte> send, std::span<std::byte> recv, const Stream& stream) override {
    ensure(recv.size() == send.size() * static_cast<std::size_t>(size_),
           "all_gather: {} bytes from each rank into {} bytes on {} ranks", send.size(), recv.size(), size_);
    if (stream.device() != Device::cpu || recv.size() > piece_bytes_)
      return all_gather_by_exchange(*this, send, recv, stream);
    const int length = static_cast<int>(send.size());
    const bool in_place = send.data() == recv.data() + send.size() * static_cast<std::size_t>(rank_);
    mpi_check(MPI_Allgather(in_place ? MPI_IN_PLACE : send.data(), length, MPI_BYTE, recv.data(), length, MPI_BYTE,
                            comm_.get()));
  }

  void broadcast(std::span<std::byte> data, int root, const Stream& stream) override {
    if (stream.device() != Device::cpu) return broadcast_by_exchange(*this, data, root, stream);
    for_each_piece(data, [&](std::span<std::byte> piece) {
      mpi_check(MPI_Bcast(piece.data(), static_cast<int>(piece.size()), MPI_BYTE, root, comm_.get()));
    });
  }

  void all_reduce(void* data, std::int64_t count, DType type, Reduction op, const Stream& stream) override {
    all_reduce_in_rank_order(*this, data, count, type, op, stream);
  }
  void reduce_scatter(const void* send, void* recv, std::span<const std::int64_t> counts, DType type, Reduction op,
                      const Stream& stream) override {
    reduce_scatter_in_rank_order(*this, send, recv, counts, type, op, stream);
  }

  void barrier() override { mpi_check(MPI_Barrier(comm_.get())); }

  std::unique_ptr<Transport> split(int color, int key) override {
    MPI_Comm part = MPI_COMM_NULL;
    mpi_check(MPI_Comm_split(comm_.get(), color, key, &part));
    return std::make_unique<MpiTransport>(OwnedCommunicator(part), static_cast<std::int64_t>(piece_bytes_));
  }

  void abort(int exit_code) noexcept override {
    MPI_Abort(MPI_COMM_WORLD, exit_code);  // not the group's communicator: the other ranks would wait forever
    std::_Exit(exit_code);
  }

 private:
  static constexpr std::int64_t most_copied_bytes = 1 << 20;

  std::int64_t sent_bytes(std::span<const Transfer> transfers) const {
    std::int64_t bytes = 0;
    for (const Transfer& transfer : transfers)
      if (transfer.peer != rank_) bytes += std::ssize(transfer.send);
    return bytes;
  }
  /// Starts the messages; with `copied` the sends are copies, which the requests own.
  std::shared_ptr<Requests> begin(std::span<const Transfer> transfers, bool copied) const {
    auto requests = std::make_shared<Requests>();
    for (const auto& [peer, send, recv] : transfers)
      if (peer != rank_)
        for_each_piece(recv,
                       [&, from = peer](std::span<std::byte> piece) { requests->receive(piece, from, comm_.get()); });
    for (const auto& [peer, send, recv] : transfers)
      if (peer != rank_)
        for_each_piece(copied && !send.empty() ? requests->copy_of(send) : send,
                       [&, to = peer](std::span<const std::byte> piece) { requests->send(piece, to, comm_.get()); });
    return requests;
  }

  /// Calls body with consecutive pieces of at most piece_bytes.
  template <class Byte, class Body>
  void for_each_piece(std::span<Byte> bytes, Body body) const {
    for (; !bytes.empty(); bytes = bytes.subspan(std::min(bytes.size(), piece_bytes_)))
      body(bytes.first(std::min(bytes.size(), piece_bytes_)));
  }

  OwnedCommunicator comm_;
  std::shared_ptr<SendsInFlight> sends_in_flight_ = std::make_shared<SendsInFlight>();
  std::shared_ptr<DeviceCopies> device_copies_ = std::make_shared<DeviceCopies>();
  std::size_t piece_bytes_;
  int rank_ = 0, size_ = 1;
};

}  // namespace

void finish_mpi() noexcept {
  int initialized = 0, finalized = 0;
  if (MPI_Initialized(&initialized) != MPI_SUCCESS || initialized == 0) return;
  if (MPI_Finalized(&finalized) == MPI_SUCCESS && finalized == 0) MPI_Finalize();
}

bool mpi_accepts_device_memory() {
#if defined(MPIX_CUDA_AWARE_SUPPORT) && MPIX_CUDA_AWARE_SUPPORT
  return MPIX_Query_cuda_support() == 1;
#else
  return false;
#endif
}

std::unique_ptr<Transport> make_mpi_transport(std::int64_t piece_bytes) {
  ensure(piece_bytes >= 1 && piece_bytes <= std::numeric_limits<int>::max(),
         "MPI transport: pieces of {} bytes, expected 1 to 2^31 - 1", piece_bytes);
  int initialized = 0;
  mpi_check(MPI_Initialized(&initialized));
  if (initialized == 0) {
    int provided = 0;
    mpi_check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided));
    ensure(std::atexit([] { finish_mpi(); }) == 0, "atexit failed: MPI would not be finalised");
    ensure(provided >= MPI_THREAD_SERIALIZED, "MPI: thread level {}, expected MPI_THREAD_SERIALIZED ({})", provided,
           MPI_THREAD_SERIALIZED);
  }
  mpi_check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
  MPI_Comm world = MPI_COMM_NULL;
  mpi_check(MPI_Comm_dup(MPI_COMM_WORLD, &world));
  return std::make_unique<MpiTransport>(OwnedCommunicator(world), piece_bytes);
}

}  // namespace causeway
