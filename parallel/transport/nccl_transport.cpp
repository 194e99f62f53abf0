/// Ranks with a GPU each. NCCL sends from GPU to GPU on a queue: a second stream, in addition to the stream on which
/// the rank computes. start() makes the queue wait for the stream, Pending::wait() makes the stream wait for the queue.
/// The host waits for neither. Host memory and control messages use the control transport.
///
/// Every group has a queue of its own: the ranks of a relay wait for each other in their context group, while sums of
/// gradients wait in the world. On one queue, the first would be behind the second. NCCL's kernels of all groups run at
/// the same time, in less than half of a GPU's multiprocessors, so that none keeps another from starting.

#if CAUSEWAY_NCCL

#include <nccl.h>

#include <algorithm>
#include <source_location>
#include <vector>

#include "kernels/core/error.hpp"
#include "kernels/core/event.hpp"
#include "parallel/transport/collectives.hpp"
#include "parallel/transport/device_transport.hpp"

namespace causeway {
namespace {

void nccl_check(ncclResult_t result, std::source_location where = std::source_location::current()) {
  if (result == ncclSuccess || result == ncclInProgress) return;
  const char* const detail = ncclGetLastError(nullptr);
  const std::string text =
      fmt::format("{}:{}: NCCL: {}{}{}", where.file_name(), where.line(), ncclGetErrorString(result),
                  detail != nullptr && *detail != '\0' ? ": " : "", detail != nullptr ? detail : "");
  if (result == ncclRemoteError) throw PeerFailed(ExitCode::internal, text);
  throw Error(ExitCode::internal, text);
}

/// The calls between ncclGroupStart and ncclGroupEnd, which NCCL starts together. If one of them fails, the exception
/// closes the group too: left open, it would swallow every later call of this thread. NCCL starts nothing of a group
/// in which a call has failed.
class NcclGroupCall {
 public:
  NcclGroupCall() { nccl_check(ncclGroupStart()); }
  ~NcclGroupCall() {
    if (open_) ncclGroupEnd();
  }
  NcclGroupCall(const NcclGroupCall&) = delete;
  NcclGroupCall& operator=(const NcclGroupCall&) = delete;
  void end() {
    open_ = false;
    nccl_check(ncclGroupEnd());
  }

 private:
  bool open_ = true;
};

/// The open NCCL communicators of all groups of a rank, to check or abort all of them.
class NcclGroups {
 public:
  void add(ncclComm_t comm) { open_.push_back(comm); }
  /// While an exception unwinds, ncclCommDestroy might wait for peers that do not close theirs: abort instead.
  void close(ncclComm_t comm) noexcept {
    if (std::erase(open_, comm) == 0) return;
    std::uncaught_exceptions() > 0 ? ncclCommAbort(comm) : ncclCommDestroy(comm);
  }
  /// Throws if a communicator has failed.
  void check() const {
    for (const ncclComm_t comm : open_) {
      ncclResult_t state = ncclSuccess;
      nccl_check(ncclCommGetAsyncError(comm, &state));
      nccl_check(state);
    }
  }
  void abort() noexcept {
    for (const ncclComm_t comm : open_) ncclCommAbort(comm);
    open_.clear();
  }

 private:
  std::vector<ncclComm_t> open_;
};

class NcclTransport final : public Transport {
 public:
  NcclTransport(std::unique_ptr<Transport> control, std::shared_ptr<NcclGroups> groups, ncclComm_t comm,
                const Stream& stream)
      : control_(std::move(control)), groups_(std::move(groups)), comm_(comm), queue_(stream.side_stream()) {
    groups_->add(comm_);
  }
  ~NcclTransport() override { groups_->close(comm_); }
  NcclTransport(const NcclTransport&) = delete;
  NcclTransport& operator=(const NcclTransport&) = delete;

  int rank() const override { return control_->rank(); }
  int size() const override { return control_->size(); }

  Pending start(std::span<const Transfer> transfers, const Stream& stream) override {
    if (stream.device() == Device::cpu) return control_->start(transfers, stream);
    check_peers(transfers, size());
    const bool leaves = std::ranges::any_of(transfers, [&](const Transfer& transfer) {
      return transfer.peer != rank() && !(transfer.send.empty() && transfer.recv.empty());
    });
    Pending pending;
    if (leaves) {
      pending = on_queue(stream, [&](cudaStream_t queue) {
        NcclGroupCall group;
        for (const auto& [peer, send, recv] : transfers) {
          if (peer == rank()) continue;
          if (!send.empty()) nccl_check(ncclSend(send.data(), send.size(), ncclUint8, peer, comm_, queue));
          if (!recv.empty()) nccl_check(ncclRecv(recv.data(), recv.size(), ncclUint8, peer, comm_, queue));
        }
        group.end();
      });
    }
    exchange_with_self(transfers, rank(), stream);
    return pending;
  }

  void all_gather(std::span<const std::byte> send, std::span<std::byte> recv, const Stream& stream) override {
    if (stream.device() == Device::cpu) return control_->all_gather(send, recv, stream);
    ensure(recv.size() == send.size() * static_cast<std::size_t>(size()),
           "all_gather: {} bytes from each rank into {} bytes on {} ranks", send.size(), recv.size(), size());
    if (send.empty()) return;
    on_queue(stream, [&](cudaStream_t queue) {
      nccl_check(ncclAllGather(send.data(), recv.data(), send.size(), ncclUint8, comm_, queue));
    }).wait();
  }

  void broadcast(std::span<std::byte> data, int root, const Stream& stream) override {
    if (stream.device() == Device::cpu) return control_->broadcast(data, root, stream);
    if (data.empty()) return;
    on_queue(stream, [&](cudaStream_t queue) {
      nccl_check(ncclBroadcast(data.data(), data.data(), data.size(), ncclUint8, root, comm_, queue));
    }).wait();
  }

  /// NCCL's reduction does not add in rank order, as Transport promises. A sum of two has only one order.
  void all_reduce(void* data, std::int64_t count, DType type, Reduction op, const Stream& stream) override {
    if (stream.device() == Device::cpu) return control_->all_reduce(data, count, type, op, stream);
    if (!is_sum_of_two_ranks(type, op)) return all_reduce_in_rank_order(*this, data, count, type, op, stream);
    if (count == 0) return;
    on_queue(stream, [&](cudaStream_t queue) {
      nccl_check(ncclAllReduce(data, data, static_cast<std::size_t>(count), native_type(type), ncclSum, comm_, queue));
    }).wait();
  }

  void reduce_scatter(const void* send, void* recv, std::span<const std::int64_t> counts, DType type, Reduction op,
                      const Stream& stream) override {
    if (stream.device() == Device::cpu) return control_->reduce_scatter(send, recv, counts, type, op, stream);
    if (!is_sum_of_two_ranks(type, op) || counts.front() != counts.back())
      return reduce_scatter_in_rank_order(*this, send, recv, counts, type, op, stream);
    if (counts.front() == 0) return;
    on_queue(stream, [&](cudaStream_t queue) {
      nccl_check(ncclReduceScatter(send, recv, static_cast<std::size_t>(counts.front()), native_type(type), ncclSum,
                                   comm_, queue));
    }).wait();
  }

  void barrier() override { control_->barrier(); }

  std::unique_ptr<Transport> split(int color, int key) override {
    std::unique_ptr<Transport> part = control_->split(color, key);
    // Ordered by the rank in the new group: with `key` NCCL might break ties differently.
    ncclComm_t comm = nullptr;
    nccl_check(ncclCommSplit(comm_, color, part->rank(), &comm, nullptr));
    return std::make_unique<NcclTransport>(std::move(part), groups_, comm, queue_);
  }

  void abort(int exit_code) noexcept override {
    groups_->abort();
    control_->abort(exit_code);
  }

 private:
  bool is_sum_of_two_ranks(DType type, Reduction op) const {
    return size() == 2 && op == Reduction::sum && (type == DType::f32 || type == DType::f64);
  }
  static ncclDataType_t native_type(DType type) { return type == DType::f64 ? ncclFloat64 : ncclFloat32; }

  /// Calls enqueue(queue); the enqueued work starts after all work now on the stream. The handle's wait() makes the
  /// stream wait for it.
  template <class Enqueue>
  Pending on_queue(const Stream& stream, const Enqueue& enqueue) {
    Event(stream).block(queue_);
    enqueue(static_cast<cudaStream_t>(queue_.native()));
    return Pending([done = Event(queue_), stream] { done.block(stream); });
  }

  std::unique_ptr<Transport> control_;
  std::shared_ptr<NcclGroups> groups_;
  ncclComm_t comm_;
  Stream queue_;
};

}  // namespace

std::unique_ptr<Transport> make_nccl_transport(std::unique_ptr<Transport> control, const Stream& stream) {
  ensure(stream.device() == Device::cuda, "NCCL: the stream is on device {}, expected cuda", name_of(stream.device()));
  ncclUniqueId id{};
  if (control->rank() == 0) nccl_check(ncclGetUniqueId(&id));
  control->broadcast(std::as_writable_bytes(std::span(&id, 1)), 0, Stream());
  ncclComm_t comm = nullptr;
  nccl_check(ncclCommInitRank(&comm, control->size(), id, control->rank()));
  const auto groups = std::make_shared<NcclGroups>();
  // While the host waits for the stream, check that no peer has failed: the stream might wait for it forever.
  check_while_waiting(stream, [groups = std::weak_ptr(groups)] {
    if (const auto open = groups.lock()) open->check();
  });
  return std::make_unique<NcclTransport>(std::move(control), groups, comm, stream);
}

}  // namespace causeway

#endif
