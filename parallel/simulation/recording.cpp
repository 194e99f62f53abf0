#include "parallel/simulation/recording.hpp"

#include <algorithm>

#include "kernels/core/dry_run/dry_run.hpp"
#include "kernels/core/error.hpp"
#include "parallel/transport/collectives.hpp"

namespace causeway {
namespace {

/// Appends a number in groups of 7 bits, the lowest first; the highest bit of a byte says that another one follows.
void append(std::vector<std::uint8_t>& code, std::uint64_t number) {
  for (; number >= 0x80; number >>= 7) code.push_back(static_cast<std::uint8_t>(number | 0x80));
  code.push_back(static_cast<std::uint8_t>(number));
}

std::uint64_t read(const std::vector<std::uint8_t>& code, std::size_t& at) {
  std::uint64_t number = 0;
  for (int shift = 0;; shift += 7) {
    const std::uint64_t byte = code[at++];
    number |= (byte & 0x7f) << shift;
    if (byte < 0x80) return number;
  }
}

/// FNV-1a over the members.
std::uint64_t hash_of(const std::vector<RecordedMessage>& messages) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const RecordedMessage& message : messages)
    for (const std::uint64_t value : {static_cast<std::uint64_t>(2 * message.distance + (message.sent ? 1 : 0)),
                                      static_cast<std::uint64_t>(message.bytes)})
      hash = (hash ^ value) * 0x100000001b3;
  return hash;
}

}  // namespace

/// Collectives are recorded as the exchanges that collectives.hpp makes of them.
class RecordingTransport final : public ExchangingTransport {
 public:
  RecordingTransport(Recording& recording, int rank) : recording_(recording), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return recording_.ranks(); }

  Pending start(std::span<const Transfer> transfers, const Stream&) override {
    check_peers(transfers, size());
    std::vector<RecordedMessage> messages;
    for (const Transfer& transfer : transfers) {
      if (transfer.peer == rank_) continue;
      const std::int32_t distance = (transfer.peer - rank_ + size()) % size();
      if (!transfer.send.empty()) messages.push_back({distance, true, std::ssize(transfer.send)});
      if (!transfer.recv.empty()) messages.push_back({distance, false, std::ssize(transfer.recv)});
    }
    if (messages.empty()) return {};
    std::ranges::stable_sort(messages, {}, &RecordedMessage::distance);
    const std::uint32_t number = recording_.programs_[static_cast<std::size_t>(rank_)].starts;
    recording_.add_start(rank_, std::move(messages));
    return Pending([this, number] { recording_.add_wait(rank_, number); });
  }
  void all_reduce(void* data, std::int64_t count, DType type, Reduction op, const Stream& stream) override {
    // Scratch memory holds no other rank's values, so that a sum of host memory would be arbitrary.
    if (is_dry_run(stream)) return ExchangingTransport::all_reduce(data, count, type, op, stream);
    std::vector<std::byte> own(static_cast<std::size_t>(count * size_of(type))),
        all(own.size() * static_cast<std::size_t>(size()));
    all_gather(own, all, stream);
  }
  void barrier() override {
    std::byte own{};
    std::vector<std::byte> all(static_cast<std::size_t>(size()));
    all_gather({&own, 1}, all, Stream());
  }
  std::unique_ptr<Transport> split(int, int) override {
    fail(ExitCode::internal, "a recorded rank does not learn the colors of the others: record each group by itself");
  }
  void abort(int) noexcept override {}

 private:
  Recording& recording_;
  int rank_;
};

std::unique_ptr<Transport> Recording::transport(int rank) {
  ensure(rank >= 0 && rank < ranks(), "recording: rank {} of {}", rank, ranks());
  return std::make_unique<RecordingTransport>(*this, rank);
}

void Recording::add_start(int rank, std::vector<RecordedMessage> added) {
  const std::uint64_t hash = hash_of(added);
  Program& program = programs_[static_cast<std::size_t>(rank)];
  ++program.starts;
  const auto [begin, end] = lists_.equal_range(hash);
  for (auto entry = begin; entry != end; ++entry)
    if (std::ranges::equal(messages(entry->second), added))
      return append(program.code, 2 * std::uint64_t{entry->second});
  const auto list = static_cast<std::uint32_t>(begins_.size() - 1);
  messages_.insert(messages_.end(), added.begin(), added.end());
  begins_.push_back(messages_.size());
  lists_.emplace(hash, list);
  append(program.code, 2 * std::uint64_t{list});
}

void Recording::add_wait(int rank, std::uint32_t start) {
  Program& program = programs_[static_cast<std::size_t>(rank)];
  append(program.code, 2 * std::uint64_t{program.starts - 1 - start} + 1);  // how many starts ago
}

RecordedStep Recording::Reader::next() {
  const std::uint64_t number = read(*steps_, at_);
  const auto value = static_cast<std::uint32_t>(number / 2);
  if (number % 2 == 0) {
    ++starts_;
    return {.starts = true, .index = value};
  }
  return {.starts = false, .index = starts_ - 1 - value};
}

std::int64_t Recording::memory_bytes() const {
  std::size_t bytes = messages_.capacity() * sizeof(RecordedMessage) + begins_.capacity() * sizeof(std::size_t);
  for (const Program& program : programs_) bytes += program.code.capacity();
  return static_cast<std::int64_t>(bytes);
}

}  // namespace causeway
