#include "parallel/simulation/simulate.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <deque>
#include <optional>
#include <string>

#include "kernels/core/error.hpp"

namespace causeway {
namespace {

enum Port : std::uint8_t { over_island, over_network };

/// When each of a rank's ports has done so much.
using Ports = std::array<double, 2>;

/// The messages of one start() of a rank.
struct Exchange {
  std::uint32_t list = 0;    // of the recording
  bool active = false;       // its messages are on their way
  bool waited = false;       // the rank has waited for it
  std::int64_t open = 0;     // messages whose other side is missing
  double begin_s = 0;        // when the rank started it; then, when it became active
  double complete_s = 0;     // when all is sent and received
  Ports sent_s{}, room_s{};  // when all has left; when the rank has had time to receive all
};

struct RankState {
  RankState(const Recording& recording, int rank) : reader(recording, rank) {}
  Recording::Reader reader;
  double clock_s = 0;
  std::optional<std::uint32_t> waits_for;  // a start
  std::uint32_t first = 0;                 // the start that is exchanges.front()
  std::uint32_t next_active = 0;
  std::deque<Exchange> exchanges;  // until the rank has waited for them
  Ports sending{}, receiving{};    // when the ports are free

  Exchange& exchange(std::uint32_t start) { return exchanges[start - first]; }
  const Exchange& exchange(std::uint32_t start) const { return exchanges[start - first]; }
  std::uint32_t started() const { return first + static_cast<std::uint32_t>(exchanges.size()); }
  bool ended() const { return reader.at_end() && !waits_for; }
};

/// A message of which only one side is there.
struct Side {
  std::int64_t bytes;
  double at_s;          // when it has left its sender; when its receiver became active
  std::uint32_t start;  // of its rank
  std::uint32_t next;   // of the same channel, or `none`
  bool sent;
};
constexpr std::uint32_t none = ~std::uint32_t{0};

class Simulator {
 public:
  Simulator(const Recording& recording, const Network& network, Delivery delivery)
      : recording_(recording),
        network_(network),
        in_order_(delivery == Delivery::in_order),
        size_(recording.ranks()),
        channels_(static_cast<std::size_t>(size_) * static_cast<std::size_t>(size_)) {
    result_.ranks.resize(static_cast<std::size_t>(size_));
    for (int rank = 0; rank < size_; ++rank) {
      ranks_.emplace_back(recording, rank);
      runnable_.push_back(rank);
    }
  }

  Simulation run() {
    while (!runnable_.empty() || !completed_.empty()) {
      if (completed_.empty()) {
        const int rank = runnable_.front();
        runnable_.pop_front();
        take_steps(rank);
        continue;
      }
      const auto [rank, start] = completed_.back();
      completed_.pop_back();
      finish(rank, start);
    }
    require_complete();
    for (int rank = 0; rank < size_; ++rank) result_.ranks[static_cast<std::size_t>(rank)].end_s = state(rank).clock_s;
    return std::move(result_);
  }

 private:
  struct Channel {
    std::uint32_t first = none, last = none;
  };
  struct Completed {
    int rank;
    std::uint32_t start;
  };

  RankState& state(int rank) { return ranks_[static_cast<std::size_t>(rank)]; }
  const RankState& state(int rank) const { return ranks_[static_cast<std::size_t>(rank)]; }
  Channel& channel(int from, int to) { return channels_[static_cast<std::size_t>(std::int64_t{to} * size_ + from)]; }
  const Channel& channel(int from, int to) const {
    return channels_[static_cast<std::size_t>(std::int64_t{to} * size_ + from)];
  }
  int peer_of(int rank, const RecordedMessage& message) const { return (rank + message.distance) % size_; }
  Port port_between(int a, int b) const { return network_.same_island(a, b) ? over_island : over_network; }
  const Network::Way& way(Port port) const { return port == over_island ? network_.island : network_.network; }

  void take_steps(int rank) {
    RankState& self = state(rank);
    while (true) {
      if (self.waits_for) {
        Exchange& awaited = self.exchange(*self.waits_for);
        if (!awaited.active || awaited.open > 0) return;
        const double until = std::max(self.clock_s, awaited.complete_s);
        result_.ranks[static_cast<std::size_t>(rank)].waiting_s += until - self.clock_s;
        self.clock_s = until;
        awaited.waited = true;
        self.waits_for.reset();
        for (; !self.exchanges.empty() && self.exchanges.front().waited; ++self.first) self.exchanges.pop_front();
      }
      if (self.reader.at_end()) return;
      const RecordedStep step = self.reader.next();
      if (!step.starts) {
        self.waits_for = step.index;
        continue;
      }
      self.exchanges.push_back({.list = step.index, .begin_s = self.clock_s});
      ++result_.ranks[static_cast<std::size_t>(rank)].starts;
      activate_next(rank);
    }
  }

  /// In order, an exchange becomes active when the one before it is complete.
  void activate_next(int rank) {
    RankState& self = state(rank);
    while (self.next_active < self.started()) {
      double free_s = 0;
      if (in_order_ && self.next_active > self.first) {
        const Exchange& before = self.exchange(self.next_active - 1);
        if (before.open > 0) return;
        free_s = before.complete_s;
      }
      activate(rank, self.next_active++, free_s);
    }
  }

  void activate(int rank, std::uint32_t start, double free_s) {
    RankState& self = state(rank);
    Exchange& exchange = self.exchange(start);
    SimulatedRank& counted = result_.ranks[static_cast<std::size_t>(rank)];
    const auto messages = recording_.messages(exchange.list);
    exchange.active = true;
    exchange.begin_s = exchange.complete_s = std::max(exchange.begin_s, free_s);
    Ports sending{}, receiving{};  // seconds that the messages occupy each port
    for (const RecordedMessage& message : messages) {
      const int peer = peer_of(rank, message);
      const Port port = port_between(rank, peer);
      const double spread = network_.same_leaf(rank, peer) ? 1 : network_.oversubscription;
      (message.sent ? sending : receiving)[port] +=
          way(port).message_s + static_cast<double>(message.bytes) * spread / way(port).bytes_per_s;
      if (in_order_ || !message.sent) ++exchange.open;
      if (!message.sent) continue;
      counted.bytes_sent += message.bytes;
      ++counted.messages_sent;
      if (port == over_network) counted.network_bytes += message.bytes;
    }
    for (const Port port : {over_island, over_network}) {
      if (sending[port] > 0) self.sending[port] = std::max(self.sending[port], exchange.begin_s) + sending[port];
      if (receiving[port] > 0)
        self.receiving[port] = std::max(self.receiving[port], exchange.begin_s) + receiving[port];
      exchange.sent_s[port] = self.sending[port];
      exchange.room_s[port] = self.receiving[port];
      if (sending[port] > 0) exchange.complete_s = std::max(exchange.complete_s, exchange.sent_s[port]);
      if (receiving[port] > 0) exchange.complete_s = std::max(exchange.complete_s, exchange.room_s[port]);
    }
    const bool waits = exchange.open > 0;
    for (const RecordedMessage& message : messages) post(rank, start, message);
    if (!waits) completed_.push_back({rank, start});
  }

  /// Puts a message beside its other side, or lets it wait for that.
  void post(int rank, std::uint32_t start, const RecordedMessage& message) {
    const int peer = peer_of(rank, message);
    const Exchange& exchange = state(rank).exchange(start);
    const Side side{.bytes = message.bytes,
                    .at_s = message.sent ? exchange.sent_s[port_between(rank, peer)] : exchange.begin_s,
                    .start = start,
                    .next = none,
                    .sent = message.sent};
    Channel& between = message.sent ? channel(rank, peer) : channel(peer, rank);
    if (between.first == none || sides_[between.first].sent == side.sent) return add(side, between);
    const Side other = take_first(between);
    if (side.sent)
      deliver(rank, side, peer, other);
    else
      deliver(peer, other, rank, side);
  }

  void add(const Side& side, Channel& between) {
    std::uint32_t added = unused_;
    if (added == none) {
      added = static_cast<std::uint32_t>(sides_.size());
      sides_.push_back(side);
    } else {
      unused_ = sides_[added].next;
      sides_[added] = side;
    }
    (between.first == none ? between.first : sides_[between.last].next) = added;
    between.last = added;
  }

  Side take_first(Channel& between) {
    const std::uint32_t first = between.first;
    const Side side = sides_[first];
    between.first = side.next;
    sides_[first].next = unused_;
    unused_ = first;
    return side;
  }

  void deliver(int from, const Side& sent, int to, const Side& expected) {
    ensure(sent.bytes == expected.bytes, "simulation: rank {} sends {} bytes to rank {}, which expects {}", from,
           sent.bytes, to, expected.bytes);
    const Network::Way& by = way(port_between(from, to));
    double left_s = sent.at_s;
    // In order, the bytes move when the receiver is there, too.
    if (in_order_) left_s = std::max(left_s, expected.at_s + static_cast<double>(sent.bytes) / by.bytes_per_s);
    const double arrival_s = left_s + by.latency_s + (network_.same_leaf(from, to) ? 0 : network_.across_s);
    complete_message(to, expected.start, arrival_s);
    if (in_order_) complete_message(from, sent.start, arrival_s);
  }

  void complete_message(int rank, std::uint32_t start, double at_s) {
    Exchange& exchange = state(rank).exchange(start);
    exchange.complete_s = std::max(exchange.complete_s, at_s);
    if (--exchange.open == 0) completed_.push_back({rank, start});
  }

  void finish(int rank, std::uint32_t start) {
    if (state(rank).waits_for == start) runnable_.push_back(rank);
    activate_next(rank);
  }

  /// "rank 3 waits for 64 bytes of rank 2, which has ended", for a rank that cannot go on.
  std::string complaint(int rank) const {
    const RankState& self = state(rank);
    // In order, the one before it may be the one that never completes.
    const std::uint32_t start = in_order_ ? self.next_active - 1 : *self.waits_for;
    for (const RecordedMessage& message : recording_.messages(self.exchange(start).list)) {
      const int peer = peer_of(rank, message);
      const Channel& between = message.sent ? channel(rank, peer) : channel(peer, rank);
      for (std::uint32_t side = between.first; side != none; side = sides_[side].next)
        if (sides_[side].start == start && sides_[side].sent == message.sent)
          return fmt::format("rank {} {} {} bytes {} rank {}{}", rank, message.sent ? "sends" : "waits for",
                             message.bytes, message.sent ? "to" : "from", peer,
                             state(peer).ended() ? ", which has ended" : ", which waits");
    }
    return fmt::format("rank {} waits", rank);
  }

  void require_complete() const {
    std::vector<std::string> stuck;
    std::int64_t count = 0;
    for (const bool peer_has_ended : {true, false})  // the first cause first
      for (int rank = 0; rank < size_; ++rank) {
        if (state(rank).ended()) continue;
        std::string text = complaint(rank);
        if (text.ends_with("ended") != peer_has_ended) continue;
        if (++count <= most_named) stuck.push_back(std::move(text));
      }
    ensure(count == 0, "deadlock: {} of {} ranks wait for ever: {}{}", count, size_, fmt::join(stuck, "; "),
           count > most_named ? "; …" : "");
    for (int to = 0; to < size_; ++to)
      for (int from = 0; from < size_; ++from)
        ensure(channel(from, to).first == none, "rank {} sends {} bytes to rank {}, which never receives them", from,
               sides_[channel(from, to).first].bytes, to);
  }

  static constexpr std::int64_t most_named = 6;
  const Recording& recording_;
  const Network& network_;
  const bool in_order_;
  const int size_;
  std::vector<RankState> ranks_;
  std::vector<Channel> channels_;  // by receiver, then sender
  std::vector<Side> sides_;
  std::uint32_t unused_ = none;  // the first of the sides that are free
  std::deque<int> runnable_;
  std::vector<Completed> completed_;
  Simulation result_;
};

template <class Member>
Member sum_of(const std::vector<SimulatedRank>& ranks, Member SimulatedRank::*member) {
  Member sum{};
  for (const SimulatedRank& rank : ranks) sum += rank.*member;
  return sum;
}

template <class Member>
Member most_of(const std::vector<SimulatedRank>& ranks, Member SimulatedRank::*member) {
  return std::ranges::max(ranks, {}, member).*member;
}

}  // namespace

double Simulation::seconds() const { return most_of(ranks, &SimulatedRank::end_s); }
double Simulation::mean_waiting_s() const {
  return sum_of(ranks, &SimulatedRank::waiting_s) / static_cast<double>(ranks.size());
}
std::int64_t Simulation::bytes() const { return sum_of(ranks, &SimulatedRank::bytes_sent); }
std::int64_t Simulation::most_bytes() const { return most_of(ranks, &SimulatedRank::bytes_sent); }
std::int64_t Simulation::messages() const { return sum_of(ranks, &SimulatedRank::messages_sent); }
std::int64_t Simulation::most_messages() const { return most_of(ranks, &SimulatedRank::messages_sent); }
double Simulation::balance() const {
  const auto mean = static_cast<double>(bytes()) / static_cast<double>(ranks.size());
  return mean == 0 ? 1 : static_cast<double>(most_bytes()) / mean;
}

Simulation simulate(const Recording& recording, const Network& network, Delivery delivery) {
  return Simulator(recording, network, delivery).run();
}

}  // namespace causeway
