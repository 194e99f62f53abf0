#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "parallel/transport/transport.hpp"

namespace causeway {

/// One message of a start(): sent to a peer or expected from it.
struct RecordedMessage {
  std::int32_t distance = 0;  ///< (peer - rank) mod ranks
  bool sent = false;
  std::int64_t bytes = 0;
  bool operator==(const RecordedMessage&) const = default;
};

/// A rank starts the messages of a list, or waits for those of its start number `index`, counted from 0.
struct RecordedStep {
  bool starts = false;
  std::uint32_t index = 0;  ///< of the list of messages (Recording::messages), or of the start
};

/// The communication of all ranks of a group, recorded one rank after the other by one thread. It is that of a real
/// run, because no rank decides anything by what it receives: who sends what to whom follows from the layout and the
/// documents. A list of messages is kept once for all ranks that have the same one relative to themselves.
class Recording {
 public:
  explicit Recording(int ranks) : programs_(static_cast<std::size_t>(ranks)) {}

  int ranks() const { return static_cast<int>(programs_.size()); }
  /// A transport that records what rank `rank` does. It delivers nothing: buffers stay as they are. So reductions and
  /// broadcasts of host memory leave the rank's own values. It has no split(). The recording must outlive it.
  std::unique_ptr<Transport> transport(int rank);

  /// Reads the steps of one rank, in their order.
  class Reader {
   public:
    Reader(const Recording& recording, int rank) : steps_(&recording.programs_[static_cast<std::size_t>(rank)].code) {}
    bool at_end() const { return at_ == steps_->size(); }
    RecordedStep next();

   private:
    const std::vector<std::uint8_t>* steps_;
    std::size_t at_ = 0;
    std::uint32_t starts_ = 0;
  };

  /// Sorted by distance; messages between two ranks stay in the order in which they were started.
  std::span<const RecordedMessage> messages(std::uint32_t list) const {
    return {messages_.data() + begins_[list], messages_.data() + begins_[list + 1]};
  }
  std::int64_t memory_bytes() const;  ///< of the recording itself

 private:
  friend class RecordingTransport;
  struct Program {
    std::vector<std::uint8_t> code;  // steps as numbers of variable length
    std::uint32_t starts = 0;
  };
  void add_start(int rank, std::vector<RecordedMessage> messages);
  void add_wait(int rank, std::uint32_t start);

  std::vector<Program> programs_;
  std::vector<RecordedMessage> messages_;  // of all lists, one after the other
  std::vector<std::size_t> begins_{0};
  std::unordered_multimap<std::uint64_t, std::uint32_t> lists_;  // by the hash of their messages
};

}  // namespace causeway
