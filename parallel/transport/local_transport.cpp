/// Ranks as threads of one process: for tests, sanitizers and machines without MPI. A message is copied on its way in
/// and on its way out and belongs to the mailbox in between, so that no thread ever reads memory another one may be
/// writing. On GPUs both are device copies, each on its rank's stream, with events between them; threads wait for one
/// another only until a message is on its way.

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "kernels/core/error.hpp"
#include "kernels/core/event.hpp"
#include "kernels/core/tensor.hpp"
#include "parallel/transport/collectives.hpp"
#include "parallel/transport/transport.hpp"

namespace causeway {
namespace {

/// What all groups of one run share: one lock, and the flag that releases every wait.
struct Job {
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<int> aborted;  // the exit code

  template <class Condition>
  void wait(std::unique_lock<std::mutex>& lock, Condition holds) {
    changed.wait(lock, [&] { return aborted.has_value() || holds(); });
    if (!holds())
      throw PeerFailed(static_cast<ExitCode>(*aborted),
                       "another rank ended the job");  // what has arrived is still delivered: ranks that agreed to fail
                                                       // all get to know
  }
  void abort(int exit_code) noexcept {
    const std::lock_guard lock(mutex);
    if (!aborted) aborted = exit_code;
    changed.notify_all();
  }
};

/// What waits to be taken, in host memory or in the sender's on a device.
class Message {
 public:
  Message(std::span<const std::byte> content, const Stream& sender) : size_(content.size()) {
    if (sender.device() == Device::cpu) {
      host_.assign(content.begin(), content.end());
      return;
    }
    Tensor copy(sender, DType::u8, {std::ssize(content)});
    sender.copy(copy.view().data, content.data(), std::ssize(content));
    device_.emplace(OnDevice{std::move(copy), sender, Event(sender)});
  }

  std::size_t size() const { return size_; }
  void take(std::span<std::byte> into, const Stream& receiver) const {
    if (!device_) {
      std::copy(host_.begin(), host_.end(), into.begin());
      return;
    }
    device_->written.block(receiver);
    receiver.copy(into.data(), device_->content.view().data, std::ssize(into));
    Event(receiver).block(device_->sender);  // in whose order the memory is given back
  }

 private:
  struct OnDevice {
    Tensor content;
    Stream sender;
    Event written;
  };
  std::size_t size_;
  std::vector<std::byte> host_;
  std::optional<OnDevice> device_;
};

/// The messages from one rank to another, numbered in the order in which they were started on either side.
struct Channel {
  std::int64_t sent = 0, expected = 0;
  std::map<std::int64_t, Message> arrived;
};

struct Group {
  Group(std::shared_ptr<Job> of, int ranks)
      : job(std::move(of)), size(ranks), channels(static_cast<std::size_t>(ranks) * static_cast<std::size_t>(ranks)) {}

  std::shared_ptr<Job> job;  // whose mutex guards everything below
  int size;
  std::vector<Channel> channels;
  int waiting = 0;
  std::int64_t barriers = 0;
  struct Child {
    std::shared_ptr<Group> group;
    int taken = 0;
  };
  std::map<std::pair<std::int64_t, int>, Child> children;  // by (number of the split, color)

  Channel& channel(int from, int to) { return channels[static_cast<std::size_t>(std::int64_t{from} * size + to)]; }
};

struct Receive {
  int peer;
  std::int64_t number;
  std::span<std::byte> into;
};

class LocalTransport final : public ExchangingTransport {
 public:
  LocalTransport(std::shared_ptr<Group> group, int rank) : group_(std::move(group)), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return group_->size; }

  Pending start(std::span<const Transfer> transfers, const Stream& stream) override {
    std::vector<Receive> receives;
    for (const Transfer& transfer : transfers) {
      ensure(transfer.peer >= 0 && transfer.peer < size(), "transfer with rank {} of {}", transfer.peer, size());
      if (transfer.peer == rank_) continue;
      std::optional<Message> message;
      if (!transfer.send.empty()) message.emplace(transfer.send, stream);
      const std::lock_guard lock(group_->job->mutex);
      if (message) {
        Channel& out = group_->channel(rank_, transfer.peer);
        out.arrived.emplace(out.sent++, std::move(*message));
        group_->job->changed.notify_all();
      }
      if (!transfer.recv.empty())
        receives.push_back({transfer.peer, group_->channel(transfer.peer, rank_).expected++, transfer.recv});
    }
    exchange_with_self(transfers, rank_, stream);
    return Pending([group = group_, rank = rank_, receives = std::move(receives), stream] {
      for (const Receive& receive : receives) take(*group, rank, receive, stream);
    });
  }

  void barrier() override {
    std::unique_lock lock(group_->job->mutex);
    const std::int64_t number = group_->barriers;
    if (++group_->waiting == size()) {
      group_->waiting = 0;
      ++group_->barriers;
      group_->job->changed.notify_all();
    } else {
      group_->job->wait(lock, [&] { return group_->barriers != number; });
    }
  }

  std::unique_ptr<Transport> split(int color, int key) override {
    struct Choice {
      int color, key;
    };
    const Choice mine{color, key};
    std::vector<Choice> choices(static_cast<std::size_t>(size()));
    all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(choices)), Stream());
    int members = 0, position = 0;
    for (int peer = 0; peer < size(); ++peer) {
      const Choice& other = choices[static_cast<std::size_t>(peer)];
      if (other.color != color) continue;
      ++members;
      if (std::tie(other.key, peer) < std::tie(key, rank_)) ++position;
    }
    const std::lock_guard lock(group_->job->mutex);
    const std::pair name{splits_++, color};
    Group::Child& child = group_->children[name];
    if (child.group == nullptr) child.group = std::make_shared<Group>(group_->job, members);
    auto transport = std::make_unique<LocalTransport>(child.group, position);
    if (++child.taken == members) group_->children.erase(name);
    return transport;
  }

  void abort(int exit_code) noexcept override { group_->job->abort(exit_code); }

 private:
  static void take(Group& group, int rank, const Receive& receive, const Stream& stream) {
    std::unique_lock lock(group.job->mutex);
    auto& arrived = group.channel(receive.peer, rank).arrived;
    group.job->wait(lock, [&] { return arrived.contains(receive.number); });
    const Message message = std::move(arrived.extract(receive.number).mapped());
    lock.unlock();
    ensure(message.size() == receive.into.size(), "rank {} sent {} bytes to rank {}, which expects {}", receive.peer,
           message.size(), rank, receive.into.size());
    message.take(receive.into, stream);
  }

  std::shared_ptr<Group> group_;
  int rank_;
  std::int64_t splits_ = 0;
};

}  // namespace

void run_local_ranks(int ranks, const std::function<void(std::unique_ptr<Transport>)>& body) {
  require(ranks >= 1, "{} ranks, expected at least 1", ranks);
  const auto job = std::make_shared<Job>();
  const auto group = std::make_shared<Group>(job, ranks);
  std::vector<std::exception_ptr> failures(static_cast<std::size_t>(ranks)), released(static_cast<std::size_t>(ranks));
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < ranks; ++rank) {
      threads.emplace_back([&, rank] {
        try {
          body(std::make_unique<LocalTransport>(group, rank));
        } catch (const PeerFailed&) {
          released[static_cast<std::size_t>(rank)] = std::current_exception();
        } catch (...) {
          failures[static_cast<std::size_t>(rank)] = std::current_exception();
          job->abort(static_cast<int>(ExitCode::internal));
        }
      });
    }
  }
  for (const auto& list : {failures, released})
    for (const std::exception_ptr& failure : list)
      if (failure != nullptr) std::rethrow_exception(failure);
}

}  // namespace causeway
