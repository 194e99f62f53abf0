#include "parallel/exchange/carry.hpp"

#include <algorithm>
#include <vector>

namespace causeway {
namespace {

/// The chunks in the order in which the state passes them: step 0 takes nothing, the last gives nothing.
class Path {
 public:
  Path(const Sharding& sharding, Direction direction)
      : sharding_(sharding), right_(direction == Direction::rightwards) {}

  int steps() const { return sharding_.layout().chunk_count(); }
  bool takes(int step) const { return right_ ? edge(step).from_left : edge(step).to_right; }
  bool gives(int step) const { return right_ ? edge(step).to_right : edge(step).from_left; }
  bool passes_through(int step) const { return edge(step).whole; }
  std::int64_t tokens(int step) const { return sharding_.layout().chunk(chunk(step)).size(); }
  bool empty(int step) const { return tokens(step) == 0; }
  int owner(int step) const { return sharding_.layout().owner(chunk(step)); }
  /// Of the step's chunk among its owner's, and among all ranks' one after the other.
  int local_row(int step) const { return chunk(step) < sharding_.layout().ranks() ? 0 : 1; }
  int gathered_row(int step) const { return owner(step) * steps() / sharding_.layout().ranks() + local_row(step); }
  std::vector<int> steps_of(int rank) const {
    std::vector<int> steps;
    for (const int c : sharding_.layout().chunks_of(rank))
      steps.push_back(chunk(c));  // the mirror image is its own inverse
    std::ranges::sort(steps);
    return steps;
  }

 private:
  int chunk(int step) const { return right_ ? step : steps() - 1 - step; }
  const CarryPlan::Edge& edge(int step) const {
    return sharding_.carry().chunks[static_cast<std::size_t>(chunk(step))];
  }

  const Sharding& sharding_;
  bool right_;
};

TensorView row_of(TensorView x, std::int64_t row) { return x.slice_rows(row, 1); }

void copy_state(TensorView from, TensorView to, const Stream& stream) { stream.copy(to.data, from.data, to.bytes()); }

void carry_by_chain(const CarryExchange& exchange, const Path& path, Communicator& ranks, const Stream& stream) {
  const Tensor given(stream, exchange.carries.dtype, exchange.carries.shape);
  const int me = ranks.rank();
  std::vector<Pending> sending;
  for (const int step : path.steps_of(me)) {
    const TensorView summary = row_of(exchange.summaries, path.local_row(step)),
                     in = row_of(exchange.carries, path.local_row(step)), out = row_of(given, path.local_row(step));
    const bool sends = path.gives(step) && path.owner(step + 1) != me;
    std::vector<Transfer> now;
    if (!path.takes(step))
      stream.zero(in.data, in.bytes());
    else if (path.owner(step - 1) != me)
      now.push_back({.peer = path.owner(step - 1), .recv = in.as_bytes()});
    if (!path.passes_through(step)) {  // what goes out does not wait for what comes in
      copy_state(summary, out, stream);
      if (sends) now.push_back({.peer = path.owner(step + 1), .send = out.as_bytes()});
    }
    ranks.exchange(now, stream);
    if (path.passes_through(step)) {
      copy_state(in, out, stream);
      if (!path.empty(step)) exchange.fold(summary, out, path.tokens(step));
      if (sends)
        sending.push_back(
            ranks.start(std::vector<Transfer>{{.peer = path.owner(step + 1), .send = out.as_bytes()}}, stream));
    }
    if (path.gives(step) && !sends) copy_state(out, row_of(exchange.carries, path.local_row(step + 1)), stream);
  }
  for (Pending& pending : sending) pending.wait();
}

void carry_by_gather(const CarryExchange& exchange, const Path& path, Communicator& ranks, const Stream& stream) {
  const Tensor all(stream, exchange.summaries.dtype, {path.steps(), exchange.summaries.columns()});
  ranks.all_gather(exchange.summaries.as_bytes(), all.view().as_bytes(), stream);
  for (const int step : path.steps_of(ranks.rank())) {
    const TensorView in = row_of(exchange.carries, path.local_row(step));
    if (!path.takes(step)) {
      stream.zero(in.data, in.bytes());
      continue;
    }
    int from = step - 1;
    while (path.passes_through(from)) --from;
    copy_state(row_of(all, path.gathered_row(from)), in, stream);
    for (++from; from < step; ++from)
      if (!path.empty(from)) exchange.fold(row_of(all, path.gathered_row(from)), in, path.tokens(from));
  }
}

/// The most messages of a chain that have to wait for one another, and so the same in either direction; 0 where no
/// document crosses an edge between ranks.
std::int64_t longest_chain(const Sharding& sharding) {
  const Path path(sharding, Direction::rightwards);
  std::int64_t longest = 0, chain = 0;
  for (int step = 0; step < path.steps(); ++step) {
    if (!path.passes_through(step)) chain = 0;
    if (path.gives(step) && path.owner(step + 1) != path.owner(step)) ++chain;
    longest = std::max(longest, chain);
  }
  return longest;
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
  }
  return "?";
}

Schedule parse_schedule(std::string_view name) {
  for (const Schedule schedule : {Schedule::automatic, Schedule::chain, Schedule::gather})
    if (name == name_of(schedule)) return schedule;
  fail(ExitCode::usage, "schedule is '{}', expected auto, chain or gather", name);
}

Schedule cheaper_schedule(const Sharding& sharding, std::int64_t state_bytes, std::int64_t summary_bytes) {
  constexpr std::int64_t latency_bytes = 32 << 10;
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
         "carry of summaries {} of {} into {} of {} for {} chunks", summaries.shape.to_string(),
         name_of(summaries.dtype), carries.shape.to_string(), name_of(carries.dtype), chunks);
  sharding.ensure_of(ranks.rank(), ranks.size());
  const Schedule schedule = exchange.schedule != Schedule::automatic
                                ? exchange.schedule
                                : cheaper_schedule(sharding, carries.bytes() / chunks, summaries.bytes() / chunks);
  const Path path(sharding, exchange.direction);
  // Where no document crosses an edge between ranks a chain sends nothing; a gather would send what nobody reads.
  if (schedule == Schedule::gather && longest_chain(sharding) > 0)
    carry_by_gather(exchange, path, ranks, stream);
  else
    carry_by_chain(exchange, path, ranks, stream);
}

Cost carry_cost(const Sharding& sharding, std::int64_t state_bytes, std::int64_t summary_bytes,
                double operations_a_token) {
  const ShardLayout& layout = sharding.layout();
  const std::int64_t ranks = layout.ranks(), chunks = layout.chunk_count() / ranks;
  Cost cost{.operations = operations_a_token * static_cast<double>(layout.tokens()) / static_cast<double>(ranks)};
  if (ranks == 1) return cost;
  const bool chain = cheaper_schedule(sharding, state_bytes, summary_bytes) == Schedule::chain;
  cost.bytes_sent = chain ? chunks * state_bytes : (ranks - 1) * chunks * summary_bytes;
  cost.messages = chain ? layout.chunk_count() - 1 : 1;
  return cost;
}

}  // namespace causeway
