#include "parallel/transport/communicator.hpp"

#include <optional>

#include "kernels/core/error_of.hpp"
#include "kernels/core/event.hpp"
#include "kernels/core/trace.hpp"

namespace causeway {

/// The traffic counted so far, and the intervals whose end the stream has not reached yet. Events measure time on the
/// CPU and on a GPU.
struct Communicator::Record {
  Traffic traffic;
  Trace* trace = nullptr;

  /// The time from `begin` to `end` is added to `kind`, exposed or hidden.
  struct Interval {
    Event begin, end;
    double Traffic::*kind;
  };
  std::deque<Interval> intervals;  // oldest first

  void add(const Event& begin, const Event& end, double Traffic::*kind) {
    intervals.push_back({begin, end, kind});
    count_finished_intervals();
  }
  void trace_span(std::string_view name, TraceLane lane, const Event& begin, const Event& end, std::int64_t bytes) {
    if (trace != nullptr) trace->add(name, "exchange", lane, begin, end, bytes);
  }
  void count_finished_intervals() {
    for (; !intervals.empty() && intervals.front().end.reached(); intervals.pop_front())
      traffic.*(intervals.front().kind) += intervals.front().end.seconds_since(intervals.front().begin);
  }
};

class Communicator::TimedCall {
 public:
  TimedCall(Communicator& ranks, std::string_view name, const Stream& stream, std::int64_t bytes, std::int64_t messages)
      : record_(*ranks.record_), name_(name), stream_(stream), bytes_(bytes), begin_(stream, true) {
    record_.traffic.bytes_sent += bytes;
    record_.traffic.messages_sent += messages;
  }
  TimedCall(const TimedCall&) = delete;
  TimedCall& operator=(const TimedCall&) = delete;
  ~TimedCall() noexcept(false) {
    if (std::uncaught_exceptions() > 0) return;
    const Event end(stream_, true);
    record_.add(begin_, end, &Traffic::exposed_s);
    record_.trace_span(name_, lane_of(stream_), begin_, end, bytes_);
  }

 private:
  const ProfileRange range_{"communication"};
  Record& record_;
  std::string_view name_;
  const Stream& stream_;
  std::int64_t bytes_;
  Event begin_;
};

Communicator::Communicator(std::unique_ptr<Transport> transport)
    : transport_(std::move(transport)), record_(std::make_shared<Record>()) {}

const Traffic& Communicator::traffic() const {
  record_->count_finished_intervals();
  return record_->traffic;
}

void Communicator::trace_in(Trace* trace) { record_->trace = trace; }

Pending Communicator::start(std::span<const Transfer> transfers, const Stream& stream) {
  // One rank on a GPU sends nothing, and the two events would cost more than the local copies that they measure.
  if (size() == 1 && stream.device() == Device::cuda) return transport_->start(transfers, stream);
  std::int64_t bytes = 0, messages = 0;
  for (const Transfer& transfer : transfers) {
    if (transfer.peer == rank() || transfer.send.empty()) continue;
    bytes += std::ssize(transfer.send);
    ++messages;
  }
  const TimedCall timed(*this, "start exchange", stream, bytes, messages);
  const auto pending = std::make_shared<Pending>(transport_->start(transfers, stream));
  return Pending([pending, record = record_, stream, bytes, started = Event(stream, true)] {
    const Event wait_begins(stream, true);
    pending->wait();
    const Event end(stream, true);
    record->add(started, wait_begins, &Traffic::hidden_s);
    record->add(wait_begins, end, &Traffic::exposed_s);
    record->trace_span("exchange", TraceLane::in_flight, started, end, bytes);
    record->trace_span("wait for exchange", lane_of(stream), wait_begins, end, -1);
  });
}

void Communicator::exchange(std::span<const Transfer> transfers, const Stream& stream) {
  start(transfers, stream).wait();
}

void Communicator::post(Tensor message, int peer, const Stream& stream) {
  constexpr std::size_t most = 2;
  const TimedCall timed(*this, "post", stream, message.view().bytes(), 1);
  for (; posted_.size() >= most; posted_.pop_front()) posted_.front().pending.wait();
  const Transfer transfer{.peer = peer, .send = message.view().as_bytes(), .recv = {}};
  Pending pending = transport_->start({&transfer, 1}, stream);
  posted_.push_back({std::move(message), std::move(pending)});
}

void Communicator::all_gather(std::span<const std::byte> send, std::span<std::byte> recv, const Stream& stream) {
  const TimedCall timed(*this, "all_gather", stream, (size() - 1) * std::ssize(send), size() - 1);
  if (size() == 1) {
    ensure(send.size() == recv.size(), "all_gather: {} bytes into {} on one rank", send.size(), recv.size());
    if (send.data() != recv.data()) stream.copy(recv.data(), send.data(), std::ssize(send));
    return;
  }
  transport_->all_gather(send, recv, stream);
}

void Communicator::broadcast(std::span<std::byte> data, int root, const Stream& stream) {
  const int receivers = rank() == root ? size() - 1 : 0;
  const TimedCall timed(*this, "broadcast", stream, receivers * std::ssize(data), receivers);
  if (size() == 1) return;
  transport_->broadcast(data, root, stream);
}

void Communicator::all_reduce(TensorView data, Reduction op, const Stream& stream) {
  const TimedCall timed(*this, "all_reduce", stream, 2 * (size() - 1) * data.bytes() / size(), 2 * (size() - 1));
  if (size() == 1) return;
  transport_->all_reduce(data.as_bytes().data(), data.size(), data.dtype, op, stream);
}

void Communicator::reduce_scatter(TensorView send, TensorView recv, std::span<const std::int64_t> counts, Reduction op,
                                  const Stream& stream) {
  ensure(std::ssize(counts) == size() && send.dtype == recv.dtype &&
             recv.size() == counts[static_cast<std::size_t>(rank())],
         "reduce_scatter: {} {} into {} {} with {} counts on {} ranks", name_of(send.dtype), send.shape.to_string(),
         name_of(recv.dtype), recv.shape.to_string(), counts.size(), size());
  const TimedCall timed(*this, "reduce_scatter", stream, (size() - 1) * send.bytes() / size(), size() - 1);
  if (size() == 1) {
    if (send.data != recv.data) stream.copy(recv.data, send.data, recv.bytes());
    return;
  }
  transport_->reduce_scatter(send.as_bytes().data(), recv.as_bytes().data(), counts, send.dtype, op, stream);
}

void Communicator::barrier() {
  const TimedCall timed(*this, "barrier", host_, 0, 0);
  transport_->barrier();
}

Communicator Communicator::split(int color, int key) { return Communicator(transport_->split(color, key)); }

std::int64_t Communicator::sum(std::int64_t value) {
  const TimedCall timed(*this, "sum", host_, 0, 0);
  transport_->all_reduce(&value, 1, DType::i64, Reduction::sum, host_);
  return value;
}

double Communicator::sum(double value) {
  const TimedCall timed(*this, "sum", host_, 0, 0);
  transport_->all_reduce(&value, 1, DType::f64, Reduction::sum, host_);
  return value;
}

std::int64_t Communicator::max(std::int64_t value) {
  const TimedCall timed(*this, "max", host_, 0, 0);
  transport_->all_reduce(&value, 1, DType::i64, Reduction::max, host_);
  return value;
}

double Communicator::max(double value) {
  const TimedCall timed(*this, "max", host_, 0, 0);
  transport_->all_reduce(&value, 1, DType::f64, Reduction::max, host_);
  return value;
}

std::string Communicator::broadcast(std::string text, int root) {
  const TimedCall timed(*this, "broadcast", host_, 0, 0);
  std::int64_t length = std::ssize(text);
  transport_->broadcast(std::as_writable_bytes(std::span(&length, 1)), root, host_);
  text.resize(static_cast<std::size_t>(length));
  transport_->broadcast(std::as_writable_bytes(std::span(text)), root, host_);
  return text;
}

void collectively(Communicator& ranks, const std::function<void()>& local) {
  std::optional<Error> failure;
  try {
    local();
  } catch (const std::exception& exception) {
    failure = error_of(exception);
  }
  // The lowest failing rank is the one with the largest distance from the end. 0: no rank failed.
  const std::int64_t distance = ranks.max(failure ? std::int64_t{ranks.size() - ranks.rank()} : std::int64_t{0});
  if (distance == 0) return;
  const int first = ranks.size() - static_cast<int>(distance);
  const std::int64_t code =
      ranks.max(ranks.rank() == first ? std::int64_t{static_cast<int>(failure->code())} : std::int64_t{0});
  throw AgreedError(static_cast<ExitCode>(code),
                    ranks.broadcast(ranks.rank() == first ? failure->what() : std::string(), first));
}

void require_same(Communicator& ranks, std::string_view what, const std::string& mine) {
  const std::string first = ranks.broadcast(mine, 0);
  collectively(ranks, [&] {
    require(mine == first, "{}: rank {} has {}, rank 0 has {}; expected the same on every rank", what, ranks.rank(),
            mine, first);
  });
}

}  // namespace causeway
