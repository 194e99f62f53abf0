#include "tests/support/delaying_transport.hpp"

#include <time.h>

#include <algorithm>
#include <mutex>

#include "kernels/core/threads.hpp"
#include "parallel/transport/collectives.hpp"

namespace causeway::test {
namespace {

/// A rank's clock. A rank holds the lock of the only core while it computes.
class Clock final : public VirtualRank {
 public:
  explicit Clock(std::mutex& core) : core_(core) {}

  RankTime now() override {
    pause();
    compute();
    return time_;
  }
  void set_network(const Network& network) override { network_ = network; }
  void count_least(LeastSeconds* least) override {
    pause();
    least_ = least;
    part_ = 0;
    compute();
  }

  void compute() {
    core_.lock();
    resumed_ = processor_seconds();
  }
  void pause() {
    double spent = processor_seconds() - resumed_;
    core_.unlock();
    if (least_ != nullptr) {
      if (part_ == least_->size()) least_->push_back(spent);
      double& least = (*least_)[part_++];
      spent = least = std::min(least, spent);
    }
    time_.computing_s += spent;
    time_.total_s += spent;
  }
  /// The time at which a message that is sent now arrives.
  double send(std::int64_t bytes) {
    time_.bytes_sent += bytes;
    link_free_ = std::max(link_free_, time_.total_s) + static_cast<double>(bytes) * network_.seconds_a_byte;
    return link_free_ + network_.latency_s;
  }
  double link_free() const { return link_free_; }
  double paused_at() const { return time_.total_s; }
  void wait_until(double when) { time_.total_s = std::max(time_.total_s, when); }

 private:
  static double processor_seconds() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  }

  Network network_;
  std::mutex& core_;
  double resumed_ = 0, link_free_ = 0;
  LeastSeconds* least_ = nullptr;
  std::size_t part_ = 0;
  RankTime time_;
};

/// Stops the clock during the transport's work.
class Paused {
 public:
  explicit Paused(Clock& clock) : clock_(clock) { clock_.pause(); }
  ~Paused() { clock_.compute(); }
  Paused(const Paused&) = delete;
  Paused& operator=(const Paused&) = delete;

 private:
  Clock& clock_;
};

class DelayingTransport final : public ExchangingTransport {
 public:
  DelayingTransport(std::unique_ptr<Transport> inner, Clock& clock) : inner_(std::move(inner)), clock_(clock) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }

  /// Every message is followed by a second one that contains its arrival time.
  Pending start(std::span<const Transfer> transfers, const Stream& stream) override {
    const Paused paused(clock_);
    struct Flight {
      std::vector<double> departing, arriving;
      double sent = 0;
      Pending pending;
    };
    const auto flight = std::make_shared<Flight>();
    flight->departing.resize(transfers.size());
    flight->arriving.resize(transfers.size());
    std::vector<Transfer> stamped;
    for (std::size_t i = 0; i < transfers.size(); ++i) {
      const Transfer& transfer = transfers[i];
      stamped.push_back(transfer);
      if (transfer.peer == rank()) continue;
      Transfer stamp{.peer = transfer.peer, .send = {}, .recv = {}};
      if (!transfer.send.empty()) {
        flight->departing[i] = clock_.send(std::ssize(transfer.send));
        flight->sent = clock_.link_free();
        stamp.send = std::as_bytes(std::span(&flight->departing[i], 1));
      }
      if (!transfer.recv.empty()) stamp.recv = std::as_writable_bytes(std::span(&flight->arriving[i], 1));
      stamped.push_back(stamp);
    }
    flight->pending = inner_->start(stamped, stream);
    return Pending([flight, &clock = clock_] {
      const Paused waiting(clock);
      flight->pending.wait();
      for (const double arrival : flight->arriving) clock.wait_until(arrival);
      clock.wait_until(flight->sent);
    });
  }
  void barrier() override {
    const Paused paused(clock_);
    const double mine = clock_.paused_at();
    std::vector<double> all(static_cast<std::size_t>(size()));
    inner_->all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)), Stream());
    clock_.wait_until(std::ranges::max(all));
  }
  std::unique_ptr<Transport> split(int color, int key) override {
    const Paused paused(clock_);
    return std::make_unique<DelayingTransport>(inner_->split(color, key), clock_);
  }
  void abort(int exit_code) noexcept override { inner_->abort(exit_code); }

 private:
  std::unique_ptr<Transport> inner_;
  Clock& clock_;
};

}  // namespace

void in_virtual_time(int ranks, const std::function<void(Communicator& world, VirtualRank& self)>& body) {
  std::mutex core;
  run_local_ranks(ranks, [&](std::unique_ptr<Transport> transport) {
    set_threads(1);
    Clock clock(core);
    clock.compute();
    try {
      Communicator world(std::make_unique<DelayingTransport>(std::move(transport), clock));
      body(world, clock);
    } catch (...) {
      clock.pause();
      throw;
    }
    clock.pause();
  });
}

}  // namespace causeway::test
