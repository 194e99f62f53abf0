#include "parallel/exchange/carry.hpp"

#include <algorithm>
#include <vector>

#include "kernels/core/integer.hpp"

namespace causeway {
namespace {

/// The pack's chunks in the order in which the state passes through them: rightwards step s is chunk s, leftwards chunk
/// C-1-s. The first step receives no state, the last step sends none.
class CarryPath {
 public:
  CarryPath(const Sharding& sharding, Direction direction)
      : sharding_(sharding), right_(direction == Direction::rightwards) {}

  int steps() const { return sharding_.layout().chunk_count(); }
  bool receives(int step) const { return right_ ? edge(step).from_left : edge(step).to_right; }
  bool sends(int step) const { return right_ ? edge(step).to_right : edge(step).from_left; }
  bool spans_one_document(int step) const { return edge(step).one_document; }
  std::int64_t tokens(int step) const { return sharding_.layout().chunk(chunk(step)).size(); }
  bool empty(int step) const { return tokens(step) == 0; }
  int owner(int step) const { return sharding_.layout().owner(chunk(step)); }
  /// Position of the step's chunk among its owner's chunks, and in the gathered list of all ranks' chunks.
  int row_on_owner(int step) const { return chunk(step) < sharding_.layout().ranks() ? 0 : 1; }
  int gathered_row(int step) const { return owner(step) * steps() / sharding_.layout().ranks() + row_on_owner(step); }
  std::vector<int> steps_of(int rank) const {
    std::vector<int> steps;
    for (const int c : sharding_.layout().chunks_of(rank))
      steps.push_back(chunk(c));  // step to chunk and chunk to step are the same function
    std::ranges::sort(steps);
    return steps;
  }

 private:
  int chunk(int step) const { return right_ ? step : steps() - 1 - step; }
  const CarryPlan::ChunkEdges& edge(int step) const {
    return sharding_.carry_plan().chunks[static_cast<std::size_t>(chunk(step))];
  }

  const Sharding& sharding_;
  bool right_;
};

TensorView row_of(TensorView x, std::int64_t row) { return x.slice_rows(row, 1); }

void copy_state(TensorView from, TensorView to, const Stream& stream) { stream.copy(to.data, from.data, to.bytes()); }

void carry_by_chain(const CarryExchange& exchange, const CarryPath& path, Communicator& ranks, const Stream& stream) {
  const Tensor outgoing(stream, exchange.carries.dtype, exchange.carries.shape);
  const int me = ranks.rank();
  std::vector<Pending> sending;
  for (const int step : path.steps_of(me)) {
    const TensorView summary = row_of(exchange.summaries, path.row_on_owner(step)),
                     in = row_of(exchange.carries, path.row_on_owner(step)),
                     out = row_of(outgoing, path.row_on_owner(step));
    const bool to_other_rank = path.sends(step) && path.owner(step + 1) != me;
    std::vector<Transfer> transfers;
    if (!path.receives(step))
      stream.zero(in.data, in.bytes());
    else if (path.owner(step - 1) != me)
      transfers.push_back({.peer = path.owner(step - 1), .recv = in.as_bytes()});
    if (!path.spans_one_document(step)) {  // the outgoing state does not depend on the incoming one
      copy_state(summary, out, stream);
      if (to_other_rank) transfers.push_back({.peer = path.owner(step + 1), .send = out.as_bytes()});
    }
    ranks.exchange(transfers, stream);
    if (path.spans_one_document(step)) {
      copy_state(in, out, stream);
      if (!path.empty(step)) exchange.fold(summary, out, path.tokens(step));
      if (to_other_rank)
        sending.push_back(
            ranks.start(std::vector<Transfer>{{.peer = path.owner(step + 1), .send = out.as_bytes()}}, stream));
    }
    if (path.sends(step) && !to_other_rank)
      copy_state(out, row_of(exchange.carries, path.row_on_owner(step + 1)), stream);
  }
  for (Pending& pending : sending) pending.wait();
}

void carry_by_gather(const CarryExchange& exchange, const CarryPath& path, Communicator& ranks, const Stream& stream) {
  const Tensor all(stream, exchange.summaries.dtype, {path.steps(), exchange.summaries.columns()});
  ranks.all_gather(exchange.summaries.as_bytes(), all.view().as_bytes(), stream);
  for (const int step : path.steps_of(ranks.rank())) {
    const TensorView in = row_of(exchange.carries, path.row_on_owner(step));
    if (!path.receives(step)) {
      stream.zero(in.data, in.bytes());
      continue;
    }
    int from = step - 1;
    while (path.spans_one_document(from)) --from;
    copy_state(row_of(all, path.gathered_row(from)), in, stream);
    for (++from; from < step; ++from)
      if (!path.empty(from)) exchange.fold(row_of(all, path.gathered_row(from)), in, path.tokens(from));
  }
}

/// The largest number of chunks that a relay scans one after the other before another rank's chunk, in a contiguous
/// layout: the longest sequence of neighbouring edges that documents cross. Even if another document begins in a chunk,
/// the state that leaves it is known only when all of it has been scanned.
std::int64_t scans_before_the_last(const Sharding& sharding) {
  std::int64_t longest = 0, scans = 0;
  for (const CarryPlan::ChunkEdges& chunk : sharding.carry_plan().chunks) {
    scans = chunk.to_right ? scans + 1 : 0;
    longest = std::max(longest, scans);
  }
  return longest;
}

/// The largest number of messages of a chain of which each waits for the previous one; 0 if no document crosses an edge
/// between ranks. It is the same in both directions.
std::int64_t longest_chain(const Sharding& sharding) {
  const CarryPath path(sharding, Direction::rightwards);
  std::int64_t longest = 0, chain = 0;
  for (int step = 0; step < path.steps(); ++step) {
    if (!path.spans_one_document(step)) chain = 0;
    if (path.sends(step) && path.owner(step + 1) != path.owner(step)) ++chain;
    longest = std::max(longest, chain);
  }
  return longest;
}

/// What a relay waits for in a layer, in scans of a chunk.
double waits_of_relay(const Sharding& sharding) {
  return static_cast<double>(scans_before_the_last(sharding)) / static_cast<double>(sharding.one_way_layers());
}

/// The tokens of which the rank with the most computes summaries.
std::int64_t most_summary_tokens(const Sharding& sharding, Direction direction) {
  const ShardLayout& layout = sharding.layout();
  const Segments& documents = sharding.segments();
  std::int64_t most = 0;
  for (int rank = 0; rank < layout.ranks(); ++rank) {
    std::int64_t tokens = 0;
    for (const int c : layout.chunks_of(rank)) {
      const Range chunk = layout.chunk(c);
      const CarryPlan::ChunkEdges& edges = sharding.carry_plan().chunks[static_cast<std::size_t>(c)];
      if (chunk.size() == 0) continue;
      if (direction == Direction::rightwards && edges.to_right)
        tokens += chunk.end - std::max(chunk.begin, documents.start_of(chunk.end - 1));
      if (direction == Direction::leftwards && edges.from_left)
        tokens += std::min(chunk.end, documents.end_of(chunk.begin)) - chunk.begin;
    }
    most = std::max(most, tokens);
  }
  return most;
}

}  // namespace

std::string_view name_of(Schedule schedule) {
  switch (schedule) {
    case Schedule::automatic:
      return "auto";
    case Schedule::chain:
      return "chain";
    case Schedule::gather:
      return "gather";
    case Schedule::relay:
      return "relay";
  }
  return "?";
}

Schedule parse_schedule(std::string_view name) {
  for (const Schedule schedule : {Schedule::automatic, Schedule::chain, Schedule::gather, Schedule::relay})
    if (name == name_of(schedule)) return schedule;
  fail(ExitCode::usage, "schedule is '{}', expected auto, chain, gather or relay", name);
}

/// In a zigzag layout the state passes twice through each rank within a layer: no rank can be ahead in the next layer.
bool relay_is_cheaper(const Sharding& sharding) {
  const ShardLayout& layout = sharding.layout();
  if (layout.kind() != Layout::contiguous) return false;
  const auto summaries = static_cast<double>(most_summary_tokens(sharding, Direction::rightwards) +
                                             most_summary_tokens(sharding, Direction::leftwards)) /
                         2;
  const auto chunk_tokens = static_cast<double>(ceil_div<std::int64_t>(layout.tokens(), layout.ranks()));
  return waits_of_relay(sharding) * chunk_tokens < summary_share * summaries;
}

Schedule cheaper_schedule(const Sharding& sharding, std::int64_t state_bytes, std::int64_t summary_bytes) {
  if (relay_is_cheaper(sharding)) return Schedule::relay;
  constexpr std::int64_t latency_bytes = 32 << 10;  // sending these takes as long as the latency of a message
  const std::int64_t ranks = sharding.layout().ranks(), chunks = sharding.layout().chunk_count();
  const std::int64_t chain = longest_chain(sharding) * (latency_bytes + state_bytes);
  const std::int64_t gather = latency_bytes + (ranks - 1) * (chunks / ranks) * summary_bytes;
  return chain <= gather ? Schedule::chain : Schedule::gather;
}

void carry(const CarryExchange& exchange, Communicator& ranks, const Stream& stream) {
  const Sharding& sharding = exchange.sharding;
  const TensorView summaries = exchange.summaries, carries = exchange.carries;
  const auto chunks = std::ssize(sharding.chunks());
  ensure(summaries.rows() == chunks && carries.rows() == chunks && summaries.dtype == carries.dtype &&
             carries.columns() <= summaries.columns(),
         "carry: summaries {} of {}, carries {} of {}, expected a row for each of {} chunks",
         summaries.shape.to_string(), name_of(summaries.dtype), carries.shape.to_string(), name_of(carries.dtype),
         chunks);
  sharding.ensure_rank(ranks.rank(), ranks.size());
  const Schedule schedule = exchange.schedule != Schedule::automatic
                                ? exchange.schedule
                                : cheaper_schedule(sharding, carries.bytes() / chunks, summaries.bytes() / chunks);
  ensure(schedule != Schedule::relay, "carry: a relay has no summaries");
  const CarryPath path(sharding, exchange.direction);
  // If no document crosses an edge between ranks, a chain sends nothing; a gather would send states that no rank reads.
  if (schedule == Schedule::gather && longest_chain(sharding) > 0)
    carry_by_gather(exchange, path, ranks, stream);
  else
    carry_by_chain(exchange, path, ranks, stream);
}

void run_relay(const Relay& relay, Communicator& ranks, const Stream& stream) {
  const Sharding& sharding = relay.sharding;
  ensure(relay.carries.rows() == std::ssize(sharding.chunks()),
         "relay: carries {}, expected a row for each of {} chunks", relay.carries.shape.to_string(),
         sharding.chunks().size());
  sharding.ensure_rank(ranks.rank(), ranks.size());
  const CarryPath path(sharding, relay.direction);
  const int me = ranks.rank();
  for (const int step : path.steps_of(me)) {
    const TensorView in = row_of(relay.carries, path.row_on_owner(step));
    if (!path.receives(step))
      stream.zero(in.data, in.bytes());
    else if (path.owner(step - 1) != me)  // otherwise the step before has written it
      ranks.exchange(std::vector<Transfer>{{.peer = path.owner(step - 1), .send = {}, .recv = in.as_bytes()}}, stream);
    Tensor leaving = path.sends(step) ? Tensor(stream, in.dtype, in.shape) : Tensor();
    if (!path.empty(step))
      relay.scan(sharding.chunks()[static_cast<std::size_t>(path.row_on_owner(step))],
                 path.receives(step) ? in : TensorView(), leaving);
    else if (path.sends(step))
      copy_state(in, leaving, stream);
    if (!path.sends(step)) continue;
    if (path.owner(step + 1) == me)
      copy_state(leaving, row_of(relay.carries, path.row_on_owner(step + 1)), stream);
    else
      ranks.post(std::move(leaving), path.owner(step + 1), stream);
  }
}

PassCosts carry_costs(const Sharding& sharding, const CarryWork& work) {
  const ShardLayout& layout = sharding.layout();
  const std::int64_t ranks = layout.ranks(), chunks = layout.chunk_count() / ranks;
  const auto channels = static_cast<double>(work.channels);
  Cost repeated;
  repeated.kernels.push_back({.kernel = work.kernel,
                              .elements = static_cast<double>(ceil_div(layout.tokens(), ranks)) * channels,
                              .calls = static_cast<double>(chunks)});
  const auto pass = [&](Direction direction) {
    Cost cost = repeated;
    const std::int64_t chain = longest_chain(sharding);
    if (ranks == 1 || chain == 0) return cost;
    const Schedule schedule = cheaper_schedule(sharding, work.state_bytes, work.summary_bytes);
    if (schedule == Schedule::relay) {
      const double waits = waits_of_relay(sharding);
      cost.kernels.push_back({.kernel = work.kernel,
                              .elements = waits * repeated.kernels.front().elements,
                              .calls = waits * static_cast<double>(chunks)});
      cost.bytes_sent = chunks * work.state_bytes;
      cost.rounds = 1;
      cost.messages = chunks;
      return cost;
    }
    cost.kernels.push_back({.kernel = work.summary,
                            .elements = static_cast<double>(most_summary_tokens(sharding, direction)) * channels,
                            .calls = static_cast<double>(chunks)});
    const bool by_chain = schedule == Schedule::chain;
    cost.bytes_sent = by_chain ? chunks * work.state_bytes : (ranks - 1) * chunks * work.summary_bytes;
    cost.rounds = by_chain ? chain : 1;
    cost.messages = by_chain ? chunks : ranks - 1;  // all summaries of a rank in one
    cost.copies = 3 * static_cast<double>(chunks);  // summaries zeroed, states copied and folded
    return cost;
  };
  return {
      .forward = pass(Direction::rightwards), .backward = adjoint(pass(Direction::leftwards)), .repeated = repeated};
}

}  // namespace causeway
