/// Ranks as threads of one process: for tests, sanitizers and machines without MPI. A message is copied twice: by the
/// sender into a Message, which the channel owns, and by the receiver out of it. So no thread reads memory that another
/// thread may be writing. On GPUs both are device copies, each on the stream of its rank, with events between them; a
/// thread waits for another only until the message has been enqueued.

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

/// Shared by all groups of one run_local_ranks: the lock, and the flag that ends every wait.
struct LocalJob {
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<int> aborted;  // the exit code given to abort()

  template <class Condition>
  void wait(std::unique_lock<std::mutex>& lock, Condition holds) {
    changed.wait(lock, [&] { return aborted.has_value() || holds(); });
    // A message that has arrived is still delivered after an abort, so that ranks that agree on an error all learn of
    // it.
    if (!holds()) throw PeerFailed(static_cast<ExitCode>(*aborted), "another rank ended the job");
  }
  void abort(int exit_code) noexcept {
    const std::lock_guard lock(mutex);
    if (!aborted) aborted = exit_code;
    changed.notify_all();
  }
};

/// A message that was sent and not yet received: a copy in host memory, or in the memory of the sender's device.
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
  void copy_to(std::span<std::byte> into, const Stream& receiver) const {
    if (!device_) {
      std::copy(host_.begin(), host_.end(), into.begin());
      return;
    }
    device_->written.block(receiver);
    receiver.copy(into.data(), device_->content.view().data, std::ssize(into));
    Event(receiver).block(device_->sender);  // the sender's stream may free the copy only after this read
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

/// The messages from one rank to another, numbered in the order in which each side started them.
struct Channel {
  std::int64_t sent = 0, expected = 0;
  std::map<std::int64_t, Message> arrived;
};

/// A group of ranks: its channels, its barrier and the groups split off from it.
struct LocalGroup {
  LocalGroup(std::shared_ptr<LocalJob> of, int ranks)
      : job(std::move(of)), size(ranks), channels(static_cast<std::size_t>(ranks) * static_cast<std::size_t>(ranks)) {}

  std::shared_ptr<LocalJob> job;  // its mutex guards everything below
  int size;
  std::vector<Channel> channels;
  int waiting = 0;            // ranks in the current barrier
  std::int64_t barriers = 0;  // barriers completed
  struct Child {
    std::shared_ptr<LocalGroup> group;
    int joined = 0;  // ranks that have their transport already
  };
  std::map<std::pair<std::int64_t, int>, Child> children;  // by (number of the split, color)

  Channel& channel(int from, int to) { return channels[static_cast<std::size_t>(std::int64_t{from} * size + to)]; }
};

/// A receive that was started: message `number` from `peer` is written to `into`.
struct ExpectedMessage {
  int peer;
  std::int64_t number;
  std::span<std::byte> into;
};

class LocalTransport final : public ExchangingTransport {
 public:
  LocalTransport(std::shared_ptr<LocalGroup> group, int rank) : group_(std::move(group)), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return group_->size; }

  Pending start(std::span<const Transfer> transfers, const Stream& stream) override {
    check_peers(transfers, size());
    std::vector<ExpectedMessage> messages;
    for (const Transfer& transfer : transfers) {
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
        messages.push_back({transfer.peer, group_->channel(transfer.peer, rank_).expected++, transfer.recv});
    }
    exchange_with_self(transfers, rank_, stream);
    return Pending([group = group_, rank = rank_, messages = std::move(messages), stream] {
      for (const ExpectedMessage& expected : messages) wait_for_message(*group, rank, expected, stream);
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
    LocalGroup::Child& child = group_->children[name];
    if (child.group == nullptr) child.group = std::make_shared<LocalGroup>(group_->job, members);
    auto transport = std::make_unique<LocalTransport>(child.group, position);
    if (++child.joined == members) group_->children.erase(name);
    return transport;
  }

  void abort(int exit_code) noexcept override { group_->job->abort(exit_code); }

 private:
  static void wait_for_message(LocalGroup& group, int rank, const ExpectedMessage& expected, const Stream& stream) {
    std::unique_lock lock(group.job->mutex);
    auto& arrived = group.channel(expected.peer, rank).arrived;
    group.job->wait(lock, [&] { return arrived.contains(expected.number); });
    const Message message = std::move(arrived.extract(expected.number).mapped());
    lock.unlock();
    ensure(message.size() == expected.into.size(), "rank {} sent {} bytes to rank {}, which expects {}", expected.peer,
           message.size(), rank, expected.into.size());
    message.copy_to(expected.into, stream);
  }

  std::shared_ptr<LocalGroup> group_;
  int rank_;
  std::int64_t splits_ = 0;
};

}  // namespace

void run_local_ranks(int ranks, const std::function<void(std::unique_ptr<Transport>)>& body) {
  require(ranks >= 1, "local transport: {} ranks, expected at least 1", ranks);
  const auto job = std::make_shared<LocalJob>();
  const auto group = std::make_shared<LocalGroup>(job, ranks);
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
